"""Every operator that a rule or a trait knows, with operands left out, of other lengths and values, other attributes, and inputs of
nothing: ONNX Runtime may fail, but it never ends the process, and nothing but a clear error comes out."""

from __future__ import annotations

import os
import resource
import tempfile
from collections.abc import Iterator
from functools import cache

import numpy as np
import onnx
import pytest
from onnx import AttributeProto, numpy_helper

from intaglio.graph.errors import IntaglioError
from intaglio.graph.index import index_of
from intaglio.graph.io.load import from_proto
from intaglio.graph.traits import operator_key
from intaglio.measure.run.inputs import probe
from intaglio.measure.run.session import open_session, run
from tests.graph.coupling import bit_examples as _bit_examples  # noqa: F401  they join the table
from tests.graph.coupling import foreign_examples as _foreign_examples  # noqa: F401  the same
from tests.graph.coupling.examples import EXAMPLES, Example
from tests.graph.traits.examples import EXAMPLES as CALLS
from tests.graph.traits.examples import Example as Call

_BYTES = 8 << 30
"""What a fork may allocate: odd lengths are long ones, too."""
Odd = tuple[str, onnx.ModelProto, dict[str, np.ndarray]]


@cache
def firsts() -> dict[str, list[int]]:
    """Which nodes of each example are the first with their operator and number of operands."""
    seen: set[tuple[str, int]] = set()
    found: dict[str, list[int]] = {}
    for example in EXAMPLES:
        nodes = example.model().graph.node
        found[example.name] = []
        for place, node in enumerate(nodes):
            if (key := (operator_key(node), len(node.input))) not in seen:
                seen.add(key)
                found[example.name].append(place)
    return found


def copied(proto: onnx.ModelProto) -> onnx.ModelProto:
    """A copy that says no lengths, which might contradict what is made of it."""
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    for value in copy.graph.input:
        for axis, dim in enumerate(value.type.tensor_type.shape.dim):
            dim.dim_param = f"{value.name}{axis}"
    for value in copy.graph.output:
        if value.HasField("type"):
            value.type.tensor_type.ClearField("shape")
    del copy.graph.value_info[:]
    return copy


def fed(proto: onnx.ModelProto) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    held = {tensor.name for tensor in proto.graph.initializer}
    return {
        value.name: rng.normal(size=[d.dim_value or 2 for d in value.type.tensor_type.shape.dim]).astype(np.float32)
        for value in proto.graph.input
        if value.name not in held
    }


def left_out(proto: onnx.ModelProto, places: list[int]) -> Iterator[Odd]:
    for place in places:
        for k in range(len(proto.graph.node[place].input)):
            empty, shorter = copied(proto), copied(proto)
            empty.graph.node[place].input[k] = ""
            del shorter.graph.node[place].input[k:]
            yield f"node {place} without operand {k}", empty, fed(proto)
            yield f"node {place} without operands from {k} on", shorter, fed(proto)


def of_other_lengths(proto: onnx.ModelProto, places: list[int]) -> Iterator[Odd]:
    held = {tensor.name: numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}
    for place in places:
        for k, name in enumerate(proto.graph.node[place].input):
            if (value := held.get(name)) is None:
                continue
            one = value.reshape(-1)[:1]
            for odd in (
                np.zeros(0, value.dtype),
                *([one.reshape(())] if value.size else []),
                one,
                np.concatenate([value.reshape(-1), one]),
            ):
                changed = copied(proto)
                changed.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(odd), "odd"))
                changed.graph.node[place].input[k] = "odd"
                yield f"node {place} with {odd.shape} for operand {k}", changed, fed(proto)


def of_other_values(proto: onnx.ModelProto, places: list[int]) -> Iterator[Odd]:
    """Integers that are operands: lengths, axes, places."""
    held = {tensor.name: numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}
    for place in places:
        for k, name in enumerate(proto.graph.node[place].input):
            if (value := held.get(name)) is None or value.dtype.kind != "i" or not value.size:
                continue
            for number in (0, -1, 7, -(2**31)):
                changed = copied(proto)
                odd = np.full_like(value, max(number, np.iinfo(value.dtype).min))
                changed.graph.initializer.append(numpy_helper.from_array(odd, "odd"))
                changed.graph.node[place].input[k] = "odd"
                yield f"node {place} with {odd.flat[0]} in operand {k}", changed, fed(proto)


def of_other_attributes(proto: onnx.ModelProto, places: list[int]) -> Iterator[Odd]:
    for place in places:
        for k, one in enumerate(proto.graph.node[place].attribute):
            numbers = one.type == AttributeProto.INTS
            if not numbers and one.type != AttributeProto.INT:
                continue
            given = [*one.ints] if numbers else [one.i]
            for odd in (
                [0] * len(given),
                [-1] * len(given),
                [7] * len(given),
                [2**31 - 1] * len(given),
                [*given, 1],
                [],
            ):
                changed = copied(proto)
                attribute = changed.graph.node[place].attribute[k]
                if numbers:
                    attribute.ints[:] = odd
                elif odd:
                    attribute.i = odd[0]
                else:
                    del changed.graph.node[place].attribute[k]
                yield f"node {place} with {odd} for its attribute {one.name}", changed, fed(proto)


def of_nothing(proto: onnx.ModelProto, places: list[int]) -> Iterator[Odd]:
    for name, value in fed(proto).items() if places else ():
        for axis in range(value.ndim):
            nothing = np.zeros([0 if a == axis else n for a, n in enumerate(value.shape)], value.dtype)
            yield f"{name} of {nothing.shape}", copied(proto), {**fed(proto), name: nothing}


WAYS = (left_out, of_other_lengths, of_other_values, of_other_attributes, of_nothing)


def tried(odd: Odd) -> str:
    """What came out that should not; empty where it ran, or was refused."""
    label, proto, feeds = odd
    try:
        model = from_proto(proto)
        assert index_of(model).shapes  # as every command asks for them
        session = open_session(model)
        probe(model, feeds, session)
        run(session, feeds)
    except (IntaglioError, MemoryError):  # long lengths
        return ""
    except Exception as error:
        return f"{label}: {type(error).__name__}: {error}"
    return ""


def all_tried(odds: Iterator[Odd]) -> None:
    """In one fork, which writes down what it is about to try."""
    with tempfile.TemporaryFile("w+") as told:
        child = os.fork()
        if not child:
            resource.setrlimit(resource.RLIMIT_AS, (_BYTES, _BYTES))
            for odd in odds:
                told.seek(0)
                told.truncate()
                told.write(f"{odd[0]}: it ended the process")
                told.flush()
                if wrong := tried(odd):
                    told.seek(0)
                    told.truncate()
                    told.write(wrong)
                    told.flush()
                    os._exit(1)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        told.seek(0)
        assert os.waitstatus_to_exitcode(status) == 0, told.read()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda one: one.name)
def test_odd_operands_are_told_and_end_no_process(example: Example) -> None:
    proto, places = example.model(), firsts()[example.name]
    all_tried(odd for ways in WAYS for odd in ways(proto, places))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("call", CALLS, ids=lambda one: f"{one.op}-{one.name or 'plain'}")
def test_odd_calls_of_any_operator_are_told_and_end_no_process(call: Call) -> None:
    """Of operators without a rule for channels, too."""
    proto, feeds = call.constant()
    all_tried(
        (label, odd, none if ways is of_nothing else feeds) for ways in WAYS for label, odd, none in ways(proto, [0])
    )
