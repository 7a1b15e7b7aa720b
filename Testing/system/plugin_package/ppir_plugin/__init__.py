"""A package that adds to ppir without a change of it."""
