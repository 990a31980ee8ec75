"""How far the outputs of two models lie apart on the same inputs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..graph.errors import BadData


@dataclass
class Difference:
    """Of one output, filled batch by batch; A is the reference.

    ``max_rel`` is the largest difference as a part of A's largest magnitude. ``top1`` counts samples for which both
    score the same class highest, where the output has the shape (samples, classes).
    """

    values: int = 0
    equal: int = 0
    max_abs: float = 0.0
    sum_abs: float = 0.0
    largest: float = 0.0
    signal: float = 0.0
    noise: float = 0.0
    not_finite: int = 0
    top1_same: int = 0
    top1_seen: int = 0

    def add(self, a: np.ndarray, b: np.ndarray) -> None:
        """Take in one batch of the output of both. Values that are not finite in both alike count as equal."""
        if a.shape != b.shape:
            raise BadData(f"the outputs cannot be compared: A has shape {a.shape}, B {b.shape}")
        self.values += a.size
        if a.dtype.kind not in "fiubcV":
            self.equal += int((a == b).sum())
            return
        x, y = _wide(a), _wide(b)
        same = (x == y) | (np.isnan(x) & np.isnan(y))
        finite = np.isfinite(x) & np.isfinite(y)
        self.equal += int(same.sum())
        self.not_finite += int((~finite & ~same).sum())
        x, gap = np.where(finite, x, 0), np.abs(np.where(finite, x, 0) - np.where(finite, y, 0))
        if gap.size:
            self.max_abs = max(self.max_abs, float(gap.max()))
            self.largest = max(self.largest, float(np.abs(x).max()))
        self.sum_abs += float(gap.sum())
        self.signal += float((np.abs(x) ** 2).sum())
        self.noise += float((gap**2).sum())
        if a.ndim == 2 and a.shape[1] > 1 and a.dtype.kind in "fV":
            self.top1_same += int((a.argmax(axis=1) == b.argmax(axis=1)).sum())
            self.top1_seen += len(a)

    @property
    def identical(self) -> bool:
        return self.equal == self.values

    @property
    def mean_abs(self) -> float:
        return self.sum_abs / self.values if self.values else 0.0

    @property
    def max_rel(self) -> float:
        return self.max_abs / self.largest if self.largest else (0.0 if self.max_abs == 0 else math.inf)

    @property
    def sqnr_db(self) -> float:
        """Signal to noise: 10 log10(sum A² / sum (A - B)²). Infinite where nothing differs."""
        if self.noise == 0:
            return math.inf
        return 10 * math.log10(self.signal / self.noise) if self.signal else -math.inf

    @property
    def top1_agreement(self) -> float | None:
        return self.top1_same / self.top1_seen if self.top1_seen else None

    def as_dict(self) -> dict[str, Any]:
        told = ("identical", "max_abs", "mean_abs", "max_rel", "sqnr_db", "not_finite", "top1_agreement")
        return {name: getattr(self, name) for name in told}


def add_outputs(found: dict[str, Difference], a: Mapping[str, Any], b: Mapping[str, Any]) -> None:
    """Take in the outputs of one run of both, B's in the order of A's. Raises BadData where they cannot be compared."""
    for (name, x), y in zip(a.items(), b.values(), strict=True):
        difference = found.setdefault(name, Difference())
        pairs = zip(_parts(x), _parts(y), strict=False)
        if len(_parts(x)) != len(_parts(y)):
            raise BadData(f"output {name!r} cannot be compared: A gives {len(_parts(x))} items, B {len(_parts(y))}")
        for left, right in pairs:
            try:
                difference.add(left, right)
            except BadData as error:
                raise BadData(f"output {name!r}: {error.what}") from error


def _parts(value: Any) -> list[np.ndarray]:
    """A tensor as a list of one, a sequence as its items, a map as its values."""
    if isinstance(value, Mapping):
        return [part for item in value.values() for part in _parts(item)]
    if isinstance(value, (list, tuple)):
        return [part for item in value for part in _parts(item)]
    return [] if value is None else [np.asarray(value)]


def _wide(array: np.ndarray) -> np.ndarray:
    return array if array.dtype.kind == "c" else array.astype(np.float64)
