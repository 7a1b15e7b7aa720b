"""Registration of two images that neither owner shows: losses, levels, parties."""
