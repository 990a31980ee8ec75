"""Float operators between layers of bits, in forms that cost less and give the same numbers.

Once convolutions take microseconds, what is left in floats decides how fast a network is.
"""

from __future__ import annotations

import numpy as np
import onnx

from ....graph.nodes import is_standard
from ...rewrite.edit import Edit
from .wires import Wires


def keep(edit: Edit, wires: Wires, node: onnx.NodeProto) -> None:
    """Append a node, or cheaper ones that give the same numbers."""
    if node.op_type != "PRelu" or not is_standard(node) or not _as_largest(edit, wires, node):
        edit.keep(node)


def _as_largest(edit: Edit, wires: Wires, node: onnx.NodeProto) -> bool:
    """``max(x, slope x)``, which holds for slopes up to 1 (0 would make NaN of infinity).

    ONNX Runtime's PRelu takes several times as long as both together.
    """
    slope = wires.known.get(node.input[1])
    if slope is None or slope.dtype != np.float32 or not ((slope <= 1) & (slope != 0)).all():
        return False
    name = node.input[1] if node.input[1] in wires.model.weights else edit.constant(f"{node.output[0]}_slope", slope)
    edit.replace(node)
    scaled = edit.add("Mul", [node.input[0], name], edit.tensor(f"{node.output[0]}_scaled"))
    edit.add("Max", [node.input[0], scaled], node.output[0], name=node.name)
    return True
