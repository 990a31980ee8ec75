"""The order of steps, and where in one arena each buffer lies while it is needed.

Orders are searched for the smallest peak, exactly for networks of few branches: what is alive after some steps depends on
which ran, not on their order, so the best way to each such set is found once (a shortest path whose length is its peak).
Offsets: buffers are placed one after the other, each where the gap is smallest that fits, in several orders.

Source: Pisarchyk and Lee, "Efficient Memory Management for Deep Neural Net Inference", MLSys 2020 workshop, arXiv:2001.03288
(greedy by size); Liberis and Lane, "Neural networks on microcontrollers: saving memory at inference via operator reordering",
arXiv:1910.05110 (orders).
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count

import numpy as np

ALIGNMENT = 16
_MOST_STATES = 20_000
_TRIES = 400


@dataclass(frozen=True)
class Work:
    """What the planner knows of a step: buffers that it reads and writes, scratch bytes, and for which it can write in place."""

    reads: frozenset[str]
    writes: frozenset[str]
    scratch: int = 0
    in_place: tuple[str, str] | None = None


@dataclass(frozen=True)
class Plan:
    """``offsets`` of buffers, and of the scratch memory of steps as ``~step``; ``live_bytes`` is the most that is alive at once."""

    order: tuple[int, ...]
    offsets: Mapping[str | int, int]
    arena_bytes: int
    live_bytes: int


def plan(works: Sequence[Work], sizes: Mapping[str, int]) -> Plan:
    """The smallest arena that was found. ``sizes`` has the bytes of each buffer of the arena."""
    rounded = {name: -(-size // ALIGNMENT) * ALIGNMENT for name, size in sizes.items()}
    given = tuple(range(len(works)))
    orders = {given, best_order(works, rounded) or given}
    return min((placed(works, rounded, order) for order in sorted(orders)), key=lambda p: (p.arena_bytes, p.order))


def best_order(works: Sequence[Work], sizes: Mapping[str, int]) -> tuple[int, ...] | None:
    """An order of steps with the smallest peak; None where there are too many sets of steps to look at."""
    makers: dict[str, set[int]] = {}
    readers: dict[str, set[int]] = {}
    for k, work in enumerate(works):
        for name in work.writes:
            makers.setdefault(name, set()).add(k)
        for name in work.reads | work.writes:
            readers.setdefault(name, set()).add(k)
    masks = {name: sum(1 << k for k in steps) for name, steps in readers.items()}
    needs = [
        sum(1 << m for m in set().union(*(makers.get(r, set()) for r in w.reads)) if m < k) for k, w in enumerate(works)
    ]
    touched = [sorted(n for n in w.reads | w.writes if n in sizes) for w in works]
    full, ticket = (1 << len(works)) - 1, count()
    heap: list[tuple[int, int, int, int, tuple[int, ...]]] = [(0, next(ticket), 0, 0, ())]
    seen: set[int] = set()
    while heap:
        peak, _, done, live, order = heapq.heappop(heap)
        if done == full:
            return order
        if done in seen:
            continue
        seen.add(done)
        if len(seen) > _MOST_STATES:
            return None
        for k in range(len(works)):
            if done >> k & 1 or needs[k] & ~done:
                continue
            after = done | 1 << k
            new = sum(sizes[n] for n in touched[k] if not masks[n] & done)
            dead = sum(sizes[n] for n in touched[k] if not masks[n] & ~after)
            saved = _saved(works[k], sizes, masks, after)
            top = max(peak, live + new + works[k].scratch - saved)
            heapq.heappush(heap, (top, next(ticket), after, live + new - dead, (*order, k)))
    return None


def _saved(work: Work, sizes: Mapping[str, int], masks: Mapping[str, int], after: int) -> int:
    """Bytes that an output takes over from an input that nobody reads any more."""
    if work.in_place is None:
        return 0
    source, target = work.in_place
    return sizes[target] if source in sizes and target in sizes and not masks[source] & ~after else 0


def placed(works: Sequence[Work], sizes: Mapping[str, int], order: Sequence[int]) -> Plan:
    """The smallest arena that was found for steps in this order; sizes are multiples of the alignment."""
    spans = _spans(works, order)
    owner = _taken_over(works, sizes, order, spans)
    lives: dict[str | int, tuple[int, int, int]] = {}
    for name, size in sizes.items():
        if name not in spans:
            continue
        first, last = spans[name]
        root = owner.get(name, name)
        start, end, _ = lives.get(root, (first, last, 0))
        lives[root] = min(start, first), max(end, last), size
    for place, k in enumerate(order):
        if works[k].scratch:
            lives[~k] = place, place, -(-works[k].scratch // ALIGNMENT) * ALIGNMENT
    live = max((sum(s for a, b, s in lives.values() if a <= t <= b) for t in range(len(order))), default=0)
    offsets, arena = _offsets(lives, live)
    placed: dict[str | int, int] = {name: offsets[owner.get(name, name)] for name in sizes if name in spans}
    return Plan(tuple(order), placed | {k: v for k, v in offsets.items() if isinstance(k, int)}, arena, live)


def _spans(works: Sequence[Work], order: Sequence[int]) -> dict[str, tuple[int, int]]:
    """When each buffer is first and last touched."""
    spans: dict[str, tuple[int, int]] = {}
    for place, k in enumerate(order):
        for name in works[k].reads | works[k].writes:
            spans[name] = spans.get(name, (place, place))[0], place
    return spans


def _taken_over(
    works: Sequence[Work], sizes: Mapping[str, int], order: Sequence[int], spans: Mapping[str, tuple[int, int]]
) -> dict[str, str]:
    """Outputs that lie where an input lay, by what lay there first."""
    owner: dict[str, str] = {}
    for place, k in enumerate(order):
        pair = works[k].in_place
        if pair and all(name in sizes for name in pair) and spans[pair[0]][1] == place == spans[pair[1]][0]:
            owner[pair[1]] = owner.get(pair[0], pair[0])
    return owner


def _offsets(lives: Mapping[str | int, tuple[int, int, int]], least: int) -> tuple[dict[str | int, int], int]:
    """Offsets, and the bytes up to which they reach: the best of several orders, the first that needs ``least``."""
    items = list(lives)
    keys = (
        lambda n: (-lives[n][2], lives[n][0]),
        lambda n: (lives[n][0], -lives[n][2]),
        lambda n: (-(lives[n][1] - lives[n][0] + 1) * lives[n][2], lives[n][0]),
        lambda n: (lives[n][0] - lives[n][1], -lives[n][2]),
    )
    best: dict[str | int, int] = {}
    lowest, kept, rng = sum(size for _, _, size in lives.values()) + 1, items, np.random.default_rng(0)
    for k in range(_TRIES):
        tried = sorted(items, key=keys[k]) if k < len(keys) else _swapped(kept, rng)
        offsets = _fit(tried, lives)
        reach = max((offsets[n] + lives[n][2] for n in items), default=0)
        if reach <= lowest:
            best, lowest, kept = offsets, reach, tried
        if lowest <= least:
            break
    return best, lowest


def _swapped(items: Sequence[str | int], rng: np.random.Generator) -> list[str | int]:
    a, b = rng.integers(0, len(items), 2)
    made = list(items)
    made.insert(int(a), made.pop(int(b)))
    return made


def _fit(items: Sequence[str | int], lives: Mapping[str | int, tuple[int, int, int]]) -> dict[str | int, int]:
    """Each in the smallest gap that fits among those that live at the same time."""
    offsets: dict[str | int, int] = {}
    for name in items:
        first, last, size = lives[name]
        taken = sorted(
            (offsets[o], offsets[o] + lives[o][2]) for o in offsets if lives[o][0] <= last and first <= lives[o][1]
        )
        end, best = 0, (float("inf"), 0)
        for start, stop in taken:
            if start - end >= size:
                best = min(best, (start - end, end))
            end = max(end, stop)
        offsets[name] = best[1] if best[0] < float("inf") else end
    return offsets
