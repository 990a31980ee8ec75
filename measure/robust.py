"""What a compressed model forgets: whose answers change, of which classes, and how near to wrong the others are.

Source: Hooker et al., "What Do Compressed Deep Neural Networks Forget?", 2019, arXiv:1911.05248.
Differs: one model of each kind, so that chance is told from loss by pairs of answers, not by many trained networks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .accuracy import class_labels, class_scores
from .data.source import Batch
from .paired import CONFIDENCE, mcnemar

MOST = 1000
"""Samples that are named."""


@dataclass
class Forgotten:
    """Filled batch by batch with the outputs of both models. A margin is the label's score less the highest other one."""

    labels: list[np.ndarray] = field(default_factory=list)
    answers: list[np.ndarray] = field(default_factory=list)
    margins: list[np.ndarray] = field(default_factory=list)

    def add(self, piece: Batch, a: Mapping[str, Any], b: Mapping[str, Any]) -> None:
        """Raises BadData, UsageError: the outputs score no classes, or the labels are none."""
        assert piece.labels is not None
        scores = [class_scores(one) for one in (a, b)]
        labels = class_labels(piece.labels, scores[0].shape[1])
        self.labels.append(labels)
        self.answers.append(np.stack([one.argmax(axis=1) for one in scores]))
        self.margins.append(np.stack([_margins(one.astype(np.float64), labels) for one in scores]))

    def as_dict(self) -> dict[str, Any]:
        labels = np.concatenate(self.labels)
        answers, margins = np.concatenate(self.answers, axis=1), np.concatenate(self.margins, axis=1)
        right, changed = answers == labels, answers[0] != answers[1]
        lost = np.flatnonzero(right[0] & ~right[1])
        kinds = np.unique(labels)
        of_kinds = [_told(labels == kind, right, changed, margins, len(kinds), int(kind)) for kind in kinds]
        told = _told(np.ones(len(labels), bool), right, changed, margins, 1)
        worst_first = sorted(of_kinds, key=lambda one: (-one["points"], one["label"]))
        return {**told, "lost_samples": lost[:MOST].tolist(), "classes": worst_first}


def _margins(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    own = np.take_along_axis(scores, labels[:, None], axis=1)
    others = scores.copy()
    np.put_along_axis(others, labels[:, None], -np.inf, axis=1)
    return np.asarray(own[:, 0] - others.max(axis=1))


def _told(
    of: np.ndarray, right: np.ndarray, changed: np.ndarray, margins: np.ndarray, tests: int, label: int | None = None
) -> dict[str, Any]:
    """Of some samples; ``clear`` says that a loss is no chance, although so many ``tests`` were made."""
    drop = mcnemar(*right[:, of].astype(np.float64))
    before, after = (
        {"right": float(r[of].mean()), "margin": float(m[of].mean())} for r, m in zip(right, margins, strict=True)
    )
    return {
        **({} if label is None else {"label": label}),
        "samples": int(of.sum()),
        "changed": int(changed[of].sum()),
        "lost": drop.lost,
        "won": drop.won,
        "points": drop.points,
        "before": before,
        "after": after,
        "clear": drop.p_value is not None and drop.p_value < (1 - CONFIDENCE) / tests and drop.points > 0,
    }
