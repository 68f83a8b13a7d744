"""Studies: many methods on the same samples, measured the same way."""
