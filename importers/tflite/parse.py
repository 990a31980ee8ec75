"""What stands in a TFLite file, looked at before it is believed: every offset lies in the file, every number in its bounds."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ...graph.errors import BadModel
from ...measure.litert.schema import LAYOUT, OPTIONS, schema

_MOST_NUMBERS = 1 << 28
"""Of a tensor; more than any network has that runs on such devices."""
_MOST_AXES = 8
_TYPES: Mapping[str, str] = {
    name: name.lower()
    for name in ("FLOAT32", "FLOAT64", "FLOAT16", "INT8", "UINT8", "INT16", "INT32", "INT64", "BOOL", "UINT32")
}


@dataclass(frozen=True, eq=False)
class Scales:
    """What integers stand for: scale · (q - zero), one pair or one for each index of an axis."""

    scale: np.ndarray
    zero: np.ndarray
    axis: int


@dataclass(frozen=True, eq=False)
class Tensor:
    """``free`` says that the first axis may have any length. ``data`` is what a constant holds."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    data: np.ndarray | None = None
    scales: Scales | None = None
    free: bool = False

    @property
    def is_float(self) -> bool:
        """Whether it stands for real numbers."""
        return self.scales is not None or self.dtype.kind == "f"


@dataclass(frozen=True, eq=False)
class Op:
    """``options`` are the fields of its table, by the names that the schema gives them in Python."""

    code: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class File:
    """``inputs`` and ``outputs`` map names to numbers of tensors; ``orders`` are their ONNX axes, if that is told."""

    tensors: tuple[Tensor, ...]
    ops: tuple[Op, ...]
    inputs: Mapping[str, int]
    outputs: Mapping[str, int]
    orders: Mapping[str, list[int]]


class Wrong(Exception):
    """What is wrong in a file."""


def content_of(path: Path) -> bytes:
    """Raises BadModel where there is no such file."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadModel(f"cannot read {path}", why=error.strerror or str(error)) from error


def parse(content: bytes) -> File:
    """Raises BadModel where the bytes are no TFLite file, or one that contradicts itself."""
    try:
        return _Parser(content).run()
    except Wrong as error:
        raise BadModel("not a usable TFLite file", why=str(error)) from error
    except (struct.error, ValueError, IndexError, TypeError, OverflowError, AttributeError, KeyError) as error:
        raise BadModel("not a usable TFLite file", why=f"its tables lead out of it ({error})") from error


class _Parser:
    def __init__(self, content: bytes) -> None:
        if len(content) < 8 or content[4:8] != b"TFL3":
            raise Wrong("it does not begin like one")
        self.content, self.schema = content, schema()
        self.left = len(content)
        """Entries of lists that may still be read: lists that share their bytes cost no file, but time."""
        self.model = self.schema.Model.GetRootAs(content, 0)
        self.codes = {v: k for k, v in vars(self.schema.BuiltinOperator).items() if k.isupper()}
        self.types = {v: _TYPES[k] for k, v in vars(self.schema.TensorType).items() if k in _TYPES}

    def run(self) -> File:
        if self.model.SubgraphsLength() < 1:
            raise Wrong("it holds no graph")
        graph = self.model.Subgraphs(0)
        tensors = tuple(self.tensor(t) for t in self.members(graph, "Tensors"))
        names = self.operator_names
        ops = tuple(self.op(o, names, len(tensors)) for o in self.members(graph, "Operators"))
        ends = [self.ints(graph, side) for side in ("Inputs", "Outputs")]
        for number in (*ends[0], *ends[1]):
            if not 0 <= number < len(tensors):
                raise Wrong(f"an end is tensor {number} of {len(tensors)}")
        _require_order(tensors, ops, ends[0], ends[1])
        inputs, outputs = self.ends(tensors, ends)
        return File(tensors, ops, inputs, outputs, self.orders(tensors, {**inputs, **outputs}))

    def members(self, of: Any, name: str) -> Iterator[Any]:
        """The tables of a list."""
        count = getattr(of, f"{name}Length")()
        self.take(count)
        read: Callable[[int], Any] = getattr(of, name)
        return (read(k) for k in range(count))

    def take(self, count: int) -> None:
        self.left -= count
        if self.left < 0:
            raise Wrong("its lists are longer than it is")

    def ints(self, of: Any, name: str) -> list[int]:
        return [int(v) for v in self.array(of, name)]

    def array(self, of: Any, name: str) -> np.ndarray:
        """A list of numbers."""
        self.take(getattr(of, f"{name}Length")())
        found = getattr(of, f"{name}AsNumpy")()
        return found if isinstance(found, np.ndarray) else np.zeros(0, np.int64)

    @cached_property
    def operator_names(self) -> list[str]:
        found = []
        for code in self.members(self.model, "OperatorCodes"):
            number = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
            custom = code.CustomCode()
            found.append(f"custom {_text(custom)}" if custom else self.codes.get(number, f"operator {number}"))
        return found

    def tensor(self, one: Any) -> Tensor:
        name, shape = _text(one.Name() or b"").partition(";")[0], tuple(self.ints(one, "Shape"))
        if len(shape) > _MOST_AXES or min(shape, default=0) < 0 or math.prod(shape) > _MOST_NUMBERS:
            raise Wrong(f"tensor {name!r} has the shape {shape}")
        if one.IsVariable() or one.Sparsity() is not None:
            raise Wrong(f"tensor {name!r} keeps a state from run to run, or is sparse, which no ONNX tensor does")
        signature = self.ints(one, "ShapeSignature")
        kind, packed = self.kind(one.Type(), name)
        data = self.data(one.Buffer(), shape, kind, packed, name)
        free = signature[:1] == [-1] and shape[:1] == (1,)
        return Tensor(name, shape, kind, data, self.scales(one.Quantization(), shape, name), free)

    def kind(self, number: int, name: str) -> tuple[np.dtype[Any], bool]:
        """The element type, and whether two share a byte."""
        if number == self.schema.TensorType.INT4:
            return np.dtype(np.int8), True
        if number not in self.types:
            raise Wrong(f"tensor {name!r} is of a type that is not read (number {number})")
        return np.dtype(self.types[number]), False

    def data(
        self, number: int, shape: tuple[int, ...], kind: np.dtype[Any], packed: bool, name: str
    ) -> np.ndarray | None:
        if not 0 <= number < self.model.BuffersLength():
            raise Wrong(f"tensor {name!r} lies in buffer {number}, which is not there")
        held = self.model.Buffers(number)
        if held.Size() or held.Offset():
            raise Wrong("its numbers lie behind the tables, as in files above 2 GB, which is not read")
        raw = held.DataAsNumpy()
        if not isinstance(raw, np.ndarray) or not raw.size:
            return None
        numbers = math.prod(shape)
        if packed:
            raw = np.stack([raw << 4, raw], axis=-1).reshape(-1).view(np.int8)[:numbers] >> 4
        if raw.nbytes != numbers * kind.itemsize:
            raise Wrong(f"tensor {name!r} has {raw.nbytes} bytes for {numbers} numbers of {kind}")
        return np.frombuffer(raw.tobytes(), kind).reshape(shape)

    def scales(self, one: Any, shape: tuple[int, ...], name: str) -> Scales | None:
        scale = self.array(one, "Scale") if one is not None else np.zeros(0)
        if not scale.size:
            return None
        zero, axis = self.array(one, "ZeroPoint"), one.QuantizedDimension()
        zero = zero if zero.size else np.zeros(scale.size, np.int64)
        fits = scale.size == 1 or (0 <= axis < len(shape) and scale.size == shape[axis])
        if zero.size == 1 < scale.size:
            zero = np.broadcast_to(zero, scale.shape)
        if not fits or zero.size != scale.size or not (np.isfinite(scale).all() and (scale > 0).all()):
            raise Wrong(f"tensor {name!r} has scales that do not fit it")
        if scale.size == 1:
            return Scales(np.array(scale[0], np.float32), np.array(zero[0], np.int64), 0)
        return Scales(scale.astype(np.float32), zero.astype(np.int64), axis)

    def op(self, one: Any, names: list[str], count: int) -> Op:
        code = names[one.OpcodeIndex()]
        inputs, outputs = (tuple(self.ints(one, side)) for side in ("Inputs", "Outputs"))
        if any(not -1 <= i < count for i in inputs) or any(not 0 <= o < count for o in outputs):
            raise Wrong(f"{code} reads or makes a tensor that is not there")
        return Op(code, inputs, outputs, self.options(one, code))

    def options(self, one: Any, code: str) -> Mapping[str, Any]:
        name = OPTIONS.get(code)
        if name is None:
            return {}
        made = getattr(self.schema, f"{name}T")()
        table = one.BuiltinOptions()
        if table is not None and one.BuiltinOptionsType() == getattr(self.schema.BuiltinOptions, name):
            read = getattr(self.schema, name)()
            read.Init(table.Bytes, table.Pos)
            made = getattr(self.schema, f"{name}T").InitFromObj(read)
        return vars(made)

    def ends(self, tensors: tuple[Tensor, ...], numbers: list[list[int]]) -> tuple[dict[str, int], dict[str, int]]:
        """By the names of the signature, if there is one for these tensors, else those of the tensors."""
        signed: list[dict[int, str]] = [{}, {}]
        if self.model.SignatureDefsLength():
            first = self.model.SignatureDefs(0)
            for found, side in zip(signed, ("Inputs", "Outputs"), strict=True):
                found.update((m.TensorIndex(), _text(m.Name() or b"")) for m in self.members(first, side))
        inputs, outputs = (
            {told.get(k) or tensors[k].name or f"tensor {k}": k for k in side}
            for told, side in zip(signed, numbers, strict=True)
        )
        if inputs.keys() & outputs.keys() or (len(inputs), len(outputs)) != tuple(map(len, numbers)):
            raise Wrong("two of its ends have one name")
        return inputs, outputs

    def orders(self, tensors: tuple[Tensor, ...], ends: Mapping[str, int]) -> dict[str, list[int]]:
        for entry in self.members(self.model, "Metadata"):
            if entry.Name() == LAYOUT.encode() and 0 <= entry.Buffer() < self.model.BuffersLength():
                raw = self.model.Buffers(entry.Buffer()).DataAsNumpy()
                told = json.loads(raw.tobytes())
                found = {name: told[name] for name in ends if name in told}
                if all(sorted(order) == list(range(len(tensors[ends[name]].shape))) for name, order in found.items()):
                    return found
                raise Wrong("what it tells of its axes does not fit them")
        return {}


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")


def _require_order(tensors: tuple[Tensor, ...], ops: tuple[Op, ...], inputs: list[int], outputs: list[int]) -> None:
    """Whatever is read is there by then, and nothing is made twice."""
    known = {k for k, tensor in enumerate(tensors) if tensor.data is not None}
    if known & set(inputs) or len(set(inputs)) < len(inputs):
        raise Wrong("an input is a constant, or there twice")
    known |= set(inputs)
    for op in ops:
        if missing := [i for i in op.inputs if i >= 0 and i not in known]:
            raise Wrong(f"{op.code} reads {tensors[missing[0]].name!r} before it is made")
        if known & set(op.outputs):
            raise Wrong(f"{op.code} makes a tensor that is there already")
        known |= set(op.outputs)
    if missing := [o for o in outputs if o not in known]:
        raise Wrong(f"nothing makes its output {tensors[missing[0]].name!r}")
