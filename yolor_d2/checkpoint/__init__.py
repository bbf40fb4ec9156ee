"""Weights: of other projects today, saving and resuming to come."""
