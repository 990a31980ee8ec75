"""Which layers become bits, and why the others stay as they are."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from math import prod

from ...graph.layer import Layer
from ...graph.layers import Layers, Unused
from ...graph.model import Model
from ...graph.traits import Trait, has
from ..masks import masks
from ..patterns import choose_nodes
from ..precision.edges import edges
from ..precision.layout import independent
from .options import BinarizeOptions

LEAST_WEIGHTS = 1024
"""Smaller layers save less than the names of the nodes that decode them take."""
LEAST_COLUMNS = 16
"""In shorter rows scales take as many bits as the weights."""

NOT_ASKED = "left out by --include or --exclude"
MASKED = "most of it is nought and is to stay so, which bits cannot say: --include makes it bits all the same"
HIGHER_PRECISION = "stays in float to keep the accuracy"
PROTECTED = "tiny, and hurts most for the bytes that it saves: --no-protect makes it bits, too"
DEPTHWISE = "depthwise: a handful of weights for each channel, all of which matter"
RECURRENT = "recurrent: errors add up over time"


@dataclass(frozen=True)
class Chosen:
    """Layers and transposed convolutions to binarize, by their nodes, and reasons against others by nodes' names."""

    layers: dict[str, Layer]
    independent: dict[str, Layer]
    skipped: dict[str, str]


def choose_layers(model: Model, options: BinarizeOptions, higher_precision: frozenset[str]) -> Chosen:
    """What may become bits. Raises UsageError where a pattern matches nothing."""
    asked, layers, sparse = choose_nodes(model, options.include, options.exclude), Layers(model), masks(model)
    both = [*layers, *(one for one in independent(model) if one.op == "ConvTranspose")]
    known = {one.node for one in both}
    found = Chosen({}, {}, {})
    ends = {} if options.include_first_last else edges(model, known)
    for one in sorted(both, key=lambda one: one.place):
        reason = None if asked[one.place] else NOT_ASKED
        reason = reason or (MASKED if one.weight in sparse and not options.include else None)
        reason = (
            reason or (HIGHER_PRECISION if one.name in higher_precision else None) or ends.get(one.node) or _unfit(one)
        )
        if reason is not None:
            found.skipped[one.name] = reason
            continue
        (found.independent if one.unfit else found.layers)[one.node] = one
    while shared := _shared(layers, found):
        for node, (name, reason) in shared.items():
            found.skipped[name] = reason
            found.layers.pop(node, None)
            found.independent.pop(node, None)
    for name, reason in _others(layers, known):
        found.skipped.setdefault(name, reason)
    return found


def _shared(layers: Layers, chosen: Chosen) -> dict[str, tuple[str, str]]:
    """Of those chosen the ones whose weight others need as floats, by their nodes: names and reasons."""
    both = {**chosen.layers, **chosen.independent}
    others = {node: layers.other_readers(one.weight, both.keys()) for node, one in both.items()}
    return {n: (both[n].name, f"its weight is also read by {', '.join(o)}, as floats") for n, o in others.items() if o}


def _unfit(where: Layer) -> str | None:
    depthwise = where.groups > 1 or (where.op == "ConvTranspose" and where.axis == 0)
    if depthwise and where.shape[1] == 1:
        return DEPTHWISE
    if prod(where.shape) < LEAST_WEIGHTS:
        return f"tiny: fewer than {LEAST_WEIGHTS} weights"
    if where.columns < LEAST_COLUMNS:
        return f"rows of fewer than {LEAST_COLUMNS} weights, for which scales cost as much as they save"
    return None


def _others(layers: Layers, known: Collection[str]) -> Iterator[tuple[str, str]]:
    """Nodes with weights that cannot become bits."""
    for one in layers.found:
        if isinstance(one, Unused):
            yield one.name, one.reason
        elif one.node not in known and one.op != "Gather":
            yield one.name, RECURRENT if has(one.op, Trait.RECURRENT) else one.unfit
