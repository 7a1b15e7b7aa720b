"""How functions are compiled: by numba, once, kept on disk, without the interpreter's lock."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from numba import njit
from numba.core.caching import FunctionCache
from numba.core.runtime import rtsys


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


class _Kept(FunctionCache):
    """What numba keeps on disk, read without the tables of built-in functions that a compilation needs.

    To fill them costs 0.3 CPU seconds in every process (decision 12). Machine code that is whole needs of numba only
    what allocates arrays; so a function here works on numbers and arrays alone. A compilation fills them itself.
    """

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        rtsys.initialize(target_context)
        with self._guard_against_spurious_io_errors():
            return self._load_overload(sig, target_context)


def _compiler(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """numba's decorator with our options and these."""
    numba_s: Any = njit(nogil=True, boundscheck=False, **options)

    def decorate(function: Callable[..., Any]) -> Any:
        dispatcher = numba_s(function)
        if _KEEP:
            dispatcher._cache = _Kept(function)
        return dispatcher

    return decorate


compiled: Any = _compiler()
compiled_ieee: Any = _compiler(error_model="numpy")  # x/0 is inf, as in NumPy
