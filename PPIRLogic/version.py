"""The release, said to peers and written into reports."""

__version__ = "0.1.0"
SOFTWARE = f"ppir {__version__}"
