"""Data in the layouts of labeling tools: recognized, read and registered."""
