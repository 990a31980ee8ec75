"""Recurrent layers, step by step: every step is written, so that no state is left from one run to the next."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ....graph.nodes import attribute
from ....graph.traits.recurrent import FUNCTIONS, STATES
from ..builder import Builder
from ..plan import Step
from ..program import FLOAT, Tensor
from ..table import Refused, converts
from .moves import part
from .pointwise import pair, unary

_LONGEST = 512
"""Steps that are written one by one."""
State = list[Tensor]
Cell = Callable[[Tensor, State, np.ndarray, np.ndarray, Builder], State]
"""From what comes in, times its weights, and the states, to new states; recurrent weights and biases, (G·H, H) and (G·H)."""


@converts("LSTM")
def lstm(step: Step, make: Builder) -> None:
    """Gates input, output, forget, cell. Shapes: W (D, 4H, I), R (D, 4H, H), B (D, 8H)."""
    if step.operand(7):
        raise Refused("it has peepholes", "leave them out")
    if attribute(step.node, "input_forget", 0):
        raise Refused("its gates are coupled", "leave out input_forget")
    _recurrent(step, make, _lstm_cell)


@converts("GRU")
def gru(step: Step, make: Builder) -> None:
    """Gates update, reset, hidden. Shapes: W (D, 3H, I), R (D, 3H, H), B (D, 6H)."""
    cell = _gru_cell if attribute(step.node, "linear_before_reset", 0) else _gru_cell_reset_first
    _recurrent(step, make, cell)


@converts("RNN")
def rnn(step: Step, make: Builder) -> None:
    _recurrent(step, make, _rnn_cell)


def _connected(x: Tensor, weight: np.ndarray, bias: np.ndarray | None, make: Builder) -> Tensor:
    offset = np.zeros(len(weight), np.float32) if bias is None else bias
    operands = [x, make.constant(weight), make.constant(offset)]
    return make.emit("FULLY_CONNECTED", operands, (x.shape[0], len(weight)), FLOAT, act="NONE")


def _gates(x: Tensor, count: int, make: Builder) -> list[Tensor]:
    width = x.shape[1] // count
    return [part(x, 1, k * width, (x.shape[0], width), make) for k in range(count)]


def _lstm_cell(x: Tensor, state: State, r: np.ndarray, rb: np.ndarray, make: Builder) -> State:
    hidden, cell = state
    i, o, f, c = _gates(pair("ADD", x, _connected(hidden, r, rb, make), make), 4, make)
    kept = pair("MUL", unary("LOGISTIC", f, make), cell, make)
    new = pair("ADD", kept, pair("MUL", unary("LOGISTIC", i, make), unary("TANH", c, make), make), make)
    return [pair("MUL", unary("LOGISTIC", o, make), unary("TANH", new, make), make), new]


def _gru_cell(x: Tensor, state: State, r: np.ndarray, rb: np.ndarray, make: Builder) -> State:
    xz, xr, xh = _gates(x, 3, make)
    hz, hr, hh = _gates(_connected(state[0], r, rb, make), 3, make)
    reset = unary("LOGISTIC", pair("ADD", xr, hr, make), make)
    return _mixed(pair("ADD", xz, hz, make), pair("ADD", xh, pair("MUL", reset, hh, make), make), state[0], make)


def _gru_cell_reset_first(x: Tensor, state: State, r: np.ndarray, rb: np.ndarray, make: Builder) -> State:
    width = r.shape[1]
    xz, xr, xh = _gates(x, 3, make)
    hz, hr = _gates(_connected(state[0], r[: 2 * width], rb[: 2 * width], make), 2, make)
    reset = unary("LOGISTIC", pair("ADD", xr, hr, make), make)
    inner = _connected(pair("MUL", reset, state[0], make), r[2 * width :], rb[2 * width :], make)
    return _mixed(pair("ADD", xz, hz, make), pair("ADD", xh, inner, make), state[0], make)


def _mixed(update: Tensor, new: Tensor, old: Tensor, make: Builder) -> State:
    """new + z (old - new)"""
    made = unary("TANH", new, make)
    return [pair("ADD", made, pair("MUL", unary("LOGISTIC", update, make), pair("SUB", old, made, make), make), make)]


def _rnn_cell(x: Tensor, state: State, r: np.ndarray, rb: np.ndarray, make: Builder) -> State:
    return [unary("TANH", pair("ADD", x, _connected(state[0], r, rb, make), make), make)]


def _recurrent(step: Step, make: Builder, cell: Cell) -> None:
    node = step.node
    usual, states = FUNCTIONS[node.op_type], STATES[node.op_type]
    weights = [make.known(name) for name in node.input[1:3]]
    direction, functions = attribute(node, "direction", "forward"), attribute(node, "activations", None)
    turns = {"forward": [False], "reverse": [True], "bidirectional": [False, True]}[direction]
    if weights[0] is None or weights[1] is None:
        raise Refused("its weights are computed", "make them constants")
    if (functions and tuple(functions) != usual * len(turns)) or attribute(node, "clip", 0):
        raise Refused("its functions are not the usual ones", "use the default activations, without clip")
    if step.operand(4) and not _all_steps(step, make):
        raise Refused("sequences have lengths of their own", "leave out sequence_lens")
    batch_first = attribute(node, "layout", 0)
    if batch_first:
        raise Refused("its layout is batch first", "use layout 0")
    x = make.read(step.operand(0))
    if x.shape[0] > _LONGEST:
        raise Refused(f"it makes {x.shape[0]} steps, each of which is written", f"at most {_LONGEST}: shorten it")
    made = [_direction(step, make, cell, x, d, back, states) for d, back in enumerate(turns)]
    _give(step, make, made)


def _all_steps(step: Step, make: Builder) -> bool:
    lengths = make.known(step.operand(4))
    return lengths is not None and bool(np.all(lengths == make.dims(step.operand(0))[0]))


def _direction(
    step: Step, make: Builder, cell: Cell, x: Tensor, d: int, back: bool, states: Sequence[int]
) -> tuple[list[Tensor], State]:
    """What one direction makes: its hidden state after every step in order of time, and the last states."""
    w, r = (np.asarray(make.known(step.operand(k)))[d] for k in (1, 2))
    bias = make.known(step.operand(3)) if step.operand(3) else None
    both = np.zeros(2 * len(w), np.float32) if bias is None else np.asarray(bias)[d]
    length, batch, wide = x.shape
    rows = _connected(make.reshape(x, (length * batch, wide)), w, both[: len(w)], make)
    state = [_first(step.operand(place), d, batch, r.shape[1], make) for place in states]
    hidden: list[Tensor] = []
    for t in range(length)[:: -1 if back else 1]:
        now = part(rows, 0, t * batch, (batch, len(w)), make) if length > 1 else rows
        state = cell(now, state, r, both[len(w) :], make)
        hidden.append(state[0])
    return hidden[:: -1 if back else 1], state


def _first(name: str, d: int, batch: int, width: int, make: Builder) -> Tensor:
    if not name:
        return make.constant(np.zeros((batch, width), np.float32))
    return make.reshape(part(make.read(name), 0, d, (1, batch, width), make), (batch, width))


def _give(step: Step, make: Builder, made: list[tuple[list[Tensor], State]]) -> None:
    """Y (T, D, N, H), and the last states (D, N, H)."""
    outputs = step.node.output
    if outputs[0]:
        flat = [make.reshape(h, (1, 1, *h.shape)) for hidden in zip(*(m[0] for m in made), strict=True) for h in hidden]
        joined = _joined(flat, 0, make)
        make.give(make.reshape(joined, make.dims(outputs[0])))
    for at, number in zip(range(1, len(outputs)), range(2), strict=False):
        if outputs[at]:
            last = [make.reshape(m[1][number], (1, *m[1][number].shape)) for m in made]
            make.hold(outputs[at], _joined(last, 0, make))


def _joined(parts: list[Tensor], axis: int, make: Builder) -> Tensor:
    if len(parts) == 1:
        return parts[0]
    shape = tuple(sum(p.shape[axis] for p in parts) if k == axis else n for k, n in enumerate(parts[0].shape))
    return make.emit("CONCATENATION", parts, shape, FLOAT, "NONE", axis=axis)
