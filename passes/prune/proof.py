"""Proof by running: the pruned model against the original with the removed channels zeroed, tensor by tensor."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property

import numpy as np
import onnx

from ...graph.coupling import Removal, masked
from ...graph.errors import IntaglioError, ProofFailed
from ...graph.model import Model
from ...measure.run.inputs import runnable_inputs
from ...measure.run.session import open_session, run

_CHUNK_BYTES = 1 << 28
"""Tensors held at once, of both models together about twice this."""
_TOLERANCE = {"float16": 2e-2, "bfloat16": 1e-1, "float32": 1e-4, "float64": 1e-9}
"""Largest difference allowed, relative to the largest value in the tensor: sums run in another order."""
_LAST_PLACE = {"float16": 2.0**-10, "bfloat16": 2.0**-7, "float32": 2.0**-23, "float64": 2.0**-52}
_FLOOR = 1e-6
_DRAWS = 3
_AMPLIFIED = 4.0
"""Where the network amplifies rounding (a variance of nearly nothing, a value about to be rounded up or down), a
difference passes up to so many times what changing every weight and input by a few last places makes."""


@dataclass(frozen=True)
class Proof:
    """``exact``: the pruned model computes what the masked original computes, with nothing inexact removed.

    ``passed``: the same, with normalizations and means taken over what stays where something inexact went.
    Differences are over all float and 8-bit tensors that both models have, relative ones to the largest value of the
    tensor; ``noisy`` counts tensors left out there because rounding alone moves their values as far.
    """

    exact: bool
    passed: bool
    max_abs_diff: float
    max_rel_diff: float
    tensors: int
    worst: str
    inputs: str
    noisy: int = 0

    def as_dict(self) -> dict[str, object]:
        return asdict(self)


def prove(removal: Removal, pruned: Model, real: Sequence[Mapping[str, np.ndarray]], seed: int) -> Proof:
    """Run both models on made-up inputs and on ``real`` ones and compare every tensor.

    Raises:
        ProofFailed: they differ; names the first operator at which they do.
        BadModel: one of them does not run.
    """
    reference = masked(removal)
    feeds: list[Mapping[str, np.ndarray]] = list(real)
    try:
        feeds.insert(0, runnable_inputs(removal.coupling.original, seed=seed))
    except IntaglioError:
        if not feeds:
            raise
    chunks = list(_chunks(removal, reference, pruned, feeds))
    names = [name for chunk in chunks for name in chunk]
    ours = open_session(pruned, outputs=names, optimize=False)
    theirs = open_session(reference, outputs=names, optimize=False)
    widest, relative, worst = 0.0, 0.0, ""
    noisy: set[str] = set()
    for feed in feeds:
        for chunk in chunks:
            a, b = run(theirs, feed, chunk), run(ours, feed, chunk)
            noise = _Noise(reference, feed, chunk, a)
            for name in chunk:
                absolute, ratio = _difference(pruned, name, _cut(removal, name, a[name]), b[name], noise)
                widest = max(widest, absolute)
                if ratio is None:
                    noisy.add(name)
                elif ratio > relative:
                    relative, worst = ratio, name
    inexact = _inexact_gone(removal)
    inputs = "made-up" if not real else "real" if len(feeds) == len(real) else "made-up and real"
    return Proof(not inexact, True, widest, relative, len(names), worst, inputs, len(noisy))


def _chunks(
    removal: Removal, reference: Model, pruned: Model, feeds: Sequence[Mapping[str, np.ndarray]]
) -> Iterator[list[str]]:
    """Names of float and 8-bit tensors that both models compute, a bounded number of bytes at a time."""
    shapes = removal.coupling.unit_shapes
    samples = max((len(v) for feed in feeds for v in feed.values() if v.ndim), default=1)
    there = {o for n in reference.graph.node for o in n.output}
    chunk: list[str] = []
    size = 0
    for node in pruned.graph.node:
        for name in node.output:
            if name not in there or shapes.dtypes.get(name) not in _COMPARED or name not in shapes.dims:
                continue
            chunk.append(name)
            size += 4 * samples * int(np.prod(shapes.dims[name], dtype=np.int64))
            if size > _CHUNK_BYTES:
                yield chunk
                chunk, size = [], 0
    if chunk:
        yield chunk


_COMPARED = {
    onnx.TensorProto.FLOAT,
    onnx.TensorProto.FLOAT16,
    onnx.TensorProto.DOUBLE,
    onnx.TensorProto.BFLOAT16,
    onnx.TensorProto.INT8,
    onnx.TensorProto.UINT8,
}


def _cut(removal: Removal, name: str, value: np.ndarray) -> np.ndarray:
    for axis, mask in removal.tensor(name).items():
        value = np.compress(mask, value, axis=axis)
    return value


class _Noise:
    """How far rounding alone moves each tensor of a run; measured when first asked for."""

    def __init__(
        self, model: Model, feed: Mapping[str, np.ndarray], names: Sequence[str], values: Mapping[str, np.ndarray]
    ) -> None:
        self.model, self.feed, self.names, self.values = model, feed, names, values

    def of(self, name: str) -> float:
        return self._measured[name]

    @cached_property
    def _measured(self) -> dict[str, float]:
        found = dict.fromkeys(self.names, 0.0)
        for seed in range(_DRAWS):
            rng = np.random.default_rng(seed)
            moved = self.model.copy()
            moved.weights = {name: _moved(w, rng) for name, w in moved.weights.items()}
            feed = {name: _moved(value, rng) for name, value in self.feed.items()}
            values = run(open_session(moved, outputs=self.names, optimize=False), feed, self.names)
            for name in self.names:
                found[name] = max(found[name], _widest(self.values[name], values[name]))
        return found


def _moved(value: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Floats, each changed by a few last places."""
    last = _LAST_PLACE.get(str(value.dtype))
    if last is None:
        return value
    return np.asarray(value * (1 + 4 * last * rng.standard_normal(value.shape)), dtype=value.dtype)


def _widest(a: np.ndarray, b: np.ndarray) -> float:
    """Largest difference; infinite where only one is a number."""
    if a.shape != b.shape:
        return float("inf")
    x, y = a.astype(np.float64), b.astype(np.float64)
    with np.errstate(invalid="ignore"):
        gap = np.where((x == y) | (np.isnan(x) & np.isnan(y)), 0.0, np.abs(x - y))
    return float("inf") if np.isnan(gap).any() else float(gap.max(initial=0.0))


def _difference(
    pruned: Model, name: str, expected: np.ndarray, found: np.ndarray, noise: _Noise
) -> tuple[float, float | None]:
    """Largest absolute difference, and relative to the tensor's largest value, None where that is all rounding.

    Raises:
        ProofFailed: it is too large.
    """
    if expected.shape != found.shape:
        raise _failed(pruned, name, f"shape {found.shape}, expected {expected.shape}")
    if not expected.size:
        return 0.0, 0.0
    absolute = _widest(expected, found)
    size = np.abs(expected.astype(np.float64))
    scale = float(size[np.isfinite(size)].max(initial=0.0)) + _FLOOR
    allowed = scale * _TOLERANCE[str(expected.dtype)] if expected.dtype.kind not in "iu" else 1.0
    if absolute <= allowed:
        return absolute, absolute / scale
    if absolute > _AMPLIFIED * noise.of(name):
        raise _failed(pruned, name, f"a difference of {absolute:.3g} where values reach {scale:.3g}")
    return absolute, None


def _failed(pruned: Model, name: str, text: str) -> ProofFailed:
    node = next(n for n in pruned.graph.node if name in n.output)
    return ProofFailed(
        f'the pruned model is wrong from {node.op_type} "{node.name or name}" on: {text} in tensor {name!r}',
        why="it does not equal the original with the removed channels zeroed, so nothing is written",
        fix="leave the group out with --exclude, and report the model: this is a fault in intaglio",
    )


def _inexact_gone(removal: Removal) -> bool:
    groups = removal.coupling.groups
    return any(not g.exact and removal.removed[g.atoms].any() for g in groups if len(g.atoms))
