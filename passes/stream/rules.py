"""Rules of operators that take frames one by one, or move their axis."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np
import onnx

from ...graph.nodes import attribute
from ...graph.traits import Trait, has_any, operator_key
from ..rewrite.free import FREE
from . import windows as windows
from .frames import AT_HEAD, Flow
from .step import RULES, Rule, Step, streams, stretched


def rule_of(node: onnx.NodeProto) -> Rule | None:
    if has_any(node, Trait.ELEMENTWISE):
        return stretched
    if has_any(node, Trait.REDUCES):
        return reduced
    return RULES.get(operator_key(node))


@streams("BatchNormalization")
def channelwise(step: Step) -> Flow | None:
    alone = step.alone() and step.main.axis != 1 and not any(step.node.output[1:])
    return step.same(step.main.axis) if alone else None


@streams("QuantizeLinear", "DequantizeLinear")
def scaled(step: Step) -> Flow | None:
    each = len(step.dims(1)) > 0 and step.dims(1) != (1,)
    return None if not step.alone() or (each and step.axis(1) == step.main.axis) else step.same(step.main.axis)


@streams("Softmax", "LogSoftmax", "Hardmax", "LpNormalization")
def across(step: Step) -> Flow | None:
    return step.same(step.main.axis) if step.axis(-1) != step.main.axis else None


@streams("LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization")
def normalized(step: Step) -> Flow | None:
    alone = step.alone() and not any(step.node.output[1:]) and step.main.axis < step.axis(-1)
    return step.same(step.main.axis) if alone else None


@streams("Split")
def parted(step: Step) -> Flow | None:
    return step.same(step.main.axis) if step.alone() and step.axis(0) != step.main.axis else None


@streams("Concat")
def chained(step: Step) -> Flow | None:
    """Side by side, or one stream with borders of any kind before and behind it, which the signal takes the place of."""
    operands = range(len(step.node.input))
    axes = {one.axis for k in operands if (one := step.of(k))}
    if axes == {step.axis(0)}:
        return _bordered(step)
    if any(step.of(k) is None for k in operands) or len(axes) != 1:
        return None
    return step.joined(axes.pop(), operands)


def _bordered(step: Step) -> Flow | None:
    lengths = [step.dims(k)[step.axis(0)] for k in range(len(step.node.input))]
    place = lengths.index(max(lengths))
    main = step.of(place)
    if step.exact or main is None or 2 * lengths[place] <= sum(lengths):
        return None
    name = step.node.input[place]
    node = onnx.helper.make_node("Identity", [name], step.node.output, step.node.name)
    made, view = windows.shifted(main, sum(lengths), sum(lengths[place + 1 :]))
    return Flow([made], {0: view}, node, padded=True)


@streams("Transpose")
def turned(step: Step) -> Flow | None:
    order = attribute(step.node, "perm", None) or list(range(len(step.dims(0))))[::-1]
    return step.same(list(order).index(step.main.axis))


@streams("Flatten", "Squeeze", "Unsqueeze", "Reshape")
def reshaped(step: Step) -> Flow | None:
    """The axis stays where as many numbers stand before and behind it as did."""
    if step.of(0) is None:
        return None
    before, after, axis = step.dims(0), step.made, step.main.axis
    places = [k for k, n in enumerate(after) if n == before[axis] and prod(after[:k]) == prod(before[:axis])]
    places = [k for k in places if prod(after[k + 1 :]) == prod(before[axis + 1 :])]
    if step.node.op_type == "Squeeze" and (len(places) > 1 or (step.ints(1) is None and before[axis] == 1)):
        rank = len(before)
        gone = [a % rank for a in step.ints(1) or [a for a, n in enumerate(before) if n == 1]]
        places = [] if axis in gone else [axis - sum(a < axis for a in gone)]
    if step.node.op_type == "Unsqueeze":
        new = {a % len(after) for a in step.ints(1) or ()}
        places = [[a for a in range(len(after)) if a not in new][axis]] if new else []
    if len(places) != 1:
        return None
    (place,) = places
    if step.node.op_type != "Reshape":
        return step.same(place)
    return step.same(place, shape=_target(before, after, place))


def _target(before: Sequence[int], after: Sequence[int], place: int) -> list[int | None]:
    """What a Reshape is told: lengths that follow from free ones are copied, one at most is worked out."""
    target: list[int | None] = []
    for k, n in enumerate(after):
        copied = n >= FREE and k < len(before) and before[k] == n
        target.append(None if k == place else 0 if copied else -1 if n >= FREE else n)
    return target


@streams("ArgMax", "ArgMin")
def reduced(step: Step) -> Flow | None:
    rank, axis = len(step.dims(0)), step.main.axis
    single = attribute(step.node, "axis", None)
    given = attribute(step.node, "axes", None) or step.ints(1) or ([] if single is None else [single])
    if step.node.op_type.startswith("Arg") and single is None:
        given = [0]
    gone = [a % rank for a in given]
    if not gone or axis in gone or not step.alone():
        return None
    return step.same(axis if attribute(step.node, "keepdims", 1) else axis - sum(a < axis for a in gone))


@streams("Gather")
def gathered(step: Step) -> Flow | None:
    """Frames of operand 0 that are picked from, or frames of numbers to look up in a table."""
    picks, rank = step.of(1), len(step.dims(1))
    if picks and step.still([0]):
        return step.joined(step.axis(0) + picks.axis, [1])
    if picks or not step.alone() or step.axis(0) == step.main.axis:
        return None
    axis = step.main.axis
    return step.same(axis if axis < step.axis(0) else axis + rank - 1)


@streams("MatMul")
def product(step: Step) -> Flow | None:
    """Rows of the left side, or columns of the right, or what stands in front of both; the other side is still."""
    side = 0 if step.of(0) else 1
    one, rank = step.of(side), len(step.made)
    assert one is not None
    dims, other = step.dims(side), step.dims(1 - side)
    summed = len(dims) - 1 if side == 0 or len(dims) == 1 else len(dims) - 2
    if not step.still([1 - side]) or one.axis == summed or len(other) < 2 or len(dims) < 2:
        return None
    axis = one.axis + rank - len(dims)
    place = axis - rank + len(other)
    if axis < rank - 2 and place >= 0 and other[place] != 1:
        return None
    return step.joined(axis, [side])


@streams("Gemm")
def affine(step: Step) -> Flow | None:
    rows = step.dims(2)[:-1] if step.name(2) else ()
    plain = step.alone() and step.main.axis == 0 and not attribute(step.node, "transA", 0)
    return step.same(0) if plain and all(n == 1 for n in rows) else None


@streams("LSTM", "GRU", "RNN")
def recurrent(step: Step) -> Flow | None:
    """States go on from run to run. Where last states are read as features, they are those of the newest frame."""
    node, main = step.node, step.main
    forward = attribute(node, "direction", "forward") == "forward" and not attribute(node, "layout", 0)
    if main.axis != 0 or not step.alone() or not forward or step.name(4):
        return None
    states = [(5, 1), (6, 2)] if node.op_type == "LSTM" else [(5, 1)]
    fresh = [p for p in states if step.name(p[0]) not in step.given or _output(node, p[1]) not in step.wanted]
    if fresh and (step.exact or any(not _zero(step, operand) for operand, _ in fresh)):
        return None
    used = step.read | step.wanted
    if any(_output(node, out) in used for _, out in fresh):
        first = _output(node, 0) in used
        return None if first else Flow([None] * len(node.output), {0: AT_HEAD}, carried=states, fresh=bool(fresh))
    flow = step.same(0)
    return Flow([flow.outputs[0], *([None] * (len(node.output) - 1))], carried=states, fresh=bool(fresh))


def _output(node: onnx.NodeProto, place: int) -> str:
    return node.output[place] if place < len(node.output) else ""


def _zero(step: Step, operand: int) -> bool:
    """Whether a first state is absent, or made of zeros."""
    name = step.name(operand)
    return not name or (name in step.weights and not np.any(step.weights[name]))
