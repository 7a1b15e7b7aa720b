"""The codes of an image, from the coarsest on. Each stands on those before it."""

from __future__ import annotations

# What a code suffices for, with all before it.
LEVELS = ("overview", "segmentation", "classification", "texture", "exact")
NOBODY = "none"  # the level of a policy that grants nothing
