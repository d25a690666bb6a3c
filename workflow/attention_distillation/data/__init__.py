"""Where passages and questions come from, and the corpus on disk."""
