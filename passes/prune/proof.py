"""Proof by running: the pruned model against the original with the removed channels zeroed, tensor by tensor."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import onnx

from ...graph.coupling import Removal, masked
from ...graph.errors import IntaglioError, ProofFailed
from ...graph.model import Model
from ...measure.inputs import runnable_inputs
from ...measure.session import open_session, run

_CHUNK_BYTES = 1 << 28
"""Tensors held at once, of both models together about twice this."""
_TOLERANCE = {"float16": 2e-2, "bfloat16": 1e-1, "float32": 1e-4, "float64": 1e-9}
"""Largest difference allowed, relative to the largest value in the tensor: sums run in another order."""
_FLOOR = 1e-6


@dataclass(frozen=True)
class Proof:
    """``exact``: the pruned model computes what the masked original computes, with nothing inexact removed.

    ``passed``: the same, with normalizations and means taken over what stays where something inexact went.
    Differences are over all float tensors that both models have, relative ones to the largest value of the tensor.
    """

    exact: bool
    passed: bool
    max_abs_diff: float
    max_rel_diff: float
    tensors: int
    worst: str
    inputs: str

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
    for feed in feeds:
        for chunk in chunks:
            a, b = run(theirs, feed, chunk), run(ours, feed, chunk)
            for name in chunk:
                absolute, ratio = _difference(pruned, name, _cut(removal, name, a[name]), b[name])
                widest = max(widest, absolute)
                if ratio > relative:
                    relative, worst = ratio, name
    inexact = _inexact_gone(removal)
    inputs = "made-up" if not real else "real" if len(feeds) == len(real) else "made-up and real"
    return Proof(not inexact, True, widest, relative, len(names), worst, inputs)


def _chunks(
    removal: Removal, reference: Model, pruned: Model, feeds: Sequence[Mapping[str, np.ndarray]]
) -> Iterator[list[str]]:
    """Names of float tensors that both models compute, a bounded number of bytes at a time."""
    shapes = removal.coupling.unit_shapes
    samples = max((len(v) for feed in feeds for v in feed.values() if v.ndim), default=1)
    there = {o for n in reference.graph.node for o in n.output}
    chunk: list[str] = []
    size = 0
    for node in pruned.graph.node:
        for name in node.output:
            if name not in there or shapes.dtypes.get(name) not in _FLOATS or name not in shapes.dims:
                continue
            chunk.append(name)
            size += 4 * samples * int(np.prod(shapes.dims[name], dtype=np.int64))
            if size > _CHUNK_BYTES:
                yield chunk
                chunk, size = [], 0
    if chunk:
        yield chunk


_FLOATS = {
    onnx.TensorProto.FLOAT,
    onnx.TensorProto.FLOAT16,
    onnx.TensorProto.DOUBLE,
    onnx.TensorProto.BFLOAT16,
}


def _cut(removal: Removal, name: str, value: np.ndarray) -> np.ndarray:
    for axis, mask in removal.tensor(name).items():
        value = np.compress(mask, value, axis=axis)
    return value


def _difference(pruned: Model, name: str, expected: np.ndarray, found: np.ndarray) -> tuple[float, float]:
    """Largest absolute difference, and relative to the tensor's largest value. Raises ProofFailed if too large."""
    if expected.shape != found.shape:
        raise _failed(pruned, name, f"shape {found.shape}, expected {expected.shape}")
    if not expected.size:
        return 0.0, 0.0
    a, b = expected.astype(np.float64), found.astype(np.float64)
    agree = (a == b) | (np.isnan(a) & np.isnan(b))
    gap = np.where(agree, 0.0, np.abs(a - b))
    finite = np.abs(a[np.isfinite(a)])
    scale = float(finite.max(initial=0.0)) + _FLOOR
    absolute = float(gap.max()) if not np.isnan(gap).any() else float("inf")
    if absolute / scale > _TOLERANCE.get(str(expected.dtype), 1e-4):
        raise _failed(pruned, name, f"a difference of {absolute:.3g} where values reach {scale:.3g}")
    return absolute, absolute / scale


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
