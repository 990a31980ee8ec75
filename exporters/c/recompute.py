"""Steps that run again, instead of keeping what they made, where a budget of memory leaves no other way.

What can happen next depends on which steps have run and which buffers are there; the cheapest way through such states that stays
within the budget is a shortest path, so what is found is the best there is. Buffers go only when room is needed, which loses
nothing: so of two states after the same steps, one that has all that the other has is as good.

Source: Bartan et al., "Moccasin: Efficient Tensor Rematerialization for Neural Networks", ICML 2023, arXiv:2304.14463 (the
problem). Differs: a shortest path in the place of constraint programming, and steps run as often as that pays.
"""

from __future__ import annotations

import heapq
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, count
from math import prod

from .planning import ALIGNMENT, Plan, Work, placed
from .rules import Step

_MOST_STATES = 5_000
_DOT = 64
"""Products in one call of ``net_dot``."""
_LOOP = re.compile(r"for \(int \w+ = (\w+); \w+ < (\w+); \w+ ?(?:\+= (\d+)|\+\+)\)")
_MOST_GONE = 4
"""Buffers that make room for one step."""
_TIGHTER = 4
"""How often less memory is asked for, where offsets leave gaps."""


@dataclass(frozen=True)
class Again:
    """Steps with those that run again, over buffers of their own, and the share of work that is done again."""

    steps: tuple[Step, ...]
    plan: Plan
    more: float


def again(steps: Sequence[Step], works: Sequence[Work], sizes: Mapping[str, int], budget: int) -> Again | None:
    """An arena within ``budget`` bytes, for the least work; None where there is none, or too many ways to look at."""
    rounded = {name: -(-size // ALIGNMENT) * ALIGNMENT for name, size in sizes.items()}
    costs, room = [max(1, operations(step.body)) for step in steps], budget
    for _ in range(_TIGHTER):
        order = schedule(works, rounded, costs, room)
        if order is None:
            return None
        made, tasks, held = _versions(order, steps, works, rounded)
        plan = placed(tasks, held, range(len(tasks)))
        if plan.arena_bytes <= budget:
            return Again(tuple(made), plan, sum(costs[k] for k in order) / sum(costs) - 1)
        room -= plan.arena_bytes - budget
    return None


def operations(body: str) -> int:
    """About how many numbers the loops of a step work on, by their bounds."""
    total, around = 0, [1]
    for line in body.split("\n"):
        inner = around[-1] * prod(_rounds(*found) for found in _LOOP.findall(line))
        depth, rest = line.count("{") - line.count("}"), _LOOP.sub("", line)
        around = around + [inner] * depth if depth >= 0 else around[:depth] or [1]
        total += inner * (_DOT if "net_dot(" in rest else "= " in rest)
    return total


def _rounds(first: str, last: str, step: str) -> int:
    start, end = (int(n) if n.isdigit() else 0 for n in (first, last))
    return max(1, (end - start) // int(step or 1))


class _Steps:
    """Steps and buffers as bits of numbers."""

    def __init__(self, works: Sequence[Work], sizes: Mapping[str, int]) -> None:
        names = sorted({n for w in works for n in w.reads | w.writes if n in sizes})
        bit = {name: 1 << k for k, name in enumerate(names)}
        self.works, self.count = works, len(works)
        self.size = [sizes[name] for name in names]
        self.reads = [sum(bit[n] for n in w.reads if n in bit) for w in works]
        self.writes = [sum(bit[n] for n in w.writes if n in bit) for w in works]
        self.scratch = [-(-w.scratch // ALIGNMENT) * ALIGNMENT for w in works]
        self.in_place = [tuple(bit.get(n, 0) for n in w.in_place) if w.in_place else (0, 0) for w in works]
        touching = [[k for k in range(self.count) if (self.reads[k] | self.writes[k]) & bit[n]] for n in names]
        self.touched = [sum(1 << k for k in one) for one in touching]
        makers = [[k for k in range(self.count) if self.writes[k] & bit[n]] for n in names]
        self.needs = [
            sum({1 << m for b, one in enumerate(makers) if self.reads[k] >> b & 1 for m in one if m < k})
            for k in range(self.count)
        ]
        self.again = [
            len(w.writes) == 1 and bool(self.writes[k]) and not self.writes[k] & self.reads[k]
            for k, w in enumerate(works)
        ]
        single = [one[0] if len(one) == 1 else -1 for one in makers]
        self.free = [maker >= 0 and self.again[maker] for maker in single]
        self.again = [ok and self.free[self.writes[k].bit_length() - 1] for k, ok in enumerate(self.again)]

    def bytes(self, live: int) -> int:
        return sum(size for b, size in enumerate(self.size) if live >> b & 1)

    def droppable(self, done: int, live: int) -> Iterator[int]:
        """Buffers that can be made again, or that nobody needs any more."""
        for b, touched in enumerate(self.touched):
            if live >> b & 1 and (self.free[b] or not touched & ~done):
                yield 1 << b

    def left(self, k: int, done: int, live: int, budget: int) -> Iterator[int]:
        """What is in memory after a step, in all ways to make room for it in which nothing goes that need not."""
        short = self.bytes(live | self.writes[k]) + self.scratch[k] - budget
        spare = [b for b in self.droppable(done, live) if not b & self.reads[k]]
        for gone in self._rooms(spare, short):
            yield (live & ~gone) | self.writes[k]
        source, target = self.in_place[k]
        over = short > 0 and source & live and target and not target & live
        if over and source in self.droppable(done | 1 << k, live):
            for gone in self._rooms(spare, short - self.bytes(target)):
                yield (live & ~gone & ~source) | self.writes[k]

    def _rooms(self, spare: list[int], short: int) -> Iterator[int]:
        """Few buffers that make room, without any that need not go."""
        found: list[int] = []
        for several in range(min(len(spare), _MOST_GONE) + 1):
            for chosen in combinations(spare, several):
                gone = sum(chosen)
                if self.bytes(gone) >= short and all(one & ~gone for one in found):
                    found.append(gone)
                    yield gone
            if found and not found[0]:
                return

    def runnable(self, done: int, live: int) -> Iterator[int]:
        for k in range(self.count):
            if done >> k & 1 and not (self.again[k] and not live & self.writes[k]):
                continue
            if not self.reads[k] & ~live and not self.needs[k] & ~done:
                yield k


def schedule(works: Sequence[Work], sizes: Mapping[str, int], costs: Sequence[int], budget: int) -> list[int] | None:
    """The cheapest order of steps, each at least once, that never has more than ``budget`` bytes alive.

    ``sizes`` and ``budget`` count bytes, ``costs`` whatever is to be little. None where there is no such order, or where more
    states than can be looked at lie before it.
    """
    s, ticket = _Steps(works, sizes), count()
    heap: list[tuple[int, int, int, int, tuple[int, ...]]] = [(0, next(ticket), 0, 0, ())]
    seen: dict[int, list[int]] = {}
    for _ in range(_MOST_STATES):
        if not heap:
            return None
        cost, _, done, live, order = heapq.heappop(heap)
        if done == (1 << s.count) - 1:
            return list(order)
        if any(not live & ~more for more in seen.get(done, ())):  # what has more in memory has come here as cheaply
            continue
        seen.setdefault(done, []).append(live)
        for k in s.runnable(done, live):
            for left in s.left(k, done, live, budget):
                heapq.heappush(heap, (cost + costs[k], next(ticket), done | 1 << k, left, (*order, k)))
    return None


def _versions(
    order: Sequence[int], steps: Sequence[Step], works: Sequence[Work], sizes: Mapping[str, int]
) -> tuple[list[Step], list[Work], dict[str, int]]:
    """Steps in order; what one makes again has a name of its own."""
    current: dict[str, str] = {}
    ran: set[int] = set()
    made, tasks, held = [], [], dict[str, int]()
    for place, k in enumerate(order):
        before = dict(current)
        if k in ran:
            current |= {n: f"{n}/{place}" for n in works[k].writes}
        ran.add(k)
        reads, writes = (
            {n: names.get(n, n) for n in some} for names, some in ((before, works[k].reads), (current, works[k].writes))
        )
        held |= {name: sizes[n] for n, name in (*reads.items(), *writes.items()) if n in sizes}
        pair = works[k].in_place
        over = (reads[pair[0]], writes[pair[1]]) if pair else None
        inputs = [replace(t, buffer=reads.get(t.buffer, t.buffer)) for t in steps[k].inputs]
        outputs = [replace(t, buffer=writes.get(t.buffer, t.buffer)) for t in steps[k].outputs]
        made.append(replace(steps[k], inputs=inputs, outputs=outputs))
        tasks.append(Work(frozenset(reads.values()), frozenset(writes.values()), works[k].scratch, over))
    return made, tasks, held
