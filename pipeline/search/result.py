"""What a search tells: every point that was tried, and the one that was chosen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ...graph.errors import IntaglioError
from ...passes.base import Pass
from ...passes.change import Change
from .limits import Limits


@dataclass(frozen=True)
class Point:
    """One chain of passes that was tried, and what came of it; fractions are of the file as given.

    ``accuracy`` is None without labelled data, or where it was not worth measuring; ``sqnr_db`` of the outputs on
    calibration data against the original's, and ``agreement`` the fraction of these data for which both score the same class
    highest. ``told`` says why a point was given up, or not finished.
    """

    name: str
    passes: Sequence[Mapping[str, Any]]
    size_bytes: int = 0
    macs: int = 0
    params: int = 0
    kept: Mapping[str, float] = field(default_factory=dict)
    latency_ms: float | None = None
    latency_ratio: float | None = None
    accuracy: Mapping[str, float] | None = None
    sqnr_db: float | None = None
    agreement: float | None = None
    seconds: float = 0.0
    meets: bool = False
    front: bool = False
    chosen: bool = False
    told: str = ""

    def as_dict(self) -> dict[str, Any]:
        """As plain data."""
        return {**vars(self), "passes": [dict(one) for one in self.passes], "kept": dict(self.kept)}


@dataclass(frozen=True)
class SearchResult:
    """The chosen ``passes``, what each of them did (``changes``, in order), and all ``points``.

    ``layers`` tells of each layer what was chosen and why. ``refusal`` is why the chosen model is not within the limits:
    then it is the nearest that was found. Units: ``seconds``.
    """

    limits: Limits
    passes: Sequence[Pass]
    changes: Sequence[Change]
    points: Sequence[Point]
    layers: Sequence[Mapping[str, Any]] = ()
    notes: Sequence[str] = ()
    refusal: IntaglioError | None = None
    seconds: float = 0.0

    @property
    def chosen(self) -> Point:
        return next(one for one in self.points if one.chosen)

    def as_dict(self) -> dict[str, Any]:
        """What a report adds: ``limits``, ``points`` and ``chosen_layers``."""
        return {
            "limits": self.limits.as_dict(),
            "points": [one.as_dict() for one in self.points],
            "chosen_layers": [dict(one) for one in self.layers],
            "search_seconds": self.seconds,
        }
