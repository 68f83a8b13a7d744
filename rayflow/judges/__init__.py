"""Judges of two responses side by side: a language model on one of the engines, or behind an endpoint."""
