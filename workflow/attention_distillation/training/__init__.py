"""Training: what a reader is shown, what a retriever learns from, the loop, the job."""
