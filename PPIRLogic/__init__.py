"""Privacy-preserving image registration between two parties that do not show each other their images."""

__version__ = "0.1.0"
