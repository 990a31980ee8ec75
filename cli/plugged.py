"""Commands of other packages."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from ..graph.errors import Exit, IntaglioError, UsageError
from ..graph.registry import Registry
from .commands import COMMANDS
from .mode import Told

PLUGGED: Registry[Callable[..., Any]] = Registry("command", "intaglio.commands", taken=COMMANDS)
"""Functions with parameters as typer takes them; the first line of the docstring is shown in the list of commands."""


def function_of(name: str) -> Callable[..., Exit]:
    """What a command runs: it ends with one of our exit codes, and its faults are called its own.

    Raises:
        UsageError: it could not be loaded.
    """
    function = PLUGGED[name]

    @wraps(function)
    def run(*given: Any, **named: Any) -> Exit:
        try:
            code = function(*given, **named)
        except (IntaglioError, Told, OSError, MemoryError):
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

    return run


def listed() -> list[tuple[str, str]]:
    """All of them with what they do; of those that cannot be used, why."""
    works = [(name, (PLUGGED.entry(name).thing.__doc__ or "").strip().partition("\n")[0]) for name in PLUGGED]
    return works + [(name, f"BROKEN: {why}") for name, why in PLUGGED.broken.items() if name not in COMMANDS]


def known(name: str) -> bool:
    """Whether another package has a command of that name, be it a broken one."""
    return name in PLUGGED or name in PLUGGED.broken


def broken(name: str, error: Exception) -> UsageError:
    """For a function that no command line can be made of."""
    return UsageError(f"command {name!r} could not be loaded", why=f"{type(error).__name__}: {error}")
