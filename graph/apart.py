"""Work that C++ of others does on structure that nobody has checked, in a process that may crash or never end."""

from __future__ import annotations

import os
import select
import signal
import warnings
from collections.abc import Callable
from pathlib import Path

import onnx

from .errors import BadModel

SECONDS = 120
"""Of the processor that work may take; half as much again by the clock before it is ended."""
_FORKS, _BEGINS = 3, 30
"""How often a process is begun, and within how many seconds it has to say so."""
_BYTES = 8 << 30
"""What it may allocate on top of what there is."""


def apart(doing: str, work: Callable[[onnx.ModelProto], onnx.ModelProto], model: onnx.ModelProto) -> onnx.ModelProto:
    """What ``work`` makes of the model, done in a fork; here where a system has none.

    Raises:
        BadModel: it failed, crashed, or took more time or memory than any model should.
    """
    if not hasattr(os, "fork"):
        return work(model)
    child, reading = _begun(lambda writing: _answer(work, model, writing), doing)
    with open(reading, "rb") as pipe:
        failed, told = pipe.read(1), pipe.read()
    _, status = os.waitpid(child, 0)
    if status or not failed:
        ended = os.waitstatus_to_exitcode(status)
        why = "it took too long" if -ended in (signal.SIGXCPU, signal.SIGALRM) else f"it ended the process ({-ended})"
        raise BadModel(f"{doing} failed", why=f"{why}: a fault in onnx or ONNX Runtime, or a file made to cause it")
    if failed == b"1":
        raise BadModel(f"{doing} failed", why=told.decode(errors="replace").strip())
    return onnx.ModelProto.FromString(told)


def _begun(live: Callable[[int], None], doing: str) -> tuple[int, int]:
    """A fork that has begun to ``live``, and the end of the pipe that it writes to.

    A fork takes locks along that threads of libraries held: now and then it waits for one of these before it does anything,
    for ever. Such a one is ended, and there is another. Raises BadModel where none begins.
    """
    for _ in range(_FORKS):
        reading, writing = os.pipe()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of threads: the fork runs nothing that waits for one
            child = os.fork()
        if not child:
            os.write(writing, b".")
            live(writing)
        os.close(writing)
        signs = select.poll()
        signs.register(reading, select.POLLIN)
        if signs.poll(_BEGINS * 1000):
            os.read(reading, 1)
            return child, reading
        os.close(reading)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    raise BadModel(f"{doing} failed", why=f"the system began none of {_FORKS} processes within {_BEGINS} seconds each")


def _answer(work: Callable[[onnx.ModelProto], onnx.ModelProto], model: onnx.ModelProto, writing: int) -> None:
    """The fork's whole life."""
    import faulthandler
    import resource

    try:
        faulthandler.disable()
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # C++ says in words of its own that it ends
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(SECONDS * 3 // 2)
        held = Path("/proc/self/statm")
        most = int(held.read_text().split()[0]) * resource.getpagesize() + _BYTES if held.exists() else _BYTES
        for limit, value in ((resource.RLIMIT_CORE, 0), (resource.RLIMIT_CPU, SECONDS), (resource.RLIMIT_AS, most)):
            hard = resource.getrlimit(limit)[1]
            least = value if hard == resource.RLIM_INFINITY else min(value, hard)
            resource.setrlimit(limit, (least, least))
        try:
            told = b"0" + work(model).SerializeToString()
        except Exception as error:
            told = b"1" + str(error).encode(errors="replace")
        with open(writing, "wb") as pipe:
            pipe.write(told)
    finally:
        os._exit(0)
