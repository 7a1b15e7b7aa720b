"""Private products: the primitive, the protocols that carry it, and cryptographic randomness."""
