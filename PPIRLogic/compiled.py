"""How functions are compiled: by numba, once, kept on disk, without the interpreter's lock."""

import os
from pathlib import Path

from numba import njit


def _can_keep() -> bool:
    """Whether what was compiled can be kept: beside the program, in the user's cache, or where NUMBA_CACHE_DIR says.

    An account without a home that may write (a service, a container) compiles anew; numba would make a folder '~'.
    """
    here = Path(__file__).resolve().parent
    here = here / "__pycache__" if (here / "__pycache__").is_dir() else here
    home = Path(os.path.expanduser("~"))
    return bool(
        os.environ.get("NUMBA_CACHE_DIR")
        or os.access(here, os.W_OK)
        or (home.is_absolute() and os.access(home, os.W_OK))
    )


_KEEP = _can_keep()
compiled = njit(nogil=True, cache=_KEEP, boundscheck=False)
compiled_ieee = njit(nogil=True, cache=_KEEP, boundscheck=False, error_model="numpy")  # x/0 is inf, as in NumPy
