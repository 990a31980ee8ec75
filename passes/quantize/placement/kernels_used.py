"""Which kernels a runtime really uses for a model: counted in the graph that it makes, not in ours."""

from __future__ import annotations

import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import onnx

from ....graph.index import index_of
from ....graph.model import Model
from ....graph.traits import Runtime, Trait, has, operators
from ....measure.run.session import open_session
from .kernels import kernels

_CONVERSIONS, _INTEGER = (
    frozenset(key.rpartition(":")[2] for key in operators(trait)) for trait in (Trait.QUANTIZES, Trait.INTEGER)
)


@dataclass(frozen=True)
class Used:
    """Nodes of the optimized graph by operator: those that compute in integers, conversions, all others."""

    integer: dict[str, int] = field(default_factory=dict)
    conversions: dict[str, int] = field(default_factory=dict)
    other: dict[str, int] = field(default_factory=dict)


def kernels_expected(model: Model, runtime: Runtime) -> dict[str, int]:
    """What a runtime should compute in integers by its rules, where it cannot be asked: nodes by operator."""
    known, index = kernels(runtime), index_of(model)

    def restored(name: str) -> bool:
        return name in index.makers and has(index.makers[name], Trait.QUANTIZES)

    def integer(node: onnx.NodeProto) -> bool:
        if has(node, Trait.INTEGER):
            return True
        kernel = known.get(node.op_type)
        if kernel is None or kernel.moves or not restored(node.input[0]):
            return False
        return kernel.float_out or all(has(r.node, Trait.QUANTIZES) for r in index.reads(node.output[0]) if r.node)

    found = Counter(node.op_type for node in model.graph.node if node.input and integer(node))
    return dict(sorted(found.items()))


def kernels_used(model: Model) -> Used:
    """What ONNX Runtime makes of a model. Raises BadModel where it cannot load it."""
    with tempfile.TemporaryDirectory(prefix="intaglio-") as folder:
        path = Path(folder) / "optimized.onnx"
        open_session(model, optimized=path)
        graph = onnx.load(path, load_external_data=False).graph
    counts = Counter(node.op_type for node in graph.node)
    parts: tuple[dict[str, int], dict[str, int], dict[str, int]] = ({}, {}, {})
    for op, count in sorted(counts.items()):
        kind = 0 if op in _INTEGER else 1 if op in _CONVERSIONS or op == "Cast" else 2
        parts[kind][op] = count
    return Used(*parts)
