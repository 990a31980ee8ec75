"""The index of a graph says what a look at every node says, and never what was true before a change."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from intaglio.graph import index as indexes
from intaglio.graph.errors import BadModel
from intaglio.graph.index import CAPTURE, Index, index_of
from intaglio.graph.io.load import load
from intaglio.graph.model import Model
from intaglio.graph.nodes import display_name, replace_nodes, set_attribute, subgraphs
from intaglio.graph.shapes import Shapes, infer_shapes
from tests import zoo

EXAMPLES = sorted((Path(__file__).resolve().parents[2] / "examples").glob("*.onnx"))
HANDMADE = [name for name in zoo.names() if zoo.entry(name).exporter == "onnx"]
Draw = Callable[[st.SearchStrategy[Any]], Any]


def inside(node: onnx.NodeProto) -> Iterator[tuple[set[str], set[str]]]:
    """What each graph in a node reads and what it makes, graphs in graphs too."""
    for body in subgraphs(node):
        made = {*(v.name for v in body.input), *(t.name for t in body.initializer)}
        read = {v.name for v in body.output}
        for n in body.node:
            read.update(n.input)
            made.update(n.output)
            yield from inside(n)
        yield read, made


def captures(node: onnx.NodeProto) -> set[str]:
    """Names are unique in a model, so what no graph in a node makes comes from without."""
    found = list(inside(node))
    read, made = (set().union(*sides) for sides in zip(*found, strict=True)) if found else (set(), set())
    return read - made - {""}


def tensors(model: Model) -> set[str]:
    ends = (v.name for v in (*model.graph.input, *model.graph.output))
    nodes = (x for n in model.graph.node for x in (*n.input, *n.output, *captures(n)))
    return {*ends, *nodes, *model.weights} - {""}


def reads(model: Model, tensor: str) -> list[tuple[int, int]]:
    nodes, found = model.graph.node, []
    for k, node in enumerate(nodes):
        found += [(k, i) for i, x in enumerate(node.input) if x == tensor]
        found += [(k, CAPTURE)] if tensor in captures(node) else []
    return found + [(len(nodes), i) for i, v in enumerate(model.graph.output) if v.name == tensor]


def is_constant(model: Model, tensor: str, after: frozenset[str] = frozenset()) -> bool:
    """A tensor that is made from itself is not."""
    if tensor in model.weights:
        return True
    node = next((n for n in model.graph.node if tensor in n.output), None)
    return (
        node is not None
        and len(node.input) > 0
        and tensor not in after
        and all(is_constant(model, x, after | {tensor}) for x in {*node.input, *captures(node)} - {""})
    )


def assert_true(index: Index, model: Model) -> None:
    """Compares with a look at every node for every tensor."""
    nodes = model.graph.node
    assert len(index.nodes) == len(nodes)
    assert all(a is b for a, b in zip(index.nodes, nodes, strict=True))
    assert index.inputs == tuple(v.name for v in model.graph.input)
    assert index.outputs == tuple(v.name for v in model.graph.output)
    there = tensors(model)
    for tensor in there:
        made = [k for k, n in enumerate(nodes) if tensor in n.output]
        assert [index.place[tensor]] == made if made else tensor not in index.place
        assert index.makers.get(tensor) is (nodes[made[0]] if made else None)
        assert index.names.get(tensor) == (display_name(nodes[made[0]]) if made else None)
        truth = reads(model, tensor)
        assert [(r.place, r.operand) for r in index.reads(tensor)] == truth
        assert all(r.node is (nodes[r.place] if r.place < len(nodes) else None) for r in index.reads(tensor))
        assert index.uses[tensor] == len(truth)
        assert index.readers(tensor) == sorted({k for k, _ in truth if k < len(nodes)})
        alone = len(truth) == 1 and truth[0][0] < len(nodes) and truth[0][1] != CAPTURE
        assert index.sole_reader(tensor) is (nodes[truth[0][0]] if alone else None)
        assert (tensor in index.captured) == any(tensor in captures(n) for n in nodes)
        assert (tensor in index.constant) == is_constant(model, tensor)
    for names in (index.place, index.uses, index.captured, index.constant):
        assert set(names) <= there


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_indexed_as_it_is(path: Path) -> None:
    model = load(path)
    assert_true(index_of(model), model)


@pytest.mark.parametrize("name", HANDMADE)
def test_a_network_of_the_zoo_is_indexed_as_it_is(zoo_folder: Path, name: str) -> None:
    model = load(zoo.build(name, "onnx", zoo_folder))
    assert_true(index_of(model), model)


def floats(name: str, *dims: int | str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, dims or None)


class Growing:
    """A graph of any operators, wired at random; it need not mean anything."""

    def __init__(self, draw: Draw) -> None:
        self.draw, self.count = draw, 0

    def name(self) -> str:
        self.count += 1
        return f"t{self.count}"

    def node(self, there: list[str], depth: int) -> onnx.NodeProto:
        """A node that reads what is there, the same twice or nothing at times; what it makes is there from now on."""
        operands = self.draw(st.lists(st.sampled_from(["", *there]), max_size=3))
        op = self.draw(
            st.sampled_from(["Add", "Relu", "Constant", "If", "Loop", "Scan"] if depth < 2 else ["Add", "Relu"])
        )
        bodies = {"If": ("then_branch", "else_branch"), "Loop": ("body",), "Scan": ("body",)}.get(op, ())
        node = helper.make_node(op, operands, [])
        for attribute in bodies:
            set_attribute(node, attribute, self.body(there, depth + 1))
        node.output.extend(
            self.draw(st.sampled_from(["", "x"])) and self.name() for _ in range(self.draw(st.integers(0, 2)))
        )
        there += filter(None, node.output)
        return node

    def body(self, around: list[str], depth: int) -> onnx.GraphProto:
        inputs = [floats(self.name()) for _ in range(self.draw(st.integers(0, 2)))]
        constants = [onnx.numpy_helper.from_array(np.zeros(1, np.float32), self.name())]
        there = [*around, *(v.name for v in inputs), *(t.name for t in constants)]
        nodes = [self.node(there, depth) for _ in range(self.draw(st.integers(0, 2)))]
        outputs = [floats(self.draw(st.sampled_from(there)))]
        return helper.make_graph(nodes, "body", inputs, outputs, constants)


@st.composite
def graphs(draw: Draw) -> Model:
    grown = Growing(draw)
    weights = {grown.name(): np.zeros(2, np.float32) for _ in range(draw(st.integers(0, 2)))}
    inputs = [floats(grown.name()) for _ in range(draw(st.integers(1, 2)))]
    there = [*weights, *(v.name for v in inputs)]
    nodes = [grown.node(there, 0) for _ in range(draw(st.integers(0, 6)))]
    outputs = draw(st.lists(st.sampled_from(there), min_size=1, max_size=4))  # inputs, weights and twice the same, too
    return Model(helper.make_model(helper.make_graph(nodes, "g", inputs, [floats(o) for o in outputs])), weights)


@settings(max_examples=150, deadline=None)
@given(graphs())
def test_any_graph_is_indexed_as_it_is(model: Model) -> None:
    assert_true(index_of(model), model)


def test_a_body_hides_what_it_makes_itself() -> None:
    """Names need not be unique across bodies: what a body makes is its own, even where another one captures the name."""
    own = helper.make_graph([helper.make_node("Relu", ["x"], ["h"])], "a", [], [floats("h")])
    outer = helper.make_graph([helper.make_node("Relu", ["h"], ["y"])], "b", [], [floats("y")])
    nodes = [
        helper.make_node("Relu", ["x"], ["h"]),
        helper.make_node("If", ["c"], ["p"], then_branch=own, else_branch=own),
        helper.make_node("If", ["c"], ["q"], then_branch=own, else_branch=outer),
    ]
    graph = helper.make_graph(nodes, "g", [floats("x"), floats("c")], [floats("p"), floats("q")])
    index = index_of(Model(helper.make_model(graph), {}))
    assert index.captured == {"x", "h"}
    assert index.readers("h") == [2]


def base() -> Model:
    """Shapes here depend on operands, on the type of weights, on a body, on symbols and on what the file says."""
    then = helper.make_graph([helper.make_node("Relu", ["m"], ["r"])], "then", [], [floats("r")])
    other = helper.make_graph([helper.make_node("Add", ["m", "b"], ["s"])], "else", [], [floats("s")])
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["m"], "product"),
        helper.make_node("If", ["c"], ["i"], "branch", then_branch=then, else_branch=other),
        helper.make_node("Reshape", ["i", "shape"], ["f"], "flat"),
        helper.make_node("Concat", ["f", "f"], ["d"], "twice", axis=1),
        helper.make_node("Odd", ["d"], ["o"], "odd", domain="custom"),
    ]
    ends = [floats("x", "n", 4), helper.make_tensor_value_info("c", TensorProto.BOOL, ())]
    graph = helper.make_graph(nodes, "g", ends, [floats("d"), floats("o")], value_info=[floats("o", 7)])
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("custom", 1)])
    weights: dict[str, np.ndarray] = {
        "w": np.ones((4, 6), np.float32),
        "b": np.ones(6, np.float32),
        "shape": np.array([-1, 3], np.int64),
        "wide": np.ones((4, 600), np.float32),
    }
    return Model(proto, weights)


def _body(model: Model) -> onnx.NodeProto:
    branch = next(n for n in model.graph.node if n.op_type == "If")
    return branch.attribute[0].g.node[0]


def _more(model: Model) -> None:
    there = tensors(model)
    fresh = next(name for name in (f"z{k}" for k in count()) if name not in there)
    model.graph.node.append(helper.make_node("Relu", ["d"], [fresh]))


def _swap_proto(model: Model) -> None:
    model.proto = model.copy().proto


def _swap_weights(model: Model) -> None:
    model.weights = dict(model.weights)


def _write_into(model: Model) -> None:
    model.weights["shape"][1] = 2


CHANGES: dict[str, Callable[[Model], object]] = {
    "an operand": lambda m: m.graph.node[3].input.__setitem__(1, "i"),
    "an output": lambda m: m.graph.node[0].output.__setitem__(0, "mm"),
    "an attribute": lambda m: set_attribute(m.graph.node[3], "axis", 0),
    "an operator": lambda m: setattr(m.graph.node[4], "op_type", "Even"),
    "a node more": _more,
    "a node less": lambda m: m.graph.node.__delitem__(4),
    "nodes that are equal but others": lambda m: replace_nodes(m.graph, m.graph.node),
    "the order of nodes": lambda m: m.graph.node.sort(key=lambda n: n.name),
    "a node in a body": lambda m: _body(m).input.__setitem__(0, "b"),
    "a weight more": lambda m: m.weights.__setitem__("new", np.ones(2, np.float32)),
    "a weight less": lambda m: m.weights.__delitem__("b"),
    "the shape of a weight": lambda m: m.weights.__setitem__("w", np.ones((4, 9), np.float32)),
    "the type of a weight": lambda m: m.weights.__setitem__("w", np.ones((4, 6), np.float64)),
    "an operand's values": lambda m: m.weights.__setitem__("shape", np.array([-1, 2], np.int64)),
    "values in an operand's place": _write_into,
    "the shape of an input": lambda m: setattr(m.graph.input[0].type.tensor_type.shape.dim[0], "dim_value", 5),
    "the name of an input": lambda m: setattr(m.graph.input[0], "name", "u"),
    "an output more": lambda m: m.graph.output.append(floats("m")),
    "an output less": lambda m: m.graph.output.__delitem__(1),
    "a recorded shape": lambda m: setattr(m.graph.value_info[0].type.tensor_type.shape.dim[0], "dim_value", 8),
    "the operator set": lambda m: setattr(m.proto.opset_import[0], "version", 18),
    "the protobuf": _swap_proto,
    "the dictionary of weights": _swap_weights,
}
"""Ways to change a model, whether anyone should go them or not."""


def shapes_or_error(found: Callable[[], Shapes]) -> object:
    try:
        shapes = found()
    except BadModel as error:
        return error.why
    return dict(shapes.dims), dict(shapes.dtypes), {k: v.tolist() for k, v in shapes.values.items()}


def seen(model: Model) -> tuple[Index, object]:
    index = index_of(model)
    return index, (dict(index.place), index.uses, index.captured, index.constant, shapes_or_error(lambda: index.shapes))


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_model_has_a_new_index(change: str) -> None:
    model = base()
    before, _ = seen(model)
    CHANGES[change](model)
    after, _ = seen(model)
    assert after is not before


@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from(sorted(CHANGES)), min_size=1, max_size=5))
@example(["nodes that are equal but others", "an operand"])
@example(["the order of nodes", "an operand"])  # a circle
def test_no_changes_leave_a_stale_index(changes: list[str]) -> None:
    model = base()
    for change in changes:
        seen(model)
        try:
            CHANGES[change](model)
        except (KeyError, IndexError, StopIteration):  # what it would change is gone
            continue
        index = index_of(model)
        assert_true(index, model)
        assert shapes_or_error(lambda i=index: i.shapes) == shapes_or_error(lambda: infer_shapes(model, lambda _: 1))  # type: ignore[misc]
        three = shapes_or_error(lambda i=index: i.shapes_at(3))  # type: ignore[misc]
        assert three == shapes_or_error(lambda: infer_shapes(model, lambda _: 3))


@pytest.mark.parametrize("ask", ["place", "uses", "captured", "constant", "shapes"])
def test_what_an_old_index_was_not_asked_before_the_change_it_does_not_answer(ask: str) -> None:
    model = base()
    index = index_of(model)
    CHANGES["an operand"](model)
    with pytest.raises(RuntimeError, match="changed"):
        getattr(index, ask)


@pytest.mark.parametrize("ask", ["constant", "shapes"])
def test_of_weights_that_changed_an_old_index_is_not_asked(ask: str) -> None:
    model = base()
    index = index_of(model)
    CHANGES["a weight less"](model)
    assert index.uses["b"] == 1  # who reads it does not depend on it
    with pytest.raises(RuntimeError, match="changed"):
        getattr(index, ask)


def test_an_old_index_keeps_the_answers_that_it_gave() -> None:
    model = base()
    index = index_of(model)
    uses = Counter(index.uses)
    CHANGES["an operand"](model)
    assert index.uses == uses
    assert index.uses["f"] == 2 != index_of(model).uses["f"]


def test_a_model_that_stays_keeps_its_index_also_with_other_values_in_its_weights() -> None:
    model = base()
    index, shapes = index_of(model), index_of(model).shapes
    model.weights["wide"] = np.zeros((4, 600), np.float32)
    assert index_of(model) is index
    assert index_of(model).shapes is shapes


def test_equal_graphs_are_inferred_once(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = []

    def counted(model: Model, number: Callable[[str], int]) -> Shapes:
        runs.append(model)
        return infer_shapes(model, number)

    monkeypatch.setattr(indexes, "infer_shapes", counted)
    monkeypatch.setattr(indexes, "_inferred", type(indexes._inferred)())
    model = base()
    copy = model.copy()
    copy.weights["wide"] = np.zeros((4, 600), np.float32)
    assert index_of(copy) is not index_of(model)
    assert index_of(copy).shapes is index_of(model).shapes_at(lambda _: 1)
    assert len(runs) == 1
    assert index_of(model).shapes_at(2).dims["m"] == (2, 6)
    assert len(runs) == 2


def test_an_index_does_not_keep_its_model() -> None:
    """A circle would keep the weights until the garbage collector runs."""
    import weakref

    model = base()
    weight = weakref.ref(model.weights["wide"])
    _ = index_of(model).shapes
    del model
    assert weight() is None
