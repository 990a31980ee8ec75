"""Memory that is free goes back to the system, which the C library may keep for later."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache


def give_back() -> None:
    """Where the C library is glibc: once it has freed a few large arrays, it keeps what lies between those still there.

    To be asked for where much was held and other things follow, for what is needed again has to be fetched again.
    """
    _trim()(0)


@cache
def _trim() -> Callable[[int], object]:
    try:
        return ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):
        return lambda _: None
