"""What becomes of everything that can end a command but its own end."""

from __future__ import annotations

import sys
from traceback import walk_tb
from typing import Any

from ..graph.errors import BadModel, Exit, IntaglioError
from . import console


def told(error: BaseException) -> int:
    """Tell the user, and return the exit code."""
    if isinstance(error, SystemExit):
        return _ended(error)
    if type(error).__name__ == "NoArgsIsHelpError" and not console.mode.json:
        sys.stderr.write(f"{error}\n")
        return Exit.USAGE
    if type(error).__name__ == "Abort":
        return console.report(KeyboardInterrupt())
    if hasattr(error, "format_message"):  # click's own base class, which typer vendors or not by version
        context = getattr(error, "ctx", None)
        command = context.command_path if context else "intaglio"
        cause: Any = error.__cause__
        if type(cause).__name__ == "ValidationError":  # of pydantic, which typer converts values with
            from ..graph.options import unusable

            return console.report(unusable(vars(error)["param"].opts[0], cause, None, f"see {command} --help"))
        return console.usage(error.format_message(), command)
    return console.report(_doubted(error))


def _doubted(error: BaseException) -> BaseException:
    """A fault of ours at a model that ONNX Runtime does not run either is told as that: passes take for granted that one runs."""
    if not isinstance(error, Exception) or isinstance(error, (IntaglioError, console.Told, OSError, MemoryError)):
        return error
    from ..measure.run.inputs import runnable_inputs
    from .options import read_model

    for path, shape, value in [*console.mode.models]:
        try:
            runnable_inputs(read_model(path, shape, value))
        except IntaglioError as reason:
            lines = " ".join(filter(None, (reason.what, reason.why))).splitlines()
            found = BadModel(
                f"{path}: it could not be worked on, nor run here: {lines[0]}",
                why=f"it ended in {type(error).__name__}: {error}; {' '.join(lines[1:])}".rstrip("; "),
                fix="if it does run on data of yours, run again with --debug and report what that prints",
            )
            found.__cause__ = error
            return found
        except Exception:
            return error
    return error


def _ended(stop: SystemExit) -> int:
    *_, (frame, _) = walk_tb(stop.__traceback__)
    if frame.f_globals["__name__"].partition(".")[0] in ("click", "typer"):  # completions, and pipes that broke
        return console.BROKEN_PIPE if isinstance(stop.__context__, BrokenPipeError) else int(stop.code or Exit.DONE)
    error = IntaglioError(
        f"something ended the program with {stop.code!r}",
        why="code of another package, a plug-in or a reader of data, called sys.exit: nothing is known to be done",
        fix="run again with --debug to see where",
    )
    error.__cause__ = stop
    return console.report(error)
