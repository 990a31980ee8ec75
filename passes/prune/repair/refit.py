"""Compress a network from its inputs to its outputs: choose what goes where it is read, refit what reads it.

Every layer sees what the compressed network really feeds it and aims at what the original made, so that each repairs
what went wrong before it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

import numpy as np

from ....graph.coupling import Removal, remove
from ....graph.coupling.solve import BoolArray
from ....graph.layer import Floats, Ints, Layer
from ....graph.layers import Layers
from ...base import Context
from ...calibration.activation_cache import Inputs, Store
from ...calibration.feeds import calibration_inputs
from ...calibration.journal import Journal, journal_in
from ...calibration.moments import blas_threads_for, one_blas_thread
from ...calibration.reconstruct import REFITS, RIDGE, damp_hessian, inverse
from ...calibration.targets import ReconstructionTargets
from ...calibration.turns import Left, Turn, in_turn
from ..obspa.elimination import Reader, eliminate
from ..readers import Readers
from .repair import REPAIRS, Repaired, with_weights


@dataclass
class Refitted:
    """``removed`` atoms, and the constants that changed, at full width."""

    removed: BoolArray
    weights: dict[str, Floats]
    layers: int = 0


class Pruned:
    """The twin: the network without what is removed so far, and with the weights fitted so far."""

    def __init__(self, readers: Readers, removed: BoolArray) -> None:
        self.readers, self.removed = readers, removed
        self.weights: dict[str, Floats] = {}
        self._refitted: set[str] = set()
        self._cut()

    def _cut(self) -> None:
        self.removal = with_weights(Removal(self.readers.coupling, self.removed), self.weights)
        self.model = remove(self.removal)
        self._now = Layers(self.model).by_output

    @property
    def changed(self) -> AbstractSet[str]:
        return self.removal.shrinking | self._refitted

    @property
    def left(self) -> Left:
        return self.removal.tensor

    def counterpart(self, layer: Layer) -> Layer | None:
        return self._now.get(layer.output)

    def remove(self, atoms: Ints) -> None:
        """Remove more."""
        self.removed = self.removed.copy()
        self.removed[atoms] = True
        self._cut()

    def take(self, layer: Layer, now: Layer, constants: Mapping[str, Floats]) -> None:
        """Put new weights into the network, and into the full-width constants where they belong."""
        for small, value in constants.items():
            name = layer.weight if small == now.weight else layer.bias
            assert name is not None
            wide = np.array(self.weights.get(name, self.readers.coupling.model.weights[name]))
            masks = self.removal.tensor(name)
            wide[np.ix_(*[masks.get(a, np.ones(n, dtype=bool)) for a, n in enumerate(wide.shape)])] = value
            self.weights[name] = wide
            self.model.weights[small] = value
        self._refitted.add(layer.node)

    def channels(self, group: int, layer: Layer) -> Ints:
        """The group's channel of each column as the layer stands now, -1 for none."""
        wide = self.readers.at(layer.x, layer.x_axis)[group]
        mask = self.left(layer.x).get(layer.x_axis % len(self.readers.coupling.axes(layer.x)))
        here = wide if mask is None else wide[mask]
        return np.asarray(here[layer.column_channels][0])


def refit_in_turn(
    readers: Readers,
    targets: ReconstructionTargets,
    inputs: Inputs,
    planned: BoolArray,
    keep: Mapping[int, int] | None = None,
    *,
    strength: float = RIDGE,
    rounds: int = REFITS,
    tick: Callable[[int, int | None], None] = lambda done, total: None,
    journal: Journal | None = None,
) -> Refitted:
    """Refit whatever reads something else than before a removal.

    ``keep`` maps groups to their widths: these choose which of the planned channels go where they are read. What the
    ``journal`` has of a layer is taken from there.
    """
    coupling, open_groups = readers.coupling, dict(keep or {})
    removed = planned.copy()
    for k in open_groups:
        removed[coupling.groups[k].atoms] = False
    twin, count = Pruned(readers, removed), 0
    layers = [layer for layer in readers.layers if not readers.layers.tied(layer)]
    for place, turn in enumerate(in_turn(coupling.model, twin, inputs, layers, targets, tick)):
        deciding = [k for k in open_groups if any(s.layer.node == turn.layer.node for s in readers.seats(k))]
        if not deciding and not turn.differs:
            continue
        for_groups = {k: open_groups.pop(k) for k in deciding}
        turn.reach()
        settled: Settled | None = None if journal is None else journal.read(place)
        if settled is None:
            settled = _settled(turn, twin, for_groups, strength, rounds)
            if journal is not None:
                journal.keep(place, settled)
        elif settled.chosen is not None:
            _narrow(turn, twin, settled.chosen)
        twin.take(turn.layer, turn.now, settled.constants)
        count += 1
    for k in open_groups:  # a group whose reader is gone stays as planned
        atoms = coupling.groups[k].atoms
        twin.removed[atoms] = planned[atoms]
    return Refitted(twin.removed, twin.weights, count)


@dataclass(frozen=True)
class Chosen:
    """``atoms`` that go, and which of the columns of the layer that reads them stay (columns,)."""

    atoms: Ints
    columns: BoolArray


@dataclass(frozen=True)
class Settled:
    """What became of one layer: what went in front of it where it decides that, and its new constants."""

    chosen: Chosen | None
    constants: Mapping[str, Floats]


def _settled(turn: Turn, twin: Pruned, widths: Mapping[int, int], strength: float, rounds: int) -> Settled:
    chosen = choose(turn, twin, widths, strength) if widths else None
    return Settled(chosen, turn.constants(turn.fit(strength, rounds)))


def _narrow(turn: Turn, twin: Pruned, chosen: Chosen) -> None:
    twin.remove(chosen.atoms)
    turn.narrow(chosen.columns)


def choose(turn: Turn, twin: Pruned, widths: Mapping[int, int], strength: float) -> Chosen:
    """Choose channels of groups by what their layer really gets, and remove them."""
    (h,), (r,) = turn.moments.normal_equations(centred=turn.centred)
    (old,) = turn.weight
    keep = np.ones(len(h), dtype=bool)
    chosen: list[Ints] = []
    with blas_threads_for(len(h)):
        for group, width in widths.items():
            columns = np.flatnonzero(keep)
            damp = damp_hessian(h[np.ix_(columns, columns)], strength)
            inverted = inverse(damp)
            pull = damp[0, 0] - h[columns[0], columns[0]]
            weight = (r[:, columns] + pull * old[:, columns]) @ inverted
            channel, atoms = twin.channels(group, turn.now), twin.readers.coupling.groups[group].atoms
            steps = len(atoms) if len(atoms) <= 128 else 64
            reader = Reader(weight, inverted, channel[columns])
            gone = eliminate([reader], len(atoms), down_to=width, steps=steps).order
            chosen.append(atoms[gone])
            keep &= ~np.isin(channel, gone)
    done = Chosen(np.concatenate(chosen), keep)
    _narrow(turn, twin, done)
    return done


def locally_decided(readers: Readers, numbers: Sequence[int]) -> list[int]:
    """Groups that one plain layer alone reads: they can be chosen when the compressed network has come that far."""
    groups = readers.coupling.groups
    found = []
    for k in numbers:
        seats = readers.seats(k)
        alone = len(seats) == 1 and groups[k].bundle < 0 and not readers.opaque(k)
        if alone and seats[0].layer.groups == 1 and not readers.layers.tied(seats[0].layer):
            found.append(k)
    return found


@REPAIRS.register("refit")
@one_blas_thread
def refit(removal: Removal, context: Context) -> Repaired:
    """Refit every layer in turn so that it gives what the original gave; needs calibration data.

    Source: He et al., "Channel Pruning for Accelerating Very Deep Neural Networks", ICCV 2017, arXiv:1707.06168, and
    Zhang et al., PAMI 2016, arXiv:1505.06798 (targets through the rectifier).
    """
    coupling = removal.coupling
    batches, notes = calibration_inputs(coupling.model, context)
    readers = Readers(coupling)
    targets = ReconstructionTargets(coupling.model, coupling.prepared.shapes, readers.layers)
    with Store.of(context) as store:
        inputs = Inputs(batches, store)
        journal = journal_in(context.resume, [coupling.model], batches, removal.removed)
        done = refit_in_turn(readers, targets, inputs, removal.removed, tick=context.tick, journal=journal)
    return Repaired(done.weights, {"refitted": done.layers, "samples": inputs.samples}, notes)
