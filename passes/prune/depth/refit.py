"""Refitting what stays: each layer in turn makes up for branches that are gone before it, and for the one behind it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from functools import partial

from ....graph.index import index_of
from ....graph.layer import Floats, Layer
from ....graph.layers import Layers
from ....graph.model import Model
from ....graph.traits import Trait, has_any
from ...base import Context
from ...calibration.activation_cache import Inputs, Store
from ...calibration.journal import journal_in, once
from ...calibration.moments import one_blas_thread
from ...calibration.targets import ReconstructionTarget, ReconstructionTargets, targets_of
from ...calibration.turns import Left, Turn, all_left, in_turn
from .branches import Branch, dropped

_HANDS_ON = Trait.IDLE | Trait.RECTIFIES


class Shorter:
    """The twin: without the branches, and with the weights fitted so far."""

    def __init__(self, model: Model, gone: Sequence[Branch]) -> None:
        self.model = dropped(model, gone)
        self.changed: AbstractSet[str] = {one.total for one in gone}
        self._now = Layers(self.model).by_output
        self.weights: dict[str, Floats] = {}

    @property
    def left(self) -> Left:
        return all_left

    def counterpart(self, layer: Layer) -> Layer | None:
        return self._now.get(layer.output)

    def take(self, layer: Layer, constants: Mapping[str, Floats]) -> None:
        self.weights.update(constants)
        self.model.weights.update(constants)
        self.changed = {*self.changed, layer.node}


class Aims:
    """Targets, but that what hands on to a sum without its branch aims at what that sum was; so does the other operand."""

    def __init__(self, model: Model, layers: Layers, twin: Shorter) -> None:
        self.original: ReconstructionTargets = targets_of(model, layers)
        self._index, self._totals = index_of(twin.model), twin.changed
        self.moved: set[str] = set()

    def of(self, layer: Layer) -> ReconstructionTarget:
        aim = self.original.of(layer)
        if gone := {*aim.others} - {*self._index.place, *self._index.inputs}:
            aim = replace(aim, others=tuple(name for name in aim.others if name not in gone))
            self.moved.add(layer.node)
        tensor = aim.tensor
        while (node := self._index.sole_reader(tensor)) is not None and has_any(node, _HANDS_ON):
            tensor = node.output[0]
            if tensor in self._totals:
                aim = replace(aim, tensor=tensor, activation_bounds=self.original.bounds(tensor))
                self.moved.add(layer.node)
        return aim


@one_blas_thread
def refit(
    model: Model, gone: Sequence[Branch], batches: Sequence[Mapping[str, Floats]], store: Store, context: Context
) -> tuple[Model, int]:
    """The model with weights that are fitted to do without, at full depth, and how many layers have new ones."""
    journal = journal_in(context.resume, [model], batches, "refit", sorted(one.total for one in gone))
    layers, twin = Layers(model), Shorter(model, gone)
    aims = Aims(model, layers, twin)
    fitted = [layer for layer in layers if not layers.tied(layer) and twin.counterpart(layer)]
    count = 0
    for place, turn in enumerate(in_turn(model, twin, Inputs(batches, store), fitted, aims, context.tick)):
        if turn.differs or turn.layer.node in aims.moved:
            turn.reach()
            twin.take(turn.layer, once(journal, place, partial(_refitted, turn)))
            count += 1
    changed = model.copy()
    changed.weights.update(twin.weights)
    return changed, count


def _refitted(turn: Turn) -> Mapping[str, Floats]:
    return turn.constants(turn.fit())
