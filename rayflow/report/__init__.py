"""The report: one self-contained HTML page and one machine-readable summary per run."""
