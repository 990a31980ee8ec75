"""The command line ``intaglio <command> MODEL``: one table of commands, each imported only when it runs."""

from __future__ import annotations

import io
import sys
import warnings
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from ..graph.errors import Exit
from ..graph.lazy import entry_points
from ..graph.version import VERSION
from .commands import COMMANDS, about
from .mode import INTERRUPTED, begin, mode


class LazyGroup(TyperGroup):
    """A group that knows its commands by name and imports only the one that runs."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**{**given, "commands": dict.fromkeys(COMMANDS)})

    def get_params(self, ctx: Any) -> list[Any]:
        params = super().get_params(ctx)
        for param in params:
            param.default = param.default or False  # None would be converted, which imports pydantic
        return params

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        name, _, rest = super().resolve_command(ctx, args)
        return name, load_command(name) if name else None, rest

    def get_command(self, ctx: Any, name: str) -> Any:
        if name in COMMANDS:
            return TyperCommand(name, help=about(name))
        from .plugged import known

        return load_command(name) if known(name) else None

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, about(name)) for name in COMMANDS])
        if others := _others():
            with formatter.section("Commands of other packages"):
                formatter.write_dl(others)


def _others() -> list[tuple[str, str]]:
    if f"{__package__}.plugged" in sys.modules or entry_points("intaglio.commands", tuple(sys.path)):
        from .plugged import listed

        return listed()
    return []  # without the registry, which takes long to import


def load_command(name: str) -> Any:
    """The real command of that name, its options included."""
    from .command import Command, function_of

    single = typer.Typer(add_completion=False, rich_markup_mode=None)
    function = function_of(name)
    single.command(name, cls=getattr(function, "shown_as", Command))(function)
    try:
        return typer.main.get_command(single)
    except Exception as error:
        if name in COMMANDS:
            raise
        from .plugged import broken

        raise broken(name, error) from error


def _version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"intaglio {VERSION}\n")
        raise typer.Exit


def _root(
    version: Annotated[
        bool, typer.Option("--version", "-V", callback=_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """Carve ONNX models down to what the edge needs.

    Every command takes --json (one JSON object on stdout), --debug (full tracebacks), --quiet (no notes, no progress),
    --verbose (what passes log, too) and --log-file FILE (what is told on stderr goes there as well). Exit codes: 0 done,
    1 the model or the data is bad, 2 wrong usage, 3 a gate failed, 4 nothing was changed though a change was asked for.
    """


def _build() -> typer.Typer:
    both = {"help_option_names": ["-h", "--help"]}
    built = typer.Typer(cls=LazyGroup, rich_markup_mode=None, no_args_is_help=True, context_settings=both)
    built.callback()(_root)
    return built


app = _build()


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code. Whatever goes wrong is told in one place."""
    args = list(sys.argv[1:] if argv is None else argv)
    args = begin(args)
    if mode.verbose:
        _log_all()
    _tolerate_odd_names()
    with warnings.catch_warnings():
        if not mode.debug:
            warnings.simplefilter("ignore")  # other packages' deprecations are no news to a user
        try:
            code = app(args=args, prog_name="intaglio", standalone_mode=False)
            if code == INTERRUPTED:  # newer typer swallows the interrupt and gives only the code
                raise KeyboardInterrupt
            sys.stdout.flush()
        except BaseException as error:
            from .failed import told

            return told(error)
    return code if isinstance(code, int) else Exit.DONE


def _log_all() -> None:
    """What passes log goes to stderr."""
    import logging

    logging.basicConfig(format="%(message)s", force=True)
    logging.getLogger("intaglio").setLevel(logging.DEBUG)


def _tolerate_odd_names() -> None:
    """Names in files may hold what the terminal's encoding does not: print those escaped rather than fail."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
