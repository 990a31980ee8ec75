"""Operators of the project's domain as what they are made of."""

from __future__ import annotations

from collections.abc import Container

import onnx
import onnx.inliner

from ....graph.io.canonicalize import canonicalize
from ....graph.model import Model
from ....graph.nodes import refill
from ....kernels.operators import DOMAIN, OPERATORS

_SMALL = 256
"""Elements of constants that are shared."""


def inline_definitions(model: Model) -> Model:
    """A copy in which the definitions stand in the place of the operators: valid in any runtime."""
    changed = model.copy()
    names = [(DOMAIN, name) for name in OPERATORS]
    changed.proto.CopyFrom(onnx.inliner.inline_selected_functions(changed.proto, names))
    refill(changed.proto.opset_import, [one for one in changed.proto.opset_import if one.domain != DOMAIN])
    canonicalize(changed)  # what the definitions work out of shapes is known here
    _share(changed, model.weights)
    changed.notes[:] = model.notes
    return changed


def _share(model: Model, known: Container[str]) -> None:
    """Each call brought the same small constants: one of each will do."""
    first: dict[tuple[str, tuple[int, ...], bytes], str] = {}
    other: dict[str, str] = {}
    for name, value in model.weights.items():
        if value.size <= _SMALL and value.dtype.kind != "O":
            kept = first.setdefault((value.dtype.str, value.shape, value.tobytes()), name)
            if kept != name and name not in known:
                other[name] = kept
    for node in model.graph.node:
        refill(node.input, [other.get(name, name) for name in node.input])
    for name in other:
        del model.weights[name]
