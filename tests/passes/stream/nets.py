"""Small networks in time, drawn at random, and the loop that a user writes around a streamed one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from intaglio.graph.io.load import from_proto
from intaglio.graph.model import Model
from intaglio.measure.run.session import open_session

Array = np.ndarray


@dataclass
class Net:
    """A graph while it is written; ``x`` is the last tensor and ``shape`` what it has, batch left out."""

    rng: np.random.Generator
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    weights: dict[str, Array] = field(default_factory=dict)

    def put(self, value: Any) -> str:
        name = f"w{len(self.weights)}"
        self.weights[name] = np.asarray(value)
        return name

    def draw(self, *shape: int) -> str:
        return self.put((self.rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]) or 1)).astype(np.float32))

    def add(self, op: str, inputs: list[str], **attributes: Any) -> str:
        name = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], name, **attributes))
        return name

    def ints(self, *numbers: int) -> str:
        return self.put(np.array(numbers, np.int64))

    def model(self, inputs: dict[str, list[Any]], outputs: dict[str, int]) -> Model:
        made = helper.make_tensor_value_info
        graph = helper.make_graph(
            self.nodes,
            "net",
            [made(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
            [made(name, TensorProto.FLOAT, [None] * rank) for name, rank in outputs.items()],
            [onnx.numpy_helper.from_array(value, name) for name, value in self.weights.items()],
        )
        return from_proto(helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)]))


def drawn(seed: int, window: int | str, *, padded: bool = False) -> tuple[Model, int, int]:
    """A network of convolutions, pools and branches, the axis of time, and what a hop must be a multiple of."""
    rng = np.random.default_rng(seed)
    net, flat = Net(rng), bool(rng.integers(2))
    axis = 2 if flat else int(rng.integers(2, 4))
    channels, rate, x = 3, 1, "x"
    shape = [1, channels, window] if flat else [1, channels, *((window, 6) if axis == 2 else (6, window))]
    for k in range(int(rng.integers(2, 5))):
        kind = rng.choice(["conv", "pool", "branch", "affine"]) if k else "conv"
        stride = int(rng.integers(1, 3))
        if kind == "pool":
            span = int(rng.integers(2, 4))
            op = str(rng.choice(["MaxPool", "AveragePool"]))
            x = net.add(op, [x], **_window(net, flat, axis, span, stride, 1, padded))
        elif kind == "conv":
            made = int(rng.choice([3, 6]))
            x = _conv(net, x, channels, made, flat, axis, stride, padded)
            channels = made
            x = net.add("Relu", [x])
        elif kind == "affine":
            stride = 1
            x = net.add("Add", [net.add("Mul", [x, net.draw(channels, *([1] * (len(shape) - 2)))]), net.draw(1)])
        else:
            stride = 1
            x, channels = _branch(net, x, channels, flat, axis, padded)
        rate *= stride
    return (
        net.model({"x": shape}, {x: len(shape)}) if not _headed(rng, padded) else _head(net, x, channels, shape),
        axis,
        rate,
    )


def _headed(rng: np.random.Generator, padded: bool) -> bool:
    return not padded and bool(rng.integers(2))


def _head(net: Net, x: str, channels: int, shape: list[Any]) -> Model:
    x = net.add("Flatten", [net.add("GlobalAveragePool", [x])])
    x = net.add("Gemm", [x, net.draw(4, channels), net.draw(4)], transB=1)
    return net.model({"x": shape}, {net.add("Softmax", [x], axis=1): 2})


def _window(net: Net, flat: bool, axis: int, span: int, stride: int, dilation: int, padded: bool) -> dict[str, Any]:
    """A window of ``span`` along time; along frequency it is 1."""
    reach = dilation * (span - 1)
    begin = int(net.rng.integers(reach + 1)) if padded else 0
    end = max(0, reach - begin) if padded else 0
    place = axis - 2
    along = [span] if flat else [span if k == place else 1 for k in range(2)]
    strides = [stride] if flat else [stride if k == place else 1 for k in range(2)]
    pads = [begin if k == place else 0 for k in range(len(along))] + [
        end if k == place else 0 for k in range(len(along))
    ]
    dilations = {} if dilation == 1 else {"dilations": [dilation if k == place else 1 for k in range(len(along))]}
    return {"kernel_shape": along, "strides": strides, "pads": pads, **dilations}


def _conv(net: Net, x: str, given: int, made: int, flat: bool, axis: int, stride: int, padded: bool) -> str:
    span, dilation, group = int(net.rng.integers(1, 5)), int(net.rng.integers(1, 4)), int(net.rng.choice([1, 3]))
    window = _window(net, flat, axis, span, stride, dilation, padded)
    weight = net.draw(made, given // group, *window["kernel_shape"])
    return net.add("Conv", [x, weight, net.draw(made)], group=group, **window)


def _branch(net: Net, x: str, channels: int, flat: bool, axis: int, padded: bool) -> tuple[str, int]:
    """A convolution beside what it reads, cut to the same length: added, or side by side."""
    span = int(net.rng.integers(2, 5))
    window = _window(net, flat, axis, span, 1, 1, padded)
    weight = net.draw(channels, channels, *window["kernel_shape"])
    y = net.add("Conv", [x, weight], **window)
    if not padded:
        before = int(net.rng.integers(span))
        after = span - 1 - before
        x = net.add("Slice", [x, net.ints(before), net.ints(-after if after else 1 << 40), net.ints(axis)])
    if net.rng.integers(2):
        return net.add("Add", [x, y]), channels
    x = net.add("Concat", [y, x], axis=1)
    mix = net.draw(channels, 2 * channels, *([1] * (1 if flat else 2)))
    return net.add("Conv", [x, mix]), channels


def hopped(told: Any, model: Model, signals: dict[str, Array], hops: int) -> list[dict[str, Array]]:
    """What a program does with a streamed model: run it on each hop, hand states on."""
    session, hop, axis = open_session(model), told["hop"], told["axis"]
    states = {
        one["name"]: np.zeros([n if isinstance(n, int) else 1 for n in one["shape"]], np.float32)
        for one in told["states"]
    }
    made = []
    for k in range(hops):
        parts = {name: np.take(v, range(k * hop, (k + 1) * hop), axis=axis[name]) for name, v in signals.items()}
        names = [output.name for output in session.get_outputs()]
        out = dict(zip(names, session.run(names, {**parts, **states}), strict=True))
        states = {one["name"]: out[one["next"]] for one in told["states"]}
        made.append(out)
    return made
