"""Benchmarks: `python -m tests.benchmarks NAME`, each printing one JSON line with both sides of a comparison.

Both sides run in turn, several times, in the same run: these are ratios of medians, not absolute speeds.
"""
