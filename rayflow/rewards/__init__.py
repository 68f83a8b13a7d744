"""Rewards: a prompt with its n candidates in, n finite numbers out."""
