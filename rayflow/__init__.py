"""Prompts in, aligned language model out, as one resumable job on Ray."""

__version__ = "0.1.0"
