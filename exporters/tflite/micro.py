"""What TFLite Micro needs for a file of integers, where its package is installed."""

from __future__ import annotations

import re
from importlib.util import find_spec
from typing import Any

import numpy as np

from ...measure.litert.quiet import errors_apart

_ROOM = 64 << 20
"""Bytes of the arena that are offered."""
_TOTAL = re.compile(rb"Arena allocation total (\d+) bytes")


def arena(content: bytes) -> dict[str, Any]:
    """``arena_bytes``, what one run takes of memory beside the file; nothing where that cannot be told."""
    if find_spec("tflite_micro") is None:
        return {}
    from tflite_micro.python.tflite_micro import runtime

    with errors_apart() as said:
        try:
            interpreter = runtime.Interpreter.from_bytes(content, arena_size=_ROOM)
            detail = interpreter.get_input_details(0)
            interpreter.set_input(np.zeros(detail["shape"], detail["dtype"]), 0)
            interpreter.invoke()
            interpreter.print_allocations()
        except (RuntimeError, ValueError):
            return {}
        said.seek(0)
        found = _TOTAL.search(said.read())
    return {"arena_bytes": int(found[1])} if found else {}
