"""A model as few operations: constants folded, integers kept where they were meant, what works number by number joined."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np
import onnx

from ...graph.index import index_of
from ...graph.model import Model
from ...graph.nodes import attribute, reads
from ...graph.traits import Trait, has_any, operator, operator_key
from ...measure.run.session import open_session, run
from ..base import CannotExport
from .expressions import SPELLINGS, Statement, chained, dequantize, quantize, spelled
from .loops import literal
from .rules import FINISHES, Codes, Operation
from .tensor import C_TYPES, Dims

T = TypeVar("T")


class _Known(dict[str, T]):
    """What is known of each tensor; of others nothing can be written."""

    def __missing__(self, name: str) -> T:
        raise CannotExport(
            f"the shape or type of {name!r} is not known", fix="pin the sizes of inputs: --shape NAME:DIMS"
        )


MOVERS = Trait.MOVES | Trait.SELECTS | Trait.FILLS


@dataclass
class Net:
    """``dims`` and ``dtypes`` are those of every tensor; ``folded`` has what made the constants that nodes made."""

    operations: list[Operation]
    constants: dict[str, np.ndarray]
    dims: dict[str, Dims]
    dtypes: dict[str, np.dtype]
    inputs: list[str]
    outputs: list[str]
    opset: int
    folded: dict[str, Operation] = field(default_factory=dict)
    fresh: int = field(default=0)

    def makers(self) -> dict[str, Operation]:
        return {name: one for one in self.operations for name in one.outputs if name}

    def uses(self) -> Counter[str]:
        """How often each tensor is read; callers read outputs."""
        return Counter([n for one in self.operations for n in (*one.inputs, one.bias) if n] + self.outputs)

    def name(self, like: str, dims: Dims, dtype: np.dtype) -> str:
        """A new tensor."""
        self.fresh += 1
        made = f"{like}/{self.fresh}"
        self.dims[made], self.dtypes[made] = dims, dtype
        return made

    def put(self, like: str, value: np.ndarray) -> str:
        made = self.name(like, value.shape, value.dtype)
        self.constants[made] = value
        return made


def net_of(model: Model) -> Net:
    """The operations of a model, joined."""
    net = _read(model)
    for change in (_move_quantization_up, _fold_normalization, _find_integers, _take_biases, _spell, _join, _drop_dead):
        change(net)
    return net


def _read(model: Model) -> Net:
    index = index_of(model)
    shapes = index.shapes
    constants = dict(model.weights) | dict(shapes.values)
    constants |= _folded(model, index.nodes, constants)
    dims = dict(shapes.dims) | {name: value.shape for name, value in constants.items()}
    dtypes = {name: _dtype(kind) for name, kind in shapes.dtypes.items() if kind}
    dtypes |= {name: value.dtype for name, value in constants.items()}
    every = [Operation(operator_key(n), n, list(n.input), list(n.output)) for n in index.nodes]
    found = [one for one in every if not all(o in constants for o in one.outputs if o)]
    folded = {one.outputs[0]: one for one in every if one.outputs[0] in constants}
    read = [name for name in index.inputs if name not in model.weights]
    return Net(found, constants, _Known(dims), _Known(dtypes), read, list(index.outputs), model.opset, folded)


def _dtype(kind: int) -> np.dtype:
    return np.dtype(onnx.helper.tensor_dtype_to_np_dtype(kind))


def _folded(model: Model, nodes: Iterable[onnx.NodeProto], known: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What nodes make of constants alone, as ONNX Runtime computes it."""
    names, folded = set(known), []
    for node in nodes:
        if node.output and names.issuperset(reads(node)) and not all(o in known for o in node.output if o):
            folded.append(node)
            names.update(node.output)
    wanted = [name for node in folded for name in node.output if name]
    if not wanted:
        return {}
    part = model.of_nodes(folded, [], [onnx.ValueInfoProto(name=name) for name in wanted], known)
    part.proto.functions.extend(model.proto.functions)
    return run(open_session(part, optimize=False), {}, wanted)


def _scalar_codes(net: Net, one: Operation) -> Codes | None:
    """Scale and zero of a conversion that has one of each."""
    scale = net.constants.get(one.inputs[1])
    zero = net.constants.get(one.inputs[2]) if len(one.inputs) > 2 and one.inputs[2] else np.zeros((), np.uint8)
    if scale is None or zero is None or scale.size != 1 or scale.dtype != np.float32:
        return None
    return Codes(scale.reshape(()), int(zero.reshape(-1)[0]))


def _move_quantization_up(net: Net) -> None:
    """Q(move(x)) = move(Q(x)), since to round is to apply one function to every number; Q(DQ(x)) = x where both agree."""
    moved = True
    while moved:
        makers, uses = net.makers(), net.uses()
        found = (q for q in net.operations if q.key == "QuantizeLinear" and _scalar_codes(net, q))
        moved = any(_cancel(net, q, makers) or _move_up(net, q, makers, uses) for q in list(found))


def _cancel(net: Net, q: Operation, makers: Mapping[str, Operation]) -> bool:
    before = makers.get(q.inputs[0])
    if before is None or before.key != "DequantizeLinear" or before.inputs[0] in net.constants:
        return False
    if net.dtypes[before.inputs[0]] != net.dtypes[q.outputs[0]] or _scalar_codes(net, before) != _scalar_codes(net, q):
        return False
    if q.outputs[0] in net.outputs:
        return False
    net.operations.remove(q)
    for one in net.operations:
        one.inputs = [before.inputs[0] if name == q.outputs[0] else name for name in one.inputs]
    return True


def _move_up(net: Net, q: Operation, makers: Mapping[str, Operation], uses: Mapping[str, int]) -> bool:
    before = makers.get(q.inputs[0])
    if before is None or uses[q.inputs[0]] > 1 or len(before.outputs) > 1 or before.key in SPELLINGS:
        return False
    if not has_any(before.key, MOVERS):
        return False
    positions = operator(before.key).data
    data = range(len(before.inputs)) if positions is None else positions
    if before.key == "Pad" and not _fill_in_codes(net, before, q):
        return False
    for k in data:
        x, dtype = before.inputs[k], net.dtypes[q.outputs[0]]
        before.inputs[k] = net.name(f"{x}/q", net.dims[x], dtype)
        place = net.operations.index(before)
        net.operations.insert(place, Operation(q.key, q.node, [x, *q.inputs[1:]], [before.inputs[k]]))
    before.outputs = q.outputs
    net.operations.remove(q)
    return True


def _fill_in_codes(net: Net, pad: Operation, q: Operation) -> bool:
    """What a Pad puts around, as a code."""
    codes, kind = _scalar_codes(net, q), net.dtypes[q.outputs[0]]
    value = net.constants.get(pad.inputs[2], np.zeros(1)) if len(pad.inputs) > 2 and pad.inputs[2] else np.zeros(1)
    if codes is None or (len(pad.inputs) > 2 and pad.inputs[2] and pad.inputs[2] not in net.constants):
        return False
    code = np.clip(np.rint(value / codes.scale) + codes.zero, np.iinfo(kind).min, np.iinfo(kind).max)
    pad.inputs = [*pad.inputs[:2], net.put("fill", code.reshape(()).astype(kind)), *pad.inputs[3:]]
    return True


def _fold_normalization(net: Net) -> None:
    """A BatchNormalization behind a convolution whose weight is known goes into the weight."""
    makers, uses = net.makers(), net.uses()
    for one in list(net.operations):
        before = makers.get(one.inputs[0]) if one.key == "BatchNormalization" else None
        if before is None or before.key != "Conv" or uses[one.inputs[0]] > 1:
            continue
        if any(name not in net.constants for name in (*one.inputs[1:], *before.inputs[1:]) if name):
            continue
        scale, shift = affine(one, net.constants)
        weight = net.constants[before.inputs[1]]
        bias = net.constants[before.inputs[2]] if len(before.inputs) > 2 and before.inputs[2] else np.zeros_like(shift)
        before.inputs = [
            before.inputs[0],
            net.put(before.inputs[1], weight * scale.reshape(-1, *[1] * (weight.ndim - 1)).astype(weight.dtype)),
            net.put(before.inputs[1], (bias * scale + shift).astype(weight.dtype)),
        ]
        before.outputs = one.outputs[:1]
        net.operations.remove(one)


def affine(one: Operation, constants: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Of a BatchNormalization the factor and the shift of each channel."""
    gamma, beta, mean, variance = (constants[name].astype(np.float64) for name in one.inputs[1:5])
    scale = gamma / np.sqrt(variance + attribute(one.node, "epsilon", 1e-5))
    return scale, beta - mean * scale


IN_CODES = {"Conv": (0, 1), "Gemm": (0, 1), "MatMul": (0, 1), "AveragePool": (0,), "GlobalAveragePool": (0,)}
"""Operators that are computed in integers, and the operands that have to be such."""


def _find_integers(net: Net) -> None:
    """Operations that read codes compute with them: products of integers are exact."""
    makers = {**net.folded, **net.makers()}
    for one in net.operations:
        if one.key not in IN_CODES or not _fits(net, one):
            continue
        found = {k: _codes(net, makers.get(one.inputs[k])) for k in IN_CODES[one.key]}
        if all(found.values()):
            for k, pair in found.items():
                assert pair is not None
                one.inputs[k], one.codes[k] = pair


def _fits(net: Net, one: Operation) -> bool:
    """Whether a bias is known and a Gemm multiplies by nothing else."""
    factors = attribute(one.node, "alpha", 1.0), attribute(one.node, "beta", 1.0), attribute(one.node, "transA", 0)
    bias = one.inputs[2] if len(one.inputs) > 2 else ""
    return factors == (1, 1, 0) and (not bias or bias in net.constants)


def _codes(net: Net, maker: Operation | None) -> tuple[str, Codes] | None:
    """The integers behind a conversion to float, if they have eight bits; those of weights around 0."""
    if maker is None or maker.key != "DequantizeLinear" or net.dtypes[maker.inputs[0]].name not in ("int8", "uint8"):
        return None
    name, scale = maker.inputs[0], net.constants.get(maker.inputs[1])
    if name not in net.constants or scale is None:
        codes = _scalar_codes(net, maker)
        return None if codes is None else (name, codes)
    value, zero = net.constants[name].astype(np.int32), np.zeros((), np.int32)
    if len(maker.inputs) > 2 and maker.inputs[2]:
        zero = net.constants[maker.inputs[2]].astype(np.int32)
    axis = attribute(maker.node, "axis", 1) % max(value.ndim, 1)
    along = [-1 if a == axis else 1 for a in range(value.ndim)]
    if scale.ndim > 1 or scale.dtype != np.float32:
        return None
    value = value - zero.reshape(along if zero.size > 1 else ())
    if value.size and (value.max() > 127 or value.min() < -128):
        return None
    stretched = scale.reshape(along if scale.size > 1 else [1] * value.ndim)
    return net.put(name, value.astype(np.int8)), Codes(stretched, 0)


def _take_biases(net: Net) -> None:
    """A constant with one number for each column that is added to a product goes along with it."""
    makers, uses = net.makers(), net.uses()
    for one in list(net.operations):
        if one.key != "Add":
            continue
        for product, bias in (one.inputs, one.inputs[::-1]):
            before, value = makers.get(product), net.constants.get(bias)
            if before is None or before.key != "MatMul" or value is None or uses[product] > 1 or before.bias:
                continue
            if value.size == net.dims[product][-1] == value.shape[-1] and net.dims[product] == net.dims[one.outputs[0]]:
                before.bias, before.outputs = bias, one.outputs
                net.operations.remove(one)
                break


def _spell(net: Net) -> None:
    """Statements for all that works number by number."""
    for one in net.operations:
        one.inputs = list(one.inputs)
        codes = _scalar_codes(net, one) if has_any(one.key, Trait.QUANTIZES) and len(one.inputs) > 1 else None
        out = net.dtypes.get(one.outputs[0])
        if out is None or out.name not in C_TYPES:  # refused by name later
            continue
        if one.key == "DequantizeLinear" and codes is not None:
            one.inputs, one.value = one.inputs[:1], (dequantize(float(codes.scale), codes.zero),)
        elif one.key == "QuantizeLinear" and codes is not None:
            one.inputs, one.value = one.inputs[:1], (quantize(float(codes.scale), codes.zero, out),)
        elif one.key == "BatchNormalization" and all(name in net.constants for name in one.inputs[1:]):
            along = [1] * (len(net.dims[one.inputs[0]]) - 1)
            tables = [v.reshape(-1, *along[1:]).astype(net.dtypes[one.inputs[0]]) for v in affine(one, net.constants)]
            one.inputs = [one.inputs[0], *(net.put("channel", table) for table in tables)]
            one.value = (Statement(C_TYPES[tables[0].dtype.name], "{0} * {1} + {2}", (0, 1, 2)),)
        elif net.dtypes.keys() >= set(filter(None, one.inputs)):
            names = [name for name in one.inputs if name]
            made = spelled(one.node, one.key, [net.dtypes[n] for n in names], out)
            if made is not None:
                one.inputs, one.value = _with_numbers(net, names, made)


def _with_numbers(net: Net, names: list[str], made: Statement) -> tuple[list[str], tuple[Statement, ...]]:
    """Constants of one number stand in the statement."""
    texts: list[str] = []
    left: list[str] = []
    for k, name in enumerate(names):
        value = net.constants.get(name)
        if f"{{{k}}}" not in made.text:
            texts.append("")
        elif value is None or value.size != 1:
            texts.append(f"{{{len(left)}}}")
            left.append(name)
        else:
            number = literal(value.reshape(-1)[0], value.dtype)
            texts.append(f"({number})" if number.startswith("-") else number)
    return left, (replace(made, text=made.text.format(*texts), arguments=tuple(range(len(left)))),)


def _join(net: Net) -> None:
    """What works number by number goes into what reads it alone, or onto the end of what makes its operand."""
    makers, uses = net.makers(), net.uses()
    for one in list(net.operations):
        if not one.value or one.key == "DequantizeLinear":  # what is in codes stays so until it is read
            continue
        for name in list(one.inputs):
            before = makers.get(name)
            cheap = before is not None and before.key == "DequantizeLinear"
            if before is None or not before.value or before.then:
                continue
            if not cheap and (uses[name] > 1 or net.dims.get(name) != net.dims.get(one.outputs[0], ())):
                continue
            while name in one.inputs:
                place = one.inputs.index(name)
                one.value = chained(before.value, place, one.value, len(one.inputs))
                one.inputs = [*one.inputs[:place], *one.inputs[place + 1 :], *before.inputs]
            uses = net.uses()
            _drop_unread(net, before, uses)
        _finish(net, one, makers, uses)


def _drop_unread(net: Net, one: Operation, uses: Mapping[str, int]) -> None:
    if not any(uses[name] for name in one.outputs):
        net.operations.remove(one)


def _finish(net: Net, one: Operation, makers: dict[str, Operation], uses: Mapping[str, int]) -> None:
    """Behind a product, with constants of one number only, it is the product's own end."""
    data = [name for name in one.inputs if name not in net.constants]
    if len(data) != 1 or len(one.inputs) != 1:
        return
    before = makers.get(data[0])
    if before is None or before.key not in FINISHES or uses[data[0]] > 1:
        return
    before.then = chained(before.then, 0, one.value, 1) if before.then else one.value
    before.outputs = one.outputs
    makers[one.outputs[0]] = before
    net.operations.remove(one)


def _drop_dead(net: Net) -> None:
    needed = set(net.outputs)
    kept = []
    for one in reversed(net.operations):
        if needed.intersection(one.outputs):
            kept.append(one)
            needed.update(name for name in (*one.inputs, one.bias) if name)
    net.operations = kept[::-1]
