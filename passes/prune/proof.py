"""Proof by running: the pruned model against the original with the removed channels zeroed, tensor by tensor."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import onnx

from ...graph.coupling import Removal, mask_removed
from ...graph.index import index_of
from ...graph.model import Model
from ..proof import Claim, Feed, Proof, proof_inputs, prove_equal

_CHUNK_BYTES = 1 << 28
"""Tensors held at once, of both models together about twice this."""
_COMPARED = {
    onnx.TensorProto.FLOAT,
    onnx.TensorProto.FLOAT16,
    onnx.TensorProto.DOUBLE,
    onnx.TensorProto.BFLOAT16,
    onnx.TensorProto.INT8,
    onnx.TensorProto.UINT8,
}
_CLAIM = Claim("pruned", "group", "the original with the removed channels zeroed")


def prove(removal: Removal, pruned: Model, real: Sequence[Feed], seed: int) -> Proof:
    """Run both models on made-up inputs and on ``real`` ones and compare all float and 8-bit tensors that both have.

    Raises:
        ProofFailed: they differ; names the first operator at which they do.
        BadModel: one of them does not run.
    """
    reference = mask_removed(removal)
    inputs = proof_inputs(removal.coupling.original, real, seed)
    chunks = list(_chunks(removal, reference, pruned, inputs[0]))

    def cut(name: str, value: np.ndarray) -> np.ndarray:
        for axis, mask in removal.tensor(name).items():
            value = np.compress(mask, value, axis=axis)
        return value

    return prove_equal(reference, pruned, chunks, inputs, _CLAIM, cut=cut, exact=not _inexact_gone(removal))


def _chunks(removal: Removal, reference: Model, pruned: Model, feeds: Sequence[Feed]) -> Iterator[list[str]]:
    """Names of tensors, a bounded number of bytes at a time."""
    shapes = removal.coupling.unit_shapes
    samples = max((len(v) for feed in feeds for v in feed.values() if v.ndim), default=1)
    there = index_of(reference).place
    chunk: list[str] = []
    size = 0
    for name in index_of(pruned).place:
        if name not in there or shapes.dtypes.get(name) not in _COMPARED or name not in shapes.dims:
            continue
        chunk.append(name)
        size += 4 * samples * int(np.prod(shapes.dims[name], dtype=np.int64))
        if size > _CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _inexact_gone(removal: Removal) -> bool:
    groups = removal.coupling.groups
    return any(not g.exact and removal.removed[g.atoms].any() for g in groups if len(g.atoms))
