"""Random ledgers, what every solution of one must obey, and all that a tiny one allows."""

from __future__ import annotations

import numpy as np

from intaglio.graph.coupling.labels import Axis, IntArray, Ledger, Why
from intaglio.graph.coupling.solve import Solution

from .random_graphs import Choice

WHY = Why("node", "Op", "says so")
_SIZES = (2, 3, 4, 6, 8, 12, 24)


class Growing:
    """A ledger to which random operators state random equations."""

    def __init__(self, choice: Choice, *, sizes: tuple[int, ...] = _SIZES, longest: int = 48, most: int = 400) -> None:
        self.choice, self.sizes, self.longest, self.most = choice, sizes, longest, most
        self.ledger = Ledger()
        self.axes: list[tuple[Axis, int]] = []

    def run(self, steps: int) -> Ledger:
        for _ in range(self.choice.integer(1, 3)):
            self.fresh()
        moves = [self.fresh, self.same, self.same, self.join, self.split, self.split, self.turn, self.reshape]
        moves += [self.cat, self.take, self.freeze]
        for _ in range(steps):
            moves[self.choice.integer(0, len(moves) - 1)]()
            if self.ledger.count > self.most:
                break
        return self.ledger

    def _pick(self) -> tuple[Axis, int]:
        return self.axes[self.choice.integer(0, len(self.axes) - 1)]

    def _lengths(self, n: int) -> tuple[int, ...]:
        """Two or three factors of ``n``, ones among them."""
        first = self._factor(n)
        rest = n // first
        second = self._factor(rest) if self.choice.integer(0, 2) == 0 else 1
        return (first, second, rest // second) if second > 1 else (first, rest)

    def _factor(self, n: int) -> int:
        factors = [d for d in range(1, n + 1) if n % d == 0]
        return factors[self.choice.integer(0, len(factors) - 1)]

    def _add(self, axes: tuple[Axis, ...], lengths: tuple[int, ...]) -> None:
        self.axes.extend((a, n) for a, n in zip(axes, lengths, strict=True) if n > 1)

    def fresh(self) -> None:
        length = self.sizes[self.choice.integer(0, len(self.sizes) - 1)]
        self.axes.append((self.ledger.fresh(length), length))

    def same(self) -> None:
        axis, length = self._pick()
        others = [b for b, n in self.axes if n == length and b is not axis]
        if others:
            self.ledger.same(axis, others[self.choice.integer(0, len(others) - 1)])

    def join(self) -> None:
        (a, n), (b, m) = self._pick(), self._pick()
        if n * m <= self.longest:
            self._add((self.ledger.join((a, b), (n, m)),), (n * m,))

    def split(self) -> None:
        axis, length = self._pick()
        lengths = self._lengths(length)
        self._add(self.ledger.split(axis, lengths), lengths)

    def turn(self) -> None:
        """Factors in another order: a shuffle."""
        axis, length = self._pick()
        lengths = self._lengths(length)
        parts = self.ledger.split(axis, lengths)
        self._add((self.ledger.join(parts[::-1], lengths[::-1]),), (length,))

    def reshape(self) -> None:
        (a, n), (b, m) = self._pick(), self._pick()
        if n * m <= self.longest:
            lengths = self._lengths(n * m)
            self._add(self.ledger.reshape((a, b), (n, m), lengths), lengths)

    def cat(self) -> None:
        (a, n), (b, m) = self._pick(), self._pick()
        if n + m <= self.longest:
            self.axes.append((self.ledger.cat([(a, n), (b, m)]), n + m))

    def take(self) -> None:
        axis, length = self._pick()
        count = self.choice.integer(1, length)
        kind = self.choice.integer(0, 2)
        start = self.choice.integer(0, length - count)
        if kind == 0:
            indices = np.array([self.choice.integer(0, length - 1) for _ in range(count)])
        else:
            indices = np.arange(start, start + count)[:: 1 if kind == 1 else -1]
        taken = self.ledger.take(axis, indices, WHY)
        if count > 1:
            self.axes.append((taken, count))

    def freeze(self) -> None:
        axis, _ = self._pick()
        if not isinstance(axis, Why) and self.choice.integer(0, 1):
            self.ledger.freeze(axis[: self.choice.integer(1, len(axis))], WHY)


def assert_respected(ledger: Ledger, solution: Solution, removed: np.ndarray) -> None:
    """A removal goes by every equation of the ledger."""
    gone = solution.goes(removed)[solution.classes]
    for a, b in ledger.equal:
        assert (gone[a] == gone[b]).all(), "equal labels go apart"
    for product in ledger.products:
        assert (gone[product.labels] == gone[product.members()].any(axis=1)).all(), "a product goes without a factor"
    for labels, _ in ledger.frozen:
        assert not gone[labels].any(), "something frozen goes"


def possible(ledger: Ledger) -> IntArray:
    """Every set of labels, as the bits of a number, that may go by the equations."""
    sets = np.arange(1 << ledger.count, dtype=np.int64)

    def goes(label: int) -> IntArray:
        return (sets >> label) & 1

    allowed = np.ones(len(sets), dtype=bool)
    for left, right in ledger.equal:
        for a, b in zip(left, right, strict=True):
            allowed &= goes(a) == goes(b)
    for product in ledger.products:
        for label, members in zip(product.labels, product.members(), strict=True):
            either = np.bitwise_or.reduce([goes(m) for m in members])
            allowed &= goes(label) == either
    for labels, _ in ledger.frozen:
        for label in labels:
            allowed &= goes(label) == 0
    return sets[allowed]


def as_bits(solution: Solution, removed: np.ndarray, count: int) -> int:
    gone = solution.goes(removed)[solution.classes[:count]]
    return sum(1 << int(k) for k in np.flatnonzero(gone))


def axis(ledger: Ledger, length: int) -> IntArray:
    found = ledger.fresh(length)
    assert not isinstance(found, Why)
    return found


def atoms_on(solution: Solution, labels: IntArray) -> int:
    """Number of decisions that concern these labels."""
    return len(np.unique(solution.atoms[solution.classes[labels]].indices))


def is_frozen(solution: Solution, labels: IntArray) -> bool:
    return bool((solution.reason[solution.classes[labels]] >= 0).all())
