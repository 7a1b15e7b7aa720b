"""Symmetric registration: both images move to a middle."""
