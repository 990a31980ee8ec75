"""AdaRound: whether each weight is rounded up or down is learned, by gradients of the layer's error.

The error only depends on the inputs through H, so that a step costs two products with H and needs no data.
"""

from __future__ import annotations

import numpy as np
import scipy
from pydantic import BaseModel, Field

from ...precision.grid import Floats, Quantized, spread
from ...rounding.problem import Problem
from ...rounding.steps import Steps, search_scales
from .descent import cheapest_rows, descend
from .nearest import mse
from .rounding import ROUNDERS

_LEAST_STEPS = 100
_BUDGET = 2e11
"""Floating-point operations of one layer: wide layers take fewer steps."""
_RATE = 0.1
"""Of Adam, in a variable of which the interval from down to up takes about five."""
_PULL = 8.0
"""How much being between two numbers costs, where the error of nearest rounding costs one for each weight. Anything
from 4 to 60 is about as good: the pull's sharpness decides when it is felt. With the paper's 0.01 most of what was
learned is lost when the last weights are rounded in the end."""
_WARM = 0.2
"""Part of the steps without that pull, as in the paper."""
_SHARP = (20.0, 2.0)
"""The exponent of the pull at first and in the end, as in the paper."""
_STRETCH, _SHIFT = 1.2, -0.1
"""The sigmoid is stretched so that both ends are reached, as in the paper."""


class AdaRound(BaseModel):
    """Options of ``adaround``."""

    steps: int = Field(default=1000, ge=1, description="of the descent, at most: wide layers take fewer")


@ROUNDERS.register("adaround", options=AdaRound)
def adaround(problem: Problem, options: AdaRound) -> Quantized:
    """Learn for each weight whether to round up or down, then descend; slow, and mostly the best. Needs data.

    Source: Nagel et al., "Up or Down? Adaptive Rounding for Post-Training Quantization", ICML 2020, arXiv:2004.10568.
    Differs: the layer's own error, without the activation function behind it, from second moments; coordinate descent
    then settles scales and single integers. Never worse than nearest numbers.
    """
    start = mse(problem)
    if problem.hessian is None or not problem.wanted.size:
        return start
    steps = search_scales(problem)
    columns = problem.wanted.shape[-1]
    scale, zero = (spread(v, problem.block, columns) for v in (steps.scale, steps.zero))
    floor = np.floor(problem.wanted / scale)
    up = np.empty(floor.shape, bool)
    low, high = problem.kept(problem.grid.low - zero, problem.grid.high - zero)
    for g, hessian in enumerate(problem.hessian):
        up[g] = _learned(problem.wanted[g], hessian, scale[g], floor[g], low[g], high[g], options.steps)
    learned = Steps(steps.scale, steps.zero).of(problem, np.clip(floor + up, low, high) + zero)
    return descend(problem, cheapest_rows(problem, [start, learned]))


def _learned(
    wanted: np.ndarray,
    hessian: np.ndarray,
    scale: np.ndarray,
    floor: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    steps: int,
) -> np.ndarray:
    """Which weights go up. Shapes: hessian (columns, columns), all others (outputs, columns)."""
    part = np.clip(wanted / scale - floor, 0.0, 1.0)
    inside = (floor >= low) & (floor < high)  # elsewhere both ways end at the same number
    v = _inverse(part).astype(np.float32)
    gap = np.clip(np.rint(wanted / scale), low, high) * scale - wanted
    h = hessian.astype(np.float32)
    unit = (np.einsum("oc,oc->o", gap @ hessian, gap) / wanted.shape[1])[:, None]  # what one weight costs now
    unit = np.where(unit > 0, unit, 1.0).astype(np.float32)
    wanted, scale, floor, low, high = (np.asarray(a, np.float32) for a in (wanted, scale, floor, low, high))
    mean, power = np.zeros_like(v), np.zeros_like(v)
    count = int(np.clip(_BUDGET / (2.0 * len(v) * len(h) ** 2 + 1), _LEAST_STEPS, steps))
    for step in range(count):
        sigmoid = scipy.special.expit(v)
        soft = np.clip(_STRETCH * sigmoid + _SHIFT, 0.0, 1.0)
        gap = np.clip(floor + soft, low, high) * scale - wanted
        gradient = (gap @ h) * (2.0 * scale / unit)
        progress = (step / count - _WARM) / (1 - _WARM)
        if progress > 0:
            sharp = _SHARP[1] + (_SHARP[0] - _SHARP[1]) * 0.5 * (1 + np.cos(np.pi * progress))
            centred = 2.0 * soft - 1.0
            gradient -= _PULL * 2.0 * sharp * np.abs(centred) ** (sharp - 1) * np.sign(centred)
        gradient *= _STRETCH * sigmoid * (1 - sigmoid) * (inside & (soft > 0) & (soft < 1))
        mean = 0.9 * mean + 0.1 * gradient
        power = 0.999 * power + 0.001 * np.square(gradient)
        v -= _RATE * (mean / (1 - 0.9 ** (step + 1))) / (np.sqrt(power / (1 - 0.999 ** (step + 1))) + 1e-8)
    return np.asarray(np.clip(_STRETCH * scipy.special.expit(v) + _SHIFT, 0.0, 1.0) >= 0.5)


def _inverse(part: Floats) -> Floats:
    """The variable whose stretched sigmoid is the part."""
    inner = np.clip((part - _SHIFT) / _STRETCH, 1e-3, 1 - 1e-3)
    return np.log(inner / (1 - inner))
