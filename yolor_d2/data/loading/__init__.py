"""Data loaders for training, validation and testing."""
