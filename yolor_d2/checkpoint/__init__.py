"""Checkpoints of runs, and weights from other formats."""
