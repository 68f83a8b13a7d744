"""Losses: pure functions of per-response numbers."""
