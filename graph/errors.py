"""The errors a user can meet, and the exit code each ends with."""

from __future__ import annotations

from enum import IntEnum
from typing import Any


class Exit(IntEnum):
    """Exit codes of every command."""

    DONE = 0
    BAD_INPUT = 1
    USAGE = 2
    GATE_FAILED = 3
    NOTHING_CHANGED = 4


class IntaglioError(Exception):
    """Something the user can mend: says what went wrong, why, and how to fix it."""

    exit_code: Exit = Exit.BAD_INPUT

    def __init__(self, what: str, *, why: str = "", fix: str = "") -> None:
        super().__init__(what)
        self.what, self.why, self.fix = what, why, fix

    def __str__(self) -> str:
        return "\n".join(
            filter(None, (self.what, self.why and f"  why: {self.why}", self.fix and f"  fix: {self.fix}"))
        )


class BadModel(IntaglioError):
    """The file is not a usable ONNX model."""


class BadData(IntaglioError):
    """The data does not fit the model, or cannot be read."""


class UsageError(IntaglioError):
    """Options that contradict each other or name something that does not exist."""

    exit_code = Exit.USAGE


class GateFailed(IntaglioError):
    """A limit that the user set was exceeded. ``report`` tells of a run what it measured."""

    exit_code = Exit.GATE_FAILED
    report: Any = None


class NothingChanged(IntaglioError):
    """A change was asked for and none was possible."""

    exit_code = Exit.NOTHING_CHANGED


class TargetUnreachable(IntaglioError):
    """The graph cannot shrink that far. Says the lowest reachable value and what is frozen."""


class ProofFailed(IntaglioError):
    """The changed model is not what it should be; nothing is written."""
