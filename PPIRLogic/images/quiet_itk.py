"""ITK without its own messages: what matters of them is said by our errors."""

from __future__ import annotations

import contextlib
import locale
import os
import threading
from collections.abc import Iterator

import SimpleITK as sitk

_SWITCH = threading.RLock()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep ITK's readers from printing warnings: what matters is checked here and raised as an error.

    The switches are one for the whole process, so that only one thread at a time may turn them.
    """
    with _SWITCH, _no_standard_error():
        before = sitk.ProcessObject.GetGlobalWarningDisplay()
        spoken = locale.setlocale(locale.LC_ALL)
        sitk.ProcessObject.SetGlobalWarningDisplay(False)
        try:
            yield
        finally:
            sitk.ProcessObject.SetGlobalWarningDisplay(before)
            with contextlib.suppress(locale.Error):
                locale.setlocale(locale.LC_ALL, spoken)  # the DICOM reader leaves "C" behind


@contextlib.contextmanager
def _no_standard_error() -> Iterator[None]:
    """libpng and HDF5 write to the C library's standard error past every switch; nothing where there is none."""
    try:
        kept = os.dup(2)
    except OSError:
        yield
        return
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
