"""Ranks and bits of all layers, chosen together under several limits at once.

What a layer may become is a way to write it, as it is or as factors of some rank, and a number of bits. Losses are squared
errors of the network's outputs relative to their variance, measured with one layer changed at a time, and are taken to add
up: of factors what the rank loses, and what rounding loses once for each of the two.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod

import numpy as np

from ...graph.cost import cost
from ...graph.layer import Layer
from ...graph.layers import Layers
from ...graph.model import Model
from ...passes.base import Context
from ...passes.budget.amounts import Amounts
from ...passes.budget.several import Ways, solve_several
from ...passes.calibration.activation_cache import Inputs, Store
from ...passes.change import Change
from ...passes.factorize import Factorize
from ...passes.factorize.job import Job
from ...passes.factorize.latency import Times
from ...passes.live import live_part
from ...passes.precision.grid import Grid
from ...passes.quantize.allocation.budgeted import STORED, choices_of

_SAMPLES = 64
"""On which the loss of bits is measured: enough to weigh it against that of ranks."""
_FLOAT = 32


@dataclass(frozen=True)
class Way:
    """What a layer may become, what that loses, and its costs in the order of the limits; without ``scheme`` as it is."""

    scheme: str
    rank: int
    bits: int
    loss: float
    costs: tuple[float, ...]

    @property
    def told(self) -> str:
        bits = "floats" if self.bits == _FLOAT else f"{self.bits} bits"
        return f"{self.scheme} at rank {self.rank} in {bits}" if self.scheme else bits


@dataclass(frozen=True)
class Selection:
    """``ways`` by the name of the layer, with what else it might have become; ``loss`` is the sum of theirs."""

    ways: Mapping[str, tuple[Way, Sequence[Way]]]

    @property
    def loss(self) -> float:
        return sum(way.loss for way, _ in self.ways.values())

    @property
    def ranks(self) -> tuple[tuple[str, str, int], ...]:
        return tuple((name, way.scheme, way.rank) for name, (way, _) in self.ways.items() if way.scheme)

    def bits(self, model: Model) -> tuple[tuple[str, int], ...]:
        """Of the layers of a model that has these ranks: factors have the bits of the layer that they stand for."""
        found = (
            (one.name, self.ways.get(one.name) or self.ways.get(one.name.rpartition("/")[0])) for one in Layers(model)
        )
        return tuple((name, way[0].bits) for name, way in found if way and way[0].bits != _FLOAT)

    def reasons(self) -> dict[str, str]:
        """Of each layer what its choice is predicted to lose, and what the next better one would."""
        return {name: _reason(way, others) for name, (way, others) in self.ways.items()}


def _reason(way: Way, others: Sequence[Way]) -> str:
    told = f"{way.told}, predicted to lose {way.loss:.2g} of the outputs' variance, chosen from {len(others)} ways"
    better = [one for one in others if one.loss < way.loss]
    if not better:
        return told
    near = max(better, key=lambda one: one.loss)
    more = np.max(np.array(near.costs) / np.maximum(way.costs, 1e-12))
    return f"{told}; {near.told} would lose {near.loss:.2g} at {more:.2g} times the cost"


class Choice:
    """Of ``model``, under ``limited``: fractions of an original that has ``whole``, by what they limit."""

    def __init__(
        self,
        model: Model,
        context: Context,
        limited: Mapping[str, float],
        least: float,
        *,
        whole: Amounts | None = None,
        ratio: float = 1.0,
    ) -> None:
        """``least`` is the fraction of the bytes that two bits throughout leave, ``ratio`` that of the time that the model
        takes.
        """
        asked = Factorize(target="macs", keep=0.5, measure="latency" in limited)
        self.job, self.context = Job(asked, live_part(model), context), context
        self.limited, self.least, self.ratio = limited, least, ratio
        self.whole = whole or self.job.before

    def selection(self, limited: Mapping[str, float], ranks: Mapping[str, tuple[str, int]] | None = None) -> Selection:
        """The ways of least loss; where ``ranks`` are given with these, and only bits chosen.

        Raises:
            TargetUnreachable: none are within the limits.
        """
        some = {name: _of_rank(ways, *ranks.get(name, ("", 0))) if ranks else ways for name, ways in self.ways.items()}
        items = [Ways(np.array([w.costs for w in ways]), np.array([w.loss for w in ways])) for ways in some.values()]
        chosen = solve_several(items, [limited[name] - self.rest[name] for name in self.limited])
        return Selection({name: (ways[k], ways) for (name, ways), k in zip(some.items(), chosen, strict=True)})

    @cached_property
    def rest(self) -> dict[str, float]:
        """The fraction of each amount that no way changes."""
        kinds = list(self.limited)
        spent = {k: sum(ways[0].costs[kinds.index(k)] for ways in self.ways.values()) for k in kinds if k != "size"}
        whole = {"macs": cost(self.job.model).macs / self.whole.macs}
        whole |= {"params": cost(self.job.model).params / self.whole.params, "latency": self.ratio}
        found = {name: whole[name] - spent[name] for name in spent}
        if "size" in kinds:
            place = kinds.index("size")
            two = sum(next(w for w in ways if w.bits == STORED[0]).costs[place] for ways in self.ways.values())
            found["size"] = self.least - two
        return found

    @cached_property
    def ways(self) -> dict[str, list[Way]]:
        """By the name of the layer, as it is first."""
        numbers = {unit.site.node: k for k, unit in enumerate(self.job.units)}
        layers = {one.weight: one for one in reversed(list(Layers(self.job.model)))}
        return {one.name: list(self._ways(one, numbers.get(one.node))) for one in reversed(layers.values())}

    def _ways(self, layer: Layer, k: int | None) -> Iterator[Way]:
        unit = None if k is None else self.job.units[k]
        macs, params = (unit.macs, unit.params) if unit else (0, prod(layer.shape))
        time = 0.0 if k is None or self._times is None else float(self._times.whole[k])
        losses = self._bits.get(layer.node, {_FLOAT: 0.0})
        for bits, loss in losses.items():
            yield Way("", 0, bits, loss, self._costs(macs, params, layer.outputs, bits, time))
        if k is None:
            return
        table = self.job.tables[k]
        # a table holds geometric means of what outputs lose and what the layer loses
        lost = np.square(table.losses) / np.maximum(table.local, 1e-30)
        for place in np.flatnonzero(np.isfinite(lost)):
            one = table.options[place]
            time = 0.0 if self._times is None else float(self._times.costs[k][place])
            for bits, loss in losses.items():
                costs = self._costs(one.macs, one.params, layer.outputs + one.rank, bits, time)
                yield Way(one.scheme, one.rank, bits, float(lost[place]) + 2 * loss, costs)

    def _costs(self, macs: float, params: float, rows: int, bits: int, time: float) -> tuple[float, ...]:
        before = self.whole
        found = {
            "macs": macs / max(1.0, before.macs),
            "params": params / max(1.0, before.params),
            "size": (params * bits / 8 + 4 * rows) / before.size,
            "latency": self.ratio * time / self._times.full if self._times else 0.0,
        }
        return tuple(found[name] for name in self.limited)

    @cached_property
    def _times(self) -> Times | None:
        job = self.job
        return Times.measured(job.gains, job.units, job.options, job.source) if job.gains else None

    @cached_property
    def _bits(self) -> dict[str, dict[int, float]]:
        """What each layer loses by bits; empty where bytes are not limited."""
        if "size" not in self.limited:
            return {}
        layers, grids = Layers(self.job.model), tuple(map(Grid, STORED))
        with Store.of(self.context) as store:
            inputs = Inputs(self.job.batches, store).first(_SAMPLES)
            rules = dict.fromkeys((one.node for one in layers), grids)
            found = choices_of(self.job.model, inputs, rules, name="dp", price=lambda layer, grid: 0.0)
        # more bits are no worse than fewer, whatever was measured
        return {one.name: dict(zip(STORED, np.minimum.accumulate(one.loss).tolist(), strict=True)) for one in found}


def _of_rank(ways: Sequence[Way], scheme: str, rank: int) -> list[Way]:
    """The nearest rank where there is none such."""
    same = [way for way in ways if way.scheme == scheme] or list(ways)
    near = min((way.rank for way in same), key=lambda one: abs(one - rank))
    return [way for way in same if way.rank == near]


def ranks_of(change: Change) -> dict[str, tuple[str, int]]:
    """By layer what a factorization gave it."""
    return {one["name"]: (one["scheme"], int(one["rank"][-1])) for one in change.layers if one.get("rank")}
