"""How this run speaks: apart from :mod:`.console`, which a help that nothing goes wrong with does without."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TextIO

INTERRUPTED = 130  # 128 + SIGINT, as shells report it
BROKEN_PIPE = 141  # 128 + SIGPIPE


class Mode:
    """How this run speaks: set once from the command line, before it is parsed."""

    json: bool = False
    debug: bool = False
    command: str = ""
    spoken: bool = False  # the one JSON object is out
    out: TextIO | None = None  # where that goes, whatever is done to stdout while a command runs


mode = Mode()


class Told(Exception):
    """The user has been told already; only the exit code is left."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


def begin(argv: Sequence[str]) -> None:
    """Read ``--json`` and ``--debug`` off the raw command line, so that even a usage error obeys them."""
    options = argv[: argv.index("--")] if "--" in argv else argv
    mode.json, mode.debug, mode.spoken, mode.out = "--json" in options, "--debug" in options, False, sys.stdout
    mode.command = ""
