"""Choose which channels go: by target, by group, by direction in a bundle."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import onnx

from ...graph.coupling import Coupling, Group, Removal
from ...graph.coupling.certificate import check, too_short
from ...graph.coupling.groups import crossing
from ...graph.coupling.solve import BoolArray
from ...graph.index import index_of
from ...graph.nodes import display_name
from ..patterns import chosen
from .weights import Scores


def eligible(coupling: Coupling, *, include: Sequence[str], exclude: Sequence[str], exact_only: bool) -> list[int]:
    """Numbers of the groups that may be pruned: prunable, and as the patterns say.

    Raises:
        UsageError: a pattern matches nothing.
    """
    readers = _readers(coupling) if include or exclude else {}
    names = [_names(readers, group) for group in coupling.groups]
    wanted = chosen(names, include, exclude)
    groups = coupling.groups
    return [k for k in sorted(wanted) if groups[k].prunable and (groups[k].exact or not exact_only)]


def _names(readers: dict[str, list[onnx.NodeProto]], group: Group) -> set[str]:
    """Everything a group can be called."""
    tensors = {tensor for tensor, _ in group.members}
    found = {group.name} | tensors
    for tensor in tensors:
        for node in readers.get(tensor, ()):
            found |= {display_name(node), node.op_type}
    return found


def _readers(coupling: Coupling) -> dict[str, list[onnx.NodeProto]]:
    index = index_of(coupling.model)
    readers: dict[str, list[onnx.NodeProto]] = defaultdict(list)
    for name in index.uses:
        nodes = [index.nodes[place] for place in index.readers(name)]
        readers[coupling.prepared.base.get(name, name)] += nodes
    return readers


def one_direction(coupling: Coupling, numbers: Sequence[int], axis: str) -> list[int]:
    """Of groups that cross (heads and their width) keep those of one direction; ``both`` keeps all.

    ``width`` prefers exact groups, then the one with most channels; ``heads`` the outermost.
    """
    if axis == "both":
        return list(numbers)
    groups, crossed = coupling.groups, crossing(coupling, coupling.groups)

    def rank(k: int) -> tuple[float, ...]:
        group = groups[k]
        return (group.depth, not group.exact) if axis == "heads" else (not group.exact, -group.channels, -group.depth)

    chosen: set[int] = set()
    for k in sorted(numbers, key=rank):
        if not (crossed.get(k, set()) & chosen):
            chosen.add(k)
    return [k for k in numbers if k in chosen]


@dataclass(frozen=True)
class Limits:
    """How far each group may go: at least ``min_channels`` stay, and a multiple of ``round_to`` (or all)."""

    min_channels: int = 1
    round_to: int = 1

    def keep(self, channels: int, wanted: int) -> int:
        """The number to keep nearest to ``wanted`` that is allowed."""
        least = min(channels, max(self.min_channels, 1))
        if self.round_to > 1:
            least = min(channels, -(-least // self.round_to) * self.round_to)
            wanted = round(wanted / self.round_to) * self.round_to
        return min(channels, max(least, wanted))


class Ranking:
    """Channels of the chosen groups in the order in which they go. A state is one number: how many have gone."""

    def __init__(
        self, coupling: Coupling, numbers: Sequence[int], scores: Sequence[Scores], limits: Limits, scope: str
    ) -> None:
        self.coupling, self.numbers, self.limits = coupling, list(numbers), limits
        self.orders = [np.argsort(s, kind="stable") for s in scores]
        self._sorted = [s[order] for s, order in zip(scores, self.orders, strict=True)]
        self.sizes = np.array([len(s) for s in scores], dtype=np.int64)
        self._sequence = self._interleave(scores, scope)

    def _interleave(self, scores: Sequence[Scores], scope: str) -> np.ndarray:
        """Group of each channel in the order of going: by score over all groups, or each group at the same pace."""
        if not len(self.sizes):
            return np.zeros(0, dtype=np.int64)
        owner = np.repeat(np.arange(len(self.sizes)), self.sizes)
        if scope == "global":
            key = np.concatenate([np.sort(s) for s in scores])
        else:
            key = np.concatenate([(np.arange(n) + 0.5) / n for n in self.sizes])
        return owner[np.argsort(key, kind="stable")]

    @property
    def length(self) -> int:
        return len(self._sequence)

    def counts(self, gone: int) -> np.ndarray:
        """Channels kept in each group after the first ``gone`` of the order. Shapes: (groups,)."""
        removed = np.bincount(self._sequence[:gone], minlength=len(self.sizes))
        return self.allowed(self.sizes - removed)

    def gone_within(self, places: np.ndarray, count: int) -> np.ndarray:
        """Of some groups how many of each go, when so many of all of them go in order. Shapes: places (n,) -> (n,)."""
        order = self._sequence[np.isin(self._sequence, places)]
        return np.bincount(order[:count], minlength=len(self.sizes))[places]

    def allowed(self, wanted: np.ndarray) -> np.ndarray:
        pairs = zip(self.sizes.tolist(), wanted.tolist(), strict=True)
        return np.array([self.limits.keep(n, w) for n, w in pairs], dtype=np.int64)

    def one_more(self, keep: np.ndarray, group: int) -> np.ndarray:
        """The same counts with the next larger allowed one for a group."""
        more = keep.copy()
        more[group] = min(self.sizes[group], (keep[group] // self.limits.round_to + 1) * self.limits.round_to)
        return more

    def by_next_channel(self, keep: np.ndarray) -> list[int]:
        """Groups with channels left to put back, the one whose next channel scores highest first."""
        open_groups = [i for i in range(len(keep)) if keep[i] < self.sizes[i]]
        return sorted(open_groups, key=lambda i: -self._sorted[i][self.sizes[i] - keep[i] - 1])

    def removal(self, keep: np.ndarray) -> Removal:
        """The removal of each group's lowest channels, with what an axis needs to stay put back."""
        removed = self.coupling.nothing()
        for number, order, left in zip(self.numbers, self.orders, keep.tolist(), strict=True):
            removed[self.coupling.groups[number].atoms[order[: len(order) - left]]] = True
        return self._certified(removed)

    def _certified(self, removed: BoolArray) -> Removal:
        """Put back the worthiest channels of axes that would become too short; check what every removal must obey."""
        while True:
            removal = Removal(self.coupling, removed)
            short = too_short(removal)
            if short is None:
                check(removal)
                return removal
            removed = removed.copy()
            removed[short[np.argmax(self._worth[short])]] = False

    @cached_property
    def _worth(self) -> np.ndarray:
        """Place of each atom in its group's order: the higher, the more it is worth."""
        place = np.zeros(self.coupling.solution.atoms.shape[1])
        for number, order in zip(self.numbers, self.orders, strict=True):
            place[self.coupling.groups[number].atoms[order]] = np.arange(len(order)) / max(1, len(order))
        return place
