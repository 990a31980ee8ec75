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
    _found("malloc_trim")(0)


def large_apart() -> None:
    """Where the C library is glibc: arrays of 16 MB and more are memory of their own, and go back once they are freed.

    Otherwise what is large grows to 32 MB with what a process frees, and lies among the small ones. For the whole
    process, so a program that uses this package decides by itself.
    """
    _found("mallopt")(_MMAP_THRESHOLD, _LARGE)


def relieve() -> None:
    """The same where the process has grown since it last was: a run frees what it held, and the next takes it anew
    elsewhere, between what others hold.
    """
    held = _held()
    if held >= _Level.next:
        give_back()
        _Level.next = max(_SMALL, _held() + _GROWN)


_MMAP_THRESHOLD, _LARGE = -3, 16 << 20
"""The number of ``mallopt``'s setting, and its value: with 4 MB, pruning a detector spends 20 s more on fetching pages."""
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
def _found(name: str) -> Callable[..., object]:
    """A function of the C library, or one that does nothing."""
    try:
        return getattr(ctypes.CDLL(None), name)
    except (AttributeError, OSError, TypeError):
        return lambda *_: None
