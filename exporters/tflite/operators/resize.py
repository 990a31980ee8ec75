"""Resize, where both formats sample the same places."""

from __future__ import annotations

import numpy as np

from ....graph.nodes import attribute
from ..builder import Builder
from ..plan import Step
from ..program import channels_last, shaped
from ..table import Refused, converts

_CODES = {"linear": "RESIZE_BILINEAR", "nearest": "RESIZE_NEAREST_NEIGHBOR"}
_GRIDS = {"half_pixel": (False, True), "align_corners": (True, False), "asymmetric": (False, False)}
"""Whether corners are aligned, and whether pixels have their middle at a half."""
_ROUNDS = {
    "half_pixel": ("round_prefer_ceil",),
    "asymmetric": ("floor",),
    "align_corners": ("round_prefer_ceil",),
}
"""How TFLite takes the nearest pixel on each grid."""


@converts("Resize", integer=True, narrow=True)
def resize(step: Step, make: Builder) -> None:
    order, dims = channels_last(4), make.dims(step.operand(0))
    out = make.dims(step.output)
    mode = attribute(step.node, "mode", "nearest")
    grid = attribute(step.node, "coordinate_transformation_mode", "half_pixel")
    if len(dims) != 4 or out[:2] != dims[:2] or mode not in _CODES or attribute(step.node, "antialias", 0):
        raise Refused(f"mode {mode!r} over {len(dims)} axes has no operator", "resize two axes, linear or nearest")
    if not _fits(step, dims, out, make):
        raise Refused("its scales are not those of the lengths", "give sizes, or scales that make whole lengths")
    grid = "half_pixel" if grid == "pytorch_half_pixel" and min(out[2:]) > 1 else grid
    if grid not in _GRIDS:
        raise Refused(f"places by {grid!r} are not TFLite's", "use half_pixel, align_corners or asymmetric")
    if mode == "nearest" and not _same_pixels(step, dims, out, grid):
        raise Refused("it rounds to other pixels than TFLite does", "use asymmetric and floor")
    x, stored = make.read(step.operand(0), order), shaped(out, order)
    corners, halves = _GRIDS[grid]
    size = make.constant(np.array(out[2:], np.int32))
    made = make.emit(_CODES[mode], [x, size], stored, x.kind, alignCorners=corners, halfPixelCenters=halves)
    make.give(made, order)


def _fits(step: Step, dims: tuple[int, ...], out: tuple[int, ...], make: Builder) -> bool:
    """Whether the scales are lengths over lengths, as they always are in TFLite."""
    scales = make.known(step.operand(2)) if step.operand(2) else None
    return scales is None or not scales.size or np.allclose(np.multiply(dims, scales), out, rtol=1e-5)


def _same_pixels(step: Step, dims: tuple[int, ...], out: tuple[int, ...], grid: str) -> bool:
    """Whether each place comes from the same pixel in both."""
    given = attribute(step.node, "nearest_mode", "round_prefer_floor")
    for size, wanted in zip(dims[2:], out[2:], strict=True):
        at = _places(size, wanted, grid)
        if not np.array_equal(_nearest(at, given, size), _nearest(at, _ROUNDS[grid][0], size)):
            return False
    return True


def _places(size: int, wanted: int, grid: str) -> np.ndarray:
    at = np.arange(wanted, dtype=np.float64)
    if grid == "half_pixel":
        return (at + 0.5) * size / wanted - 0.5
    return at * (size - 1) / max(wanted - 1, 1) if grid == "align_corners" else at * size / wanted


def _nearest(at: np.ndarray, how: str, size: int) -> np.ndarray:
    made = {
        "floor": np.floor(at),
        "ceil": np.ceil(at),
        "round_prefer_floor": np.ceil(at - 0.5),
        "round_prefer_ceil": np.floor(at + 0.5),
    }[how]
    return np.clip(made, 0, size - 1)
