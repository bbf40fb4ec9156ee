"""Weights of the published networks."""
