"""Recurrent layers. The functions of torch alone are also written into exported modules, as they stand here."""

from __future__ import annotations

import onnx
import torch

from ...graph.nodes import attribute
from ...graph.traits.recurrent import FUNCTIONS, STATES
from .call import Operands, Step, Unsupported, runs


def recurrent(
    kind: str,
    x: torch.Tensor,
    w: torch.Tensor,
    r: torch.Tensor,
    b: torch.Tensor | None,
    lengths: torch.Tensor | None,
    first: list[torch.Tensor | None],
    backward: list[bool],
    after: bool,
) -> tuple[torch.Tensor, ...]:
    """Hidden states of every step, and the last states.

    Shapes: x (T, N, I), w (D, G H, I), r (D, G H, H), b (D, 2 G H), states (D, N, H), lengths (N).
    """
    tracks, lasts = [], []
    for d, back in enumerate(backward):
        wb, rb = (x.new_zeros(w.shape[1]),) * 2 if b is None else b[d].chunk(2)
        state = [x.new_zeros(x.shape[1], r.shape[2]) if one is None else one[d] for one in first]
        given, track = x @ w[d].T + wb, {}
        for t in sorted(range(len(x)), reverse=back):
            new = recurrent_cell(kind, given[t], state, r[d], rb, after)
            track[t] = new[0]
            if lengths is not None:
                lives = (t < lengths).reshape(-1, 1)
                new = [torch.where(lives, one, old) for one, old in zip(new, state, strict=True)]
                track[t] = torch.where(lives, new[0], torch.zeros_like(new[0]))
            state = new
        tracks.append(torch.stack([track[t] for t in range(len(x))]))
        lasts.append(state)
    return torch.stack(tracks, 1), *(torch.stack(one) for one in zip(*lasts, strict=True))


def recurrent_cell(
    kind: str, given: torch.Tensor, state: list[torch.Tensor], r: torch.Tensor, rb: torch.Tensor, after: bool
) -> list[torch.Tensor]:
    """The states after a step. Gates of an LSTM are input, output, forget, cell; of a GRU update, reset, hidden."""
    h = state[0]
    if kind == "LSTM":
        i, o, f, g = (given + h @ r.T + rb).chunk(4, 1)
        c = f.sigmoid() * state[1] + i.sigmoid() * g.tanh()
        return [o.sigmoid() * c.tanh(), c]
    if kind == "GRU":
        (xz, xq, xg), (rz, rq, rg), (bz, bq, bg) = given.chunk(3, 1), r.chunk(3), rb.chunk(3)
        z, q = (xz + h @ rz.T + bz).sigmoid(), (xq + h @ rq.T + bq).sigmoid()
        g = (xg + (q * (h @ rg.T + bg) if after else (q * h) @ rg.T + bg)).tanh()
        return [(1 - z) * g + z * h]
    return [(given + h @ r.T + rb).tanh()]


def refusal(node: onnx.NodeProto) -> str:
    """Why a recurrent node is not computed here, empty where it is."""
    usual = FUNCTIONS[node.op_type]
    named = attribute(node, "activations", None)
    if named and [n.lower() for n in named] != [n.lower() for n in usual] * (len(named) // len(usual)):
        return f"its functions are {', '.join(named)}"
    told = {"clip": "its sums are clipped", "input_forget": "its gates are coupled", "layout": "the batch comes first"}
    if len(node.input) > 7 and node.input[7]:
        return "it has peepholes"
    return next((why for name, why in told.items() if attribute(node, name, 0)), "")


def directions(node: onnx.NodeProto) -> list[bool]:
    """For each, whether it goes back in time."""
    told = attribute(node, "direction", "forward")
    return {"forward": [False], "reverse": [True], "bidirectional": [False, True]}[told]


@runs("LSTM", "GRU", "RNN")
def layer(c: Operands) -> Step:
    why = refusal(c.node)
    if why:
        raise Unsupported(why)
    kind = c.node.op_type
    first = [c[k] for k in STATES[kind]]
    told = [kind, *(c[k] for k in range(5)), first, directions(c.node), bool(c.attr("linear_before_reset", 0))]
    return Step(recurrent, told, results=1 + len(first))
