"""What a run would take of disk, memory and GPU hours; loads no model."""
