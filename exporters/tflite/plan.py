"""What is to be written: constants, and steps, each a node with what it takes in: bias, rectifier, rounding.

A step computes in integers where all that it reads comes out of DequantizeLinear and all that it makes is rounded by
QuantizeLinear at once. Then those nodes are not written: they become the scales of its tensors.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import onnx

from ...graph.errors import IntaglioError
from ...graph.evaluate import moved
from ...graph.index import Index, index_of
from ...graph.model import Model
from ...graph.nodes import attribute, is_standard, saturation
from ...graph.traits import Trait, has, has_any, operator
from ...measure.run.session import open_session, run
from .coded import Coded, coded, in_blocks
from .gelu import spelled_out
from .program import Kind, Scales
from .table import Refused, conversions

_INT8_FROM_UINT8 = 128
_SMALL = 1 << 16
"""Bytes that may always be computed beforehand; more only where the file does not grow by it."""
_STAYS = Trait.QUANTIZES | Trait.RANDOM | Trait.BODIES | Trait.ON_BITS
_LEAST_SCALE = 1e-25
"""Below this a tensor holds nothing but noughts, and XNNPACK makes no kernel for it."""
_WEIGHTED = Trait.LAYER | Trait.CONVOLVES
FUSED = {(0.0, np.inf): "RELU", (0.0, 6.0): "RELU6", (-1.0, 1.0): "RELU_N1_TO_1"}
"""Limits of the rectifiers that an operator can do itself."""


@dataclass(frozen=True)
class Rounded:
    """Integers that a tensor is rounded to: what they stand for, and what ONNX calls them."""

    kind: Kind
    names: tuple[str, ...]


@dataclass(frozen=True)
class Step:
    """``output`` is what it makes in the end; ``rounded`` has its outputs as integers, none where it makes floats."""

    node: onnx.NodeProto
    output: str
    act: str = "NONE"
    bias: str = ""
    rounded: Mapping[str, Rounded] = field(default_factory=dict)

    @property
    def integer(self) -> bool:
        return bool(self.rounded)

    def operand(self, place: int) -> str:
        """The name of an operand; empty where it has none."""
        return self.node.input[place] if place < len(self.node.input) else ""


def shifted(values: np.ndarray) -> np.ndarray:
    """Unsigned bytes as signed ones, as TFLite wants them; what they stand for stays, with the zero point shifted too."""
    return (values.astype(np.int16) - _INT8_FROM_UINT8).astype(np.int8) if values.dtype == np.uint8 else values


class Plan:
    def __init__(self, model: Model) -> None:
        self.model, self.index = model, index_of(model)
        self.shapes = self.index.shapes
        self.constants: dict[str, np.ndarray] = {**self.shapes.values, **model.weights}
        self.coded: dict[str, Coded] = {}
        self.computed = {id(node) for node in self.index.nodes if self._compute(node)}

    @cached_property
    def steps(self) -> list[Step]:
        return list(_Steps(self).run())

    def _compute(self, node: onnx.NodeProto) -> bool:
        """Whether a node makes constants, which are known from now on."""
        if node.op_type == "DequantizeLinear" and (one := in_blocks(node, self.constants)):
            self.coded[node.output[0]], self.constants[node.output[0]] = one, one.numbers
            return True
        if not any(node.output) or not self._is_known(node):
            return False
        if one := coded(node, self.constants, self.coded):
            self.coded[node.output[0]] = one
        return True

    def _is_known(self, node: onnx.NodeProto) -> bool:
        if all(o in self.constants for o in node.output if o):
            return True
        if not is_standard(node) or has_any(node, _STAYS) or any(i and i not in self.constants for i in node.input):
            return False
        made = self._made(node, {i: self.constants[i] for i in node.input if i})
        self.constants.update((o, value) for o, value in zip(node.output, made or (), strict=False) if o)
        return made is not None

    def _made(self, node: onnx.NodeProto, inputs: Mapping[str, np.ndarray]) -> list[np.ndarray] | None:
        restores = self.coded.keys() & set(node.input) or any(v.dtype.itemsize == 1 for v in inputs.values())
        sizes = [np.prod(self.shapes.dims.get(o, (_SMALL,)), dtype=np.int64) * 8 for o in node.output if o]
        if not restores and max(sizes, default=0) > max(_SMALL, 2 * sum(value.nbytes for value in inputs.values())):
            return None
        made = moved(node, [inputs.get(i) for i in node.input])
        if made is not None:
            return made
        try:
            outputs = [onnx.ValueInfoProto(name=o) for o in node.output]
            part = self.model.of_nodes([node], [], outputs, inputs)
            return list(run(open_session(part, optimize=False), {}).values())
        except IntaglioError:
            return None

    def scales(self, node: onnx.NodeProto) -> Kind | None:
        """What the integers of QuantizeLinear or DequantizeLinear are; None where that is computed, or in blocks."""
        scale = self.constants.get(node.input[1])
        zero = self.constants.get(node.input[2]) if len(node.input) > 2 and node.input[2] else None
        if (
            scale is None
            or attribute(node, "block_size", 0)
            or (len(node.input) > 2 and node.input[2] and zero is None)
        ):
            return None
        integers = node.output[0] if has(node, Trait.QUANTIZES) and node.op_type == "QuantizeLinear" else node.input[0]
        dtype = onnx.helper.tensor_dtype_to_np_dtype(self.shapes.dtypes.get(integers, onnx.TensorProto.UINT8))
        at = np.zeros(scale.shape, dtype) if zero is None else zero
        rank = len(self.shapes.dims.get(integers, ()))
        axis = attribute(node, "axis", 1) % max(rank, 1) if scale.size > 1 else 0
        at = shifted(at)
        return Kind(at.dtype, Scales(np.asarray(scale, np.float32), at.astype(np.int64), axis))

    def without_scale(self) -> list[onnx.NodeProto]:
        """QuantizeLinear and DequantizeLinear with a scale that is not above 0, at which LiteRT ends the process."""
        return [
            node
            for node in self.model.graph.node
            if has(node, Trait.QUANTIZES)
            and operator(node).scales
            and (kind := self.scales(node)) is not None
            and kind.scales is not None
            and not (np.isfinite(kind.scales.scale) & (kind.scales.scale > 0)).all()
        ]

    def is_symmetric(self, name: str) -> bool:
        """Whether a weight is a constant whose integers have the zero point 0."""
        node = self.restored(name)
        kind = self.scales(node) if node is not None and node.input[0] in self.constants else None
        return kind is not None and kind.scales is not None and not np.any(kind.scales.zero)

    def has_one_scale(self, name: str) -> bool:
        """Whether a tensor is restored from integers that all have the same scale."""
        node = self.restored(name)
        kind = self.scales(node) if node is not None else None
        return kind is not None and kind.scales is not None and kind.scales.scale.size == 1

    def value(self, name: str) -> np.ndarray | None:
        """The constant that a tensor is, or the integers of one that it is restored from."""
        node = self.restored(name)
        return self.constants.get(node.input[0] if node is not None else name)

    def stored(self, name: str) -> tuple[np.ndarray, Kind | None]:
        """A constant as it is best stored, and what its integers stand for.

        Raises:
            Refused: its scales are computed.
        """
        node, one = self.restored(name), self.coded.get(name)
        if node is not None:
            kind = self.scales(node)
            if kind is None:
                raise Refused(f"the scales of {name!r} are computed, or in blocks", "quantize with --scheme int8 or w8")
            return shifted(self.constants[node.input[0]]), kind
        if one is not None and one.kind is not None:
            return one.integers, one.kind
        return self.constants[name], None

    def restored(self, name: str) -> onnx.NodeProto | None:
        """The DequantizeLinear that makes a tensor."""
        node = self.index.makers.get(name)
        restores = node is not None and node.op_type == "DequantizeLinear" and name not in self.coded
        return node if restores else None


class _Steps:
    def __init__(self, plan: Plan) -> None:
        self.plan, self.index = plan, plan.index
        self.taken: set[int] = set()
        self.table = conversions()
        self.other: dict[int, onnx.NodeProto] = {}
        for made, nodes in spelled_out(plan.index, plan.constants):
            self.other[id(nodes[0])] = made
            self.taken.update(id(node) for node in nodes[1:])

    def run(self) -> Iterator[Step]:
        for node in self.index.nodes:
            if id(node) not in self.taken and id(node) not in self.plan.computed:
                yield self._step(self.other.get(id(node), node))

    def _step(self, node: onnx.NodeProto) -> Step:
        output, act, bias = node.output[0], "NONE", ""
        entry = self.table.get(node.op_type) if is_standard(node) else None
        if entry is None:
            return Step(node, output)
        behind = self._behind(output)
        if behind is not None and (bias := self._bias(node, behind)):
            output, behind = self._take(behind)
        if entry.fuses and behind is not None and (found := self._rectifier(behind)):
            act = found
            output, behind = self._take(behind)
        rounded = self._rounded(node, output, entry.narrow) if entry.is_integer(node, self.plan) else {}
        for one in rounded.values():
            self.taken.update(id(self.index.makers[name]) for name in one.names)
        return Step(node, output, act, bias, rounded)

    def _behind(self, name: str) -> onnx.NodeProto | None:
        return self.index.sole_reader(name)

    def _take(self, node: onnx.NodeProto) -> tuple[str, onnx.NodeProto | None]:
        self.taken.add(id(node))
        return node.output[0], self._behind(node.output[0])

    def _bias(self, node: onnx.NodeProto, behind: onnx.NodeProto) -> str:
        """The constant vector that is added to a product by a constant, one number for each of its columns."""
        if node.op_type != "MatMul" or behind.op_type != "Add" or self.plan.value(node.input[1]) is None:
            return ""
        (other,) = [name for name in behind.input if name != node.output[0]] or [""]
        vector, width = self.plan.value(other), self.plan.shapes.dims.get(node.output[0], (0,))[-1]
        rank = len(self.plan.shapes.dims.get(node.input[1], ()))
        return other if vector is not None and vector.shape == (width,) and rank == 2 else ""

    def _rectifier(self, node: onnx.NodeProto) -> str:
        limits = saturation(node, self.plan.constants) if has(node, Trait.RECTIFIES) and is_standard(node) else None
        return FUSED.get(limits, "") if limits else ""

    def _rounded(self, node: onnx.NodeProto, output: str, narrow: bool) -> dict[str, Rounded]:
        """What becomes of each output, if the node can compute in integers."""
        kinds = [self._kind(name) for name in self._numbers(node)]
        if not all(kinds):
            return {}
        outputs = [output, *node.output[1:]]
        found = {name: self._rounding(name) for name in outputs if self.index.reads(name)}
        kinds += [one.kind for one in found.values() if one]
        if not all(found.values()) or not _has_kernel([kind for kind in kinds if kind], narrow):
            return {}
        return {name: one for name, one in found.items() if one}

    def _numbers(self, node: onnx.NodeProto) -> list[str]:
        """Float operands whose integers the kernel needs: not biases, weights of layers, nor sizes."""
        row = operator(node)
        kernel = [name for k, name in enumerate(node.input) if name and (row.is_data(k) or k in row.weights)]
        floats = [name for name in kernel if self.plan.shapes.dtypes.get(name) == onnx.TensorProto.FLOAT]
        return [name for name in floats if not (has_any(node, _WEIGHTED) and self.plan.is_symmetric(name))]

    def _kind(self, name: str) -> Kind | None:
        node = self.plan.restored(name)
        return None if node is None else self.plan.scales(node)

    def _rounding(self, name: str) -> Rounded | None:
        readers = [read.node for read in self.index.reads(name)]
        if any(node is None or node.op_type != "QuantizeLinear" or node.input[0] != name for node in readers):
            return None
        nodes = [node for node in readers if node is not None]
        kinds = [kind for node in nodes if (kind := self.plan.scales(node)) is not None]
        if len(kinds) < len(readers) or not all(kind.same(kinds[0]) for kind in kinds) or kinds[0].scales is None:
            return None
        return Rounded(kinds[0], tuple(node.output[0] for node in nodes)) if kinds[0].scales.scale.size == 1 else None


def _has_kernel(kinds: list[Kind], narrow: bool) -> bool:
    """Whether there are kernels for such activations: all of 8 bits, or all of 16 around zero."""
    if any(float(kind.scales.scale.min()) < _LEAST_SCALE for kind in kinds if kind.scales):
        return False
    types = {kind.dtype for kind in kinds}
    if types == {np.dtype(np.int16)}:
        return not narrow and not any(np.any(kind.scales.zero) for kind in kinds if kind.scales)
    return types == {np.dtype(np.int8)}


def layout_of(plan: Plan, name: str) -> bool:
    """Whether what reads a graph input wants channels last: a window slides over it, maybe after arithmetic."""
    index: Index = plan.index
    seen, front = {name}, [name]
    while front:
        for place in index.readers(front.pop()):
            node = index.nodes[place]
            if has_any(node, Trait.CONVOLVES | Trait.POOLS) and node.input[0] in seen:
                return True
            if has_any(node, Trait.ELEMENTWISE | Trait.FILLS | Trait.QUANTIZES | Trait.PER_CHANNEL):
                front += [o for o in node.output if o not in seen]
                seen.update(node.output)
    return False
