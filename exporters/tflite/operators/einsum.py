"""Einsum of one or two operands: sums, moves, and one product of stacks of matrices."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ....graph.nodes import attribute
from ..builder import Builder
from ..plan import Step
from ..program import FLOAT, Tensor, plain
from ..table import Refused, converts
from .reduce import reduced

Named = tuple[Tensor, str]
"""A tensor as it is stored, and the letters of its axes."""


@converts("Einsum")
def einsum(step: Step, make: Builder) -> None:
    """Letters that one side alone has, and the result has not, are summed up first."""
    text = str(attribute(step.node, "equation")).replace(" ", "")
    left, _, out = text.partition("->")
    sides = left.split(",")
    if "->" not in text or "." in text or len(sides) > 2 or any(len(set(s)) < len(s) for s in (*sides, out)):
        raise Refused(f"its equation {text!r} has dots, diagonals, more than two operands or no arrow", "use MatMul")
    given = [(make.read(name), letters) for name, letters in zip(step.node.input, sides, strict=True)]
    alone = [
        _summed(one, set(out).union(*(s for k, s in enumerate(sides) if k != at)), make) for at, one in enumerate(given)
    ]
    made = alone[0] if len(alone) == 1 else _product(alone[0], alone[1], out, make)
    make.give(_turned(made, out, make))


def _turned(one: Named, letters: str, make: Builder) -> Tensor:
    """With its axes in the order of the letters."""
    tensor, own = one
    return make.reorder(tensor, plain(tensor.rank), tuple(own.index(letter) for letter in letters))


def _summed(one: Named, kept: set[str], make: Builder) -> Named:
    tensor, letters = one
    axes = [k for k, letter in enumerate(letters) if letter not in kept]
    if not axes:
        return one
    left = "".join(letter for letter in letters if letter in kept)
    whole = reduced("SUM", tensor, plain(tensor.rank), axes, make)
    return make.reshape(whole, [tensor.shape[letters.index(letter)] for letter in left]), left


def _product(a: Named, b: Named, out: str, make: Builder) -> Named:
    """Letters of both that stay count the matrices, those of both that go are summed over, others are rows and columns."""
    lengths = {letter: n for tensor, letters in (a, b) for letter, n in zip(letters, tensor.shape, strict=True)}
    both = [letter for letter in a[1] if letter in b[1]]
    stack, over = "".join(c for c in both if c in out), "".join(c for c in both if c not in out)
    rows, columns = ("".join(c for c in letters if c not in both) for _, letters in (a, b))

    def size(letters: Sequence[str]) -> int:
        return int(np.prod([lengths[letter] for letter in letters], dtype=np.int64))

    x = make.reshape(_turned(a, stack + rows + over, make), (size(stack), size(rows), size(over)))
    y = make.reshape(_turned(b, stack + over + columns, make), (size(stack), size(over), size(columns)))
    made = make.emit("BATCH_MATMUL", [x, y], (size(stack), size(rows), size(columns)), FLOAT, adjX=False, adjY=False)
    letters = stack + rows + columns
    return make.reshape(made, [lengths[letter] for letter in letters]), letters
