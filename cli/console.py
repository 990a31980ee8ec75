"""Everything that reaches the user: results, tables, notes, progress, and errors with their exit codes."""

from __future__ import annotations

import errno
import os
import re
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from ..graph.errors import Exit, IntaglioError
from ..pipeline.text import STEERING
from ..pipeline.text import count as count
from ..pipeline.text import harmless as harmless
from ..pipeline.text import human as human
from ..pipeline.text import metric as metric
from ..pipeline.text import number as number
from ..pipeline.text import percent as percent
from ..pipeline.text import plain as plain
from ..pipeline.text import rated as rated
from .mode import BROKEN_PIPE as BROKEN_PIPE
from .mode import INTERRUPTED
from .mode import Told as Told
from .mode import begin as begin
from .mode import mode as mode

SLOW_SECONDS = 2.0
LINE_SECONDS = 30.0
_SPACE = "free some space, or write elsewhere; TMPDIR says where temporary files go"
_WORD = 12
"""Columns of text may become as narrow as this, those of numbers not at all."""


def emit(result: Mapping[str, Any], show: Callable[[], None], *, failed: IntaglioError | None = None) -> None:
    """Print the result: as one JSON object with ``--json``, else through ``show``.

    ``failed`` is an error that comes with a result, such as a gate that was missed: both are printed, and the
    command ends with its exit code.
    """
    if not mode.json:
        show()
        if failed:
            raise failed
        return
    _print_json({**result, **({"error": error_dict(failed)} if failed else {})})
    if failed:
        raise Told(int(failed.exit_code))


def line(text: str = "") -> None:
    """One plain line on stdout. On GitHub no name at its start is taken for a command to the runner."""
    if "GITHUB_ACTIONS" in os.environ:
        text = re.sub(r"^(\s*)(::|##\[)", r"\1\\\2", text, flags=re.MULTILINE)
    sys.stdout.write(harmless(text) + "\n")


def raw(text: str) -> None:
    """Lines for programs that read what is printed, on stderr: stdout holds the result."""
    sys.stderr.write(text)


def notes(sentences: Sequence[str]) -> None:
    """Things worth knowing, on stderr, one line each; with ``--json`` they belong in the result instead."""
    if not mode.json and not mode.quiet:
        for sentence in sentences:
            _log(f"note: {harmless(sentence, lines=False)}\n")


def warnings(sentences: Sequence[str]) -> None:
    """The same for what nobody should overlook."""
    bold, plain = ("\x1b[1m", "\x1b[0m") if sys.stderr.isatty() else ("", "")
    for sentence in () if mode.json else sentences:
        _log(f"{bold}warning: {harmless(sentence, lines=False)}{plain}\n")


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A table on stdout: drawn on a terminal, plain aligned lines otherwise. Numbers stand to the right."""
    cells = [["" if value is None else harmless(str(value), lines=False) for value in row] for row in rows]
    right = [bool(cells) and all(_looks_numeric(row[i]) for row in cells) for i in range(len(columns))]
    if sys.stdout.isatty():
        _rich_table(title, columns, cells, right)
    else:
        _plain_table(title, columns, cells, right)


def facts(rows: Sequence[tuple[str, object]]) -> None:
    """Names and what they stand for, one pair a line on stdout."""
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        line(f"{name.ljust(width)}  {value}")


@contextmanager
def progress(title: str) -> Iterator[Callable[[int, int | None], None]]:
    """Yields ``tick(done, total)``; once the work has taken two seconds a bar appears on a terminal, elsewhere a line
    every half minute."""
    if mode.quiet or not sys.stderr.isatty():
        yield _lines(title)
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}"), TimeRemainingColumn())
    bar = Progress(*columns, console=Console(stderr=True), transient=True)
    task = bar.add_task(title, total=None)
    timer = threading.Timer(SLOW_SECONDS, bar.start)
    timer.daemon = True
    timer.start()
    try:
        yield lambda done, total: bar.update(task, completed=done, total=total)
    finally:
        timer.cancel()
        timer.join()
        bar.stop()


def _lines(title: str) -> Callable[[int, int | None], None]:
    """How far the work is, in lines for a log."""
    told = time.monotonic()

    def tick(done: int, total: int | None) -> None:
        nonlocal told
        if not mode.quiet and time.monotonic() - told >= LINE_SECONDS:
            told = time.monotonic()
            _log(f"{title}: {f'{done / total:.0%}' if total else done}\n")

    return tick


def _log(text: str) -> None:
    """On stderr, and into the file that ``--log-file`` names."""
    sys.stderr.write(text)
    if mode.log_file:
        with suppress(OSError), open(mode.log_file, "a", encoding="utf-8") as file:
            file.write(text)


def report(error: BaseException) -> int:
    """Tell the user about an exception and return the exit code."""
    if isinstance(error, Told):
        return error.code
    if mode.debug and not isinstance(error, KeyboardInterrupt):
        sys.stderr.write(harmless("".join(traceback.format_exception(error))))
    if isinstance(error, BrokenPipeError):
        return _silence()
    if isinstance(error, KeyboardInterrupt):
        return _tell(IntaglioError("interrupted"), INTERRUPTED)
    known = error if isinstance(error, IntaglioError) else _translate(error)
    return _tell(known, int(known.exit_code))


def usage(message: str, command: str) -> int:
    """Tell the user about a command line that cannot be parsed."""
    return _tell(IntaglioError(message[:1].lower() + message[1:].rstrip("."), fix=f"see {command} --help"), Exit.USAGE)


def _tell(error: IntaglioError, code: int) -> int:
    if mode.json and not mode.spoken:
        _print_json({"error": error_dict(error)})
    else:
        _log(f"error: {harmless(str(error))}\n")
    return code


def _print_json(result: Mapping[str, Any]) -> None:
    import json

    from ..pipeline.envelope import envelope

    mode.spoken = True
    text = json.dumps(plain({**envelope(mode.command), **result}), indent=2, allow_nan=False, ensure_ascii=False)
    # In JSON these stand in strings alone, where an escape is the same text.
    (mode.out or sys.stdout).write(text.translate({code: f"\\u{code:04x}" for code in STEERING}) + "\n")


def error_dict(error: IntaglioError) -> dict[str, str]:
    """As JSON tells it."""
    return {"what": error.what, "why": error.why, "fix": error.fix}


def _translate(error: BaseException) -> IntaglioError:
    if isinstance(error, MemoryError):
        return IntaglioError("out of memory", why=str(error), fix="close other programs, or try a smaller --batch")
    if isinstance(error, OSError):
        return _translate_os(error)
    return IntaglioError(
        f"internal: {type(error).__name__}: {_first_line(error)}",
        why="this is a fault in intaglio, not in what you asked for",
        fix="run again with --debug and report what it prints",
    )


def _translate_os(error: OSError) -> IntaglioError:
    where = f" {os.fspath(error.filename)!r}" if isinstance(error.filename, (str, os.PathLike)) else ""
    fixes = {
        errno.ENOSPC: _SPACE,
        errno.EDQUOT: _SPACE,
        errno.EACCES: "check the permissions, or choose another path",
        errno.EPERM: "check the permissions, or choose another path",
        errno.EROFS: "choose a folder that can be written to",
        errno.ENOENT: "check the path",
        errno.EISDIR: "give a file, not a folder",
        errno.ENOTDIR: "check the path",
    }
    reason = error.strerror or _first_line(error)
    return IntaglioError(f"cannot use{where or ' a file'}: {reason}", fix=fixes.get(error.errno or 0, ""))


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or ["no message"])[0]


def _silence() -> int:
    """Whoever read our output has left: say nothing more, not even when Python flushes at exit."""
    with suppress(OSError, ValueError):  # stdout may be no real file
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return BROKEN_PIPE


def _looks_numeric(cell: str) -> bool:
    return cell in ("", "-") or cell.lstrip("+-")[:1].isdigit()


def _plain_table(title: str, columns: Sequence[str], cells: list[list[str]], right: list[bool]) -> None:
    widths = [max(len(row[i]) for row in [list(columns), *cells]) for i in range(len(columns))]
    if title:
        line(title)
    for row in [list(columns), *cells]:
        aligned = (c.rjust(w) if r else c.ljust(w) for c, w, r in zip(row, widths, right, strict=True))
        line("  ".join(aligned).rstrip())


def _rich_table(title: str, columns: Sequence[str], cells: list[list[str]], right: list[bool]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    screen = Console()
    least = [max(map(len, (name, *each))) for name, each in zip(columns, zip(*cells, strict=True), strict=False)]
    if (
        sum(size if n else min(size, _WORD) for size, n in zip(least, right, strict=False)) + 3 * len(right)
        > screen.width
    ):
        _one_by_one(title, columns, cells)
        return
    drawn = Table(title=harmless(title) or None, title_justify="left", box=SIMPLE_HEAD)
    for name, to_right in zip(columns, right, strict=True):
        drawn.add_column(name, justify="right" if to_right else "left", overflow="fold")
    for row in cells:
        drawn.add_row(*(Text(cell) for cell in row))  # Text: a name such as "[0]" is no markup
    screen.print(drawn)


def _one_by_one(title: str, columns: Sequence[str], cells: list[list[str]]) -> None:
    """What is too wide for the terminal: a line a cell, numbers whole."""
    for text in filter(None, [title]):
        line(text)
    for first, *rest in cells:
        line(first)
        for name, cell in zip(columns[1:], rest, strict=True):
            if cell:
                line(f"  {name}: {cell}" if name else f"  {cell}")
