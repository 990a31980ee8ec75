"""The joint search: chains of passes under several limits at once, tried, measured and corrected."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import ceil
from pathlib import Path
from typing import Literal

import numpy as np

from ...graph.errors import GateFailed, IntaglioError, NothingChanged, TargetUnreachable, UsageError
from ...graph.model import Model
from ...measure.run.latency import crowd
from ...passes.base import Context, Pass
from ...passes.change import amounts
from ...passes.kept import Kept
from ...passes.prune.depth.branches import branches
from ...passes.quantize import Quantize
from ...passes.quantize.targets import TARGETS
from ..run import Logged, View
from ..steps import Store, passing_store
from .by_little import ALIKE, LEAST, best_noise, come_closer, fitted, less_of
from .chains import Chains, amount, lowest, pareto
from .limits import Limits
from .menu import DYNAMIC, INT8, MIXED, Precision, Structure, Unit, with_data, without_data
from .reasons import layer_reasons
from .refine import Choice, Selection, ranks_of
from .result import SearchResult
from .tries import RECORDS, Tried, Tries, noise_of

_ROUNDS = 2
"""How often a chain that misses a limit is made anew with what it missed taken off."""
_TIGHT = 0.75
"""Two bits that take so much of a limit of bytes leave room for little else: then names are shortened, too."""
_WIDER = 1.2
"""How many times as wide a network in fewer bits must be to be tried beside another."""
_CLOSE = 0.8
"""One number of bits for all layers is worth trying where it takes so much of a limit of bytes, and no more."""
_WORTH = 0.95
"""What ranks and bits chosen together must be predicted to lose, of what ranks for one limit do, to be tried."""
_BITS_COST = 1.0
"""Decibels: where bits lose less after the ranks, ranks need not heed them."""
_USED, _TIMED = 0.85, 0.98
"""What a narrower network should use of a limit of bytes, and of one of time: less wastes channels."""
_ROOM = 1.03
"""How much more than the least is asked for where the least is what is wanted: the forms of files differ."""
_BEHIND = 6.0
"""Decibels by which a network in mixed bits is behind the best chain where other bits will not make up for it."""
_SIGNS = 20.0
"""Decibels that single signs did not reach on any of four networks (7 to 18)."""
_PLANE, _TWO_BITS = 3.0, 0.95
"""Decibels that a second plane of signs is worth at least (4.9 on normal numbers), and how much of a limit of bytes two bits
may take for integers to be tried.
"""
_FASTER, _STEPS = 0.97, 4
"""What integers must leave of the time to be worth it, and how many sizes are tried for the smallest."""


def search(
    model: Model,
    limits: Limits,
    context: Context,
    *,
    target: str = "x86",
    close: Callable[[Model], None] = lambda _: None,
    view: View | None = None,
    store: Store | None = None,
) -> SearchResult:
    """The best model within ``limits``, by passes in a row.

    ``model`` and ``context`` are what a run hands to its passes: opened for many samples, which ``close`` undoes,
    ``context.data`` unlabelled and ``context.eval_data`` labelled, either of them None. Each pass of the result, run on
    what the one before it made with the same context, gives the same bytes. Without a limit on time no time is looked at.
    What ``store`` holds of another search is not done again.

    Raises:
        IntaglioError: no chain of passes could be run at all, a limit needs what there is not, or nothing is to be done.
    """
    started = time.perf_counter()
    _require(limits, context, target)
    with (
        nullcontext(store) if store else passing_store(context.folder) as steps,
        tempfile.TemporaryDirectory(prefix="intaglio-", dir=context.folder, ignore_cleanup_errors=True) as arrays,
    ):
        chains = Chains(model, context, steps, close, view or Logged(), kept=lambda after: Kept(Path(arrays), after))
        tries = Tries(chains, limits)
        return replace(_Search(tries, target).result(), seconds=time.perf_counter() - started)


def _require(limits: Limits, context: Context, target: str) -> None:
    if limits.max_drop is not None and not (context.eval_data and context.eval_data.labelled):
        raise UsageError("a limit on accuracy needs labelled data", fix="add --eval-data SOURCE")
    if limits.latency and not TARGETS[target].is_here:
        raise UsageError(
            f"--latency is measured on this machine, which is not what --target {target} stands for",
            fix="limit --macs or --size in its place, or search on such a machine",
        )


@dataclass
class _Search:
    """``run`` tries chains, the gentlest first; ``settle`` gives the best of them."""

    tries: Tries
    target: str
    in_floats: bool = False
    notes: list[str] = field(default_factory=list)
    reasons: dict[tuple[Pass, ...], Mapping[str, str]] = field(default_factory=dict)

    def result(self) -> SearchResult:
        self.run()
        tries, limits, best = self.tries, self.tries.limits, self.settle()
        if not best.passes:
            raise _refusal(tries, best) or NothingChanged("the model as it is keeps the limits", fix="ask for less")
        changes = tries.chains.changes(best.passes)
        points = pareto(
            tries.points(best),
            ["latency", "size"] if limits.latency else ["size", "macs"],
            (lambda p: next(iter((p.accuracy or {}).values()), -np.inf)) if best.lost else (lambda p: p.sqnr_db or 0.0),
        )
        layers = layer_reasons(changes, limits, self.reasons.get(best.passes, {}))
        return SearchResult(
            limits, best.passes, changes, points, layers, [*self.notes, *_notes(tries, best)], _refusal(tries, best)
        )

    def settle(self) -> Tried:
        """The best, its time measured once more: where that breaks a limit, narrower networks are tried, and the best of all."""
        while True:
            best = self.tries.best()
            if "latency" not in self.limited or not best.passes:
                return best
            if best.passes in self.tries.sure:
                return fitted(self.tries, best)
            seemed = self.tries.within(best)
            again = self.tries.timed_well(best)
            if seemed and not self.tries.within(again):
                if best.structure.unit != "latency":
                    self._corrected(again)
                come_closer(self.tries)

    @property
    def limited(self) -> Mapping[str, float]:
        return self.tries.limited

    def run(self) -> None:
        if not self.tries.asks and self.tries.limits.max_drop is not None:
            self._smallest()
            return
        self.tries.shorten = "size" in self.limited and self.tries.smallest(Structure()) > _TIGHT * self.limited["size"]
        self._try_all()
        if self._fast and not any(self.tries.within(one) and not one.structure.family for one in self.tries.found):
            self.in_floats = True
            self._try_all()
        come_closer(self.tries)
        self._refine()
        if not any(map(self.tries.within, self.tries.found)) and "latency" in self.limited:
            self._fastest()
        if not any(map(self.tries.within, self.tries.found)) and self.tries.misses(self.tries.nearest()).keys() & {
            "",
            "size",
        }:
            self._nearest()

    def _refine(self) -> None:
        """Ranks and bits of all layers chosen at once, where several limits bind: see ``Choice``.

        Beside the best chain with low rank, whose ranks were chosen for one limit; only where bits cost something after that,
        and where less loss is predicted. Where fewer channels were tried, too, of the network that has them as well.
        """
        low = [one for one in self.tries.found if "factorize" in [part.family for part in one.structure.parts]]
        low = [one for one in low if not one.point.told]
        limited = {name: limit for name, limit in self.limited.items() if limit < 1}
        if len(limited) < 2 or not low or self.tries.chains.context.data is None or self._fast:
            return
        outer = min(low, key=lambda one: (len(self.tries.misses(one)), -noise_of(one)))
        alone = self.tries.chains.apart(outer.structure.passes())[0] or 0.0
        if not self.tries.misses(outer) and alone - noise_of(outer) < _BITS_COST:
            return
        for structure in {one.structure.family: one.structure for one in low}.values():
            with suppress(TargetUnreachable):
                self._chosen_together(structure, outer, limited)

    def _chosen_together(self, structure: Structure, outer: Tried, limited: Mapping[str, float]) -> None:
        """The channels of a structure as they are, ranks and bits anew."""
        chains, narrow = self.tries.chains, structure.passes()[:-1]
        base, lost = chains.model(narrow), 10 ** (-(chains.apart(narrow)[0] or 0.0) / 10) if narrow else 0.0
        least = self.tries.smallest(replace(structure.parts[0], ranks=()) if narrow else Structure())
        ratio = 1 / chains.time(base).speedup(1) if narrow and "latency" in limited else 1.0
        choice = Choice(base, chains.context, limited, least, whole=amounts(chains.original), ratio=ratio)
        found = choice.selection(limited)
        usual = choice.selection(limited, ranks_of(chains.changes(structure.passes())[-1]))
        if lost + found.loss > _WORTH * (lost + usual.loss):
            told = f"ranks and bits chosen together under all limits are predicted to lose {(lost + found.loss) / (lost + usual.loss):.0%}"
            self.notes.append(f"{told} of what {structure.name} does, and were not tried")
            return
        for _ in range(_ROUNDS + 1):
            ranks = replace(structure, ranks=found.ranks)
            tried = self.tries.take(ranks, self._bits(found, ranks) or outer.precision)
            self.reasons[tried.passes] = found.reasons()
            misses = self.tries.misses(tried)
            if not misses or "" in misses:
                return
            limited = {name: limit / (1.005 * misses.get(name, 1.0)) for name, limit in limited.items()}
            found = choice.selection(limited)

    def _bits(self, found: Selection, ranks: Structure) -> Precision | None:
        """Those that were chosen for each layer; None where bits were not limited."""
        bits = found.bits(self.tries.chains.model(ranks.passes()))
        made = Quantize(scheme=MIXED, layer_bits=bits, target=self.target) if bits else None
        return Precision("bits by layer", lambda _: (made,)) if made else None

    def _try_all(self) -> None:
        for structure in self._structures():
            for precision in (
                self._best_first() if structure.family == "both" else [*self._menu, *self._plain(structure)]
            ):
                if self._hopeless(structure) or self._behind(structure):
                    break
                if self._too_large(structure, precision):
                    continue
                self._corrected(self._sized(structure, precision))

    def _too_large(self, structure: Structure, precision: Precision | None) -> bool:
        """Whether integers cannot be small enough, as two bits alone hardly are: they store ranges and nodes beside."""
        return (
            precision is not None
            and precision.name == INT8
            and precision.sized
            and self.tries.smallest(structure) > _TWO_BITS * self.limited.get("size", np.inf)
        )

    def _signs_may_win(self) -> bool:
        """Whether single signs may be nearer than the best chain: two planes of them always are nearer by some decibels."""
        best = best_noise(self.tries)
        planes = [one for one in self.tries.found if one.precision and one.precision.name == "planes"]
        alone = [self._added(one) for one in planes if not one.point.told]
        return best < _SIGNS and (not alone or max(alone) - _PLANE > best)

    def _added(self, one: Tried) -> float:
        """Decibels that a precision alone would have, what its structure loses taken off."""
        before = self.tries.chains.apart(one.structure.passes())[0] if one.structure.family else None
        left = 10 ** (-noise_of(one) / 10) - (0.0 if before is None else 10 ** (-before / 10))
        return float(-10 * np.log10(left)) if left > 0 else np.inf

    def _best_first(self) -> list[Precision | None]:
        """What was best with one family alone."""
        return [max(self.tries.found, key=lambda one: (self.tries.within(one), noise_of(one))).precision]

    def _plain(self, structure: Structure) -> Iterator[Precision]:
        """Bits that are the same in all layers, where they take about what a limit of bytes leaves: two planes, too, where
        two bits do, and single signs where two bits are too many.
        """
        limit, tries = self.limited.get("size", 1.0), self.tries
        if limit >= 1 or self._fast or MIXED not in self.precisions:
            return
        sizes = {name: tries.least(structure, self.precisions[name]) for name in ("w4", "w3", "w2")}
        fits = [name for name in sizes if _CLOSE * limit <= sizes[name] <= limit]
        yield from (self.precisions[name] for name in [*fits[:1], *(["planes"] if "w2" in fits else [])])
        if tries.size(Structure(), self.precisions["fp16"]) <= limit:
            yield self.precisions["fp16"]

    def _sized(self, structure: Structure, precision: Precision | None) -> Tried:
        """With short names where numbers alone are not small enough."""
        tried = self.tries.take(structure, precision)
        if not (tried.point.told and precision and precision.sized and "size" in self.limited) or self.tries.shorten:
            return tried
        self.tries.shorten = True
        try:
            return self.tries.take(structure, precision)
        finally:
            self.tries.shorten = False

    def _fastest(self) -> None:
        """As fast as narrower networks can be, where none that was tried keeps a limit of time."""
        reached = min((amount(one.point, "latency") for one in self.tries.found if not one.point.told), default=1.0)
        for one in [*self.tries.found]:
            if one.point.told and one.structure.unit == "latency" and len(one.structure.parts) == 1:
                try:
                    self.tries.chains.changes(one.structure.passes())
                except TargetUnreachable as error:
                    if (least := lowest(error)) and self.limited["latency"] < least < reached:
                        self.tries.take(one.structure.to(min(1.0, least + 0.01)), one.precision)
                except IntaglioError:
                    continue

    def _nearest(self) -> None:
        """What is as small as can be, where the limits cannot be kept: as the network is, and as narrow as was tried."""
        smallest = self.tries.smallest
        tried = {one.structure for one in self.tries.found if one.structure.family}
        for structure in dict.fromkeys((Structure(), min(tried, key=smallest, default=Structure()))):
            if np.isfinite(least := smallest(structure)):
                for precision in self._menu:
                    self.tries.take(structure, precision, _ROOM * max(least, self.limited.get("size", 0.0)))

    @cached_property
    def precisions(self) -> dict[str, Precision]:
        made = with_data(self.target) if self.tries.chains.context.data else without_data(self.target)
        return {one.name: one for one in made}

    @cached_property
    def _fast(self) -> Precision | None:
        """The integers that save most of the time, where that is limited."""
        if self.limited.get("latency", 1.0) >= 1:
            return None
        whole = {name: self.tries.time(self.precisions[name]) for name in (INT8, DYNAMIC)}
        fast = min(whole, key=lambda name: whole[name])
        return self.precisions[fast] if whole[fast] <= _FASTER else None

    @property
    def _menu(self) -> list[Precision | None]:
        """Where time is limited the integers that save most of it, else all that a limit of bytes asks for.

        Where integers leave too much of bytes or time, narrower networks in floats are tried, too: they gain more by being so.
        """
        if self._fast and not self.in_floats:
            return [self._fast]
        if self.limited.get("size", 1.0) >= 1:
            return [None]
        if MIXED in self.precisions:
            return [self.precisions[MIXED], *([] if self.in_floats else [self.precisions[INT8]])]
        return [one for one in self.precisions.values() if one.name != DYNAMIC]

    def _structures(self) -> Iterator[Structure]:
        """Narrower networks by what is limited; the network as it is where that limits nothing."""
        units: list[Unit] = [name for name in ("macs", "params") if self.limited.get(name, 1.0) < 1]
        if units:
            tightest = min(units, key=lambda unit: self.limited[unit])
            yield Structure("factorize", tightest, self.limited[tightest], measure="latency" in self.limited)
            yield Structure("prune", tightest, self.limited[tightest], self._integers)
            if self._undecided():
                yield Structure("both", tightest, self.limited[tightest], self._integers)
            return
        if self.tries.smallest(Structure()) <= self.limited.get("size", np.inf):
            yield Structure()
        else:
            yield from self._small_enough()
            if not self._fast and MIXED in self.precisions and self._signs_may_win():
                self._sized(Structure(), self.precisions["onebit"])

    def _small_enough(self) -> Iterator[Structure]:
        """As wide as four bits throughout leave room for, and two bits where that is clearly wider; the widest first."""
        ways: tuple[tuple[Literal["factorize", "prune"], str], ...] = (
            *(("factorize", "w4"), ("prune", "w4")),
            *((("prune", "w2"),) if not self._fast else ()),
        )
        kept, found = dict[str, float](), list[Structure]()
        for family, scheme in ways:
            one = Structure(family, "params", before_integers=self._integers)
            keep = self.tries.filling(one, scheme)
            if keep > _WIDER * kept.get(family, 0.0):
                found.append(one.to(keep))
            kept[family] = keep
        yield from sorted(found, key=lambda one: -one.keep)

    @property
    def _integers(self) -> bool:
        return "latency" in self.limited and all(one is not None and one.name == INT8 for one in self._menu)

    def _undecided(self) -> bool:
        """Whether half of each family may be worth trying: low rank alone is not clearly better within the limits."""
        noise = {"prune": -np.inf, "factorize": -np.inf}
        for one in self.tries.found:
            if self.tries.within(one) and one.structure.family in noise:
                noise[one.structure.family] = max(noise[one.structure.family], one.point.sqnr_db or -np.inf)
        return (
            not noise["factorize"] > noise["prune"] + ALIKE
            and not noise["prune"] > noise["factorize"] + ALIKE > -np.inf
        )

    def _hopeless(self, structure: Structure) -> bool:
        """Whether a structure alone is farther from the original than the best chain: what follows only adds to that."""
        if not structure.family or not (met := [one for one in self.tries.found if self.tries.within(one)]):
            return False
        noise = self.tries.chains.point("", structure.passes(), scored=False).sqnr_db
        return noise is not None and noise < max(one.point.sqnr_db or -np.inf for one in met)

    def _behind(self, structure: Structure) -> bool:
        """Whether what a structure gave with one precision is so far behind the best chain that no other will make up for it."""
        mine = [one for one in self.tries.found if one.structure == structure and self.tries.within(one)]
        return bool(mine) and max(map(noise_of, mine)) < best_noise(self.tries) - _BEHIND

    def _corrected(self, tried: Tried, rounds: int = _ROUNDS) -> None:
        """Again with what was missed taken off, a few times; then with what is left of a limit given back."""
        following = (self._narrower(tried) or self._quicker(tried)) if rounds else []
        for structure in following:
            self._corrected(self.tries.take(structure, tried.precision), rounds - 1)
        for _ in range(0 if following else _ROUNDS):
            if wider := self._wider(tried):
                again = self.tries.take(wider, tried.precision)
                tried = tried if again.point.told or not self.tries.within(again) else again

    def _wider(self, tried: Tried) -> Structure | None:
        """Between a structure that leaves bytes unused and one that was too large, or as much as is left of the time."""
        size, structure = self.limited.get("size", np.inf), tried.structure
        if not structure.family or tried.point.told:
            return None
        if structure.family == "depth":  # what more than met the limit came back already
            return None
        if structure.unit == "latency" and self.tries.within(tried):
            used = amount(tried.point, "latency") / self.limited["latency"]
            return structure.to(min(1.0, structure.keep / used)) if used < _TIMED else None
        if self.limited.keys() != {"size"}:
            return None
        if tried.point.kept["size_bytes"] > _USED * size:
            return None
        failed = [one.structure for one in self.tries.found if one.point.told and one.precision is tried.precision]
        above = [one.keep for one in failed if one.family == structure.family and one.keep > structure.keep]
        return structure.to((structure.keep * min(above)) ** 0.5) if above else None

    def _narrower(self, tried: Tried) -> list[Structure]:
        """What is small enough in two bits where a structure was not, by a line through it and the whole network."""
        if not tried.point.told or not tried.structure.family or "size" not in self.limited:
            return []
        keep, limit = tried.structure.keep, self.limited["size"]
        small, whole = (self.tries.smallest(one) for one in (tried.structure, Structure()))
        if not limit < small < whole:
            return []
        less = keep - (small - 0.93 * limit) * (1 - keep) / (whole - small)
        return [tried.structure.to(less)] if less > LEAST else []

    def _quicker(self, tried: Tried) -> list[Structure]:
        """With less of what misses its limit by most: widths for bytes are not those for time."""
        misses = {name: by for name, by in self.tries.misses(tried).items() if name != "size"}
        if not misses or "" in misses:
            return []
        worst, structure = max(misses, key=lambda name: misses[name]), tried.structure
        if structure.family and (worst != "latency" or structure.unit != "params"):
            return [structure.to(less_of(tried, worst, misses[worst]))]
        limit, ratio = self.limited["latency"], tried.point.latency_ratio or 1.0
        if structure.family:
            ratio = self.tries.time(tried.precision) if tried.precision else 1.0
            return [*(part.to(limit, "latency") for part in structure.parts[:1]), *self._shallower(limit, ratio)]
        less = min(1.0, limit / min(1.0, ratio))
        keep = limit if self._integers or tried.precision is None else less
        families: list[Literal["prune", "factorize"]] = ["prune"] if self._integers else ["prune", "factorize"]
        narrower = [Structure(one, "latency", keep, self._integers, measure=True) for one in families]
        return [*narrower, *self._shallower(limit, ratio)]

    def _shallower(self, limit: float, ratio: float) -> list[Structure]:
        """Without some branches, where there are any and data to refit what stays: what takes ``ratio`` of the time as it is
        takes as much of what is left. So not in floats where integers are faster.
        """
        chains, keep = self.tries.chains, limit / min(1.0, ratio)
        if chains.context.data is None or self.in_floats or not keep < 1 or not branches(chains.original):
            return []
        return [Structure("depth", "latency", keep)]

    def _smallest(self) -> None:
        """The smallest file whose accuracy stays: sizes between all that numbers need and the least, halved again and again."""
        tries, sized = self.tries, self.precisions.get(INT8)
        if sized is None or not sized.sized or not np.isfinite(tries.size(Structure(), sized)):
            sized = self.precisions.get(MIXED)
        if sized is None:
            for precision in self.precisions.values():
                tries.take(Structure(), precision)
            return
        tries.shorten = True
        low, high = _ROOM * tries.smallest(Structure()), tries.size(Structure(), sized)
        tries.take(Structure(), sized, high)
        for _ in range(_STEPS):
            middle = (low * high) ** 0.5
            good = tries.within(tries.take(Structure(), sized, middle))
            low, high = (low, middle) if good else (middle, high)


def _notes(tries: Tries, best: Tried) -> Iterator[str]:
    if tries.chains.context.data is None:
        yield "searched without calibration data: weights are rounded by themselves, and outputs compared on made-up inputs"
    if "latency" in tries.limited:
        yield "times were measured here: another search may choose another model"
        if others := crowd():
            yield f"{others} while times were measured: search again on a machine that does nothing else"
    if (
        best.lost is not None
        and tries.limits.max_drop is not None
        and (enough := best.lost.enough_for(tries.limits.max_drop))
    ):
        yield f"the labelled data are too few to tell whether it loses more than {tries.limits.max_drop:g} points; about {enough:,} samples would"


def _refusal(tries: Tries, best: Tried) -> IntaglioError | None:
    """Why the nearest model that was found is not within the limits."""
    if tries.within(best):
        return None
    misses = tries.misses(best)
    if not misses and best.lost and tries.limits.max_drop is not None:
        what = f"the least that a model within the other limits lost is {best.lost.points:.2f} points, {tries.limits.max_drop:g} were allowed"
        return GateFailed(what, fix=f"allow more (--max-drop {best.lost.points:.2f}), or limit less")
    told = []
    for name in misses:
        ran = [amount(one.point, name) for one in tries.found if not one.point.told]
        extra = RECORDS / amounts(tries.chains.original).size if name == "size" else 0.0
        told.append(f"--{name} {ceil(1000 * (min(ran) + extra)) / 1000:.3f}")
    return GateFailed(
        f"no chain of passes that was tried is within the limits: the nearest, {best.point.name}, misses {', '.join(misses)}",
        why=f"the least that any of them reached is {', '.join(told)}",
        fix="allow that much, or take the nearest with --force",
    )
