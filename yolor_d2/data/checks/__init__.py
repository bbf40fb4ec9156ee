"""Checks of annotation files and records, for `yolor-d2 check-data`."""
