"""Products of secret shares with a dealer."""
