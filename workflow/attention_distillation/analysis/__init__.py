"""From trained models to answers, attention dumps, token-level numbers and intervals."""
