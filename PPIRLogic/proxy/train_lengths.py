"""How long the shipped weights were trained: what `ppir proxy train` does unless told otherwise."""

STEPS = 2600  # of the segmentation network
GENERATOR_STEPS = 100  # of the spectrum, against an identity network
