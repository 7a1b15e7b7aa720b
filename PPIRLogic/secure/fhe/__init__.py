"""The exact encrypted product (BFV), and the protocols on it."""
