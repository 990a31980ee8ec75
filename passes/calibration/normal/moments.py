"""What every channel is like without any data: BatchNormalization remembers the mean and variance it was trained with.

A tensor that a BatchNormalization writes counts as normal, with mean ``shift`` and deviation ``|scale|`` in each channel.
Operators carry that on (``rules.py``, ``layout.py``). As long as a tensor is an element-wise function of one normal tensor, it
is followed exactly, by that function's values at ``GRID``; where independent tensors meet, moments alone are left, and
the result counts as normal again. What this leaves out, and what it costs:

- borders: a padded convolution's outputs near the border have other means;
- tensors that meet in a sum or product count as independent, so a residual sum has the right mean, but the branches'
  covariance is missing from its variance;
- sums of many terms count as normal, which a sum with a rectified shortcut is not quite.

If asked, correlations between channels are followed too: two channels that a layer makes vary together as their
filters point the same way, as if the layer's inputs were white.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import scipy
from numpy.typing import NDArray

from ....graph.coupling.prepare import prepare
from ....graph.evaluate import operand
from ....graph.model import Model
from ....graph.nodes import attribute
from ....graph.registry import Registry
from ....graph.traits import operator_key

Floats = NDArray[np.float64]
Floats32 = NDArray[np.float32]

GRID: Floats = np.linspace(-6.0, 6.0, 193)
"""Where functions of a normal variable are evaluated, in standard deviations. Sums over equal steps converge faster
than any power for smooth functions; a kink costs at most 1.3e-4 deviations."""
_DENSITY = np.exp(-(GRID**2) / 2)
WEIGHTS: Floats = _DENSITY / _DENSITY.sum()
_REACH = 2
"""Layers in a row without statistics of their own after which nothing is claimed: each adds the error of counting its
inputs as independent. Two are what squeeze-and-excitation has."""


@dataclass(frozen=True)
class Normal:
    """Mean and variance of a tensor over samples and positions.

    Both have the tensor's rank, with length 1 along every axis whose indices are alike, as space and samples are.
    ``base`` names what varies: tensors of the same base vary together, and ``values()`` are its values where that is
    ``GRID`` deviations from its mean, along one more axis. ``origin`` is the normal tensor it is a function of, channel
    by channel; None where channels were picked or merged. ``correlation`` is that of the normal variables, between the
    entries in row-major order; None for independent ones. ``links`` counts layers since statistics were last known.
    """

    mean: Floats
    variance: Floats
    base: str
    origin: str | None
    values: Callable[[], Floats] = field(repr=False, compare=False)
    correlation: Floats32 | None = field(default=None, repr=False, compare=False)
    links: int = 0

    def along(self, axis: int) -> tuple[Floats, Floats]:
        """Mean and variance by index of one axis; over the others they are those of the mixture. Shapes: (channels,)."""
        others = tuple(a for a in range(self.mean.ndim) if a != axis % self.mean.ndim)
        mean = self.mean.mean(axis=others)
        return mean, self.variance.mean(axis=others) + self.mean.var(axis=others)

    def covariance(self) -> Floats:
        """Between entries, in row-major order. Shapes: (entries, entries)."""
        if self.correlation is None:
            return np.diag(self.variance.reshape(-1))
        values = self.values()
        return covariance(values.reshape(-1, values.shape[-1]), self.correlation, self.variance.reshape(-1))


def gaussian(name: str, mean: Floats, variance: Floats, links: int = 0, correlation: Floats32 | None = None) -> Normal:
    """A tensor that is normal itself."""
    mean, variance = np.broadcast_arrays(mean, np.maximum(variance, 0.0))

    def values() -> Floats:
        return mean[..., None] + np.sqrt(variance)[..., None] * GRID

    return Normal(mean, variance, name, name, values, correlation, links)


def integrate(values: Floats) -> tuple[Floats, Floats]:
    """Mean and variance of a function of a normal variable. Shapes: (..., grid)."""
    mean = values @ WEIGHTS
    return mean, np.square(values - mean[..., None]) @ WEIGHTS


def covariance(values: Floats, correlation: Floats32, variance: Floats) -> Floats:
    """Covariance of functions of jointly normal variables, from their values on the grid. The diagonal is exact.

    Shapes: values (n, grid), correlation (n, n), variance (n,) -> (n, n).
    """
    found = mehler(values, correlation)
    np.fill_diagonal(found, variance)
    return found


def mehler(values: Floats, correlation: Floats | Floats32) -> Floats:
    """The same, with a diagonal that leaves out what all others do: twelve degrees.

    A function's coefficients in Hermite polynomials meet only those of the same degree, and two variables' polynomials
    of degree n have the covariance correlation^n (Mehler's formula).

    Shapes: values (n, grid), correlation (n, n) -> (n, n).
    """
    coefficients = values @ (_HERMITE * WEIGHTS).T
    power, found = np.ones_like(correlation, dtype=np.float64), np.zeros(correlation.shape)
    for column in coefficients.T:
        power *= correlation
        found += column[:, None] * power * column
    return found


def _hermite(degree: int) -> Floats:
    """Orthonormal Hermite polynomials of degrees 1 to ``degree`` on the grid."""
    rows = [np.ones_like(GRID), GRID]
    for n in range(1, degree):
        rows.append((GRID * rows[-1] - np.sqrt(n) * rows[-2]) / np.sqrt(n + 1))
    return np.array(rows[1:])


_HERMITE = _hermite(12)
"""Twelve degrees hold all but 1e-3 of a rectifier's variance; how fast the rest falls with correlation hardly matters."""


def clipped(mean: Floats, variance: Floats, low: float = 0.0, high: float = np.inf) -> tuple[Floats, Floats]:
    """Mean and variance of a normal variable clipped to an interval, in closed form."""
    std = np.sqrt(variance)
    safe = np.where(std > 0, std, 1.0)
    a, b = (low - mean) / safe, (high - mean) / safe
    inside, below, above = scipy.special.ndtr(b) - scipy.special.ndtr(a), scipy.special.ndtr(a), scipy.special.ndtr(-b)
    at_a, at_b = _density(a), _density(b)
    # Both edges relative to the mean: the mean is added at the end, so that nothing cancels.
    left, right = np.where(below > 0, low - mean, 0.0), np.where(above > 0, high - mean, 0.0)
    first = std * (at_a - at_b) + left * below + right * above
    edges = _times(a, at_a) - _times(b, at_b)
    second = variance * (inside + edges) + left**2 * below + right**2 * above
    fixed = np.clip(mean, low, high)
    spread = std > 0
    return np.where(spread, mean + first, fixed), np.where(spread, np.maximum(second - first**2, 0.0), 0.0)


def _density(z: Floats) -> Floats:
    return np.asarray(np.exp(-np.square(z) / 2) / np.sqrt(2 * np.pi))


def _times(z: Floats, density: Floats) -> Floats:
    """z times its density, 0 at infinity."""
    return np.asarray(np.where(np.isfinite(z), z, 0.0) * density)


@dataclass(frozen=True)
class Step:
    """One node under the walk: what is known of its operands. ``correlated``: whether correlations are asked for."""

    node: onnx.NodeProto
    opset: int
    operands: Sequence[Normal | None]
    constants: Sequence[np.ndarray | None]
    dims: Mapping[str, tuple[int, ...]]
    correlated: bool = False

    @property
    def x(self) -> Normal:
        """The first operand. Raises Unknown if nothing is known of it."""
        if not self.operands or self.operands[0] is None:
            raise Unknown
        return self.operands[0]

    @property
    def name(self) -> str:
        return str(self.node.output[0])

    def attr(self, name: str, default: Any = None) -> Any:
        return attribute(self.node, name, default)

    def has(self, i: int) -> bool:
        return i < len(self.node.input) and bool(self.node.input[i])

    def constant(self, i: int) -> Floats:
        """A constant operand. Raises Unknown if it is none."""
        value = self.constants[i] if self.has(i) else None
        if value is None:
            raise Unknown
        return np.asarray(value, dtype=np.float64)

    def setting(self, i: int, name: str) -> Any:
        """An operand that older opsets hold as an attribute, or None."""
        if self.has(i) and self.constants[i] is None:
            raise Unknown
        return operand(self.node, list(self.constants), i, name)

    def dims_in(self, i: int = 0) -> tuple[int, ...]:
        return self._dims(self.node.input[i])

    def dims_out(self, j: int = 0) -> tuple[int, ...]:
        return self._dims(self.node.output[j])

    def _dims(self, name: str) -> tuple[int, ...]:
        if name not in self.dims:
            raise Unknown
        return self.dims[name]


class Unknown(Exception):
    """Nothing can be said of a node's outputs."""


MomentRule = Callable[[Step], "Sequence[Normal] | Normal"]
MOMENT_RULES: Registry[MomentRule] = Registry(
    "moment rule", "intaglio.moment_rules", "intaglio.passes.calibration.normal"
)


def carries(*ops: str) -> Callable[[MomentRule], MomentRule]:
    """Register how operators carry means and variances from their operands to their outputs."""

    def add(rule: MomentRule) -> MomentRule:
        for op in ops:
            MOMENT_RULES.register(op)(rule)
        return rule

    return add


def moments(
    model: Model, dims: Mapping[str, tuple[int, ...]] | None = None, *, correlated: bool = False
) -> dict[str, Normal]:
    """What is known of each activation of a model from its weights alone; tensors of which nothing is known are not there.

    ``dims`` are the tensors' shapes, where they have been worked out before. ``correlated`` follows correlations between
    channels too, which takes time and memory with the square of the width.
    """
    dims = prepare(model).shapes.dims if dims is None else dims
    found: dict[str, Normal] = {}
    for node in model.graph.node:
        rule = MOMENT_RULES.get(operator_key(node))
        if rule is None:
            continue
        constants = [model.weights.get(name) for name in node.input]
        step = Step(node, model.opset, [found.get(name) for name in node.input], constants, dims, correlated)
        try:
            with np.errstate(all="ignore"):
                results = rule(step)
        except (Unknown, ValueError, IndexError):
            continue
        for name, result in zip(node.output, [results] if isinstance(results, Normal) else results, strict=False):
            if name and _fits(result, dims.get(name)):
                found[name] = result
    return {name: x for name, x in found.items() if x.links <= _REACH and _is_finite(x)}


def _is_finite(result: Normal) -> bool:
    return bool(np.isfinite(result.mean).all() and np.isfinite(result.variance).all())


def _fits(result: Normal, dims: tuple[int, ...] | None) -> bool:
    """Whether a result has the rank and lengths that shape inference saw."""
    if dims is None:
        return True
    return len(dims) == result.mean.ndim and all(n in (1, d) for n, d in zip(result.mean.shape, dims, strict=True))
