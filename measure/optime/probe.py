"""How long one operator takes at given shapes: one-node models with made-up weights, timed in turn.

A model of one node says too much: it also hands over inputs and outputs and, for a convolution, turns them into the
layout that the kernels want and back, which inside a network happens once for many layers. So each operator is timed
once alone and once beside a twin that reads the same input and adds to the same output; the difference is what one
more of it takes. Every round also runs a fixed reference, and times are given as multiples of it: a machine that
slows down for a while, as shared ones do, slows both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from ...graph.errors import BadModel
from ...graph.model import Model
from ...kernels.operators import attach
from ..run.rounds import time_rounds, typical_times
from ..run.session import open_session, run

BUDGET_S = 0.03
"""Seconds that the timing of one operator may take where it can be kept, beside opening its sessions."""
ROUNDS = (5, 25)
"""Fewest and most rounds."""
_CHUNK = 32
_CHUNK_BYTES = 128 << 20
"""Operators timed in turn, and the bytes of their operands: their sessions are open at once."""
_LEAST = 1e-3
"""A difference of noise alone must not come out as nothing, or less."""


@dataclass(frozen=True)
class Operand:
    """An input of a node: a weight that the runtime may prepare beforehand, or a tensor that comes with the run."""

    dims: tuple[int, ...]
    dtype: int
    constant: bool


@dataclass(frozen=True)
class Layer:
    """One operator at given shapes. ``node`` is a serialized NodeProto without names; left-out inputs are None."""

    node: bytes
    operands: tuple[Operand | None, ...]
    opsets: tuple[tuple[str, int], ...]


def describe(node: onnx.NodeProto, operands: Sequence[Operand | None], opsets: Mapping[str, int]) -> Layer:
    """The layer that a node is, whatever its tensors are called."""
    attributes = sorted(node.attribute, key=lambda a: a.name)
    proto = onnx.NodeProto(op_type=node.op_type, domain=node.domain, attribute=attributes)
    proto.output.extend(f"y{j}" if name else "" for j, name in enumerate(node.output))
    proto.input.extend("" if operand is None else f"x{i}" for i, operand in enumerate(operands))
    return Layer(proto.SerializeToString(deterministic=True), tuple(operands), tuple(sorted(opsets.items())))


def time_layers(layers: Sequence[Layer], threads: int) -> list[float | None]:
    """What one more of each layer takes, in runs of the reference; None where ONNX Runtime cannot run it."""
    found: list[float | None] = []
    for chunk in _chunks(layers):
        found.extend(_time_chunk(chunk, threads))
    return found


@dataclass(frozen=True)
class Runs:
    """Typical times of sessions that ran in turn with the reference.

    ``relative`` (sessions,) in runs of the reference; ``reference_ms`` is what one of those took at that time.
    """

    relative: np.ndarray
    reference_ms: float


def time_runs(
    sessions: Sequence[Any],
    feeds: Sequence[Mapping[str, np.ndarray]],
    threads: int,
    *,
    budget_s: float,
    rounds: tuple[int, int],
) -> Runs:
    """Run sessions and the reference in turn, for about ``budget_s`` seconds each."""
    every = [*sessions, open_layer(REFERENCE, 1, threads)]
    fed = [*feeds, feeds_of(REFERENCE, 1)]
    typical = typical_times(time_rounds(every, fed, threads, budget_s=budget_s, rounds=rounds))
    return Runs(typical[:-1] / typical[-1], float(typical[-1] * 1e3))


def _chunks(layers: Sequence[Layer]) -> list[list[Layer]]:
    chunks: list[list[Layer]] = []
    room = 0
    for layer in layers:
        need = 3 * sum(4 * int(np.prod(o.dims)) for o in layer.operands if o)
        if not chunks or len(chunks[-1]) == _CHUNK or need > room:
            chunks.append([])
            room = _CHUNK_BYTES
        chunks[-1].append(layer)
        room -= need
    return chunks


def _time_chunk(layers: Sequence[Layer], threads: int) -> list[float | None]:
    sessions: list[Any] = []
    feeds: list[dict[str, np.ndarray]] = []
    runnable: list[int] = []
    for k, layer in enumerate(layers):
        try:
            pair = [open_layer(layer, copies, threads) for copies in (1, 2)]
            fed = [feeds_of(layer, copies) for copies in (1, 2)]
            for session, feed in zip(pair, fed, strict=True):
                run(session, feed)
        except BadModel:
            continue
        sessions += pair
        feeds += fed
        runnable.append(k)
    found: list[float | None] = [None] * len(layers)
    if runnable:
        runs = time_runs(sessions, feeds, threads, budget_s=BUDGET_S / 2, rounds=ROUNDS)
        alone, twins = runs.relative.reshape(-1, 2).T
        for k, value in zip(runnable, (twins - alone).tolist(), strict=True):
            found[k] = max(value, _LEAST)
    return found


def open_layer(layer: Layer, copies: int, threads: int) -> Any:
    # The reference must not sleep on another session's threads, nor they on its.
    if copies == 1:
        return open_session(_model(layer, 1, joined=False), threads=threads, spin=False)
    try:
        return open_session(_model(layer, copies, joined=True), threads=threads, spin=False)
    except BadModel:  # the type cannot be added
        return open_session(_model(layer, copies, joined=False), threads=threads, spin=False)


def _model(layer: Layer, copies: int, *, joined: bool) -> Model:
    """Nodes that share their first operand; what they make is added up, or all given out."""
    nodes, inputs = [], {}
    weights: dict[str, np.ndarray] = {}
    outputs = []
    for copy in range(copies):
        node = onnx.NodeProto.FromString(layer.node)
        node.name = f"n{copy}"
        for i, operand in enumerate(layer.operands):
            if operand is None:
                continue
            name = node.input[i] = _operand_name(i, copy)
            if operand.constant:
                weights[name] = _values(operand, i + copy)
            else:
                inputs[name] = helper.make_tensor_value_info(name, operand.dtype, operand.dims)
        for j, name in enumerate(node.output):
            node.output[j] = name and f"{name}_{copy}"
        outputs.append(next(o for o in node.output if o))
        nodes.append(node)
    if joined:
        nodes.append(helper.make_node("Add", outputs, ["sum"], name="join"))
        outputs = ["sum"]
    graph = helper.make_graph(nodes, "layer", list(inputs.values()), [onnx.ValueInfoProto(name=o) for o in outputs])
    opsets = [helper.make_opsetid(domain, version) for domain, version in layer.opsets]
    proto = onnx.ModelProto(ir_version=_IR_VERSION, graph=graph, opset_import=opsets)
    attach(proto)
    return Model(proto, weights)


def feeds_of(layer: Layer, copies: int) -> dict[str, np.ndarray]:
    return {
        _operand_name(i, copy): _values(operand, i)
        for copy in range(copies)
        for i, operand in enumerate(layer.operands)
        if operand and not operand.constant
    }


def _operand_name(i: int, copy: int) -> str:
    return f"x{i}_{copy if i else 0}"


def _values(operand: Operand, seed: int) -> np.ndarray:
    """Floats in 0.25..1, which any kernel takes without a special case; ones for all else."""
    dtype = helper.tensor_dtype_to_np_dtype(operand.dtype)
    if operand.dtype in _FLOATS:
        return np.resize(np.random.default_rng(seed).uniform(0.25, 1, 4093).astype(dtype), operand.dims)
    return np.ones(operand.dims, dtype=dtype)


_IR_VERSION = 10
_FLOATS = (TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16)


def _simple(op: str, *dims: tuple[int, ...], constants: int, **attributes: Any) -> Layer:
    node = helper.make_node(op, [f"x{i}" for i in range(len(dims))], ["y"], **attributes)
    first = len(dims) - constants
    return describe(node, [Operand(d, TensorProto.FLOAT, i >= first) for i, d in enumerate(dims)], {"": 17})


REFERENCE = _simple("Conv", (1, 32, 16, 16), (32, 32, 3, 3), constants=1, pads=[1, 1, 1, 1])
"""Small enough to be quick, large enough that its own time does not drown in that of starting a run."""
NOTHING = _simple("Relu", (1,), constants=0)
"""The least that a run can do."""
SMALLEST = _simple("Add", (1,), (1,), constants=0)
"""One more of it, with the addition that joins the twins, is twice what starting a kernel takes."""
