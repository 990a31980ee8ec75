"""Put factors in the place of a node: what a layer becomes in the standard graph."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from ...graph.io.spill import spilled
from ...graph.layer import ALL, Floats
from ...graph.model import Model
from ...graph.nodes import attribute, replace_nodes
from ..simplify import Names
from .factors import Factors
from .schemes.scheme import Scheme
from .sites import Site, Unit


@dataclass(frozen=True)
class Split:
    """What takes a unit's place. ``nodes`` by the place of the node that they replace."""

    unit: Unit
    scheme: str
    factors: Factors
    weights: Mapping[str, np.ndarray]
    nodes: Mapping[int, list[onnx.NodeProto]]


def split(model: Model, unit: Unit, scheme: Scheme, factors: Factors, names: Names) -> Split:
    """Build the nodes and constants. Every site keeps its output's name and its bias."""
    like = model.weights[unit.weight].dtype
    site = unit.site
    arrays = [np.ascontiguousarray(a, dtype=like) for a in _ARRAYS[site.op](site, scheme, factors)]
    for array in arrays:
        array.flags.writeable = False
    arrays = [spilled(array) for array in arrays]
    fresh = [names.fresh(f"{unit.weight}_{k}") for k in range(len(arrays))]
    nodes = {
        s.place: list(_nodes(s, scheme, factors, list(zip(fresh, arrays, strict=True)), names)) for s in unit.sites
    }
    return Split(unit, scheme.name, factors.spilled(), dict(zip(fresh, arrays, strict=True)), nodes)


def apply(model: Model, splits: Sequence[Split], weights: Mapping[str, np.ndarray] | None = None) -> Model:
    """A copy with splits in their places, and other constants replaced."""
    changed = model.copy()
    changed.weights.update(weights or {})
    replaced: dict[int, list[onnx.NodeProto]] = {}
    for one in splits:
        replaced.update(one.nodes)
        changed.weights.update(one.weights)
        changed.weights.pop(one.unit.weight, None)
    every = [n for i, node in enumerate(model.graph.node) for n in replaced.get(i, [node])]
    replace_nodes(changed.graph, every)
    return changed


def product(model: Model, splits: Sequence[Split], weights: Mapping[str, np.ndarray] | None = None) -> Model:
    """The original's structure with each factorized weight the product of its factors as they are stored."""
    changed = model.copy()
    changed.weights.update(weights or {})
    for one in splits:
        changed.weights[one.unit.weight] = _product(model.weights[one.unit.weight], one)
    return changed


def _product(weight: np.ndarray, one: Split) -> np.ndarray:
    site, found = one.unit.site, []
    for outputs in site.parts:
        matrices = one.factors.rows(outputs).stored(weight.dtype).product()
        found.append(matrices if outputs == ALL else matrices.astype(weight.dtype))
    return np.ascontiguousarray(site.unfolded(np.concatenate(found, axis=1), weight.shape), dtype=weight.dtype)


def _chain(factors: Factors) -> list[Floats]:
    """The factors of one group without kernel positions, first applied first. Shapes: (rows, columns) each."""
    found = [factors.inner[0][:, np.argsort(factors.order[0])], factors.middle[0, 0]]
    return found if factors.outer is None else [*found, factors.outer[0]]


def _dense_arrays(site: Site, scheme: Scheme, factors: Factors) -> list[Floats]:
    return [m.T if site.axis else m for m in _chain(factors)]


def _conv_arrays(site: Site, scheme: Scheme, factors: Factors) -> list[Floats]:
    """Shapes: (groups * outputs, inputs per group, *kernel), the kernel 1 along axes that another stage takes."""
    axes = [stage.axes for stage in scheme.stages(site, max(factors.rank))]
    matrices = [factors.inner[:, None], factors.middle]
    if factors.outer is not None:
        matrices.append(factors.outer[:, None])
    return [_kernel(site, m, own, k == 0) for k, (m, own) in enumerate(zip(matrices, axes, strict=True))]


def _kernel(site: Site, matrix: Floats, axes: tuple[int, ...], first: bool) -> Floats:
    """Shapes: matrix (groups, d, o, i), where a first factor has its kernel in i: (kernel positions, channels)."""
    groups, _, outputs, _ = matrix.shape
    kernel = [k if a in axes else 1 for a, k in enumerate(site.kernel)]
    if first:
        by_place = matrix.reshape(groups, outputs, -1, site.channels).transpose(0, 1, 3, 2)
    else:
        by_place = matrix.transpose(0, 2, 3, 1)
    return by_place.reshape(groups * outputs, by_place.shape[2], *kernel)


_ARRAYS: dict[str, Callable[[Site, Scheme, Factors], list[Floats]]] = {
    "Conv": _conv_arrays,
    "Gemm": _dense_arrays,
    "MatMul": _dense_arrays,
    "Gather": _dense_arrays,
}
Named = Sequence[tuple[str, np.ndarray]]


def _nodes(site: Site, scheme: Scheme, factors: Factors, named: Named, names: Names) -> Iterator[onnx.NodeProto]:
    """One a factor, first applied first; the last one makes what the layer made. What a table gives is multiplied."""
    stages, x = scheme.stages(site, max(factors.rank)), site.x
    for k, (name, array) in enumerate(named):
        op, last = "MatMul" if k and site.op == "Gather" else site.op, k == len(named) - 1
        node = onnx.NodeProto(op_type=op, name=f"{site.name}/{k}")
        node.input.extend([x, name] if site.operand or op != site.op else [name, x])
        node.input.extend(site.proto.input[2:] if last else ())
        node.output.append(site.node if last else names.fresh(f"{site.node}_{k}"))
        if op == "Conv":
            node.attribute.extend(_window(site, stages[k].axes, array.shape[2:]))
        elif op == "Gemm":
            node.attribute.extend(_turns(site, first=k == 0, last=last))
        elif op == site.op:
            node.attribute.extend(site.proto.attribute)
        x = node.output[0]
        yield node


def _window(site: Site, axes: tuple[int, ...], kernel: tuple[int, ...]) -> Iterator[onnx.AttributeProto]:
    """How a stage slides: as the layer did along its own axes, one by one along the others."""
    rank = len(site.kernel)
    make = onnx.helper.make_attribute
    yield make("kernel_shape", list(kernel))
    yield make("group", site.groups)
    for name in ("strides", "dilations"):
        values = attribute(site.proto, name, None) or [1] * rank
        yield make(name, [values[a] if a in axes else 1 for a in range(rank)])
    auto = attribute(site.proto, "auto_pad", "NOTSET")
    if auto not in ("NOTSET", ""):
        yield make("auto_pad", auto)
        return
    pads = attribute(site.proto, "pads", None) or [0] * (2 * rank)
    yield make("pads", [pads[a] if a % rank in axes else 0 for a in range(2 * rank)])


def _turns(site: Site, *, first: bool, last: bool) -> Iterator[onnx.AttributeProto]:
    """Which operands of a Gemm are transposed: the weight as it was, the other one in the first; what scales, in the last."""
    own, carried = ("transB", "transA") if site.operand else ("transA", "transB")
    yield onnx.helper.make_attribute(own, int(attribute(site.proto, own, 0)))
    yield onnx.helper.make_attribute(carried, int(attribute(site.proto, carried, 0)) if first else 0)
    if last:
        yield from (a for a in site.proto.attribute if a.name in ("alpha", "beta"))
