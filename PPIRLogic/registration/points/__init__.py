"""Registration of corresponding point sets."""
