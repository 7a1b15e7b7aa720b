"""How functions are compiled: by numba, once, kept on disk, without the interpreter's lock.

numba is loaded at the first call of such a function: a process that only asks, refuses or lists does not pay for it.
"""

import functools
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any


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


def _kept(function: Callable[..., Any]) -> Any:
    """What numba keeps on disk, read without the tables of built-in functions that a compilation needs.

    To fill them costs 0.3 CPU seconds in every process (decision 12). Machine code that is whole needs of numba only
    what allocates arrays; so a function here works on numbers and arrays alone. A compilation fills them itself.
    """
    from numba.core.caching import FunctionCache
    from numba.core.runtime import rtsys

    class CompiledCache(FunctionCache):
        def load_overload(self, sig: Any, target_context: Any) -> Any:
            rtsys.initialize(target_context)
            with self._guard_against_spurious_io_errors():
                return self._load_overload(sig, target_context)

    return CompiledCache(function)


def _made(function: Callable[..., Any], options: dict[str, Any]) -> Any:
    from numba import njit

    dispatcher: Any = njit(nogil=True, boundscheck=False, **options)(function)
    if _KEEP:
        dispatcher._cache = _kept(function)
    return dispatcher


_KEEP = _can_keep()
_making = threading.RLock()  # a function that is compiled may name another one that is not yet


class Compiled:
    """A function that is machine code from its first call on; what else is asked of it, numba's dispatcher answers."""

    def __init__(self, function: Callable[..., Any], options: dict[str, Any]) -> None:
        functools.update_wrapper(self, function)
        self._function, self._options = function, options

    def __call__(self, *args: Any) -> Any:
        return self.dispatcher(*args)

    def __getattr__(self, name: str) -> Any:
        if name != "dispatcher":
            return getattr(self.dispatcher, name)  # `_numba_type_` too: one such function may call another
        with _making:
            if name not in self.__dict__:
                self.__dict__[name] = _made(self._function, self._options)
            return self.__dict__[name]


def _compiler(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """numba's decorator with our options and these."""
    return lambda function: Compiled(function, options)


compiled: Any = _compiler()
compiled_ieee: Any = _compiler(error_model="numpy")  # x/0 is inf, as in NumPy
