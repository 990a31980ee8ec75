"""Whether nodes work in float16 at all: definitions say what is allowed, but not all of it is there.

Some operators are defined by functions with float32 constants in them, and ONNX Runtime lacks some kernels without
falling back to float32. So a node of each kind is run once, by itself. What is fed to it tells nothing else.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
import onnx

from ....graph.errors import BadModel
from ....graph.index import index_of
from ....graph.io.save import to_bytes
from ....graph.model import Model
from ....graph.shapes import Shapes, is_operand
from ....measure.run.session import open_session, run
from .half import Candidates, to_half
from .types import FLOAT, HALF

_LARGEST = 1 << 22
"""Elements of a node's inputs above which it is not tried."""


def not_run(found: Candidates) -> dict[int, str]:
    """Candidates that fail in float16 though the same node runs in float32, and how."""
    shapes = index_of(found.model).shapes
    known: dict[Hashable, str | None] = {}
    failing: dict[int, str] = {}
    for k, operands in found.operands.items():
        if not operands.outputs:
            continue
        kind = _kind(found, k, shapes)
        if kind not in known:
            known[kind] = _failure(found, k, shapes)
        told = known[kind]
        if told is not None:
            failing[k] = told
    return failing


def _kind(found: Candidates, k: int, shapes: Shapes) -> Hashable:
    """Nodes of one kind run alike: operator, attributes, and which operands of what rank there are."""
    node = found.model.graph.node[k]
    attributes = tuple(sorted(a.SerializeToString() for a in node.attribute))
    return node.op_type, attributes, tuple(len(shapes.dims.get(name, ())) if name else -1 for name in node.input)


def _failure(found: Candidates, k: int, shapes: Shapes) -> str | None:
    twins = Twins(found, [k])
    feeds: dict[str, np.ndarray] = {}
    for name, tensor in twins.inputs.items():
        dims, kind = shapes.dims.get(tensor), found.dtypes[tensor]
        if dims is None or int(np.prod(dims)) > _LARGEST:
            return None
        value = shapes.values.get(tensor)
        dtype = onnx.helper.tensor_dtype_to_np_dtype(kind)
        feeds[name] = np.full(dims, 0.5 if dtype.kind == "f" else 0, dtype) if value is None else value
    halves = {name: to_half(x) if name in twins.halves else x for name, x in feeds.items()}
    told = _fails(twins.model, halves)
    if told is None or _fails(Twins(found, [k], half=False).model, feeds) is not None:
        return None
    return f"it does not work in float16: {told[:200]}"


def _fails(model: Model, feeds: dict[str, np.ndarray]) -> str | None:
    try:
        large = [name for name, weight in model.weights.items() if not is_operand(weight)]
        bare = onnx.load_from_string(to_bytes(model, outside=large))
        onnx.shape_inference.infer_shapes(bare, check_type=True, strict_mode=True)
        run(open_session(model, optimize=False), feeds)
    except BadModel as error:
        return error.why or error.what
    except Exception as error:  # inference raises whatever its C++ code throws
        return " ".join(str(error).split())
    return None


class Twins:
    """Some nodes in float16 beside each other, each reading graph inputs and making graph outputs only.

    In one model with the original they would not be rounded: ONNX Runtime takes out a Cast to float16 and back.

    With ``half=False`` they stay float32, to compare with. ``inputs`` has the original's tensor for each graph input, ``halves`` those that are rounded, ``outputs`` the place of
    the node that makes each.
    """

    def __init__(self, found: Candidates, places: Sequence[int], *, half: bool = True) -> None:
        self.found, self._half = found, half
        self.inputs: dict[str, str] = {}
        self.halves: set[str] = set()
        self.outputs: dict[str, int] = {}
        self._weights: dict[str, np.ndarray] = {}
        nodes = [self._node(k) for k in places]
        kinds = {name: HALF if name in self.halves else found.dtypes[tensor] for name, tensor in self.inputs.items()}
        inputs = [onnx.helper.make_tensor_value_info(name, kind, None) for name, kind in kinds.items()]
        outputs = [onnx.helper.make_tensor_value_info(n, HALF if half else FLOAT, None) for n in self.outputs]
        self.model = found.model.of_nodes(nodes, inputs, outputs, self._weights)

    def _node(self, k: int) -> onnx.NodeProto:
        operands = self.found.operands[k]
        node = onnx.NodeProto.FromString(self.found.model.graph.node[k].SerializeToString())
        for i, tensor in enumerate(node.input):
            if not tensor:
                continue
            half, value = self._half and i in operands.inputs, self.found.model.weights.get(tensor)
            name = f"{tensor} {'rounded' if i in operands.inputs else 'as it is'}"
            node.input[i] = name
            if value is not None:
                self._weights[name] = to_half(value) if half else value
            else:
                self.inputs[name] = tensor
                if half:
                    self.halves.add(name)
        self.outputs.update({node.output[j]: k for j in operands.outputs})
        return node
