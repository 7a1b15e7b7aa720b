"""The dealer of the mpc protocol."""
