"""Pairing: preference pairs of a prompt's accepted candidates."""
