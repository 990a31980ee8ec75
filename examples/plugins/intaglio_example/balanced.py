"""A metric: the share of right answers of each class, averaged over classes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from intaglio.measure.accuracy import METRICS, class_labels, class_scores


@METRICS.register("balanced")
class Balanced:
    """Accuracy averaged over classes: rare classes count as much as frequent ones."""

    def __init__(self) -> None:
        self.right: list[np.ndarray] = []
        self.labels: list[np.ndarray] = []

    def add(self, outputs: Mapping[str, np.ndarray], labels: np.ndarray) -> None:
        scores = class_scores(outputs)
        self.labels.append(class_labels(labels, scores.shape[1]))
        self.right.append(scores.argmax(axis=1) == self.labels[-1])

    def result(self) -> float:
        labels, right = np.concatenate(self.labels), np.concatenate(self.right)
        return float(np.mean([right[labels == one].mean() for one in np.unique(labels)]))
