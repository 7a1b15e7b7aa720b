"""The figures this software is held to, measured on the sample images. See README.md in this folder."""
