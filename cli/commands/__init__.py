"""What commands there are: ours, each a function in the module of its name in this folder, and those of other packages."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import nullcontext, redirect_stdout
from functools import wraps
from importlib import import_module
from os import listdir
from pathlib import Path
from typing import Any

from ...graph.errors import Exit, IntaglioError, UsageError
from ...graph.registry import Registry
from .. import console

COMMANDS = tuple(sorted(name[:-3] for name in listdir(__path__[0]) if name[0] != "_"))

PLUGGED: Registry[Callable[..., Any]] = Registry("command", "intaglio.commands", taken=COMMANDS)
"""Functions with parameters as typer takes them; the first line of the docstring is shown in the list of commands."""


def about(name: str) -> str:
    """The first line of what a command of ours says of itself. It is read, as importing all of them takes long."""
    source = Path(__path__[0], f"{name}.py").read_text()
    return source.partition(f"\ndef {name}(")[2].split('"""')[1].partition("\n")[0]


def function_of(name: str) -> Callable[..., Any]:
    """What a command runs. With ``--json`` whatever it prints by itself goes to stderr.

    Raises:
        UsageError: it belongs to another package, and could not be loaded.
    """
    ours = name in COMMANDS
    function = getattr(import_module(f".{name}", __name__), name) if ours else PLUGGED[name]

    @wraps(function)
    def run(*given: Any, **named: Any) -> Any:
        console.mode.command = name
        with redirect_stdout(sys.stderr) if console.mode.json else nullcontext():
            return function(*given, **named) if ours else _foreign(name, function, *given, **named)

    return run


def _foreign(name: str, function: Callable[..., Any], *given: Any, **named: Any) -> Exit:
    """A command of another package: it ends with one of our exit codes, and its faults are called its own."""
    try:
        code = function(*given, **named)
    except (IntaglioError, console.Told, OSError, MemoryError):
        raise
    except Exception as error:
        if type(error).__module__.partition(".")[0] in ("click", "typer"):  # Exit, Abort and usage errors
            raise
        package = PLUGGED.entry(name).module.partition(".")[0]
        raise IntaglioError(
            f"{type(error).__name__}: {error}",
            why=f"this is a fault in the command {name}, which comes from the package {package}",
            fix="run again with --debug and report what it prints to its authors",
        ) from error
    return code if isinstance(code, Exit) else Exit.DONE


def listed() -> dict[str, list[tuple[str, str]]]:
    """All commands by where they come from, with what they do; of those that cannot be used, why."""
    works = [(name, (PLUGGED.entry(name).thing.__doc__ or "").strip().partition("\n")[0]) for name in PLUGGED]
    broken = [(name, f"BROKEN: {why}") for name, why in PLUGGED.broken.items() if name not in COMMANDS]
    return {"Commands": [(name, about(name)) for name in COMMANDS], "Commands of other packages": works + broken}


def known(name: str) -> bool:
    """Whether another package has a command of that name, be it a broken one."""
    return name in PLUGGED or name in PLUGGED.broken


def broken(name: str, error: Exception) -> UsageError:
    """For a function that no command line can be made of."""
    return UsageError(f"command {name!r} could not be loaded", why=f"{type(error).__name__}: {error}")
