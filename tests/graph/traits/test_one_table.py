"""Facts of operators stand in one table: no other module lists operators, unless it says what to do with each."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import onnx

import intaglio
from intaglio.graph.traits import OPERATORS

ROOT = Path(intaglio.__file__).parent
ROOMS = ("cli", "exporters", "graph", "importers", "kernels", "measure", "passes", "pipeline")
NAMES = {schema.name for schema in onnx.defs.get_all_schemas()} | {key.rpartition(":")[2] for key in OPERATORS}
DISPATCH = {
    "exporters/c/expressions.py": "how each is written in C",
    "exporters/c/net.py": "which operands have to be integers",
    "exporters/tflite/operators/pointwise.py": "what TFLite calls it",
    "exporters/tflite/operators/reduce.py": "what TFLite calls it",
    "exporters/torch/blocks.py": "how each is written in Python",
    "graph/evaluate.py": "what each operator computes",
    "graph/layers.py": "how the weight of each is seen as a matrix",
    "graph/io/schemas.py": "what the operands of each must be like",
    "graph/io/canonicalize.py": "what users are told of each kind of node that goes",
    "kernels/operators.py": "definitions of operators on bits",
    "measure/autograd/bodies.py": "what each computes in torch",
    "measure/autograd/layout.py": "what each computes in torch",
    "measure/autograd/pointwise.py": "what each computes in torch",
    "passes/binarize/trained/finder.py": "how bits go through it",
    "passes/binarize/trained/tails.py": "which scale and shift it is",
    "passes/binarize/trained/monotone.py": "where each comparison steps",
    "passes/calibration/normal/rules.py": "moments of sums and products",
    "passes/factorize/rewrite.py": "what each layer is replaced by",
    "passes/prune/repair/absorb.py": "what takes up a shift",
    "passes/simplify/affine.py": "what each does to channels with a constant",
    "passes/simplify/idle.py": "when each does nothing",
    "passes/quantize/balance/smooth.py": "what takes up a factor",
    "passes/quantize/placement/kernels.py": "what stands in the way of integers",
    "passes/quantize/ranges/datafree.py": "arithmetic on ranges",
    "passes/quantize/schemes/dynamic.py": "how each layer is rewritten",
    "passes/simplify/outputs.py": "which output each weight belongs to",
}
"""Modules with dictionaries that say what is done with each operator, and what that is."""
LISTS = {
    ("measure/run/rounding.py", ""): "operators behind which numbers are as fine as before",
    ("exporters/c/ops/recurrent.py", ""): "the functions of gates that are written in C",
    (
        "measure/autograd/pointwise.py",
        "",
    ): "what torch computes under the same name, or under that of a logical function",
    ("graph/evaluate.py", ""): "counters of loops: what grows by the same in each turn, and what then turns once",
    ("graph/cost.py", "_roles"): "how other tools write integers times a scale in plain operators",
    ("passes/prune/experts/routers.py", ""): "what scores and numbers of experts go through on their way",
    ("passes/prune/experts/routers.py", "_back"): "a score of its own, or one of all",
    ("passes/prune/experts/routers.py", "_forward"): "what asks how many experts there are",
    ("passes/prune/experts/routers.py", "_settle"): "what asks how many experts there are",
    ("passes/train/methods/bits/hashed.py", "_attention"): "how scores are scaled",
    ("passes/simplify/fold.py", "_fold_one"): "a MatMul and the Add of its bias are one layer",
}
"""Other lists, by module and function, and what they are."""


def listed(node: ast.AST) -> list[str]:
    """Strings of a set, list, tuple, of the keys of a dictionary, or of words to be split."""
    if isinstance(node, ast.Dict):
        return [text for key in node.keys if key is not None for text in listed(key) or texts(key)]
    if isinstance(node, ast.Set | ast.List | ast.Tuple):
        return [text for element in node.elts for text in texts(element)]
    return str(node.value).split() if isinstance(node, ast.Constant) and isinstance(node.value, str) else []


def texts(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Starred):
        return listed(node.value)
    if isinstance(node, ast.Tuple):
        return [text for element in node.elts for text in texts(element)]
    return [node.value] if isinstance(node, ast.Constant) and isinstance(node.value, str) else []


def tables(tree: ast.AST, function: str = "") -> Iterator[tuple[str, bool, list[str]]]:
    """Tables of two operators or more: the outermost function around them, whether they are dictionaries, the names."""
    for node in ast.iter_child_nodes(tree):
        names = listed(node)
        operators = [name for name in names if name.rpartition(":")[2] in NAMES]
        if len(set(operators)) > 1 and 2 * len(operators) > len(names):
            yield function, isinstance(node, ast.Dict), operators
        inside = node.name if isinstance(node, ast.FunctionDef) and not function else function
        yield from tables(node, inside)


def found() -> Iterator[tuple[str, str, bool, list[str]]]:
    files = {str(file.relative_to(ROOT)): file for room in ROOMS for file in sorted((ROOT / room).rglob("*.py"))}
    for name, file in files.items():
        if not name.startswith("graph/traits/"):
            for function, is_dictionary, operators in tables(ast.parse(file.read_text())):
                yield name, function, is_dictionary, operators


def test_no_other_module_lists_operators() -> None:
    strange = [
        (f, at, ops) for f, at, mapped, ops in found() if (f, at) not in LISTS and not (mapped and f in DISPATCH)
    ]
    assert not strange, "facts of operators belong into graph/traits"


def test_what_is_let_through_is_still_there() -> None:
    there = list(found())
    assert {file for file, _, mapped, _ in there if mapped} == set(DISPATCH)
    assert {(file, function) for file, function, mapped, _ in there if not mapped} == set(LISTS)
