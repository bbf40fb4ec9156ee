"""HTML pages of data sets and results."""
