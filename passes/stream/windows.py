"""Rules of operators that look at neighbours in time: windows that slide, borders that are added or cut."""

from __future__ import annotations

from dataclasses import replace
from math import lcm

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
    made = Frames(main.axis, length, main.rate * stride, 0, lcm(main.step, main.rate * stride))
    made = replace(made, delay=made.late_by(main.delay + reach * main.rate))
    late = main.later(made) - reach
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
    made, view = shifted(main, main.length + begin + end, end)
    padded = begin > 0 or end > 0
    if any(left):
        return Flow([made], {0: view}, constants={1: left}, padded=padded)
    return Flow([made], {0: view}, _idle(step), padded=padded)


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
    made, view = shifted(main, end - begin, end - main.length)
    if len(axes) == 1:
        return Flow([made], {0: view}, _idle(step))
    starts[place], ends[place] = 0, _EVERYTHING
    return Flow([made], {0: view}, constants={1: starts, 2: ends})


@streams("ConvTranspose")
def spread(step: Step) -> Flow | None:
    """Frames that later ones add to are waited for; those of before are read again, and what only they make is cut off.

    With stride s and a kernel of span k, frame i adds to s i ... s i + k - 1. Behind the newest frame n all up to s (n + 1) - 1 is
    complete.
    """
    main, place, node = step.main, step.main.axis - 2, step.node
    plain = attribute(node, "auto_pad", "NOTSET") == "NOTSET" and not attribute(node, "output_shape", None)
    if place < 0 or not step.alone() or not plain:
        return None
    kernel = attribute(node, "kernel_shape", None) or list(step.dims(1)[2:])
    sizes = len(kernel)
    pads = list(attribute(node, "pads", None) or [0] * 2 * sizes)
    more = list(attribute(node, "output_padding", None) or [0] * sizes)
    stride = (attribute(node, "strides", None) or [1] * sizes)[place]
    span = (attribute(node, "dilations", None) or [1] * sizes)[place] * (kernel[place] - 1) + 1
    length = step.made[main.axis]
    reach = length + pads[place] - main.length * stride
    padded = pads[place] < span - stride or reach > 0
    if main.rate % stride or (padded and step.exact):
        return None
    made = Frames(main.axis, length, main.rate // stride, 0, main.step)
    made = replace(made, delay=made.late_by(main.delay + reach * made.rate))
    late, held = divmod((made.delay - main.delay) // made.rate - reach, stride)
    past = max(-(-(span - stride + held) // stride), int(held > 0))
    pads[place], over = past * stride - held, span - stride + held
    pads[sizes + place], more[place] = max(over, 0), max(-over, 0)
    node = copied(node)
    set_attribute(node, "pads", pads)
    set_attribute(node, "output_padding", more)
    return Flow([made], {0: View(past, late)}, node, padded=padded)


@streams("Resize", "Upsample")
def repeated(step: Step) -> Flow | None:
    """Each frame so many times, or mixed with its neighbours, of which one more is waited for.

    Where a size is asked for, or what is mixed hangs on the length of the window, whole windows are needed.
    """
    main, node = step.main, step.node
    name = step.name(1 if node.op_type == "Upsample" or len(node.input) == 2 else 2)
    scales = step.weights.get(name)
    if scales is None or len(scales) != len(step.dims(0)) or not step.alone():
        return None
    factor = float(scales[main.axis])
    how = attribute(node, "coordinate_transformation_mode", "half_pixel" if len(node.input) > 2 else "asymmetric")
    pick = attribute(node, "nearest_mode", "round_prefer_floor" if len(node.input) > 2 else "floor")
    plain = (how == "asymmetric" and pick == "floor") or (how == "half_pixel" and pick.startswith("round"))
    mode, mixed = attribute(node, "mode", "nearest"), how in ("asymmetric", "half_pixel", "pytorch_half_pixel")
    if factor < 1 or factor % 1 or main.rate % int(factor):
        return None
    made = Frames(main.axis, step.made[main.axis], main.rate // int(factor), main.delay, main.step)
    if factor == 1 or (mode == "nearest" and plain):
        return Flow([made])
    if mode != "linear" or not mixed or step.exact or attribute(node, "antialias", 0):
        return None
    made = replace(made, delay=made.late_by(main.delay + main.rate))
    return Flow([made], {0: View(2, main.later(made) - 1)}, padded=True, cut=int(factor))


def shifted(main: Frames, length: int, later: int) -> tuple[Frames, View]:
    """A stream whose windows end so many frames later, and the view that it is."""
    wanted = main.delay + later * main.rate
    made = replace(main, length=length, delay=main.late_by(wanted))
    return made, View(late=(made.delay - wanted) // main.rate)


def _idle(step: Step) -> onnx.NodeProto:
    return onnx.helper.make_node("Identity", step.node.input[:1], step.node.output, step.node.name)


def _bounds(start: int, end: int, length: int) -> tuple[int, int]:
    """Of a slice of step 1, counted from the front."""
    first, last = (min(max(one + length if one < 0 else one, 0), length) for one in (start, end))
    return first, max(first, last)
