"""Operators of the project's domain as what they are made of."""

from __future__ import annotations

import onnx
import onnx.inliner

from ...graph.model import Model
from ...kernels.operators import DOMAIN, OPERATORS


def inlined(model: Model) -> Model:
    """A copy in which the definitions stand in the place of the operators: valid in any runtime."""
    changed = model.copy()
    for function in changed.proto.functions:
        if function.domain == DOMAIN:
            for one in function.opset_import:
                one.version = model.opset  # the definitions mean the same in all operator sets from 13 on
    names = [(DOMAIN, name) for name in OPERATORS]
    changed.proto.CopyFrom(onnx.inliner.inline_selected_functions(changed.proto, names))
    kept = [one for one in changed.proto.opset_import if one.domain != DOMAIN]
    del changed.proto.opset_import[:]
    changed.proto.opset_import.extend(kept)
    return changed
