"""Random graphs over the whole table of operators, with healthy weights.

model, feeds = random_graph(choice, seed)
"""

from __future__ import annotations

import numpy as np
import onnx

from . import layers, moving, patterns, pointwise
from .growing import BATCH, LARGEST, MOVES, Choice, Growing, Rolled

FAMILIES = (layers, moving, patterns, pointwise)
"""Their moves are registered on import."""

__all__ = ["BATCH", "FAMILIES", "MOVES", "Choice", "Rolled", "random_graph"]

_IMAGE: dict[int, tuple[str, ...]] = {
    3: ("conv",),
    2: ("batch_norm", "with_another", "group_norm", "shuffle", "concat", "split", "depth_and_space"),
    1: (
        "conv_transpose",
        "activation",
        "gate",
        "with_constant",
        "choose",
        "slopes",
        "instance_norm",
        "cut",
        "gather",
        "pad",
        "pool",
        "resize",
        "squeeze_and_excite",
        "residual",
        "shortcut_of_zeros",
        "unit_length",
        "manual_norm",
        "reduce",
    ),
}
"""Moves of networks on images by how often they are made, which otherwise lose their shape at once."""
_SEQUENCE: dict[int, tuple[str, ...]] = {
    2: ("linear", "attention", "layer_norm", "with_another"),
    1: (
        "linear_left",
        "einsum",
        "fused_attention",
        "recurrent",
        "product_with_itself",
        "product",
        "activation",
        "gate",
        "with_constant",
        "residual",
        "split",
        "concat",
        "cut",
        "gather",
        "reshape",
        "shuffle",
        "transpose",
        "repeat_heads",
        "repeat",
        "unit_length",
        "softmax",
        "from_constants",
        "reduce",
        "running_sum",
    ),
}
_IMAGES = ((2, 3, 6, 6), (2, 4, 4, 4), (1, 6, 4, 4), (2, 2, 8, 8))
_SEQUENCES = ((2, 5, 6), (3, 4, 8), (1, 6, 4), (2, 4, 12))
_INPUTS = ((2, 3, 6, 6), (2, 4, 4, 4), (2, 5, 6), (3, 4, 8), (2, 6), (4, 12), (1, 6, 4), (2, 4, 6), (1, 2, 4, 4))
_OPSETS = (13, 17, 18, 20, 21, 23)


def random_graph(choice: Choice, seed: int, *, moves: int = 10) -> tuple[onnx.ModelProto, dict[str, tuple[int, ...]]]:
    """A checked model, and shapes for its inputs (a dynamic batch is called ``BATCH``)."""
    b = Growing(choice, seed, _OPSETS[choice.integer(0, len(_OPSETS) - 1)], choice.integer(0, 99) < 20)
    everything = [name for name, (_, weight) in sorted(MOVES.items()) for _ in range(weight)]
    table, inputs = b.pick([(everything, _INPUTS), (_repeated(_IMAGE), _IMAGES), (_repeated(_SEQUENCE), _SEQUENCES)])
    b.input("x", b.pick(inputs))
    if b.chance(30):
        b.input("y", b.pick([s for s in (*inputs, b.shapes["x"]) if s[0] == b.shapes["x"][0]]))
    if b.chance(75):
        _grow(b, [name for name in ("linear", "conv", "conv", "gemm", "linear_left") if name in table])
    for _ in range(choice.integer(2, moves)):
        _grow(b, table)
    outputs = _outputs(b)
    return b.finish(outputs), b.feeds


def _repeated(table: dict[int, tuple[str, ...]]) -> list[str]:
    return [name for times, names in table.items() for name in names * times]


def _grow(b: Growing, table: list[str]) -> None:
    for _ in range(8):
        start = b.pool[-1] if b.chance(70) else b.pick(b.pool)
        made = MOVES[b.pick(table)][0](b, start)
        if made is None:
            continue
        fresh = [made] if isinstance(made, str) else list(made)
        b.pool.extend(t for t in fresh if 0 < np.prod(b.shapes[t], dtype=int) <= LARGEST and len(b.shapes[t]) <= 5)
        return


def _outputs(b: Growing) -> list[str]:
    """Loose ends, most of them closed by a layer that fixes the channels of the output and nothing else."""
    used = {i for n in b.graph.nodes for i in n.input}
    loose = [t for t in b.pool if t not in used and t not in b.feeds]
    if not loose:
        loose = [b.op("Abs", b.pool[-1], shape=b.shapes[b.pool[-1]])]
    if b.chance(15):
        inner = [t for t in b.pool if t in used and t not in b.feeds]
        loose += [b.pick(inner)] if inner else []
    return list(dict.fromkeys(_closed(b, t) for t in loose))


def _closed(b: Growing, x: str) -> str:
    s = b.shapes[x]
    if not s or b.chance(12) or (b.dynamic and len(s) < 2):
        return x
    y = b.op("MatMul", x, b.const(b.graph.random.standard_normal((s[-1], 3)) / np.sqrt(s[-1])), shape=(*s[:-1], 3))
    if len(s) > 2 and b.chance(80):
        letters = "abcde"[: len(s) - 1] + "z"
        middle = letters[1:-1]
        weight = b.const(b.graph.random.standard_normal((*s[1:-1], 4)) / np.sqrt(np.prod(s[1:-1])))
        return b.op("Einsum", y, weight, shape=(s[0], 3, 4), equation=f"{letters},{middle}y->{letters[0]}zy")
    return y
