"""What a search has tried so far: chains with what they gave, beside the limits that they are to keep."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from ...graph.errors import IntaglioError
from ...graph.model import Model
from ...measure.paired import Drop, drops
from ...measure.run.latency import NOISE
from ...passes.base import Pass
from ...passes.change import amounts
from ...passes.quantize import Quantize
from ...passes.shorten import Shorten
from .chains import Chains, amount
from .limits import Limits
from .menu import Precision, Structure, quick
from .result import Point

RECORDS = 1000
"""Bytes that a file takes beside the model: it tells how it was made."""
_SURE, _MOST, _SLACK = 7, 21, 0.01
"""Measurements of the time of what is to be chosen, the most where they do not tell whether it keeps the limit, and how much
more than the limit they may say: others vary by more.
"""
_SAME = 1.0
"""Decibels by which the outputs of two models may differ on a few samples without telling which is better."""
_FULL, _THIN, _NEARLY, _LINES = 0.98, 0.05, 0.02, 4
"""How much of a limit of bytes is filled, the least that is kept for it, how near it is found, and in how many tries."""
_GOOD = 30.0
"""Decibels from which on nobody could tell two models apart: a thousandth of the outputs' power is noise."""


@dataclass(frozen=True)
class Tried:
    """A chain and what it gave; ``lost`` is how much accuracy, by the first metric, None without labels."""

    structure: Structure
    precision: Precision | None
    passes: tuple[Pass, ...]
    point: Point
    lost: Drop | None = None


@dataclass
class Tries:
    """``shorten`` says that names go, too, because numbers alone cannot be small enough."""

    chains: Chains
    limits: Limits
    shorten: bool = False
    found: list[Tried] = field(default_factory=list)
    sure: set[tuple[Pass, ...]] = field(default_factory=set)
    sizes: dict[tuple[tuple[Pass, ...], tuple[Pass, ...]], float] = field(default_factory=dict)

    @cached_property
    def limited(self) -> Mapping[str, float]:
        """Fractions of the original by what they limit; of bytes those that are left beside what a file records."""
        before = amounts(self.chains.original)
        whole = {"size": before.size, "macs": before.macs, "params": before.params, "latency": np.nan}
        if self.limits.latency and self.limits.latency.absolute:
            whole["latency"] = self.chains.time(self.chains.original).latencies[0].median_ms
        found = dict(self.limits.fractions(whole))
        if "size" in found:
            found["size"] = max(found["size"] - RECORDS / before.size, 1e-9)
        return found

    @property
    def asks(self) -> bool:
        """Whether any amount must become less: the original may keep limits already."""
        return any(limit < 1 for limit in self.limited.values())

    def take(self, structure: Structure, precision: Precision | None, size: float | None = None) -> Tried:
        """Try a chain, or give what it gave before. ``size`` is what the file may keep, the limit if not given."""
        passes = (*structure.passes(), *self._precise(structure, precision, size))
        for one in self.found:
            if one.passes == passes:
                return one
        number = (
            f"{precision.name} {size:.3g}" if precision and precision.sized and size else precision and precision.name
        )
        words = [structure.name, number or "", "short names" if Shorten() in passes else ""]
        limit = self.limited.get("latency")
        name = " > ".join(filter(None, words)) or "original"
        point = self.chains.point(name, passes, timed=limit is not None, limit=limit)
        tried = Tried(structure, precision, passes, point, None if point.told else self._lost(passes))
        self.found.append(tried)
        return tried

    def _precise(self, structure: Structure, precision: Precision | None, size: float | None) -> tuple[Pass, ...]:
        if precision is None:
            return ()
        size = self.limited.get("size") if size is None else size
        if size is None:
            return precision.make(None)
        names = (Shorten(),) if self.shorten else ()
        if not precision.sized:
            return (*precision.make(None), *names)
        room = size + self._names(structure, precision) if names else size
        return (*self._as_large(structure, precision, room), *names)

    def _as_large(self, structure: Structure, precision: Precision, size: float) -> tuple[Pass, ...]:
        """As many bytes as the passes want if that is few enough: fewer would only lose. Sizes are told of what they read."""
        before, read = amounts(self.chains.original).size, self._model(structure.passes())
        free = self.size(structure, precision)
        kept = min(1.0, size * before / (amounts(read).size if read else before))
        return precision.make(None if free <= size else kept)

    def size(self, structure: Structure, precision: Precision) -> float:
        """The fraction of the original's bytes that comes out, whatever the weights; infinite where nothing does."""
        return self._size(structure, *quick(precision.make(None)))

    def least(self, structure: Structure, precision: Precision) -> float:
        """The same with names as short as they may be."""
        return self._size(structure, *quick(precision.make(None)), *self._shorter)

    def smallest(self, structure: Structure) -> float:
        """What the fewest bits leave: of very small networks what unpacks two bits takes more than they save."""
        return min(self._size(structure, *quick((Quantize(scheme=s),)), *self._shorter) for s in ("w2", "w4"))

    def filling(self, structure: Structure, scheme: str) -> float:
        """How much a structure may keep so that one number of bits throughout takes the limit of bytes, by lines through the
        sizes of networks that were narrowed by their weights alone.
        """
        then = (*quick((Quantize(scheme=scheme),)), *self._shorter)
        limit, wide, size = self.limited["size"], 1.0, self._size(Structure(), *then)
        keep = max(_THIN, min(1.0, limit / size))
        for _ in range(_LINES):
            narrow = self._rough_size((), (*quick(structure.to(keep).passes()), *then))
            if narrow == size or not np.isfinite(narrow + size):
                return keep
            line = keep + (_FULL * limit - narrow) * (wide - keep) / (size - narrow)
            keep, wide, size = min(1.0, max(_THIN, line)), keep, narrow
            if abs(wide - keep) < _NEARLY * keep:
                break
        return keep

    @property
    def _shorter(self) -> tuple[Pass, ...]:
        return (Shorten(),) if self.shorten else ()

    def _size(self, structure: Structure, *then: Pass) -> float:
        return self._rough_size(structure.passes(), then)

    def _rough_size(self, passes: tuple[Pass, ...], then: tuple[Pass, ...]) -> float:
        key = passes, then
        if key not in self.sizes:
            try:
                self.sizes[key] = amounts(self.chains.rough(*key)).size / amounts(self.chains.original).size
            except IntaglioError:
                self.sizes[key] = np.inf
        return self.sizes[key]

    def time(self, precision: Precision) -> float:
        """The fraction of the original's time that a precision alone leaves, whatever the weights."""
        try:
            return 1 / self.chains.time(self.chains.rough((), quick(precision.make(None)))).speedup(1)
        except IntaglioError:
            return np.inf

    def _names(self, structure: Structure, precision: Precision) -> float:
        """The fraction of the original's bytes that short names save."""
        then = quick(precision.make(None))
        saved = self._size(structure, *then) - self._size(structure, *then, Shorten())
        return saved if np.isfinite(saved) else 0.0

    def _model(self, passes: tuple[Pass, ...]) -> Model | None:
        try:
            return self.chains.model(passes)
        except IntaglioError:
            return None

    def _lost(self, passes: tuple[Pass, ...]) -> Drop | None:
        rates = [self.chains.evaluation(some) for some in ((), passes)]
        found = drops(rates[0], rates[1]) if rates[0] and rates[1] else {}
        return next(iter(found.values()), None)

    def misses(self, tried: Tried) -> dict[str, float]:
        """How many times more there is than allowed, of each limit that is not kept."""
        if tried.point.told:
            return {"": np.inf}
        over = {name: amount(tried.point, name) / limit for name, limit in self.limited.items()}
        slack = {"latency": self._slack(tried)}
        return {name: by for name, by in over.items() if by > 1 + slack.get(name, 1e-9)}

    def _slack(self, tried: Tried) -> float:
        """What more than a limit of time cannot be told from the limit."""
        if tried.passes not in self.sure:
            return NOISE
        return min(NOISE, max(_SLACK, self.chains.unsure(tried.passes)))

    def within(self, tried: Tried) -> bool:
        """Whether all limits are kept, that on accuracy too."""
        allowed = self.limits.max_drop
        return not self.misses(tried) and (allowed is None or tried.lost is None or tried.lost.points <= allowed)

    def best(self) -> Tried:
        """Of those within the limits the one that loses least; of those that data do not tell apart see ``_worth``. Where
        accuracy alone is limited the smallest.

        Where none is, the nearest. Raises what the first chain raised where none could be run.
        """
        ran = [one for one in self.found if not one.point.told]
        if not ran:
            self.chains.changes(self.found[0].passes)
        met = [one for one in ran if self.within(one)]
        if not met:
            return self.nearest()
        if not self.asks:
            return min(met, key=lambda one: one.point.size_bytes)
        least = min(met, key=self._loss)
        alike = [one for one in met if self._alike(one, least)]
        near = max(map(_seen, alike)) - _SAME
        return max((one for one in alike if _seen(one) >= near), key=self._worth)

    def nearest(self) -> Tried:
        """What misses the limits by least, where none keeps them."""
        ran = [one for one in self.found if not one.point.told] or self.found
        return min(
            [one for one in ran if one.passes] or ran,
            key=lambda one: (sum(np.log(list(self.misses(one).values()))), self._loss(one), -noise_of(one)),
        )

    def timed_well(self, tried: Tried) -> Tried:
        """The same, its time measured more often."""
        self.sure.add(tried.passes)
        point = self.chains.timed(tried.point, tried.passes, _SURE, limit=self.limited.get("latency"), most=_MOST)
        again = replace(tried, point=point)
        self.found[self.found.index(tried)] = again
        return again

    def _worth(self, one: Tried) -> tuple[float, ...]:
        """Of those whose outputs are as near: integers, which are fast, then few bytes where these are limited."""
        order = -one.point.size_bytes, _seen(one)
        return one.precision is not None and one.precision.integers, *(order if "size" in self.limited else order[::-1])

    @staticmethod
    def _loss(one: Tried) -> float:
        return one.lost.points if one.lost else 0.0

    def _alike(self, one: Tried, least: Tried) -> bool:
        """Whether labelled data do not tell a chain from the one that loses least."""
        if one.lost is None or least.lost is None:
            return True
        rates = [self.chains.evaluation(some.passes) for some in (least, one)]
        found = next(iter(drops(rates[0], rates[1]).values()), None) if rates[0] and rates[1] else None
        return found is None or not found.clear

    def points(self, chosen: Tried) -> list[Point]:
        return [
            replace(one.point, meets=self.within(one), chosen=one is chosen and not one.point.told)
            for one in self.found
        ]


def noise_of(one: Tried) -> float:
    return -np.inf if one.point.sqnr_db is None else one.point.sqnr_db


def _seen(one: Tried) -> float:
    return min(_GOOD, noise_of(one))
