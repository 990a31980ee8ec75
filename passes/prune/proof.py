"""Proof by running: the pruned model against the original with the removed channels zeroed, tensor by tensor."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx

from ...graph.coupling import Removal, mask_removed
from ...graph.index import index_of
from ...graph.model import Model
from ..base import MEMORY
from ..proof import Claim, Feed, Proof, prove_equal, prove_on_inputs

_COMPARED = {
    onnx.TensorProto.FLOAT,
    onnx.TensorProto.FLOAT16,
    onnx.TensorProto.DOUBLE,
    onnx.TensorProto.BFLOAT16,
    onnx.TensorProto.INT8,
    onnx.TensorProto.UINT8,
}
_CLAIM = Claim("pruned", "group", "the original with the removed channels zeroed")


def prove(removal: Removal, pruned: Model, real: Sequence[Feed], seed: int, memory: int = MEMORY) -> Proof:
    """Run both models on made-up inputs and on ``real`` ones and compare all float and 8-bit tensors that both have.

    Raises:
        ProofFailed: they differ; names the first operator at which they do.
        BadModel: one of them does not run.
    """
    reference = mask_removed(removal)
    names = _compared(removal, reference, pruned)

    def cut(name: str, value: np.ndarray) -> np.ndarray:
        for axis, mask in removal.tensor(name).items():
            value = np.compress(mask, value, axis=axis)
        return value

    exact = not _inexact_gone(removal)

    def equal(inputs: tuple[Sequence[Feed], str]) -> Proof:
        return prove_equal(reference, pruned, names, inputs, _CLAIM, memory=memory, cut=cut, exact=exact)

    return prove_on_inputs(removal.coupling.original, real, seed, memory, equal)


def _compared(removal: Removal, reference: Model, pruned: Model) -> list[str]:
    """Names of the tensors that both have."""
    shapes, there = removal.coupling.unit_shapes, index_of(reference).place
    made = [name for name in index_of(pruned).place if name in there and name in shapes.dims]
    return [name for name in made if shapes.dtypes.get(name) in _COMPARED]


def _inexact_gone(removal: Removal) -> bool:
    groups = removal.coupling.groups
    return any(not g.exact and removal.removed[g.atoms].any() for g in groups if len(g.atoms))
