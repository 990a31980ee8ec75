"""Hand-made graphs: recurrent operators with all their inputs, outputs and directions."""

from __future__ import annotations

import math

import numpy as np

from ..graph import Graph
from ..inputs import floats
from ..registry import handmade

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


def weights(g: Graph, kind: str, inside: int, hidden: int, directions: int = 1, bias: bool = True) -> list[str]:
    """W, R and perhaps B of a recurrent operator."""
    rows = GATES[kind] * hidden
    matrices = [g.weight(directions, rows, width, fan_in=width) for width in (inside, hidden)]
    return [*matrices, g.vector(directions, 2 * rows)] if bias else matrices


def squeezed(g: Graph, y: str) -> str:
    """(time, 1, batch, hidden) to (time, batch, hidden)."""
    return g.op("Squeeze", y, g.const([1]))


@handmade("hand_lstm_full", x=floats(6, 2, 12))
def lstm_full(g: Graph, x: str) -> str:
    """Both directions, lengths, initial states from parameters, peepholes; all three outputs are used."""
    y = g.op("Relu", g.matmul(x, 12, 16))
    states = [g.const(0.5 * g.random.standard_normal((2, 2, 14))) for _ in range(2)]
    full = [*weights(g, "LSTM", 16, 14, 2), g.const([6, 4], "int32"), *states, g.vector(2, 3 * 14)]
    y, h, c = g.ops("LSTM", y, *full, count=3, hidden_size=14, direction="bidirectional")
    y = g.op("Reshape", g.op("Transpose", y, perm=[0, 2, 1, 3]), g.const([6, 2, 28]))
    ends = g.op("Reshape", g.op("Transpose", g.op("Mul", h, c), perm=[1, 0, 2]), g.const([2, 28]))
    y = g.op("Add", g.matmul(y, 28, 18), g.matmul(ends, 28, 18))
    return g.matmul(g.op("Relu", y), 18, 5)


@handmade("hand_lstm_coupled", x=floats(6, 2, 12))
def lstm_coupled(g: Graph, x: str) -> str:
    """Reverse direction, input and forget gates coupled, clipped, no bias; then a layer that skips optional inputs."""
    w, r = weights(g, "LSTM", 12, 18, bias=False)
    y = g.op("LSTM", x, w, r, hidden_size=18, direction="reverse", input_forget=1, clip=3.0)
    w, r = weights(g, "LSTM", 18, 14, bias=False)
    start = g.const(0.5 * g.random.standard_normal((1, 2, 14)))
    _, h = g.ops("LSTM", squeezed(g, y), w, r, "", "", start, count=2, hidden_size=14)
    return g.linear(g.op("Relu", g.linear(g.op("Squeeze", h, g.const([0])), 14, 20)), 20, 5)


@handmade("hand_lstm_zero_state", x=floats("batch", 6, 12))
def lstm_zero_state(g: Graph, x: str) -> str:
    """As Keras exports do: time in front by Transpose, a zero state of the batch's size by Shape and Expand."""
    batch = g.op("Slice", g.op("Shape", x), g.const([0]), g.const([1]))
    size = g.op("Concat", g.const([1]), batch, g.const([18]), axis=0)
    zeros = g.op("Expand", g.const(np.zeros((1, 1, 18))), size)
    y = g.op("Transpose", x, perm=[1, 0, 2])
    y = g.op("LSTM", y, *weights(g, "LSTM", 12, 18), "", zeros, zeros, hidden_size=18)
    y = g.op("Transpose", squeezed(g, y), perm=[1, 0, 2])
    last = g.op("Squeeze", g.op("Slice", y, g.const([-1]), g.const([2**31]), g.const([1])), g.const([1]))
    return g.linear(g.op("Relu", g.linear(last, 18, 14)), 14, 5)


@handmade("hand_gru_full", x=floats(6, 2, 12))
def gru_full(g: Graph, x: str) -> str:
    """Both ways of resetting, both directions with a computed initial state, other activations."""
    context = g.op("Tanh", g.matmul(g.op("ReduceMean", x, axes=[0], keepdims=0), 12, 32))
    start = g.op("Transpose", g.op("Reshape", context, g.const([2, 2, 16])), perm=[1, 0, 2])
    w, r, b = weights(g, "GRU", 12, 16, 2)
    y = g.op("GRU", x, w, r, b, "", start, hidden_size=16, direction="bidirectional", linear_before_reset=1)
    y = g.op("ReduceSum", y, g.const([1]), keepdims=0)
    w, r, b = weights(g, "GRU", 16, 20)
    y = g.op("GRU", y, w, r, b, hidden_size=20, linear_before_reset=0, activations=["HardSigmoid", "Softsign"])
    return g.matmul(g.op("Relu", g.matmul(squeezed(g, y), 20, 14)), 14, 5)


@handmade("hand_rnn_full", x=floats(6, 2, 12))
def rnn_full(g: Graph, x: str) -> str:
    """Plain cells: two directions with different activations, concatenated states, lengths."""
    lengths = g.const([5, 6], "int32")
    full = [*weights(g, "RNN", 12, 15, 2), lengths]
    _, h = g.ops("RNN", x, *full, count=2, hidden_size=15, direction="bidirectional", activations=["Tanh", "Sigmoid"])
    h = g.op("Concat", *(g.op("Gather", h, g.const(i), axis=0) for i in (1, 0)), axis=-1)
    return g.linear(g.op("Relu", g.linear(h, 30, 18)), 18, 5)


@handmade("hand_recurrent_chain", x=floats(5, 2, 8))
def recurrent_chain(g: Graph, x: str) -> str:
    """LSTM into GRU into RNN, a residual around the middle one."""
    y = squeezed(g, g.op("LSTM", x, *weights(g, "LSTM", 8, 16), hidden_size=16))
    z = squeezed(g, g.op("GRU", y, *weights(g, "GRU", 16, 16), hidden_size=16))
    y = squeezed(g, g.op("RNN", g.op("Add", y, z), *weights(g, "RNN", 16, 22), hidden_size=22))
    return g.matmul(g.op("ReduceMax", y, axes=[0], keepdims=0), 22, 5)


@handmade("hand_time_convolution", x=floats(2, 10, 8))
def time_convolution(g: Graph, x: str) -> str:
    """Time unrolled by slices: one matrix multiplies every window (TDNN without a convolution)."""
    y = g.op("Relu", g.matmul(x, 8, 12))
    windows = [
        g.op("Slice", y, g.const([i]), g.const([8 + i]), g.const([1])) for i in range(3)
    ]  # fmt: skip
    y = g.op("Relu", g.matmul(g.op("Concat", *windows, axis=2), 36, 20))
    scale = g.const(1 / math.sqrt(8))
    return g.matmul(g.op("Mul", g.op("ReduceSum", y, g.const([1]), keepdims=0), scale), 20, 5)
