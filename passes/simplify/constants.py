"""Compute what no input changes: lengths that no size changes, and numbers that are made of constants alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx

from ...graph.coupling.constancy import constants
from ...graph.coupling.prepare import fold_known
from ...graph.errors import IntaglioError
from ...graph.io.chains import fold_chains
from ...graph.model import Model
from ...graph.nodes import is_standard
from ...graph.readings import readings
from ...graph.traits import Trait, has_any
from ...measure.run.session import open_session, run

_SMALL = 1 << 16
"""Bytes that may always be computed before it is known whether the file would grow."""
_STAYS = Trait.QUANTIZES | Trait.RANDOM | Trait.BODIES | Trait.ON_BITS | Trait.INTEGER
"""What is stored as integers, or differs from run to run."""


def fold_constants(model: Model) -> int:
    """In place; gives how many nodes went. ONNX Runtime computes, so that the numbers are those that it had made."""
    before = len(model.graph.node)
    read = readings(model)
    fold_known(model, constants(model, read))
    dims = read.first.dims

    def compute(node: onnx.NodeProto, inputs: Sequence[np.ndarray]) -> list[np.ndarray] | None:
        made = [dims.get(name) for name in node.output]
        if not is_standard(node) or has_any(node, _STAYS) or any(shape is None for shape in made):
            return None
        largest = max(np.prod(shape, dtype=np.int64) * 8 for shape in made if shape is not None)
        if largest > max(_SMALL, 2 * sum(value.nbytes for value in inputs)):
            return None
        try:
            part = model.of_nodes([node], [], _typeless(node), dict(zip(node.input, inputs, strict=True)))
            return list(run(open_session(part, optimize=False), {}).values())
        except IntaglioError:
            return None

    fold_chains(model, compute)
    return before - len(model.graph.node)


def _typeless(node: onnx.NodeProto) -> list[onnx.ValueInfoProto]:
    return [onnx.ValueInfoProto(name=name) for name in node.output]
