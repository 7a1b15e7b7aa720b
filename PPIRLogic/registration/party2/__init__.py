"""The side of the fixed image."""
