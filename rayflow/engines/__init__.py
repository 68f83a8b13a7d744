"""Samplers: a prompt's token ids in, n candidate responses out, as one request."""
