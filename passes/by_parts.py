"""Running models that are too large to be opened as a whole: part by part, with the weights of one part in memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..graph.index import index_of
from ..graph.io.save import file_bytes
from ..graph.model import Model
from ..graph.nodes import reads
from .calibration.activation_cache import ActivationCache, Inputs, Store, part

Feed = Mapping[str, np.ndarray]
Pairs = Iterable[tuple[Feed, Feed]]
"""Inputs of two models that stand for each other."""
_WHOLE = 2
"""A model is opened as a whole if so many of it fit into the memory for tensors: runtimes hold copies of weights."""
PART, LAYER = 1 << 23, 1 << 16
"""Bytes of weights of a part, unless one node has more: few sessions, or a part for each large layer."""


BY_PARTS = "checked part by part on made-up rows: the model is too large to be opened as a whole within --memory"


def is_large(model: Model, memory: int) -> bool:
    """Whether it is run part by part."""
    return _WHOLE * file_bytes(model) > memory


def segments(model: Model, limit: int) -> Iterator[list[str]]:
    """Tensors that nodes make, cut so that the weights between two cuts are few; of constants nothing is made."""
    index, seen = index_of(model), set[str]()
    names: list[str] = []
    held = 0
    for node in index.nodes:
        fresh = [name for name in reads(node) if name in model.weights and name not in seen]
        seen.update(fresh)
        size = sum(model.weights[name].nbytes for name in fresh)
        made = [name for name in node.output if name and name not in index.constant]
        if names and held and held + size > limit:
            yield names
            names, held = [], 0
        names, held = [*names, *made], held + size
    if names:
        yield names


class Walk:
    """A model over some inputs, part by part; each part starts from what those before it made."""

    def __init__(self, model: Model, feeds: Sequence[Feed], store: Store, *, optimize: bool) -> None:
        self.model, index = model, index_of(model)
        self.cache = ActivationCache(model, Inputs(feeds, store), optimize=optimize, once=True)
        self._last = {name: max((r.place for r in index.reads(name)), default=-1) for name in index.place}
        self._place = index.place

    def parts(self, limit: int = PART) -> Iterator[tuple[list[str], list[str]]]:
        """What each part makes, and what of that is read behind it or by callers: it is held when the next part comes."""
        for names in segments(self.model, limit):
            end = max(self._place[name] for name in names)
            wanted = [name for name in names if self._last[name] > end]
            yield names, wanted
            self.cache.hold(wanted)
            self.cache.drop([n for n in self.cache.held if n in self._last and self._last[n] <= end])


@contextmanager
def walks(models: Sequence[tuple[Model, Feed]], memory: int, *, optimize: bool = True) -> Iterator[list[Walk]]:
    """Of each model one, what they hold being in memory up to a limit, else in files."""
    with Store(memory // 2) as store:
        yield [Walk(model, [feed], store, optimize=optimize) for model, feed in models]


@dataclass(frozen=True)
class Both:
    """Tensors that two models make of the same inputs, and the part of the first one that does, with what it starts from."""

    theirs: Mapping[str, Any]
    ours: Mapping[str, Any]
    part: Model
    start: Mapping[str, Any]


def side_by_side(
    reference: Model,
    result: Model,
    names: Iterable[str],
    feeds: Pairs,
    memory: int,
    *,
    optimize: bool = True,
) -> Iterator[Both]:
    """The named tensors, part after part of the reference, each model on from what it made itself."""
    asked = list(names)
    for pair in feeds:
        missing = dict.fromkeys(asked)
        models = list(zip((reference, result), pair, strict=True))
        with walks(models, memory, optimize=optimize) as (theirs, ours):
            for made, later in theirs.parts():
                chunk = [name for name in made if name in missing]
                small, sources = part(reference, chunk, theirs.cache.types())
                start = next(theirs.cache.batches(sources))
                theirs.cache.hold([*chunk, *later])
                ours.cache.hold(chunk)
                a, b = (next(walk.cache.batches(chunk)) for walk in (theirs, ours))
                yield Both(a, b, small, start)
                theirs.cache.drop(name for name in chunk if name not in later)
                for name in chunk:
                    del missing[name]
                ours.cache.retain(missing)
