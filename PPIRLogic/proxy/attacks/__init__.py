"""Attacks on proxies: whether the person is found again, and how often."""
