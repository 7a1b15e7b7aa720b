"""The kinds of arrays that the whole program names."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]  # real values
Ring = NDArray[np.int64]  # integers modulo 2^64, or exact sums within it
Words = NDArray[np.uint32]  # residues modulo a prime below 2^32, or random words
