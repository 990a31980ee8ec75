"""The operators on bits as native code in ONNX Runtime: the library of kernels registers them."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from weakref import WeakSet

from . import loader
from .loader import KernelsAbsent

THREADS = "intaglio.threads"
"""The configuration entry of a session that tells for how many threads work is cut."""

_DONE: WeakSet[Any] = WeakSet()
"""Options that have the operators. ONNX Runtime refuses a session whose options were given them twice."""


def ops_library() -> Path:
    """The file of the library that ONNX Runtime loads the operators of domain ``intaglio`` from.

    Any program that runs ONNX Runtime can register it, in any language: its entry point is ``RegisterCustomOps``.

    Raises:
        KernelsAbsent: there is none, or it cannot be used; says why and how to get it.
    """
    why = loader.why_absent()
    file = loader.path()
    if why is not None or file is None:
        raise KernelsAbsent(why)
    return file


def register(session_options: Any) -> None:
    """Compute the operators of domain ``intaglio`` natively in sessions made with these ``SessionOptions``.

    Without it a model that uses them still runs: ONNX Runtime computes their definitions, which give the same results
    and take longer. Doing it again for the same options changes nothing. ``intra_op_num_threads`` should be set before:
    work is cut for that many threads.

    Raises:
        KernelsAbsent: there is no library; says why and how to get it.
    """
    file = ops_library()
    if session_options not in _DONE:
        if session_options.intra_op_num_threads > 0:
            session_options.add_session_config_entry(THREADS, str(session_options.intra_op_num_threads))
        session_options.register_custom_ops_library(str(file))
        _DONE.add(session_options)
