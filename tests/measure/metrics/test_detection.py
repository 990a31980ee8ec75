"""Mean average precision is that of pycocotools, for boxes of every layout that detectors give."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import numpy as np
import pytest

from intaglio.graph.errors import BadData
from intaglio.measure.accuracy import METRICS
from intaglio.measure.metrics.boxes import Decoding, detections


def scene(seed: int, *, crowds: bool) -> tuple[list[np.ndarray], np.ndarray]:
    """Labels of twelve samples, and rows of found boxes near some of them: boxes, score, class."""
    rng = np.random.default_rng(seed)
    found, labels = [], np.full((12, 6, 6), -1.0)
    for sample in range(12):
        count = rng.integers(0, 6)
        corner, size = rng.uniform(0, 60, (count, 2)), rng.uniform(5, 40, (count, 2))
        boxes = np.concatenate([corner, corner + size], axis=1)
        kinds = rng.integers(0, 3, count)
        labels[sample, :count] = np.column_stack([boxes, kinds, crowds * (rng.random(count) < 0.3)])
        near = np.repeat(np.column_stack([boxes, kinds]), 2, axis=0)
        near[:, :4] += rng.normal(0, 3, (len(near), 4))
        near[:, 2:4] = np.maximum(near[:, 2:4], near[:, :2] + 1)
        near[:, 4] = np.where(rng.random(len(near)) < 0.8, near[:, 4], rng.integers(0, 3, len(near)))
        scores = np.round(rng.uniform(0.1, 1, len(near)), 1 if seed % 2 else 3)  # some scores are equal
        found.append(np.column_stack([near[:, :4], scores, near[:, 4]]))
    return found, labels


def of_pycocotools(found: list[np.ndarray], labels: np.ndarray) -> tuple[float, float]:
    """AP over overlaps of 0.5 to 0.95, and AP at 0.5."""
    coco = pytest.importorskip("pycocotools.coco", reason="pycocotools is not installed")
    evaluation = pytest.importorskip("pycocotools.cocoeval")
    truth = [(i, row) for i, rows in enumerate(labels) for row in rows if row[4] >= 0]
    annotations = [
        {"id": n + 1, "image_id": i, "bbox": _sized(row), "area": _area(row), "category_id": int(row[4]),
         "iscrowd": int(row[5])}
        for n, (i, row) in enumerate(truth)
    ]  # fmt: skip
    told: list[dict[str, Any]] = [
        {"image_id": i, "bbox": _sized(row), "score": float(row[4]), "category_id": int(row[5])}
        for i, rows in enumerate(found)
        for row in rows
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        reference = coco.COCO()
        reference.dataset = {
            "images": [{"id": i} for i in range(len(labels))],
            "annotations": annotations,
            "categories": [{"id": k} for k in range(3)],
        }
        reference.createIndex()
        judge = evaluation.COCOeval(reference, reference.loadRes(told), "bbox")
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    return float(judge.stats[0]), float(judge.stats[1])


def _sized(row: np.ndarray) -> list[float]:
    return [float(x) for x in (row[0], row[1], row[2] - row[0], row[3] - row[1])]


def _area(row: np.ndarray) -> float:
    return float((row[2] - row[0]) * (row[3] - row[1]))


def filled(found: list[np.ndarray]) -> np.ndarray:
    """Rows of equal number, those with a score of 0 filling up."""
    most = max(map(len, found))
    return np.stack([np.concatenate([rows, np.zeros((most - len(rows), 6))]) for rows in found])


@pytest.mark.parametrize("crowds", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_it_equals_pycocotools(seed: int, crowds: bool) -> None:
    found, labels = scene(seed, crowds=crowds)
    expected = of_pycocotools(found, labels)
    for name, value in zip(("map", "map50"), expected, strict=True):
        metric = METRICS[name]()
        for part in (slice(0, 5), slice(5, 12)):
            metric.add({"out": filled(found)[part].astype(np.float64)}, labels[part])
        assert metric.result() == pytest.approx(value, abs=1e-9)
        assert 0.05 < value < 0.95


def test_every_layout_gives_the_same_boxes() -> None:
    rng = np.random.default_rng(3)
    corner = rng.uniform(0, 900, (2, 50, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(2, 9, (2, 50, 2))], axis=2)
    scores, kinds = rng.uniform(0.1, 0.9, (2, 50)), rng.integers(0, 3, (2, 50))
    hot = np.eye(3)[kinds] * scores[..., None]
    centred = np.concatenate([(boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2]], axis=2)
    rest = np.concatenate([1 - scores[..., None], hot], axis=2)
    forms: dict[str, tuple[dict[str, np.ndarray], Decoding]] = {
        "rows": ({"o": np.concatenate([boxes, scores[..., None], kinds[..., None]], axis=2)}, Decoding()),
        "ssd": ({"boxes": boxes[..., [1, 0, 3, 2]], "classes": kinds + 1, "scores": scores}, Decoding(first=1)),
        "corners": ({"scores": rest, "boxes": boxes}, Decoding()),
        "logits": ({"scores": np.log(np.maximum(rest, 1e-9)), "boxes": boxes}, Decoding(background="first")),
        "yolo": ({"o": np.concatenate([centred, hot], axis=2).swapaxes(1, 2)}, Decoding()),
        "yolov5": ({"o": np.concatenate([centred, np.ones((2, 50, 1)), hot], axis=2)}, Decoding()),
    }
    for name, (outputs, options) in forms.items():
        told = list(detections(outputs, options))
        for sample, one in enumerate(told):
            order, expected = np.lexsort(one.boxes.T), np.lexsort(boxes[sample].T)
            assert np.allclose(one.boxes[order], boxes[sample][expected]), name
            assert np.allclose(one.scores[order], scores[sample][expected], atol=1e-6), name
            assert (one.classes[order] == kinds[sample][expected]).all(), name


def test_of_boxes_that_overlap_the_surest_stays() -> None:
    boxes = np.array([[[0, 0, 10, 10], [1, 0, 11, 10], [20, 0, 30, 10]]], np.float64)
    scores = np.array([[[0.5], [0.9], [0.3]]])
    (kept,) = detections({"boxes": boxes, "scores": scores}, Decoding())
    assert kept.scores.tolist() == [0.9, 0.3]


@pytest.mark.parametrize(
    ("outputs", "labels", "said"),
    [
        ({"o": np.zeros((1, 7))}, np.zeros((1, 1, 5)), "no layout of boxes fits"),
        ({"o": np.zeros((1, 7, 6))}, np.zeros((1,)), "the labels are no boxes"),
    ],
)
def test_what_is_no_boxes_is_refused(outputs: dict[str, np.ndarray], labels: np.ndarray, said: str) -> None:
    with pytest.raises(BadData, match=said):
        METRICS["map"]().add(outputs, labels)
