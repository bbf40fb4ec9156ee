"""Where predictions are wrong: confusion matrices, worst images, plots."""
