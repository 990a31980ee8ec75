"""Rules of operators that look at neighbours in time: windows that slide, borders that are added or cut."""

from __future__ import annotations

import onnx

from ...graph.layer import Window
from ...graph.nodes import attribute, copied, set_attribute
from .frames import Flow, Frames, View
from .step import Step, streams

_EVERYTHING = (1 << 31) - 1


@streams("Conv", "MaxPool", "AveragePool", "LpPool")
def slide(step: Step) -> Flow | None:
    """Frames from before take the place of what pads the beginning; what pads the end is waited for."""
    main, place = step.main, step.main.axis - 2
    if main.axis == 0 and step.alone():
        return step.same(0)
    if place < 0 or not step.alone() or any(step.node.output[1:]):
        return None
    kernel = tuple(attribute(step.node, "kernel_shape", None) or step.dims(1)[2:])
    window = Window.of(step.node, kernel)
    begins, ends = window.padding(step.dims(0)[2:])
    stride, span = window.strides[place], window.dilations[place] * (kernel[place] - 1) + 1
    length = step.made[main.axis]
    reach = (length - 1) * stride - begins[place] + span - main.length
    padded = begins[place] > 0 or reach > 0
    if padded and step.exact:
        return None
    rate = main.rate * stride
    delay = -(-(main.delay + reach * main.rate) // rate) * rate
    late = (delay - main.delay) // main.rate - reach
    made = Frames(main.axis, length, rate, delay)
    node = copied(step.node)
    pads = [0 if axis == place else pad for side in (begins, ends) for axis, pad in enumerate(side)]
    set_attribute(node, "pads", pads)
    set_attribute(node, "auto_pad", "NOTSET")
    return Flow([made], {0: View(span - stride, late)}, node, padded=padded)


@streams("Pad")
def border(step: Step) -> Flow | None:
    """Of a border in time nothing is left but that the end is waited for; one that cuts is waited for no longer."""
    pads, rank, main = step.ints(1), len(step.dims(0)), step.main
    given = step.ints(3) if step.name(3) else list(range(rank))
    if pads is None or given is None or not step.alone():
        return None
    axes = [axis % rank for axis in given]
    if main.axis not in axes:
        return step.same(main.axis)
    place = axes.index(main.axis)
    begin, end = pads[place], pads[len(axes) + place]
    if step.exact and (begin > 0 or end > 0):
        return None
    left = [0 if k % len(axes) == place else pad for k, pad in enumerate(pads)]
    made = Frames(main.axis, main.length + begin + end, main.rate, main.delay + end * main.rate)
    padded = begin > 0 or end > 0
    return (
        Flow([made], constants={1: left}, padded=padded) if any(left) else Flow([made], node=_idle(step), padded=padded)
    )


@streams("Slice")
def cut(step: Step) -> Flow | None:
    """What is cut off the end need not be waited for."""
    main, shape = step.main, step.dims(0)
    starts, ends = step.ints(1), step.ints(2)
    if starts is None or ends is None or not step.alone():
        return None
    axes = step.ints(3) if step.name(3) else list(range(len(starts)))
    steps = step.ints(4) if step.name(4) else [1] * len(starts)
    if axes is None or steps is None:
        return None
    axes = [axis % len(shape) for axis in axes]
    if main.axis not in axes:
        return step.same(main.axis)
    place = axes.index(main.axis)
    if steps[place] != 1:
        return None
    begin, end = _bounds(starts[place], ends[place], main.length)
    made = Frames(main.axis, end - begin, main.rate, main.delay - (main.length - end) * main.rate)
    if len(axes) == 1:
        return Flow([made], node=_idle(step))
    starts[place], ends[place] = 0, _EVERYTHING
    return Flow([made], constants={1: starts, 2: ends})


def _idle(step: Step) -> onnx.NodeProto:
    return onnx.helper.make_node("Identity", step.node.input[:1], step.node.output, step.node.name)


def _bounds(start: int, end: int, length: int) -> tuple[int, int]:
    """Of a slice of step 1, counted from the front."""
    first, last = (min(max(one + length if one < 0 else one, 0), length) for one in (start, end))
    return first, max(first, last)
