"""One table of all operators, and the questions that it answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache

import onnx

from .others import MACHINE_LEARNING, MACHINE_LEARNING_WITHOUT, MICROSOFT, MICROSOFT_WITHOUT, ON_BITS
from .standard import STANDARD, WITHOUT
from .trait import Operator, Trait

DEFAULT_DOMAINS = ("", "ai.onnx")
NOTHING = Operator()
"""What is known of an operator without a row."""


def _rows(domain: str, rows: Mapping[str, Operator], without: str = "") -> Iterator[tuple[str, Operator]]:
    """The rows of a table whose keys name one operator or several."""
    for names, row in {**rows, without: NOTHING}.items():
        yield from ((f"{domain}:{name}" if domain else name, row) for name in names.split())


OPERATORS: Mapping[str, Operator] = dict(
    (
        *_rows("", STANDARD, WITHOUT),
        *_rows("ai.onnx.ml", MACHINE_LEARNING, MACHINE_LEARNING_WITHOUT),
        *_rows("com.microsoft", MICROSOFT, MICROSOFT_WITHOUT),
        *_rows("intaglio", ON_BITS),
    )
)
"""Every operator that was looked at, those outside the standard domain as ``domain:Op``."""


def operator_key(node: onnx.NodeProto) -> str:
    """What tables call the operator of a node: ``Conv``, ``com.microsoft:QGemm``."""
    return node.op_type if node.domain in DEFAULT_DOMAINS else f"{node.domain}:{node.op_type}"


def operator(op: onnx.NodeProto | str) -> Operator:
    """What is known of a node's operator, or of one by its key."""
    return OPERATORS.get(op if isinstance(op, str) else operator_key(op), NOTHING)


def has(op: onnx.NodeProto | str, traits: Trait) -> bool:
    """Whether all of the traits hold."""
    return (op if isinstance(op, str) else operator_key(op)) in operators(traits)


def has_any(op: onnx.NodeProto | str, traits: Trait) -> bool:
    """Whether one of the traits holds."""
    return bool(operator(op).traits & traits)


@cache
def operators(traits: Trait) -> frozenset[str]:
    """The operators of which all of the traits hold."""
    return frozenset(name for name, row in OPERATORS.items() if traits in row.traits)


def data_operands(node: onnx.NodeProto) -> list[str]:
    """The tensors that the traits of a node's operator speak of."""
    row = operator(node)
    return [name for i, name in enumerate(node.input) if name and row.is_data(i)]
