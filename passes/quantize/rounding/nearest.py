"""Every weight becomes the nearest of the grid's numbers; methods differ in how fine the grid is."""

from __future__ import annotations

from ...precision.grid import Quantized
from ...rounding.problem import Problem
from ...rounding.steps import cover_range, search_scales
from .rounding import ROUNDERS


@ROUNDERS.register("nearest")
def nearest(problem: Problem) -> Quantized:
    """Nearest numbers on a grid that reaches the largest weight of each row; needs no data.

    Source: Krishnamoorthi, "Quantizing deep convolutional networks for efficient inference", 2018, arXiv:1806.08342.
    """
    return cover_range(problem).quantized(problem)


@ROUNDERS.register("mse")
def mse(problem: Problem) -> Quantized:
    """Nearest numbers on the grid of least squared error, found by trying some; weighs columns if there is data.

    Source: Banner et al., "Post training 4-bit quantization of convolutional networks for rapid-deployment", NeurIPS
    2019, arXiv:1810.05723. Differs: the error is measured on the row itself, no distribution is assumed.
    """
    return search_scales(problem).quantized(problem)
