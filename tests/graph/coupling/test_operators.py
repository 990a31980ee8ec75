"""Every operator of the rule table in a graph in which channels really go through it."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from intaglio.graph.coupling import Coupling, Removal
from intaglio.graph.coupling.node import RULES
from intaglio.graph.traits import operator_key

from . import bit_examples as _bit_examples  # noqa: F401  adds its examples to the others
from . import foreign_examples as _foreign_examples  # noqa: F401  the same
from .equality import analysed, assert_nothing_changes, choose, verify
from .examples import EXAMPLES, ONLY_FREEZES, Example


def feeds(example: Example) -> dict[str, np.ndarray]:
    shape = tuple(3 if isinstance(d, str) else d for d in example.shape)
    return {"x": np.random.default_rng(0).standard_normal(shape).astype(np.float32)}


def halved(coupling: Coupling, *, exact: bool) -> Removal:
    rng = np.random.default_rng(1)
    draw = lambda low, high: int(rng.integers(low, high + 1))  # noqa: E731
    return choose(coupling, draw, wanted=lambda g: g.exact or not exact, most=not exact)


def shrinks_through(removal: Removal, op: str) -> bool:
    nodes = [n for n in removal.coupling.nodes if operator_key(n) == op]
    return any(not removal.shrinking.isdisjoint((*n.input, *n.output)) for n in nodes)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda e: e.name)
def test_channels_go_through_the_operator(example: Example) -> None:
    coupling = analysed(example.model())
    assert_nothing_changes(coupling, feeds(example))
    everything = halved(coupling, exact=False)
    verify(everything, feeds(example))
    verify(halved(coupling, exact=True), feeds(example))
    assert shrinks_through(everything, example.op)


def test_channels_go_through_an_operator_that_only_onnx_runtime_knows() -> None:
    """Its shapes come from the file."""
    (example,) = [e for e in EXAMPLES if e.op == "RMSNormalization"]
    proto = onnx.shape_inference.infer_shapes(example.model())
    (node,) = [n for n in proto.graph.node if n.op_type == "RMSNormalization"]
    node.op_type = "SimplifiedLayerNormalization"
    coupling = analysed(proto)
    everything = halved(coupling, exact=False)
    verify(everything, feeds(example), checked=False)
    assert shrinks_through(everything, "SimplifiedLayerNormalization")


def test_every_operator_has_an_example_or_a_reason_to_freeze() -> None:
    assert {e.op for e in EXAMPLES} | set(ONLY_FREEZES) >= set(RULES) - {"SimplifiedLayerNormalization"}
    assert not {e.op for e in EXAMPLES} & set(ONLY_FREEZES)


def test_every_rewrite_belongs_to_an_operator_with_an_example() -> None:
    assert {op for op in RULES if RULES[op].rewrite} <= {e.op for e in EXAMPLES}
