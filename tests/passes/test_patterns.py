"""Patterns mean the same in every pass: groups, nodes, tensors, operator types and regular expressions."""

from __future__ import annotations

from pathlib import Path

import pytest

from intaglio.graph.coupling import analyse
from intaglio.graph.errors import UsageError
from intaglio.graph.io.load import load
from intaglio.graph.model import Model
from intaglio.graph.nodes import display_name
from intaglio.passes.patterns import choose_nodes
from intaglio.passes.prune.choose import eligible

TRANSFORMER = Path(__file__).resolve().parents[2] / "examples" / "vit_digits.onnx"
HEADS = "/blocks.0/query/MatMul/heads"
QUERY = "/blocks.0/query/MatMul"


@pytest.fixture(scope="module")
def model() -> Model:
    return load(TRANSFORMER)


def names(model: Model, **patterns: tuple[str, ...]) -> set[str]:
    wanted = choose_nodes(model, **patterns)
    return {display_name(node) for node, chosen in zip(model.graph.node, wanted, strict=True) if chosen}


def test_without_patterns_every_node_is_asked_for(model: Model) -> None:
    assert all(choose_nodes(model))


def test_a_node_is_named_by_itself_its_type_or_a_tensor_beside_it(model: Model) -> None:
    node = next(n for n in model.graph.node if display_name(n) == QUERY)
    assert names(model, include=(QUERY,)) == {QUERY}
    assert QUERY in names(model, include=("MatMul",))
    assert names(model, include=(node.input[1],)) == {QUERY}
    assert QUERY in names(model, include=(node.output[0],))
    assert QUERY in names(model, include=("re:^/blocks.0/query",))
    assert QUERY not in names(model, exclude=(QUERY,))


def test_a_group_stands_for_the_nodes_that_read_its_channels(model: Model) -> None:
    found = names(model, include=(HEADS,))
    assert QUERY in found
    assert "/blocks.1/query/MatMul" not in found
    assert names(model, include=("re:blocks.0/query/MatMul/heads$",)) == found


def test_pruning_and_rewriting_take_the_same_words(model: Model) -> None:
    coupling = analyse(model)
    for word in (HEADS, QUERY, "MatMul", "re:^/blocks.0/"):
        assert eligible(coupling, include=(word,), exclude=(), exact_only=False)
        assert names(model, include=(word,))


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("/blocks.0/qery/MatMul", "did you mean /blocks.0/query/MatMul"),
        ("/blocks.0/query/MatMul/head", "did you mean /blocks.0/query/MatMul/heads"),
        ("zzz", "list the names"),
        ("re:zzz", "list the names"),
        ("re:(", "regular expression"),
    ],
)
def test_a_pattern_that_matches_nothing_is_an_error_with_near_names(model: Model, pattern: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        choose_nodes(model, exclude=(pattern,))
    assert said in str(caught.value)
    with pytest.raises(UsageError) as again:
        eligible(analyse(model), include=(pattern,), exclude=(), exact_only=False)
    assert caught.value.what == again.value.what
