"""Gradients of signs: a sign has none, so that each estimator says what is taken in its place.

Third parties add one through the entry point group ``intaglio.estimators``. An estimator gets numbers, how far training is,
from 0 to 1, and whether they are weights; it returns what signs are taken of, and the gradient, both in the shape of the numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from pydantic import BaseModel, Field

from ....graph.registry import Registry

if TYPE_CHECKING:
    from torch import Tensor

Estimator = Callable[["Tensor", float, bool], tuple["Tensor", "Tensor"]]
ESTIMATORS: Registry[Estimator] = Registry("estimator", "intaglio.estimators", "intaglio.passes.train.binary")


@ESTIMATORS.register("ste")
def ste(x: Tensor, progress: float, weights: bool) -> tuple[Tensor, Tensor]:
    """That of the identity on [-1, 1]. Source: Hubara et al., NeurIPS 2016, arXiv:1602.02830."""
    return x, (x.abs() <= 1).to(x.dtype)


@ESTIMATORS.register("identity")
def identity(x: Tensor, progress: float, weights: bool) -> tuple[Tensor, Tensor]:
    """That of the identity, however large numbers are. Source: Bengio et al., 2013, arXiv:1308.3432."""
    return x, x.new_ones(())


@ESTIMATORS.register("polynomial")
def polynomial(x: Tensor, progress: float, weights: bool) -> tuple[Tensor, Tensor]:
    """That of two parabolas on [-1, 1]. Source: Liu et al., Bi-Real Net, ECCV 2018, arXiv:1808.00278."""
    return x, (2 - 2 * x.abs()).clamp_min(0)


class Rectified(BaseModel):
    end: float = Field(default=3.0, ge=1, description="the root at the end of training; it starts at 1, which is ste")
    least: float = Field(default=0.1, gt=0, description="numbers nearer to zero have the gradient of a line")
    beyond: float = Field(default=1.5, gt=0, description="larger numbers have no gradient")


@ESTIMATORS.register("reste", options=Rectified)
def reste(x: Tensor, progress: float, weights: bool, options: Rectified) -> tuple[Tensor, Tensor]:
    """That of a root of rising order. Source: Wu et al., ReSTE, ICCV 2023, arXiv:2308.06689."""
    root = 1 + (1 - math.cos(0.5 * math.pi * progress)) * (options.end - 1)
    size = x.abs()
    slope = size.clamp_min(options.least) ** ((1 - root) / root) / root
    near = options.least ** (1 / root) / options.least
    slope = slope.where(size > options.least, slope.new_tensor(near))
    return x, slope * (size <= options.beyond)


class Wave(BaseModel):
    frequency: float = Field(default=20.0, gt=0, description="what weights are multiplied with before the sine")


@ESTIMATORS.register("biper", options=Wave)
def biper(x: Tensor, progress: float, weights: bool, options: Wave) -> tuple[Tensor, Tensor]:
    """Signs of the sine of weights, with its gradient; activations as ``polynomial``.

    Source: Vargas et al., BiPer, CVPR 2024, arXiv:2404.01278.
    """
    if not weights:
        return polynomial(x, progress, weights)
    turned = options.frequency * x
    return turned.sin(), options.frequency * turned.cos()


class Series(BaseModel):
    frequency: float = Field(default=0.1, gt=0, description="of the square wave")
    first: int = Field(default=9, ge=0, description="terms at the start of training")
    last: int = Field(default=18, ge=0, description="terms at its end")


@ESTIMATORS.register("fourier", options=Series)
def fourier(x: Tensor, progress: float, weights: bool, options: Series) -> tuple[Tensor, Tensor]:
    """That of the first terms of a square wave's series, on [-1, 1]. Source: Xu et al., FDA, NeurIPS 2021, arXiv:2103.00841."""
    terms = round(options.first + progress * (options.last - options.first)) + 1
    turn = options.frequency * x
    sine = turn.sin()
    slope = (2 * terms * turn).sin() / (2 * sine)  # the sum of cosines of odd multiples
    slope = slope.where(sine.abs() > 1e-6, slope.new_tensor(float(terms)))
    return x, 4 * options.frequency / math.pi * slope * (x.abs() <= 1)
