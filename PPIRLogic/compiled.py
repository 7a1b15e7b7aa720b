"""How functions are compiled: by numba, once, kept on disk, without the interpreter's lock."""

from numba import njit

compiled = njit(nogil=True, cache=True, boundscheck=False)
compiled_ieee = njit(nogil=True, cache=True, boundscheck=False, error_model="numpy")  # x/0 is inf, as in NumPy
