"""Mean average precision of detectors, as COCO measures it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from pydantic import Field

from ...graph.errors import BadData
from ..accuracy import METRICS
from .boxes import Decoding, Found, detections, iou

_OVERLAPS = np.linspace(0.5, 0.95, 10)
_RECALLS = np.linspace(0.0, 1.0, 101)
_MOST = 100
"""Boxes of a class in a sample that count."""
_FORM = "a row a box: left, top, right, bottom, class, and 1 for a crowd if need be; class -1 fills up"


class Matching(Decoding):
    """Options of ``map``."""

    at: float | None = Field(
        default=None, gt=0, lt=1, description="the overlap that makes a box right; the mean over 0.5 to 0.95 by default"
    )


@dataclass
class _Class:
    """What is known of a class: how many boxes there are, and of each found its score, and whether it is right or left out
    at each overlap."""

    wanted: int = 0
    scores: list[np.ndarray] = field(default_factory=list)
    right: list[np.ndarray] = field(default_factory=list)
    ignored: list[np.ndarray] = field(default_factory=list)


@METRICS.register("map", options=Matching, needs=("boxes",))
class MeanAveragePrecision:
    """Mean average precision of boxes, over overlaps of 0.5 to 0.95 and classes, as COCO measures it.

    Labels are (samples, boxes, 5 or 6): left, top, right, bottom, class, and 1 for a crowd if need be, in the units of the
    model's boxes; rows of class -1 fill up.

    Source: Lin et al., "Microsoft COCO: Common Objects in Context", ECCV 2014; matching and the 101 points of recall as in
    pycocotools, which the result equals.
    """

    def __init__(self, options: Matching) -> None:
        self.options = options
        self._overlaps = _OVERLAPS if options.at is None else np.array([options.at])
        self._classes: dict[int, _Class] = defaultdict(_Class)

    def add(self, outputs: Mapping[str, np.ndarray], labels: np.ndarray) -> None:
        if labels.ndim != 3 or labels.shape[2] not in (5, 6):
            raise BadData(f"the labels are no boxes: they have shape {labels.shape}", fix=f"give {_FORM}")
        for found, rows in zip(detections(outputs, self.options), labels.astype(np.float64), strict=True):
            self._sample(found, rows[rows[:, 4] >= 0])

    def _sample(self, found: Found, rows: np.ndarray) -> None:
        kinds = rows[:, 4].astype(np.int64)
        crowd = rows[:, 5] > 0 if rows.shape[1] == 6 else np.zeros(len(rows), bool)
        for kind in np.union1d(found.classes, kinds).tolist():
            own = np.flatnonzero(found.classes == kind)
            best = own[np.argsort(-found.scores[own], kind="stable")][:_MOST]
            mine = np.flatnonzero(kinds == kind)
            mine = mine[np.argsort(crowd[mine], kind="stable")]
            overlap = iou(found.boxes[best], rows[mine, :4], crowd[mine])
            right, ignored = match(overlap, crowd[mine], self._overlaps)
            told = self._classes[kind]
            told.wanted += int((~crowd[mine]).sum())
            told.scores.append(found.scores[best])
            told.right.append(right)
            told.ignored.append(ignored)

    def result(self) -> float:
        found = [_precision(one) for one in self._classes.values() if one.wanted]
        return float(np.mean(found)) if found else float("nan")


@METRICS.register("map50", options=Decoding, needs=("boxes",))
def map50(options: Decoding) -> MeanAveragePrecision:
    """Mean average precision of boxes that overlap by half: map:at=0.5."""
    return MeanAveragePrecision(Matching(at=0.5, **options.model_dump()))


def match(overlap: np.ndarray, crowd: np.ndarray, least: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Give each box, the surest first, the free label that it overlaps most; crowds are never used up, and do not count.

    Shapes: overlap (boxes, labels), crowds last; both results (overlaps, boxes): right, or left out.
    """
    right, ignored = (np.zeros((len(least), len(overlap)), bool) for _ in range(2))
    for place, limit in enumerate(least):
        free = np.ones(len(crowd), bool)
        for box, row in enumerate(overlap):
            fitting = np.flatnonzero((row >= min(limit, 1 - 1e-10)) & free)
            proper = fitting[~crowd[fitting]]
            among = proper if len(proper) else fitting
            if not len(among):
                continue
            label = among[::-1][row[among[::-1]].argmax()]  # of equal ones the last, as pycocotools does
            right[place, box], ignored[place, box] = not crowd[label], crowd[label]
            free[label] = crowd[label]
    return right, ignored


def _precision(one: _Class) -> float:
    """The mean over overlaps and 101 points of recall of the precision that is reached from there on."""
    order = np.argsort(-np.concatenate(one.scores), kind="stable")
    right, ignored = (np.concatenate(rows, axis=1)[:, order] for rows in (one.right, one.ignored))
    found = []
    for hits, left_out in zip(right, ignored, strict=True):
        true, false = np.cumsum(hits), np.cumsum(~hits & ~left_out)
        precision = true / np.maximum(true + false, np.spacing(1))
        reached = np.maximum.accumulate(precision[::-1])[::-1]
        at = np.searchsorted(true / one.wanted, _RECALLS, side="left")
        found.append(np.append(reached, 0.0)[np.minimum(at, len(reached))].mean())
    return float(np.mean(found))
