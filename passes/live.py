"""What a pass works on: the part of a model that makes its outputs, whose weights are numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from ..graph.errors import BadModel
from ..graph.index import index_of
from ..graph.io.save import file_bytes
from ..graph.io.spill import is_finite
from ..graph.model import Model
from ..graph.nodes import all_nodes, display_name, drop_dead, refill
from ..graph.traits import Trait, has, operator
from .change import amounts

MET = "the target is met by that alone"


@dataclass(frozen=True)
class Live:
    """A model without nodes and constants that no output depends on, and what to tell of those: they go first."""

    given: Model
    model: Model
    notes: Sequence[str] = ()

    def meets(self, target: str, keep: float) -> bool:
        """Whether nothing else has to go for a target."""
        if self.model is self.given or target not in ("macs", "params", "size"):
            return False
        return amounts(self.model).of(target) <= keep * amounts(self.given).of(target)


def live_part(model: Model) -> Live:
    """Of a model.

    Raises:
        BadModel: a weight holds NaN or infinity. Minus infinity may stand in masks, and in tables of them.
    """
    live = model.copy()
    drop_dead(live)
    nodes, weights = (len(a) - len(b) for a, b in ((model.graph.node, live.graph.node), (model.weights, live.weights)))
    if not nodes and not weights:
        _require_numbers(model)
        return Live(model, model)
    made = index_of(live).place
    refill(live.graph.value_info, [value for value in live.graph.value_info if value.name in made])
    _require_numbers(live)
    parts = [f"{n} {what}{'' if n == 1 else 's'}" for n, what in ((nodes, "node"), (weights, "constant")) if n]
    share = 1 - file_bytes(live) / file_bytes(model)
    return Live(model, live, [f"{' and '.join(parts)} that no output depends on went first: {share:.1%} of the file"])


def _require_numbers(model: Model) -> None:
    for name, node in _parameters(model).items():
        value = model.weights[name]
        masks = has(node, Trait.MOVES)  # a table: one of masks may hold minus infinity
        if value.dtype.kind not in "fV" or is_finite(value) or (masks and (value < np.inf).all()):
            continue
        wrong = np.argwhere(~np.isfinite(value))
        raise BadModel(
            f"{node.op_type} {display_name(node)!r} has weights that are NaN or infinite",
            why=f"{len(wrong)} of the {value.size} numbers in {name!r}, the first at {wrong[0].tolist()}",
            fix="mend the model: training may have diverged, or an export to a smaller type overflowed",
        )


def _parameters(model: Model) -> dict[str, onnx.NodeProto]:
    """Constants that layers and normalizations work with, or that such constants are computed from, and for which node."""
    constant, found = index_of(model).constant, dict[str, onnx.NodeProto]()
    for node in reversed(list(all_nodes(model.graph))):
        user = next((found[name] for name in node.output if name in found), None)
        places = _operands(node) if user is None else range(len(node.input))
        read = [node.input[i] for i in places if i < len(node.input)]
        found.update({name: user or node for name in read if name in constant})
    return {name: node for name, node in found.items() if name in model.weights}


def _operands(node: onnx.NodeProto) -> Sequence[int]:
    row = operator(node)
    if has(node, Trait.NORMALIZES):
        return range(1, len(node.input))
    return (*row.weights, *(() if row.bias is None else (row.bias,)))
