"""Corresponding point sets: reading them, party 2's side, the fit, and a run at party 1."""
