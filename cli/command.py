"""What every command keeps to when its command line is read."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import nullcontext, redirect_stdout
from functools import wraps
from importlib import import_module
from typing import Any

from typer.core import TyperCommand

from ..graph.errors import UsageError
from .commands import COMMANDS, home
from .commands import function as called
from .mode import mode

_WRITTEN = {"out", "proof", "save_recipe", "junit", "markdown", "html"}
"""Options that name what is written."""


class Command(TyperCommand):
    """A command that takes no option's value twice: nobody can tell which is meant."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        try:
            read: Any = self.make_parser(ctx).parse_args(list(args))
        except Exception as error:
            vars(error)["ctx"] = ctx  # so that the error names the help to look at
            raise
        values, _, given = read
        for one in given:
            if values.get(one.name) == "" and one.name in _WRITTEN:
                raise UsageError(f"{one.opts[0]} names nothing", why="its value is empty", fix="give a name")
        for one in {param for param in given if given.count(param) > 1 and not param.multiple}:
            both = [next((flag for flag in flags if flag in args), "") for flags in (one.opts, one.secondary_opts)]
            if all(both):
                raise UsageError(f"{' and '.join(both)} exclude each other", fix="give one of them")
            if not one.is_flag:
                raise UsageError(f"{one.opts[0]} is given more than once", fix="give it once")
        return super().parse_args(ctx, args)


def function_of(name: str) -> Callable[..., Any]:
    """What a command runs. With ``--json`` whatever it prints by itself goes to stderr.

    Raises:
        UsageError: it belongs to another package, and could not be loaded.
    """
    if name in COMMANDS:
        function = getattr(import_module(f".commands.{home(name)}", __package__), called(name))
    else:
        from .plugged import function_of as foreign

        function = foreign(name)

    @wraps(function)
    def run(*given: Any, **named: Any) -> Any:
        mode.command = name
        with redirect_stdout(sys.stderr) if mode.json else nullcontext():
            return function(*given, **named)

    return run
