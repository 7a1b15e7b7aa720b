"""Helper package of the template module."""
