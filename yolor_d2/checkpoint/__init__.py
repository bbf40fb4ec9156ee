"""Checkpoints of runs, and weights of any origin."""
