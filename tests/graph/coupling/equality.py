"""Whether a pruned model computes what the original does with the removed channels silenced, on every tensor."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime as ort
from onnx.reference import ReferenceEvaluator
from onnxruntime.capi.onnxruntime_pybind11_state import Fail
from onnxruntime.capi.onnxruntime_pybind11_state import NotImplemented as NotImplementedByRuntime

from intaglio.graph.cost import cost
from intaglio.graph.coupling import Coupling, Group, Removal, analyse, mask_removed, remove
from intaglio.graph.coupling.certificate import check, too_short
from intaglio.graph.io.save import to_proto
from intaglio.graph.model import Model
from intaglio.passes.prune.removal_cost import RemovalCost

Values = Mapping[str, np.ndarray]
TOLERANCE = 2e-4
"""Relative to the largest value of the tensor: sums run in another order."""
FLOOR = 3e-2
"""Tensors of smaller values are compared as if they reached this: they may be differences of larger ones."""


def feeds_for(shapes: Mapping[str, tuple[int, ...]], seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


def every_tensor(model: Model, feeds: Values) -> dict[str, np.ndarray]:
    """All tensors of the top-level graph, as its nodes stand."""
    proto = to_proto(model)
    have = {o.name for o in proto.graph.output}
    for node in proto.graph.node:
        for name in node.output:
            if name and name not in have:
                have.add(name)
                proto.graph.output.append(onnx.ValueInfoProto(name=name))
    names = [o.name for o in proto.graph.output]
    return dict(zip(names, _computed(proto, names, feeds), strict=True))


def _computed(proto: onnx.ModelProto, names: list[str], feeds: Values) -> list[np.ndarray]:
    """By ONNX Runtime; where it has no kernel for an operator, by the reference implementation that onnx brings."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    try:
        session = ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except (NotImplementedByRuntime, Fail) as error:
        if isinstance(error, Fail) and "version" not in str(error):
            raise
        return list(ReferenceEvaluator(proto).run(names, dict(feeds)))
    return session.run(names, dict(feeds))


@dataclass(frozen=True)
class Difference:
    """The first tensor, in graph order, that is not what it should be."""

    tensor: str
    op: str
    text: str

    def __str__(self) -> str:
        return f"{self.op} -> {self.tensor}: {self.text}"


def first_difference(removal: Removal, pruned: Model, feeds: Values) -> Difference | None:
    """Compare the pruned model with the masked original, tensor by tensor."""
    expected, found = every_tensor(mask_removed(removal), feeds), every_tensor(pruned, feeds)
    for node in pruned.graph.node:
        for name in node.output:
            if not name or name not in expected or not isinstance(expected[name], np.ndarray):
                continue
            text = _gap(_cut(removal, name, expected[name]), found[name])
            if text and name in removal.coupling.trace.axes:
                return Difference(name, node.op_type, text)
    return None


def _cut(removal: Removal, name: str, value: np.ndarray) -> np.ndarray:
    for axis, mask in removal.tensor(name).items():
        value = np.compress(mask, value, axis=axis)
    return value


def _gap(expected: np.ndarray, found: np.ndarray) -> str:
    if expected.shape != found.shape:
        return f"shape {found.shape}, expected {expected.shape}"
    if expected.dtype.kind not in "f" or not expected.size:
        return ""
    a, b = expected.astype(np.float64), found.astype(np.float64)
    if (np.isfinite(a) != np.isfinite(b)).any():
        return "not finite at other places"
    a, b = a[np.isfinite(a)], b[np.isfinite(a)]
    scale = max(float(np.abs(a).max(initial=0)), FLOOR)
    gap = float(np.abs(a - b).max(initial=0)) / scale
    tolerance = TOLERANCE if expected.dtype != np.float16 else 2e-2
    return "" if gap <= tolerance else f"off by {gap:.2e} of {scale:.2e}"


Number = Callable[[int, int], int]


def choose(
    coupling: Coupling, number: Number, *, wanted: Callable[[Group], bool] = lambda group: True, most: bool = False
) -> Removal:
    """Atoms of some groups, never so many that an axis becomes too short. ``number(low, high)`` decides."""
    removed = coupling.nothing()
    for group in coupling.groups:
        if not group.prunable or not wanted(group):
            continue
        size = len(group.atoms)
        count = size - 1 if most else number(0, size - 1)
        left = list(group.atoms)
        for _ in range(count):
            removed[left.pop(number(0, len(left) - 1))] = True
    while True:
        removal = Removal(coupling, removed)
        short = too_short(removal)
        if short is None:
            return removal
        assert len(short), "an axis is too short, and nothing can be put back"
        removed = removed.copy()
        removed[short[number(0, len(short) - 1)]] = False


def verify(removal: Removal, feeds: Values, *, checked: bool = True) -> Model:
    """All that must hold of a removal; returns the pruned model."""
    coupling = removal.coupling
    check(removal)
    pruned = remove(removal)
    if checked:
        onnx.checker.check_model(to_proto(pruned), full_check=True)
    difference = first_difference(removal, pruned, feeds)
    assert difference is None, str(difference)
    old, new = every_tensor(coupling.original, feeds), every_tensor(pruned, feeds)
    for output in coupling.original.graph.output:
        assert old[output.name].shape == new[output.name].shape, f"output {output.name} has another shape"
    if _has_dead_ends(coupling.original):
        return pruned
    after, predicted = cost(pruned), RemovalCost(coupling, 0).after(removal)
    assert round(predicted.params) == after.params, f"params {after.params}, predicted {predicted.params}"
    assert round(predicted.macs) == after.macs, f"macs {after.macs}, predicted {predicted.macs}"
    return pruned


def _has_dead_ends(model: Model) -> bool:
    """Whether a node makes nothing that anybody reads: its costs go when anything goes."""
    read = {i for n in model.graph.node for i in n.input} | {o.name for o in model.graph.output}
    return any(read.isdisjoint(n.output) for n in model.graph.node)


def assert_nothing_changes(coupling: Coupling, feeds: Values) -> None:
    """Removing no channel gives the same bits."""
    pruned = remove(Removal(coupling, coupling.nothing()))
    old, new = every_tensor(coupling.original, feeds), every_tensor(pruned, feeds)
    for output in coupling.original.graph.output:
        assert _same(coupling, old[output.name], new[output.name]), f"output {output.name} changed"


def analysed(proto: onnx.ModelProto) -> Coupling:
    from intaglio.graph.io.load import from_proto

    return analyse(from_proto(proto))


def _same(coupling: Coupling, a: np.ndarray, b: np.ndarray) -> bool:
    """The same bits; where constants were computed beforehand, kernels may sum in another order."""
    folded = len(coupling.model.graph.node) < len(coupling.original.graph.node)
    return a.tobytes() == b.tobytes() or (folded and np.allclose(a, b, rtol=1e-4, atol=1e-4))
