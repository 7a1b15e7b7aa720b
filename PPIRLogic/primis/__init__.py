"""PRIMIS: an image as several sealed codes, each with a key of its own. Who holds a key sees so much and no more."""
