"""Operators of binary networks: what is around the signs of a layer, in training and in the file.

Third parties add one through the entry point group ``intaglio.binary_operators``: an ``BinaryOperator``.
Source of the table: Qin et al., BiBench, ICML 2023, arXiv:2301.11233, and the papers that each one names.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from ....graph.registry import Registry

if TYPE_CHECKING:
    from torch import Tensor


def _same(x: Tensor, progress: float) -> Tensor:
    return x


@dataclass(frozen=True)
class BinaryOperator:
    """``about`` says in a sentence what it is. ``scale`` is what signs of weights are multiplied with: the mean size of a filter's weights or of all, or ``learned``.

    ``estimator`` gives gradients of signs of activations, ``of_weights`` those of weights. ``activation`` takes the place of
    what makes no negative numbers, of which all signs were alike. ``unit`` takes 0 and 1 for -1 and +1; ``shift`` adds a learned
    number to each channel before signs; ``shortcut`` adds a layer's input to its output; ``sized`` multiplies with the mean size of
    a sample; ``places`` learns a factor for each row and column of an image. ``elastic`` learns
    what signs of activations stand for; ``ternary`` weights are -1, 0 and 1. ``weights`` and ``inputs`` are what signs are taken of,
    in training, of weights and of activations.
    """

    about: str
    scale: Literal["", "layer", "filter", "learned"] = "filter"
    estimator: str = "ste"
    of_weights: str = "ste"
    activation: Literal["hardtanh", "unit", "none", "rprelu"] = "hardtanh"
    unit: bool = False
    shift: bool = False
    shortcut: bool = True
    sized: bool = False
    places: bool = False
    elastic: bool = False
    ternary: bool = False
    weights: Callable[[Tensor, float], Tensor] = _same
    inputs: Callable[[Tensor, float], Tensor] = _same


BINARY_OPERATORS: Registry[BinaryOperator] = Registry(
    "binary operator", "intaglio.binary_operators", "intaglio.passes.train.binary", of=BinaryOperator
)


def _standardized(w: Tensor, progress: float) -> Tensor:
    """Weights of each filter standardized, those far out drawn in. Shapes: (filters, ...)."""
    rows = w.flatten(1)
    near = (rows - rows.mean(1, keepdim=True)) * (2 * math.sqrt(2) / rows.std(1, keepdim=True).clamp_min(1e-8))
    grows = (0.99 - 0.85) / (math.e - 1)
    share = grows * math.exp(progress) + 0.85 - grows
    most = (-near.abs().mean() * math.log(2 - 2 * share)).detach()
    return near.clamp(-most, most).reshape(w.shape)


def _of_unit_deviation(x: Tensor, progress: float) -> Tensor:
    """Shapes: (samples, ...)."""
    flat = x.flatten(1)
    return x / (flat.var(1) + 1e-5).sqrt().reshape(-1, *[1] * (x.ndim - 1))


def _with_noise(x: Tensor, progress: float) -> Tensor:
    """A sine beside it, which fades out."""
    return x + 0.05 * (1 + math.cos(math.pi * progress)) * 0.1 * x.sin()


_TABLE = {
    "bnn": BinaryOperator("Signs alone. Source: Hubara et al., NeurIPS 2016, arXiv:1602.02830.", scale=""),
    "xnor": BinaryOperator(
        "XNOR-Net: mean sizes of filters and of each sample. Source: Rastegari et al., ECCV 2016, arXiv:1603.05279.",
        activation="none",
        sized=True,
    ),
    "xnor++": BinaryOperator(
        "Learned factors of filters, rows and columns. Source: Bulat and Tzimiropoulos, BMVC 2019, arXiv:1909.13863.",
        scale="learned",
        activation="none",
        places=True,
    ),
    "dorefa": BinaryOperator(
        "Activations of 0 and 1, one scale a layer. Source: Zhou et al., 2016, arXiv:1606.06160.",
        scale="layer",
        activation="unit",
        unit=True,
    ),
    "bireal": BinaryOperator(
        "Bi-Real Net: shortcuts alone, and the gradient of two parabolas. Source: Liu et al., ECCV 2018, arXiv:1808.00278.",
        estimator="polynomial",
        activation="none",
    ),
    "react": BinaryOperator(
        "ReActNet: learned shifts before signs and around a PReLU. Source: Liu et al., ECCV 2020, arXiv:2003.03488.",
        estimator="polynomial",
        activation="rprelu",
        shift=True,
    ),
    "recu": BinaryOperator(
        "ReCU: weights standardized, those far out drawn in. Source: Xu et al., ICCV 2021, arXiv:2103.12369.",
        scale="learned",
        estimator="polynomial",
        of_weights="identity",
        weights=_standardized,
        inputs=_of_unit_deviation,
    ),
    "fda": BinaryOperator(
        "FDA: the gradient of a Fourier series; a sine for its networks of noise. Source: Xu et al., NeurIPS 2021, arXiv:2103.00841.",
        estimator="fourier",
        of_weights="fourier",
        weights=_with_noise,
        inputs=_with_noise,
    ),
    "tbt": BinaryOperator(
        "Elastic activations, of which the network learns how large they are, and ternary weights. "
        "Source: Liu et al., Binary and Ternary Natural Language Generation, ACL 2023, arXiv:2306.01841.",
        of_weights="identity",
        activation="none",
        elastic=True,
        ternary=True,
    ),
}
for _name, _operator in _TABLE.items():
    BINARY_OPERATORS.register(_name)(_operator)
