"""How this run speaks: apart from :mod:`.console`, which a help that nothing goes wrong with does without."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

INTERRUPTED = 130  # 128 + SIGINT, as shells report it
BROKEN_PIPE = 141  # 128 + SIGPIPE


class Mode:
    """How this run speaks: set once from the command line, before it is parsed."""

    json: bool = False
    debug: bool = False
    quiet: bool = False  # no notes, no progress
    verbose: bool = False  # what passes log, too
    log_file: str = ""  # gets what is told on stderr
    command: str = ""
    spoken: bool = False  # the one JSON object is out
    out: TextIO | None = None  # where that goes, whatever is done to stdout while a command runs
    models: list[tuple[Path, list[str] | None, list[str] | None]]  # that were read, with --shape and --input


mode = Mode()


class Told(Exception):
    """The user has been told already; only the exit code is left."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


def begin(argv: Sequence[str]) -> list[str]:
    """Read what every command takes off the raw command line, so that even a usage error obeys it.

    Gives the command line without ``--quiet``, ``--verbose`` and ``--log-file FILE``, which commands do not know.
    """
    end = argv.index("--") if "--" in argv else len(argv)
    options, rest = list(argv[:end]), list(argv[end:])
    mode.json, mode.debug, mode.spoken, mode.out = "--json" in options, "--debug" in options, False, sys.stdout
    mode.quiet, mode.verbose, mode.log_file = "--quiet" in options, "--verbose" in options, ""
    mode.command, mode.models = "", []
    if "--log-file" in options[:-1]:
        place = options.index("--log-file")
        mode.log_file = options[place + 1]
        del options[place : place + 2]
    return [word for word in options if word not in ("--quiet", "--verbose")] + rest
