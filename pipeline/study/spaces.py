"""Spaces by words: what a model's groups and layers leave open."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ...graph.coupling import analyse
from ...graph.errors import UsageError
from ...graph.layers import Layers
from ...graph.model import Model
from ...graph.registry import Registry
from .space import Open, Parameter, Space

Template = Mapping[str, Any]
SPACES: Registry[Callable[[Model], Template]] = Registry(
    "space", "intaglio.spaces", "intaglio.pipeline.study", flat=True
)
"""Each makes a pass of a model, with open options; the order in which they are named is that of the passes."""
_WIDTHS, _RANKS, _BITS = 8, (0.125, 0.25, 0.375, 0.5), (2, 3, 4, 6, 8)
_STAGES = 4


@SPACES.register("widths")
def widths(model: Model) -> Template:
    """Channels of each group, in eighths."""
    named = []
    for group in analyse(model).groups:
        if group.prunable and group.channels > 1:
            eighths = np.ceil(group.channels * np.arange(1, _WIDTHS + 1) / _WIDTHS).astype(int).tolist()
            parameter = Parameter(f"width {group.name}", tuple(dict.fromkeys(eighths)))
            named.append((group.name, Open(parameter)))
    return {"pass": "prune", "widths": named}


@SPACES.register("ranks")
def ranks(model: Model) -> Template:
    """Factors for each layer, of an eighth to half of its rank, or the layer as it is."""
    named = []
    for layer in Layers(model):
        full = min(layer.shape[-2:])
        found = tuple(dict.fromkeys(rank for share in _RANKS if (rank := round(full * share)) > 0))
        if layer.groups == 1 and found:
            named.append((layer.name, Open(Parameter(f"rank {layer.name}", (*found, None)))))
    return {"pass": "factorize", "target": "rank", "ranks": named, "measure": False}


@SPACES.register("bits")
def bits(model: Model) -> Template:
    """Bits of each layer's weights: 2, 3, 4, 6 or 8."""
    named = [(one.name, Open(Parameter(f"bits {one.name}", _BITS))) for one in Layers(model)]
    return {"pass": "quantize", "layer_bits": named}


@SPACES.register("macs")
def macs(model: Model) -> Template:
    """One fraction of the MACs, by pruning."""
    return {"pass": "prune", "target": "macs", "keep": Open(Parameter("macs", (), 0.2, 1.0))}


@SPACES.register("precision")
def precision(model: Model) -> Template:
    """One precision for all layers."""
    return {"pass": "quantize", "scheme": Open(Parameter("precision", ("w2", "w3", "w4", "w8", "int8")))}


def usual(model: Model, *, nested: bool) -> tuple[str, ...]:
    """What is open where nobody says: how much goes, and the bits of each layer."""
    if nested:
        return ("widths",)
    return ("macs", "bits") if any(group.prunable for group in analyse(model).groups) else ("bits",)


def named_space(words: Sequence[str], model: Model, *, nested: bool = False) -> Space:
    """``nested`` says that narrower networks are to lie in wider ones. Raises UsageError."""
    words = words or usual(model, nested=nested)
    if len(set(words)) < len(words):
        raise UsageError("a space is named twice", fix="leave one out")
    template = [SPACES[word](model) for word in words]
    if nested:
        template = [
            {**one, "criterion": "obspa", "nested": True} if one["pass"] == "prune" else one for one in template
        ]
    space = Space(template, stages(template, model))
    if not space.parameters:
        raise UsageError("this model leaves nothing open", why=f"no group or layer of it suits {', '.join(words)}")
    return space


def stages(template: Sequence[Template], model: Model) -> dict[str, int]:
    """In which quarter of the layers, in graph order, what a parameter names lies; the first where it names none."""
    places = {layer.name: place for place, layer in enumerate(Layers(model))}
    found = {}
    for one in template:
        for key in ("widths", "ranks", "layer_bits"):
            for name, open_place in one.get(key, ()):
                found[open_place.parameter.name] = places.get(name, 0) * _STAGES // max(1, len(places))
    return found
