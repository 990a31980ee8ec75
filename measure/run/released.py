"""Memory that is free goes back to the system, which the C library may keep for later."""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Callable
from functools import cache


def give_back() -> None:
    """Where the C library is glibc: once it has freed a few large arrays, it keeps what lies between those still there.

    To be asked for where much was held and other things follow, for what is needed again has to be fetched again.
    """
    _trim()(0)


def relieve() -> None:
    """The same where the process has grown since it last was: a run frees what it held, and the next takes it anew
    elsewhere, between what others hold.
    """
    held = _held()
    if held >= _Level.next:
        give_back()
        _Level.next = max(_SMALL, _held() + _GROWN)


_SMALL, _GROWN = 192 << 20, 64 << 20
"""Bytes: a process that holds less keeps them, and what has to come on top. To fetch so much again takes some 20 ms."""


class _Level:
    next = _SMALL


def _held() -> int:
    """Bytes in memory that no file stands for; 0 where the system does not tell."""
    try:
        with open("/proc/self/statm", "rb") as told:
            resident, shared = told.read().split()[1:3]
    except OSError:
        return 0
    return (int(resident) - int(shared)) * mmap.PAGESIZE


@cache
def _trim() -> Callable[[int], object]:
    try:
        return ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):
        return lambda _: None
