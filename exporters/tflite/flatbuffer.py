"""A program as the bytes of a TFLite file, by the schema that LiteRT's own package brings along."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from ...measure.litert.schema import LAYOUT, OPTIONS, schema
from .program import Op, Program, Tensor

_BEFORE_MANY_CODES = 127
_SINCE = {"BROADCAST_TO": 2}
"""First versions of operators, other than 1."""


def to_bytes(program: Program) -> bytes:
    """Constants of equal content share a buffer."""
    return _Writer().run(program)


class _Writer:
    def __init__(self) -> None:
        self.schema = schema()
        self.buffers: list[Any] = [self.schema.BufferT()]
        self.held: dict[bytes, int] = {b"": 0}
        self.tensors: list[Any] = []
        self.at: dict[Tensor, int] = {}
        self.names: set[str] = set()
        self.codes: dict[str, int] = {}

    def run(self, program: Program) -> bytes:
        import flatbuffers

        made, graph = self.schema.ModelT(), self.schema.SubGraphT()
        graph.inputs = [self.tensor(tensor) for tensor, _ in program.inputs.values()]
        outputs = [self.tensor(tensor) for tensor, _ in program.outputs.values()]
        graph.operators = [self.operator(op) for op in program.ops]
        graph.outputs, graph.tensors, graph.name = outputs, self.tensors, "main"
        made.version, made.subgraphs, made.description = 3, [graph], "intaglio"
        made.signatureDefs, made.metadata = [self.signature(program)], [self.layout(program)]
        made.buffers, made.operatorCodes = self.buffers, [self.code(name) for name in self.codes]
        builder = flatbuffers.Builder(sum(len(content) for content in self.held) + 4096)
        builder.Finish(made.Pack(builder), b"TFL3")
        return bytes(builder.Output())

    def buffer(self, content: bytes) -> int:
        if content not in self.held:
            self.held[content] = len(self.buffers)
            made = self.schema.BufferT()
            made.data = np.frombuffer(content, np.uint8)
            self.buffers.append(made)
        return self.held[content]

    def tensor(self, tensor: Tensor | None) -> int:
        if tensor is None:
            return -1
        if tensor not in self.at:
            self.at[tensor] = len(self.tensors)
            made = self.schema.TensorT()
            made.shape, made.name = list(tensor.shape), self.name(tensor)
            made.type = getattr(self.schema.TensorType, tensor.kind.dtype.name.upper())
            made.quantization = self.quantization(tensor)
            if tensor.data is None:  # a buffer of its own, as some runtimes key tensors by them
                made.buffer = len(self.buffers)
                self.buffers.append(self.schema.BufferT())
            else:
                made.buffer = self.buffer(np.ascontiguousarray(tensor.data, tensor.kind.dtype).tobytes())
            self.tensors.append(made)
        return self.at[tensor]

    def name(self, tensor: Tensor) -> str:
        name, number = tensor.name or "made", 0
        while name in self.names:
            number += 1
            name = f"{tensor.name or 'made'}/{number}"
        self.names.add(name)
        return name

    def quantization(self, tensor: Tensor) -> Any:
        scales = tensor.kind.scales
        made = self.schema.QuantizationParametersT()
        if scales is not None:
            made.scale = np.asarray(scales.scale, np.float32).reshape(-1)
            made.zeroPoint = np.asarray(scales.zero, np.int64).reshape(-1)
            made.quantizedDimension = scales.axis
        return made

    def operator(self, op: Op) -> Any:
        made = self.schema.OperatorT()
        made.opcodeIndex = self.codes.setdefault(op.code, len(self.codes))
        made.inputs, made.outputs = [self.tensor(t) for t in op.inputs], [self.tensor(t) for t in op.outputs]
        if table := OPTIONS.get(op.code):
            made.builtinOptionsType = getattr(self.schema.BuiltinOptions, table)
            made.builtinOptions = getattr(self.schema, f"{table}T")()
            for field, value in op.options.items():
                setattr(made.builtinOptions, field, value)
        return made

    def code(self, name: str) -> Any:
        made = self.schema.OperatorCodeT()
        made.builtinCode = getattr(self.schema.BuiltinOperator, name)
        made.version = _SINCE.get(name, 1)
        made.deprecatedBuiltinCode = min(made.builtinCode, _BEFORE_MANY_CODES)
        return made

    def signature(self, program: Program) -> Any:
        made = self.schema.SignatureDefT()
        made.signatureKey = "serving_default"
        made.inputs, made.outputs = (
            [self.named(name, tensor) for name, (tensor, _) in ends.items()]
            for ends in (program.inputs, program.outputs)
        )
        return made

    def named(self, name: str, tensor: Tensor) -> Any:
        made = self.schema.TensorMapT()
        made.name, made.tensorIndex = name, self.at[tensor]
        return made

    def layout(self, program: Program) -> Any:
        ends = {**program.inputs, **program.outputs}
        made = self.schema.MetadataT()
        made.name = LAYOUT
        made.buffer = self.buffer(json.dumps({name: order for name, (_, order) in ends.items()}).encode())
        return made
