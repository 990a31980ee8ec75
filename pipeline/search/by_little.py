"""Limits that are missed, or kept, by little: what measurements of times cannot tell must not decide what a search finds."""

from __future__ import annotations

import numpy as np

from .chains import amount
from .menu import Structure
from .tries import Tried, Tries, noise_of

LEAST = 0.02
"""Of a network that is worth trying."""
ALIKE = 3.0
"""Decibels between networks up to which neither is clearly better: of low rank and fewer channels half of each may be."""
_ROUNDS, _CLOSER, _STEP, _LITTLE, _TIMED, _SAFE = 2, 5, 0.01, 1.15, 0.97, 0.99
"""How often the best network is made narrower or wider, and one that misses a time by little, and by how much more each time;
how many times the limit is little, how much of a time is to be used, and how much of it is aimed at.
"""


def less_of(tried: Tried, missed: str, by: float) -> float:
    """What a structure may keep, where it had so many times what was allowed."""
    return max(LEAST, tried.structure.keep / by * (0.98 if missed == "latency" else 0.995))


def best_noise(tries: Tries) -> float:
    """Decibels of the outputs of the best chain within the limits."""
    return max((noise_of(one) for one in tries.found if tries.within(one)), default=-np.inf)


def come_closer(tries: Tries) -> None:
    """Networks that seem to miss a time by little are measured well, and made narrower until they keep it, while they are clearly
    better than what keeps all limits: else a moment's noise would have a search fall back on that.
    """
    taken = 0
    while taken < _CLOSER:
        close = {k: by for k, one in enumerate(tries.found) if (by := _little(tries, one))}
        if not close:
            return
        one = tries.found[min(close, key=lambda k: close[k])]
        if one.passes not in tries.sure:
            one = tries.timed_well(one)
        if not tries.within(one):
            taken += 1
            tries.take(_fitting(tries, one, 1 + _STEP * taken), one.precision)


def _little(tries: Tries, one: Tried) -> float | None:
    """By how many times a chain misses its limit of time, where that is all and little, and the chain clearly better."""
    misses = tries.misses(one)
    by = misses.get("latency", np.inf)
    if one.structure.unit != "latency" or len(misses) > 1 or by > _LITTLE:
        return None
    narrower = [o for o in tries.found if o.precision is one.precision and o.structure.family == one.structure.family]
    last = all(o.structure.keep >= one.structure.keep for o in narrower if not o.point.told)
    return by if last and noise_of(one) > best_noise(tries) + ALIKE else None


def _fitting(tries: Tries, one: Tried, least: float = 0.0) -> Structure:
    """What should take hardly less than the limit of time; ``least`` times less than this."""
    over = max(least, amount(one.point, "latency") / tries.limited["latency"])
    return one.structure.to(min(1.0, one.structure.keep / over * _SAFE))


def fitted(tries: Tries, best: Tried) -> Tried:
    """The best, or what was made of it in its place: a little narrower where measurements do not tell whether it keeps a limit
    of time, if that loses hardly more; wider where it leaves some of the time, if that loses less.
    """
    for _ in range(_ROUNDS):
        over = amount(best.point, "latency") / tries.limited["latency"]
        if best.structure.unit != "latency" or not tries.within(best) or _TIMED <= over <= 1:
            return best
        one = tries.take(_fitting(tries, best), best.precision)
        if one.point.told or noise_of(one) < noise_of(best) - (ALIKE if over > 1 else 0.0):
            return best
        one = tries.timed_well(one)
        faster = amount(one.point, "latency") < amount(best.point, "latency")
        if not tries.within(one) or (over > 1 and not faster):
            return best
        best = one
    return best
