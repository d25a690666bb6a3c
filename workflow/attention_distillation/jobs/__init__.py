"""What every job stands on: threads and log, GPUs, room on disk and in memory, the hash of its code."""
