"""Which operands of a node may be float16, as the definitions of operators say; no operator is named here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import onnx
from onnx import TensorProto

from ....graph.bits import IN_BITS
from ....graph.nodes import is_standard, subgraphs
from ....graph.traits import Trait, has

FLOAT, HALF = int(TensorProto.FLOAT), int(TensorProto.FLOAT16)


class Stays(Exception):
    """A node stays float32. Without a reason it could hardly be otherwise."""

    def __init__(self, reason: str) -> None:
        self.reason = reason


@dataclass(frozen=True)
class Operands:
    """Positions of the float32 inputs and outputs that become float16 together; none where a node has no such."""

    inputs: tuple[int, ...] = ()
    outputs: tuple[int, ...] = ()

    @property
    def indifferent(self) -> bool:
        """Whether the node takes float32 as well as float16 and shows no difference, as Shape does."""
        return len(self.inputs) == 1 and not self.outputs


def half_operands(node: onnx.NodeProto, opset: int, dtypes: Mapping[str, int]) -> Operands:
    """What becomes float16 if the node does, raises Stays where it cannot.

    All float32 operands whose type is a variable become float16 together, so all those variables must admit it, and
    each variable of an output must be one of an input too: else an attribute says what it is. Operands that are
    float32 by definition, as the scales of Resize, stay so.
    """
    if has(node, Trait.ON_BITS):
        raise Stays(IN_BITS)
    if not is_standard(node):
        raise Stays(f"{node.domain} is no standard domain")
    if next(subgraphs(node), None) is not None:
        raise Stays("it holds graphs of its own")
    try:
        schema = onnx.defs.get_schema(node.op_type, opset)
    except onnx.defs.SchemaError as error:
        raise Stays("its definition is unknown") from error
    admits = {c.type_param_str for c in schema.type_constraints if "tensor(float16)" in c.allowed_type_strs}
    inputs = _variables(node.input, schema.inputs, dtypes)
    outputs = _variables(node.output, schema.outputs, dtypes)
    if not inputs and not outputs:
        return Operands()
    if not {*inputs.values(), *outputs.values()} <= admits:
        raise Stays(f"{node.op_type} takes no float16 in operator set {opset}")
    if not {*outputs.values()} <= {*inputs.values()}:
        raise Stays("an attribute says what type it makes" if outputs else "")
    return Operands(tuple(inputs), tuple(outputs))


def _variables(names: Sequence[str], formal: Sequence[Any], dtypes: Mapping[str, int]) -> dict[int, str]:
    """The type variable of each float32 operand."""
    found: dict[int, str] = {}
    for position, name in enumerate(names):
        if not name:
            continue
        if name not in dtypes:
            raise Stays(f"the type of {name!r} is unknown")
        variable = formal[min(position, len(formal) - 1)].type_str
        if dtypes[name] == FLOAT and variable != "tensor(float)":
            found[position] = variable
    return found
