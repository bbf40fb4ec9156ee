"""Error analysis: confusion matrices, matched and unmatched boxes, plots."""
