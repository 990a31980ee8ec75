"""Operators of the project's domain as what they are made of."""

from __future__ import annotations

import re
from collections.abc import Container

import numpy as np
import onnx
from onnx import helper

from ....graph.index import index_of
from ....graph.io.canonicalize import canonicalize
from ....graph.io.inline import inlined
from ....graph.model import Model
from ....graph.nodes import drop_dead, refill
from ....kernels.operators import DOMAIN, OPERATORS, SIGNS
from ...simplify.names import Names

_SMALL = 256
"""Elements of constants that are shared."""


def inline_definitions(model: Model) -> Model:
    """A copy in which the definitions stand in the place of the operators: valid in any runtime."""
    changed = model.copy()
    names = [(DOMAIN, name) for name in OPERATORS]
    changed.proto.CopyFrom(inlined(changed.proto, names))
    refill(changed.proto.opset_import, [one for one in changed.proto.opset_import if one.domain != DOMAIN])
    _look_up_signs(changed)
    canonicalize(changed)  # what the definitions work out of shapes is known here
    _share(changed, model.weights)
    changed.notes[:] = model.notes
    return changed


def _look_up_signs(model: Model) -> None:
    """The signs of all bytes as a constant that all share: shifts of bytes are rounded in some runtimes.

    ONNX's inliner puts a number behind each name of a definition.
    """
    made = {name for name in index_of(model).makers if re.fullmatch(rf"{SIGNS}__\d+", name)}
    if not made:
        return
    signs = 1 - 2 * np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1, bitorder="little").astype(np.int8)
    names = Names(model)
    table, floats = model.put(names.fresh("bits/signs"), signs), names.fresh("bits/floats")
    nodes = [helper.make_node("Cast", [table], [floats], floats, to=onnx.TensorProto.FLOAT), *model.graph.node]
    refill(model.graph.node, [node for node in nodes if made.isdisjoint(node.output)])
    for node in model.graph.node:
        refill(node.input, [floats if name in made else name for name in node.input])
    drop_dead(model)


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
