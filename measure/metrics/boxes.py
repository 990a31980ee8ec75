"""What detectors give, read as boxes with a score for each class: one function a layout."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydantic import BaseModel, Field

from ...graph.errors import BadData
from ...graph.registry import registers

Arrays = Mapping[str, np.ndarray]
_LONGEST = 1000
"""Rows of six numbers are boxes that were chosen if they are no more: else one class of YOLOv5."""
_SURE = 1e-3


class Decoding(BaseModel):
    """Options of what reads boxes."""

    layout: Literal["auto", "rows", "corners", "ssd", "yolo", "yolov5"] = Field(
        default="auto", description="how outputs hold boxes; auto goes by their shapes"
    )
    order: Literal["auto", "xyxy", "yxyx", "cxcywh", "xywh"] = Field(
        default="auto", description="what the four numbers of a box are: corners, or a centre or a corner with a size"
    )
    background: Literal["auto", "none", "first", "last"] = Field(
        default="auto", description="the score of no object; auto: the first where scores of a box sum to 1"
    )
    first: int = Field(default=0, description="the number that the model gives the first class, where it gives numbers")
    nms: float | None = Field(
        default=None, gt=0, le=1, description="of boxes that overlap by more the best one stays; 0.5 of raw boxes"
    )
    score: float = Field(default=0.001, ge=0, lt=1, description="boxes below do not count")


@dataclass(frozen=True)
class Found:
    """Boxes of one sample. Shapes: boxes (n, 4) as left, top, right, bottom; scores and classes (n,)."""

    boxes: np.ndarray
    scores: np.ndarray
    classes: np.ndarray


_Read = Callable[[Arrays, Decoding], tuple[np.ndarray, np.ndarray, np.ndarray | None]]
"""Gives boxes and the scores of classes, or one score and a class."""
_READ: dict[str, _Read] = {}
_reads = registers(_READ)


@_reads("rows")
def _rows(outputs: Arrays, options: Decoding) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    (found,) = _cubes(outputs)
    return found[..., :4], found[..., 4], found[..., 5] - options.first


@_reads("ssd")
def _ssd(outputs: Arrays, options: Decoding) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    (boxes,) = _cubes(outputs)
    flat = {name: one for name, one in outputs.items() if one.shape == boxes.shape[:2]}
    named = [name for name in flat if "class" in name.lower() or "label" in name.lower()]
    whole = named or [name for name, one in flat.items() if (one == np.floor(one)).all()]
    if len(flat) != 2 or len(whole) != 1:
        raise BadData("it cannot be told which output holds scores and which classes", why=", ".join(flat))
    (scores,) = (one for name, one in flat.items() if name != whole[0])
    return boxes, scores, flat[whole[0]] - options.first


@_reads("corners")
def _corners(outputs: Arrays, options: Decoding) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    cubes = {name: one for name, one in outputs.items() if one.ndim == 3}
    of_four = [name for name, one in cubes.items() if one.shape[2] == 4]
    named = of_four if len(of_four) == 1 else [name for name in of_four if "box" in name.lower()]
    if len(named) != 1 or len(cubes) != 2:
        raise BadData("it cannot be told which output holds boxes and which scores", why=", ".join(cubes))
    boxes = cubes.pop(named[0])
    (scores,) = cubes.values()
    alone = scores.shape[2] == 1
    sums = np.abs(scores.sum(axis=2) - 1).max(initial=0.0)
    background = options.background
    if background == "auto":
        background = "first" if sums < _SURE and not alone else "none"
    if scores.min(initial=0.0) < 0 or scores.max(initial=0.0) > 1:
        scores = _sigmoid(scores) if background == "none" else _softmax(scores)
    kept = {"none": slice(None), "first": slice(1, None), "last": slice(None, -1)}[background]
    return boxes, scores[..., kept], None


@_reads("yolo")
def _yolo(outputs: Arrays, options: Decoding) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    (found,) = _cubes(outputs)
    found = found.swapaxes(1, 2)
    return found[..., :4], found[..., 4:], None


@_reads("yolov5")
def _yolov5(outputs: Arrays, options: Decoding) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    (found,) = _cubes(outputs)
    return found[..., :4], found[..., 4:5] * found[..., 5:], None


_Fits = Callable[[list[tuple[int, ...]], list[tuple[int, ...]]], bool]
LAYOUTS: Mapping[str, tuple[_Fits, str, bool, str]] = {
    "rows": (
        lambda cubes, flat: len(cubes) == 1 and cubes[0][2] == 6 and cubes[0][1] <= _LONGEST,
        "xyxy",
        False,
        "(samples, boxes, 6): a box, its score, its class",
    ),
    "ssd": (
        lambda cubes, flat: len(cubes) == 1 and cubes[0][2] == 4 and flat.count(cubes[0][:2]) == 2,
        "yxyx",
        False,
        "boxes (samples, boxes, 4), classes and scores (samples, boxes)",
    ),
    "corners": (
        lambda cubes, flat: len(cubes) == 2 and cubes[0][:2] == cubes[1][:2] and 4 in (cubes[0][2], cubes[1][2]),
        "xyxy",
        True,
        "boxes (samples, boxes, 4) and scores (samples, boxes, classes)",
    ),
    "yolo": (
        lambda cubes, flat: len(cubes) == 1 and 4 < cubes[0][1] < cubes[0][2],
        "cxcywh",
        True,
        "(samples, 4 + classes, boxes)",
    ),
    "yolov5": (
        lambda cubes, flat: len(cubes) == 1 and 5 < cubes[0][2] < cubes[0][1],
        "cxcywh",
        True,
        "(samples, boxes, 5 + classes): a box, whether it is any, its classes",
    ),
}
"""What shapes fit, the order of a box's numbers, whether boxes still overlap, and the layout in words; the first counts."""
_ORDERS: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    "xyxy": lambda b: b,
    "yxyx": lambda b: b[..., [1, 0, 3, 2]],
    "xywh": lambda b: np.concatenate([b[..., :2], b[..., :2] + b[..., 2:]], axis=-1),
    "cxcywh": lambda b: np.concatenate([b[..., :2] - b[..., 2:] / 2, b[..., :2] + b[..., 2:] / 2], axis=-1),
}


def detections(outputs: Mapping[str, np.ndarray], options: Decoding) -> Iterator[Found]:
    """Boxes of each sample, by how a model gives them.

    Raises:
        BadData: no layout fits the outputs.
    """
    arrays = {name: one.astype(np.float64) for name, one in outputs.items() if one.dtype.kind in "fiuV"}
    layout = _layout(arrays) if options.layout == "auto" else options.layout
    _, order, raw, told = LAYOUTS[layout]
    try:
        boxes, scores, classes = _READ[layout](arrays, options)
    except (ValueError, IndexError) as error:
        raise BadData(f"the outputs are not {layout}, which is {told}", why=_shapes(arrays)) from error
    boxes = _ORDERS[order if options.order == "auto" else options.order](boxes)
    overlap = options.nms or (0.5 if raw else None)
    for at in range(len(boxes)):
        own = None if classes is None else classes[at]
        yield _kept(boxes[at], scores[at], own, options.score, overlap)


def _layout(outputs: Arrays) -> str:
    cubes = [one.shape for one in outputs.values() if one.ndim == 3]
    flat = [one.shape for one in outputs.values() if one.ndim == 2]
    found = next((name for name, (fits, *_) in LAYOUTS.items() if fits(cubes, flat)), None)
    if found is None:
        known = "; ".join(f"{name}: {told}" for name, (*_, told) in LAYOUTS.items())
        raise BadData("no layout of boxes fits the outputs", why=_shapes(outputs), fix=f"layouts are {known}")
    return found


def _shapes(outputs: Arrays) -> str:
    return f"the model gives {', '.join(f'{name} {one.shape}' for name, one in outputs.items())}"


def _cubes(outputs: Arrays) -> list[np.ndarray]:
    return [one for one in outputs.values() if one.ndim == 3]


def _kept(
    boxes: np.ndarray, scores: np.ndarray, classes: np.ndarray | None, least: float, overlap: float | None
) -> Found:
    """What scores enough, and of what overlaps the best. Shapes: scores (boxes, classes), or (boxes,) with classes."""
    if classes is None:
        at, kinds = np.nonzero(scores > least)
        boxes, scores, classes = boxes[at], scores[at, kinds], kinds
    else:
        at = np.flatnonzero(scores > least)
        boxes, scores, classes = boxes[at], scores[at], np.rint(classes[at]).astype(np.int64)
    if overlap is None:
        return Found(boxes, scores, classes)
    kept: list[int] = []
    for kind in np.unique(classes):
        kept += _best(boxes, scores, np.flatnonzero(classes == kind), overlap)
    return Found(boxes[kept], scores[kept], classes[kept])


def _best(boxes: np.ndarray, scores: np.ndarray, of: np.ndarray, overlap: float) -> list[int]:
    order, kept = of[np.argsort(-scores[of], kind="stable")][:_LONGEST], list[int]()
    while len(order):
        kept.append(int(order[0]))
        order = order[1:][iou(boxes[order[:1]], boxes[order[1:]])[0] <= overlap]
    return kept


def iou(a: np.ndarray, b: np.ndarray, crowd: Sequence[bool] | np.ndarray = ()) -> np.ndarray:
    """Intersection over union; over A alone where B is a ``crowd``. Shapes: a (n, 4), b (m, 4), the result (n, m)."""
    low, high = np.maximum(a[:, None, :2], b[None, :, :2]), np.minimum(a[:, None, 2:], b[None, :, 2:])
    shared = np.prod(np.maximum(high - low, 0), axis=2)
    one, other = (np.prod(x[:, 2:] - x[:, :2], axis=1) for x in (a, b))
    whole = one[:, None] + other[None] - shared
    if len(crowd):
        whole = np.where(np.asarray(crowd)[None], one[:, None], whole)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where(shared > 0, shared / whole, 0.0))


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return np.asarray(1 / (1 + np.exp(-np.clip(x, -500, 500))))


def _softmax(x: np.ndarray) -> np.ndarray:
    exact = np.exp(x - x.max(axis=-1, keepdims=True))
    return np.asarray(exact / exact.sum(axis=-1, keepdims=True))
