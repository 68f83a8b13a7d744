"""Data in: files to raw rows, and one layout per file for how a raw row becomes an `Example`."""
