"""Recurrent layers: for each sequence a loop over time, with the state and the gates of one step in scratch memory."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ....graph.traits.recurrent import FUNCTIONS, STATES
from ..expressions import spelled
from ..loops import c, index
from ..rules import Call, Unsupported, rule
from ..tensor import Tensor

_FUNCTIONS = {name.lower(): name for name in ("HardSigmoid", "Relu", "Sigmoid", "Softplus", "Softsign", "Tanh")}


@dataclass(frozen=True)
class _Cell:
    """``weights`` (inputs, columns) and ``recurrent`` (hidden, columns) add to ``start`` from columns 0 and ``at`` on."""

    weights: np.ndarray
    recurrent: np.ndarray
    start: np.ndarray
    at: int
    text: str


@rule("LSTM")
def lstm(call: Call) -> None:
    """Gates input, output, forget, cell. Shapes: W (D, 4H, I), R (D, 4H, H), B (D, 8H), P (D, 3H)."""
    if call.attr("input_forget", 0):
        raise Unsupported("its gates are coupled")
    _recurrent(call, _lstm_cell)


@rule("GRU")
def gru(call: Call) -> None:
    """Gates update, reset, hidden. Shapes: W (D, 3H, I), R (D, 3H, H), B (D, 6H)."""
    _recurrent(call, _gru_cell if call.attr("linear_before_reset", 0) else _gru_cell_reset_first)


@rule("RNN")
def rnn(call: Call) -> None:
    """Shapes: W (D, H, I), R (D, H, H), B (D, 2H)."""
    _recurrent(call, _rnn_cell)


def _lstm_cell(call: Call, d: int, hidden: int) -> _Cell:
    w, r, (wb, rb) = _weights(call, d)
    f, g, h = _functions(call, d)
    peeps = call.constant(7, "its peepholes")[d] if call.has(7) else None
    looks = [f" + {call.program.table(p)}[i] * $c" for p in np.split(peeps, 3)] if peeps is not None else [""] * 3
    text = c(
        """
        const $t a = s0[i]$look_i;
        const $t e = s0[i + $two]$look_f;
        const $t g = s0[i + $three];
        const $t m = ($f_e) * s2[i] + ($f_a) * ($g_g);
        const $t o = s0[i + $one]$look_o;
        s2[i] = m;
        s1[i] = ($f_o) * ($h_m);
        """,
        t=call.x(0).ctype,
        one=hidden,
        two=2 * hidden,
        three=3 * hidden,
        look_i=looks[0].replace("$c", "s2[i]"),
        look_o=looks[1].replace("$c", "m"),
        look_f=looks[2].replace("$c", "s2[i]"),
        **{f"f_{v}": f.format(v) for v in "aeo"},
        g_g=g.format("g"),
        h_m=h.format("m"),
    )
    return _Cell(w, r, wb + rb, 0, _each(hidden, text))


def _gru_cell(call: Call, d: int, hidden: int) -> _Cell:
    """Columns: hidden of the input, update, reset, hidden of the state."""
    w, r, (wb, rb) = _weights(call, d)
    turn = np.roll(np.arange(3 * hidden), hidden)
    start = np.concatenate([wb[2 * hidden :], (wb + rb)[: 2 * hidden], rb[2 * hidden :]])
    f, g = _functions(call, d)
    text = c(
        """
        const $t a = s0[i + $one], e = s0[i + $two];
        const $t z = $f_a, m = s0[i] + ($f_e) * s0[i + $three];
        s1[i] = z * s1[i] + (1 - z) * ($g_m);
        """,
        t=call.x(0).ctype,
        one=hidden,
        two=2 * hidden,
        three=3 * hidden,
        f_a=f.format("a"),
        f_e=f.format("e"),
        g_m=g.format("m"),
    )
    return _Cell(w[:, turn], r, start, hidden, _each(hidden, text))


def _gru_cell_reset_first(call: Call, d: int, hidden: int) -> _Cell:
    """Columns: hidden, update, reset. What is left of the state after the reset is multiplied by weights of its own."""
    w, r, (wb, rb) = _weights(call, d)
    turn = np.roll(np.arange(3 * hidden), hidden)
    f, g = _functions(call, d)
    text = c(
        """
        for (int i = 0; i < $one; i++) {
            const $t a = s0[i + $two];
            s2[i] = ($f_a) * s1[i];
        }
        for (int k = 0; k < $one; k++) {
            const $t v = s2[k];
            for (int i = 0; i < $one; i++) s0[i] += v * $last[k * $one + i];
        }
        for (int i = 0; i < $one; i++) {
            const $t a = s0[i + $one], m = s0[i];
            const $t z = $f_a;
            s1[i] = z * s1[i] + (1 - z) * ($g_m);
        }
        """,
        t=call.x(0).ctype,
        one=hidden,
        two=2 * hidden,
        last=call.program.table(r[:, 2 * hidden :]),
        f_a=f.format("a"),
        g_m=g.format("m"),
    )
    return _Cell(w[:, turn], r[:, : 2 * hidden], (wb + rb)[turn], hidden, text)


def _rnn_cell(call: Call, d: int, hidden: int) -> _Cell:
    w, r, (wb, rb) = _weights(call, d)
    (f,) = _functions(call, d)
    return _Cell(w, r, wb + rb, 0, _each(hidden, f"const {call.x(0).ctype} m = s0[i];\ns1[i] = {f.format('m')};"))


def _each(hidden: int, text: str) -> str:
    return c("for (int i = 0; i < $h; i++) {\n    $text\n}", h=hidden, text=text)


def _weights(call: Call, d: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of one direction. Shapes: (I, G H), (H, G H), biases (2, G H)."""
    w, r = (call.constant(k, "its weight")[d].T for k in (1, 2))
    bias = call.constant(3, "its bias")[d] if call.has(3) else np.zeros(2 * w.shape[1], w.dtype)
    return w, r, bias.reshape(2, -1)


def _functions(call: Call, d: int) -> list[str]:
    """Texts of a direction's functions."""
    usual = FUNCTIONS[call.operation.key]
    named = call.attr("activations") or list(usual) * 2
    found = []
    for name in named[d * len(usual) : (d + 1) * len(usual)]:
        if name.lower() not in _FUNCTIONS or call.attr("activation_alpha") or call.attr("activation_beta"):
            raise Unsupported(f"its function {name} is not written, or not with numbers of its own")
        dtype = call.dtypes[0]
        statement = spelled(call.operation.node, _FUNCTIONS[name.lower()], [dtype], dtype)
        assert statement is not None
        found.append(statement.text)
    return found


@dataclass
class _Ends:
    """Operands of a step by the names that its body has for them."""

    inputs: list[Tensor]
    outputs: list[Tensor]

    def read(self, tensor: Tensor) -> str:
        self.inputs.append(tensor)
        return f"x{len(self.inputs) - 1}"

    def write(self, tensor: Tensor) -> str:
        self.outputs.append(tensor)
        return f"y{len(self.outputs) - 1}"


def _recurrent(call: Call, cell: Callable[[Call, int, int], _Cell]) -> None:
    if call.attr("clip", 0):
        raise Unsupported("its sums are clipped")
    directions = {"forward": [False], "reverse": [True], "bidirectional": [False, True]}[
        call.attr("direction", "forward")
    ]
    ends = _Ends([call.x(0)], [])
    made = {k: (ends.write(t), t) for k, t in _made(call).items()}
    lengths = f"net_within({ends.read(call.x(4))}[n * {call.x(4).stride(0)}], $most)" if call.has(4) else "$most"
    first = {k: (ends.read(call.x(k)), call.x(k)) for k in (5, 6) if call.has(k)}
    hidden = call.constant(2, "its weight").shape[-1]
    columns = 0
    parts = []
    for d, back in enumerate(directions):
        one = cell(call, d, hidden)
        columns = max(columns, len(one.start))
        parts.append(_direction(call, one, d, back, made, first, lengths))
    text = "\n".join(parts)
    scratch = [(call.x(0).ctype, n) for k, n in enumerate((columns, hidden, hidden)) if f"s{k}[" in text]
    call.step(text, ends.inputs, ends.outputs, scratch)


def _made(call: Call) -> dict[int, Tensor]:
    """The outputs that somebody has a name for."""
    return {k: call.output(k) for k, name in enumerate(call.operation.outputs) if name}


@dataclass(frozen=True)
class _States:
    """Text that reads first states, keeps those of each step, clears what lies past a sequence's end, writes the last ones."""

    starts: str
    kept: str
    rest: str
    ends: str


def _states(
    call: Call, d: int, hidden: int, made: dict[int, tuple[str, Tensor]], first: dict[int, tuple[str, Tensor]]
) -> _States:
    batch_first, time = bool(call.attr("layout", 0)), call.x(0).dims[1 if call.attr("layout", 0) else 0]
    states = [(operand, k, f"s{k}") for k, operand in enumerate(STATES[call.operation.key], 1)]
    place = (1, 0) if batch_first else (0, 1)
    units = f"for (int i = 0; i < {hidden}; i++)"

    def at(tensor: Tensor) -> str:
        """Of a state of shape (D, N, H), or (N, D, H)."""
        return index([(str(d), tensor.stride(place[0])), ("n", tensor.stride(place[1])), ("i", tensor.stride(2))])

    starts = [f"{s}[i] = {f'{first[k][0]}[{at(first[k][1])}]' if k in first else '0'};" for k, _, s in states]
    ends = [f"{made[k][0]}[{at(made[k][1])}] = {s}[i];" for _, k, s in states if k in made]
    kept, rest = "", ""
    if 0 in made:
        name, y = made[0]
        axes = (1, 2, 0) if batch_first else (0, 1, 2)  # time, direction, sequence
        named = zip(("p", str(d), "n"), axes, strict=True)
        where = index([*((one, y.stride(axis)) for one, axis in named), ("i", y.stride(3))])
        kept = f"{units} {name}[{where}] = s1[i];"
        rest = f"for (int p = length; p < {time}; p++) {units} {name}[{where}] = 0;" if call.has(4) else ""
    written = f"{units} {{\n    {' '.join(ends)}\n}}" if ends else ""
    return _States("\n".join(starts), kept, rest, written)


_SEQUENCES = """
for (int n = 0; n < $batch; n++) {
    const int length = $length;
    for (int i = 0; i < $hidden; i++) {
        $starts
    }
    for (int t = 0; t < length; t++) {
        $p
        const $t *r = x0 + $row;
        for (int j = 0; j < $columns; j++) s0[j] = $start[j];
        for (int k = 0; k < $inputs; k++) {
            const $t v = r[$k];
            for (int j = 0; j < $wide; j++) s0[j] += v * $weights[k * $wide + j];
        }
        for (int k = 0; k < $hidden; k++) {
            const $t v = s1[k];
            for (int j = 0; j < $deep; j++) s0[j + $at] += v * $recurrent[k * $deep + j];
        }
        $cell
        $kept
    }
    $rest
    $ends
}
"""
"""Of every sequence all steps, in one direction: what comes from the input, then from the state, then the cell."""


def _direction(
    call: Call,
    cell: _Cell,
    d: int,
    back: bool,
    made: dict[int, tuple[str, Tensor]],
    first: dict[int, tuple[str, Tensor]],
    lengths: str,
) -> str:
    x, table = call.x(0), call.program.table
    time, sequence = (1, 0) if call.attr("layout", 0) else (0, 1)
    hidden = len(cell.recurrent)
    states = _states(call, d, hidden, made, first)
    row = index([("p", x.stride(time)), ("n", x.stride(sequence))])
    return c(
        _SEQUENCES,
        batch=x.dims[sequence],
        length=lengths.replace("$most", str(x.dims[time])),
        hidden=hidden,
        starts=states.starts,
        p=f"const int p = {'length - 1 - t' if back else 't'};" if re.search(r"\bp\b", row + states.kept) else "",
        t=x.ctype,
        row=row,
        columns=len(cell.start),
        start=table(cell.start),
        inputs=x.dims[2],
        k=index([("k", x.stride(2))]),
        wide=cell.weights.shape[1],
        weights=table(cell.weights),
        deep=cell.recurrent.shape[1],
        at=cell.at,
        recurrent=table(cell.recurrent),
        cell=cell.text,
        kept=states.kept,
        rest=states.rest,
        ends=states.ends,
    )
