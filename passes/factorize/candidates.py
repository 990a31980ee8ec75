"""What each weight could become: schemes and ranks with their costs, before anything is computed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .options import FactorizeOptions
from .schemes.scheme import SCHEMES
from .sites import Unit

MOST = 24
"""Ranks tried of one scheme for one layer; where there are more, so many of them, evenly spread."""


@dataclass(frozen=True)
class Option:
    """One way to write a unit. ``gain`` is how many times cheaper it is, by the amount that the target counts."""

    scheme: str
    rank: int
    macs: int
    params: int
    gain: float


def options_of(unit: Unit, asked: FactorizeOptions, amount: str, *, blind: bool) -> tuple[list[Option], str]:
    """Everything that would pay, cheapest ranks first within a scheme; if nothing would, the reason.

    ``amount`` is what a gain is counted in: macs or params. ``blind`` says that there is no data to choose by.
    """
    found: list[Option] = []
    best: Option | None = None
    obstacles: list[str] = []
    for name in asked.schemes or _usual(unit, blind):
        scheme = SCHEMES[name]
        obstacle = scheme.obstacle(unit.site)
        if obstacle:
            obstacles.append(f"{name}: {obstacle}")
            continue
        largest = scheme.largest(unit.site)
        ranks = list(range(asked.align, largest, asked.align)) or [min(asked.align, largest)]
        every = [option(unit, name, rank, amount) for rank in ranks]
        good = [o for o in every if o.gain >= asked.min_gain and o.rank < largest]
        best = max([*every[:1], *([best] if best else [])], key=lambda o: o.gain)
        found += thin_options(good, MOST)
    if found:
        return found, ""
    if best is None:
        return [], "; ".join(obstacles)
    return [], (
        f"no rank pays: {best.scheme} at {best.rank} is {best.gain:.2f} times cheaper in {amount}, "
        f"less than {asked.min_gain:g}"
    )


def _usual(unit: Unit, blind: bool) -> tuple[str, ...]:
    every = tuple(SCHEMES.builtin)
    sure = tuple(n for n in every if SCHEMES[n].blind and not SCHEMES[n].obstacle(unit.site))
    return sure if blind and sure else every


def option(unit: Unit, scheme: str, rank: int, amount: str) -> Option:
    chosen = SCHEMES[scheme]
    macs = sum(chosen.macs(site, rank) for site in unit.sites)
    params = chosen.params(unit.site, rank)
    before, after = (unit.params, params) if amount == "params" else (unit.macs, macs)
    return Option(scheme, rank, macs, params, before / max(1, after))


def thin_options(options: Sequence[Option], most: int) -> list[Option]:
    if len(options) <= most:
        return list(options)
    places = np.unique(np.linspace(0, len(options) - 1, most).round().astype(int))
    return [options[k] for k in places]


def sample_options(options: Sequence[Option], count: int) -> list[Option]:
    """A few of one scheme's options, spread by ratios of ranks; the first and the last among them."""
    if len(options) <= count:
        return list(options)
    ranks = np.log([o.rank for o in options])
    wanted = np.linspace(ranks[0], ranks[-1], count)
    return [options[k] for k in np.unique([int(np.abs(ranks - w).argmin()) for w in wanted])]


def interpolate_losses(rank: Sequence[int], known: Sequence[int], losses: Sequence[float]) -> np.ndarray:
    """Losses at other ranks, from those at some, on logarithmic scales; never rising with the rank."""
    x = np.log(np.asarray(known, dtype=np.float64))
    y = np.log(np.maximum(np.asarray(losses, dtype=np.float64), 1e-30))
    y = np.maximum.accumulate(y[::-1])[::-1]
    at = np.log(np.asarray(rank, dtype=np.float64))
    return np.asarray(np.exp(np.interp(at, x, y)))
