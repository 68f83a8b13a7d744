"""Benchmarks: `python -m tests.benchmarks NAME`, each printing one JSON line with both sides of a comparison.

Both sides run in turn, several times, in the same run: what counts are the ratios, not absolute speeds.
"""
