"""BatchNormalization that stands behind convolutions while they are trained, and goes into them again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ...graph.errors import NothingChanged
from ...graph.index import index_of
from ...graph.layer import Layer
from ...graph.layers import Layers
from ...graph.model import Model
from ...graph.nodes import copied
from ...graph.traits import Trait, has
from ...measure.run.session import open_session, run
from ..rewrite.edit import Edit
from .samples import Samples

_LOOKED_AT, _AT_ONCE = 256, 32
_EPSILON = 1e-5


@dataclass(frozen=True)
class Inserted:
    """``before`` is what the convolution gives now, ``output`` what it gave; the others are weights."""

    before: str
    output: str
    gain: str
    shift: str
    mean: str
    variance: str


def insert(model: Model, samples: Samples, fixed: int | None) -> tuple[Model, list[Inserted]]:
    """Normalizations that are the identity: statistics are those of samples, and gain and shift undo them.

    Source: Ioffe and Szegedy, 2015, arXiv:1502.03167. Raises NothingChanged where no convolution is without one.
    """
    layers = {layer.output: layer for layer in Layers(model).weighted if _may_be_normalized(model, layer)}
    if not layers:
        raise NothingChanged(
            "there is nothing to normalize: no convolution of floats is without a BatchNormalization",
            fix="leave out --insert-bn",
        )
    moments, edit, found = _moments(model, list(layers), samples, fixed), Edit(model), list[Inserted]()
    for node in model.graph.node:
        out = node.output[0]
        if out not in layers:
            edit.keep(node)
            continue
        copy, before = copied(node), edit.tensor(f"{out}/before")
        copy.output[0] = before
        edit.keep(copy)
        mean, variance = moments[out]
        values = {"gain": np.sqrt(variance + np.float32(_EPSILON)), "shift": mean, "mean": mean, "variance": variance}
        names = {what: edit.constant(f"{out}/{what}", value) for what, value in values.items()}
        edit.add("BatchNormalization", [before, *names.values()], out, epsilon=_EPSILON)
        found.append(Inserted(before, out, **names))
    return edit.finish(), found


def _may_be_normalized(model: Model, layer: Layer) -> bool:
    index = index_of(model)
    node = index.makers[layer.output]
    names = [name for name in node.input[1:3] if name]
    alone = all(name in model.weights and len(index.reads(name)) == 1 for name in names)
    floats = all(model.weights[name].dtype == np.dtype(np.float32) for name in names if name in model.weights)
    follows = any(read.node is not None and has(read.node, Trait.STANDARDIZES) for read in index.reads(layer.output))
    return node.op_type == "Conv" and alone and floats and not follows


def _moments(
    model: Model, names: Sequence[str], samples: Samples, fixed: int | None
) -> Mapping[str, tuple[np.ndarray, np.ndarray]]:
    """Mean and variance of each channel."""
    session, size = open_session(model, outputs=names), fixed or _AT_ONCE
    count = max(size, min(len(samples), _LOOKED_AT) // size * size)
    places = np.linspace(0, len(samples) - 1, min(count, len(samples))).astype(np.int64)
    sums = dict[str, np.ndarray]()
    for start in range(0, len(places) // size * size or len(places), size):
        seen = run(session, samples.at(places[start : start + size]), names)
        for name, value in seen.items():
            rows = np.moveaxis(value.astype(np.float64), 1, -1).reshape(-1, value.shape[1])
            sums[name] = sums.get(name, 0) + np.stack(
                [np.full(rows.shape[1], len(rows)), rows.sum(0), (rows**2).sum(0)]
            )
    found = {name: (total / amount, squares / amount) for name, (amount, total, squares) in sums.items()}
    return {
        name: (mean.astype(np.float32), np.maximum(square - mean**2, 0).astype(np.float32))
        for name, (mean, square) in found.items()
    }


def fold(model: Model, inserted: Sequence[Inserted]) -> Model:
    """The model with inserted normalizations, as far as they are still there, in the weights of their convolutions."""
    index = index_of(model)
    there = {
        one.output: one
        for one in inserted
        if one.output in index.makers and list(index.makers[one.output].input[:2]) == [one.before, one.gain]
    }
    if not there:
        return model
    edit = Edit(model)
    convolutions = {one.before: one for one in there.values()}
    for node in model.graph.node:
        if node.output[0] in there:
            continue
        one = convolutions.get(node.output[0])
        if one is None:
            edit.keep(node)
            continue
        gain, shift, mean, variance = (
            model.weights[name].astype(np.float64) for name in (one.gain, one.shift, one.mean, one.variance)
        )
        factor, copy = gain / np.sqrt(variance + _EPSILON), copied(node)
        copy.output[0] = one.output
        weight = model.weights[node.input[1]]
        edit.model.put(node.input[1], (weight * factor.reshape(-1, *[1] * (weight.ndim - 1))).astype(weight.dtype))
        old = model.weights[node.input[2]] if len(node.input) > 2 and node.input[2] else np.zeros(len(weight))
        bias = ((old - mean) * factor + shift).astype(weight.dtype)
        if len(node.input) > 2 and node.input[2]:
            edit.model.put(node.input[2], bias)
        else:
            del copy.input[2:]
            copy.input.append(edit.constant(f"{one.output}/bias", bias))
        edit.keep(copy)
    return edit.finish()
