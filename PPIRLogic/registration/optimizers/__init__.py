"""Optimisers that see sums alone."""
