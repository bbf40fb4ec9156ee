"""Data sets: registration, class tables, annotation files."""
