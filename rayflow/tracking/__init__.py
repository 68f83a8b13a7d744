"""Experiment trackers: where the curves and the numbers of a run are sent, besides its own report."""
