"""What predictions hold where a plain tensor would be too large."""
