"""The command line ``intaglio <command> MODEL``: one table of commands, each imported only when it runs."""

from __future__ import annotations

import io
import sys
import warnings
from collections.abc import Sequence
from traceback import walk_tb
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from ..graph.errors import Exit, IntaglioError
from ..graph.version import VERSION
from . import console
from .command import Command
from .commands import COMMANDS, about, broken, function_of, known, listed


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
        return load_command(name) if known(name) else None

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        for title, rows in listed().items():
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)


def load_command(name: str) -> Any:
    """The real command of that name, its options included."""
    single = typer.Typer(add_completion=False, rich_markup_mode=None)
    function = function_of(name)
    single.command(name, cls=getattr(function, "shown_as", Command))(function)
    try:
        return typer.main.get_command(single)
    except Exception as error:
        if name in COMMANDS:
            raise
        raise broken(name, error) from error


def _version(wanted: bool) -> None:
    if wanted:
        console.line(f"intaglio {VERSION}")
        raise typer.Exit


def _root(
    version: Annotated[
        bool, typer.Option("--version", "-V", callback=_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """Carve ONNX models down to what the edge needs.

    Every command takes --json (one JSON object on stdout) and --debug (full tracebacks). Exit codes: 0 done, 1 the
    model or the data is bad, 2 wrong usage, 3 a gate failed, 4 nothing was changed though a change was asked for.
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
    console.begin(args)
    _tolerate_odd_names()
    with warnings.catch_warnings():
        if not console.mode.debug:
            warnings.simplefilter("ignore")  # other packages' deprecations are no news to a user
        try:
            code = app(args=args, prog_name="intaglio", standalone_mode=False)
            sys.stdout.flush()
        except SystemExit as stop:
            return _ended(stop)
        except BaseException as error:
            return _failed(error)
    if code == console.INTERRUPTED:  # newer typer swallows the interrupt and gives only the code
        return console.report(KeyboardInterrupt())
    return code if isinstance(code, int) else Exit.DONE


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


def _tolerate_odd_names() -> None:
    """Names in files may hold what the terminal's encoding does not: print those escaped rather than fail."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _failed(error: BaseException) -> int:
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
    return console.report(error)
