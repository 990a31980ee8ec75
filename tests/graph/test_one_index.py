"""Who makes and who reads a tensor is worked out in one file, and shapes are inferred from one place."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = [path for path in sorted(ROOT.iterdir()) if (path / "__init__.py").exists() and path.name != "tests"]
INDEX = "graph/index.py"

ALLOWED = {
    ("graph/coupling/groups.py", "_in_graph_order"): "an order of constants",
    ("graph/coupling/prepare.py", "_part_constants"): "numbers of copies",
    ("graph/layers.py", "_inside"): "constants of a body, which has no index",
    ("graph/shapes.py", "_settled"): "the index asks it",
    ("graph/shapes.py", "_long_vectors"): "what a graph has before its functions are written out",
    ("passes/train/methods/blockwise.py", "bottlenecks"): "an order in which tensors are alive",
    ("passes/calibration/gradients.py", "_gradients"): "statistics of normalizations",
    ("passes/rewrite/split.py", "_light"): "what is read in a graph that was just cut",
    ("passes/rewrite/split.py", "_require_inner"): "what bodies make",
    ("passes/prune/depth/branches.py", "_names"): "the names by which a user may call a branch",
    ("pipeline/measured.py", "opening_bytes"): "what is read when the program runs",
    ("graph/io/chains.py", "chains"): "how often the nodes of a chain read each tensor",
    ("graph/io/quants.py", "standard_quants"): "what nodes read that are written otherwise, before they are",
    ("graph/io/branches.py", "_inlined"): "the names that a branch makes",
    ("graph/io/opset.py", "_rename_new"): "the names that the version converter made up",
    ("graph/model.py", "of_nodes"): "the weights of nodes that are cut out of a graph",
    ("graph/nodes.py", "tensor_names"): "names in all bodies, for new ones beside them",
    ("graph/shapes.py", "_structure"): "the index asks it",
    ("measure/autograd/network.py", "__init__"): "weights of the nodes that lead to an output",
    ("measure/autograd/network.py", "_walk"): "when the nodes that run need a tensor no more",
    ("passes/binarize/trained/wires.py", "_computed"): "nodes cut out of a graph",
    ("passes/prune/weights.py", "_count_uses"): "the first node that computes with each weight",
    ("passes/quantize/schemes/dynamic.py", "dynamic_int8"): "what the nodes make that are integers now",
    ("passes/shorten.py", "run"): "tensors of other domains, which keep their types",
    ("passes/quantize/half/bfloat.py", "_excluded"): "weights of nodes that patterns leave out",
    ("passes/quantize/half/half.py", "_settle"): "the types in which tensors are wanted",
    ("passes/quantize/placement/insert.py", "run"): "nodes that are not yet in a graph",
}
"""Functions that go over nodes and their operands and collect names, but not what the index has."""

INFERRING = {
    (INDEX, "infer_shapes"): "the one place",
    ("graph/shapes.py", "onnx"): "what it is made of",
    (
        "graph/shapes.py",
        "infer_shapes",
    ): "bodies of loops, which are asked for once for each state that changes its shape",
    ("graph/io/opset.py", "onnx"): "checks what the version converter made",
    ("passes/quantize/half/probe.py", "onnx"): "checks the types of one node strictly",
    ("passes/rewrite/weights.py", "onnx"): "copies symbolic shapes into the file",
}


def sources() -> Iterator[tuple[str, ast.Module]]:
    for folder in FOLDERS:
        for path in sorted(folder.rglob("*.py")):
            yield path.relative_to(ROOT).as_posix(), ast.parse(path.read_text())


def names_in(tree: ast.AST) -> set[str]:
    return {n.id for n in ast.walk(tree) if isinstance(n, ast.Name)}


def goes_over_nodes(iterable: ast.expr) -> bool:
    return any(
        (isinstance(n, ast.Attribute) and n.attr in ("node", "nodes")) or (isinstance(n, ast.Name) and n.id == "nodes")
        for n in ast.walk(iterable)
    )


def goes_over_ends(iterable: ast.expr, nodes: set[str]) -> bool:
    """Whether it takes tensors of a node: ``node.input``, ``node.output``, ``reads(node)``, ``captured(node)``."""
    for n in ast.walk(iterable):
        if isinstance(n, ast.Attribute) and n.attr in ("input", "output"):
            if isinstance(n.value, ast.Name) and n.value.id in nodes:
                return True
        elif isinstance(n, ast.Call) and isinstance(n.func, ast.Name) and n.func.id in ("reads", "captured_names"):
            return True
    return False


def collects_by(body: list[ast.stmt], name: str) -> bool:
    """Whether something is stored under the name: ``x[name] = ``, ``x[name].append()``, ``x.setdefault(name)``."""
    for n in (n for statement in body for n in ast.walk(statement)):
        called = n.func if isinstance(n, ast.Call) and isinstance(n.func, ast.Attribute) else None
        target = called.value if called else n
        stores = isinstance(target, ast.Subscript) and (called is not None or isinstance(target.ctx, ast.Store))
        if stores and isinstance(target, ast.Subscript) and name in names_in(target.slice):
            return True
        if called and called.attr == "setdefault" and ast.unparse(n).startswith(f"{ast.unparse(called)}({name}"):
            return True
    return False


def last_name(target: ast.expr) -> str:
    """``name`` of ``for i, name in``."""
    return ast.unparse(target.elts[-1] if isinstance(target, ast.Tuple) else target)


def maps_in(tree: ast.AST, function: str = "", nodes: frozenset[str] = frozenset()) -> Iterator[str]:
    """Names of functions that collect tensors' names over all nodes by hand."""
    if isinstance(tree, ast.FunctionDef):
        function = tree.name
    if isinstance(tree, ast.DictComp | ast.SetComp | ast.GeneratorExp | ast.ListComp):
        known: set[str] = set()
        for generator in tree.generators:
            if known and goes_over_ends(generator.iter, known):
                yield function
            if goes_over_nodes(generator.iter):
                known |= names_in(generator.target)
    if isinstance(tree, ast.For):
        if nodes and goes_over_ends(tree.iter, set(nodes)) and collects_by(tree.body, last_name(tree.target)):
            yield function
        if goes_over_nodes(tree.iter):
            nodes |= names_in(tree.target)
            if any(counts(n, set(nodes)) for statement in tree.body for n in ast.walk(statement)):
                yield function
    for child in ast.iter_child_nodes(tree):
        yield from maps_in(child, function, nodes)


def counts(call: ast.AST, nodes: set[str]) -> bool:
    """``readers.update((*node.input, ...))`` of something that is called after who reads or uses."""
    return (
        isinstance(call, ast.Call)
        and isinstance(call.func, ast.Attribute)
        and call.func.attr == "update"
        and any(word in ast.unparse(call.func.value) for word in ("reader", "reads", "uses"))
        and any(goes_over_ends(a, nodes) for a in call.args)
    )


def test_makers_and_readers_are_found_in_one_file() -> None:
    found = {(path, name) for path, tree in sources() if path != INDEX for name in maps_in(tree)}
    assert found - ALLOWED.keys() == set(), "ask graph/index.py, or say here what else it is that you collect"
    assert ALLOWED.keys() - found == set(), "no longer there"


@pytest.mark.parametrize(
    "text",
    [
        "makers = {o: n for n in model.graph.node for o in n.output}",
        "place = {o: k for k, n in enumerate(nodes) for o in n.output if o}",
        "read = {i for n in graph.node for i in (*n.input, *captured_names(n))}",
        "uses = Counter(i for n in self.nodes for i in n.input)",
        "for node in model.graph.node:\n    for name in reads(node):\n        readers[name].append(node)",
        "for k, node in enumerate(nodes):\n    for name in node.output:\n        made[name] = k",
        "for node in nodes:\n    for name in node.input:\n        found.setdefault(name, []).append(node)",
        "for node in nodes:\n    readers.update((*node.input, *captured_names(node)))",
    ],
)
def test_the_ways_to_write_such_a_map_are_seen(text: str) -> None:
    assert list(maps_in(ast.parse(text)))


@pytest.mark.parametrize(
    "text",
    [
        "for node in graph.node:\n    for i, name in enumerate(node.input):\n        node.input[i] = new[name]",
        "known = all(i in weights for i in node.input)",
        "for node in index.nodes:\n    dirty.update(node.output)",
    ],
)
def test_other_walks_over_nodes_are_let_be(text: str) -> None:
    assert not list(maps_in(ast.parse(text)))


def inferring(tree: ast.AST) -> Iterator[str]:
    for n in ast.walk(tree):
        if isinstance(n, ast.Call):
            called = ast.unparse(n.func)
            if called == "infer_shapes":
                yield "infer_shapes"
            elif called.startswith("onnx.shape_inference.") and called.endswith("infer_shapes"):
                yield "onnx"


def test_shapes_are_inferred_from_one_place() -> None:
    calls = [(path, call) for path, tree in sources() for call in inferring(tree)]
    assert set(calls) == INFERRING.keys()
    assert len(calls) == len(INFERRING)
