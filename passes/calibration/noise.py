"""Calibration without data: images of 1/f noise, and a network that normalizes what noise does inside it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import partial

import numpy as np

from ...graph.errors import UsageError
from ...graph.layer import Floats
from ...graph.model import Model
from ...graph.nodes import is_standard
from ...measure.data.callable_reader import CallableReader
from ...measure.data.preprocess import parse_preprocess
from ...measure.data.readers import Field
from ...measure.data.source import DataSource, read_data
from ...measure.run.tensor_specs import TensorSpec, input_specs
from ..base import Context
from .activation_cache import ActivationCache, Inputs, Store, each

_BLOCK = 32
"""Samples drawn from one seed, so that how they are read makes no difference."""
_MOST_COLOURS = 4
"""An image's axis of no more indices than this is its channels."""
_SHARED = 0.8
"""How much of an image's variance all channels have in common, as luminance does in photographs."""


def noise_source(model: Model, *, samples: int, preprocess: str | None = None, seed: int = 0) -> DataSource:
    """Made-up inputs: where the user describes preprocessing, 8-bit images that go through it, else standardized floats.

    Raises:
        UsageError: an input is no float tensor, or has open dimensions beside the batch.
    """
    specs = input_specs(model)
    steps = parse_preprocess(preprocess, [p.name for p in specs])
    fields: dict[str, Field] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    for spec in specs:
        shape = shapes[spec.name] = _shape(spec)
        kind = np.dtype(np.uint8) if steps[spec.name].steps else np.dtype(np.float32)
        last = (samples, *shape[1:], shape[0])
        moved = len(shape) > 1 and spec.accepts(steps[spec.name].shape_after(last))
        fields[spec.name] = Field(last if moved else (samples, *shape), kind)
    make = partial(_blocks, fields, shapes, samples, seed)
    reader = CallableReader(make=make, name="noise", fields=fields, count=samples)
    return read_data("noise", reader, model, preprocess=preprocess)


def _shape(spec: TensorSpec) -> tuple[int, ...]:
    """Shape of one sample, channels first."""
    single = spec.shape is not None and len(spec.shape) < 2
    if spec.dtype.kind != "f" or single:
        raise UsageError(
            f"noise says nothing for the input {spec.name!r}",
            why=f"it is {spec.describe()}: only float inputs such as images can be noise"
            + (", and one number a sample is none" if single else ""),
            fix="give calibration data with --data",
        )
    shape = spec.shape or ()
    if not shape or spec.is_open:
        raise UsageError(
            f"the size of the input {spec.name!r} is open: {spec.describe()}",
            fix=f"pin it, such as {spec.pinned()}",
        )
    sizes = tuple(int(d) for d in shape[1:])
    if len(sizes) == 3 and sizes[-1] <= _MOST_COLOURS < sizes[0]:
        return sizes[-1], *sizes[:-1]
    return sizes


def _blocks(
    fields: Mapping[str, Field], shapes: Mapping[str, tuple[int, ...]], samples: int, seed: int
) -> Iterator[Mapping[str, Floats]]:
    """Noise, a block of samples at a time. ``shapes`` are those of samples, channels first."""
    for start in range(0, samples, _BLOCK):
        drawn = {}
        for place, (name, stored) in enumerate(fields.items()):
            values = pink(np.random.default_rng([seed, place, start]), _BLOCK, shapes[name])[: samples - start]
            if stored.dtype == np.uint8:
                values = np.clip(127.5 + 64.0 * values, 0, 255).astype(np.uint8)
            if stored.shape[1:] != shapes[name]:
                values = np.moveaxis(values, 1, -1)
            drawn[name] = np.asarray(values, dtype=stored.dtype)
        yield drawn


def pink(rng: np.random.Generator, samples: int, shape: tuple[int, ...]) -> Floats:
    """Noise whose amplitude falls with frequency as in photographs; mean about 0, variance about 1, clipped.

    All channels share most of it, each sample has its own brightness. Shapes: shape (channels, ...).

    Source: the 1/f spectrum of natural images, Field, J. Opt. Soc. Am. A 4(12), 1987.
    """
    channels, size = shape[0], shape[1:]
    if not size or max(size) == 1:
        return np.clip(rng.standard_normal((samples, *shape)), -2.5, 2.5)
    axes = tuple(range(2, 2 + len(size)))
    squares = np.zeros(size)
    for a, n in enumerate(size):
        squares = squares + np.square(np.fft.fftfreq(n).reshape([-1 if i == a else 1 for i in range(len(size))]))
    lowest = 1.0 / max(size)
    amplitude = 1.0 / np.maximum(np.sqrt(squares), lowest)

    def draw(width: int) -> Floats:
        white = np.fft.fftn(rng.standard_normal((samples, width, *size)), axes=axes)
        drawn = np.fft.ifftn(white * amplitude, axes=axes).real
        return np.asarray(drawn / drawn.std(axis=(1, *axes), keepdims=True))

    mixed = np.sqrt(_SHARED) * draw(1) + np.sqrt(1 - _SHARED) * draw(channels)
    mixed = 0.8 * mixed + 0.6 * rng.standard_normal((samples, 1, *[1] * len(size)))
    return np.asarray(np.clip(mixed, -2.0, 2.0))


def normalized_on_noise(model: Model, batches: Iterable[Mapping[str, Floats]], context: Context) -> Model:
    """A copy in which noise stands in for data: see ``renormalize_statistics``. Raises UsageError where nothing is normalized."""
    with Store.of(context) as store:
        changed, count = renormalize_statistics(model, Inputs(batches, store))
    if not count:
        raise UsageError(
            "noise cannot stand in for data in this model",
            why="it has no BatchNormalization whose statistics noise could be fitted to: they were folded into the "
            "layers before, or there never were any",
            fix="export the model with BatchNormalization kept (in training mode), or give data with --data",
        )
    return changed


def renormalize_statistics(model: Model, inputs: Inputs) -> tuple[Model, int]:
    """A copy whose BatchNormalization statistics are those of these inputs, layer after layer, and how many there are.

    Every normalized activation then has the mean and deviation that the original has on its own data. Outputs of the
    copy mean nothing; its activations stand in for real ones.

    Source: the idea of matching BatchNormalization statistics from Cai et al., "ZeroQ", CVPR 2020, arXiv:2001.00281.
    Differs: the network is fitted to the inputs, not the inputs to the network.
    """
    changed = model.copy()
    cache = ActivationCache(changed, inputs)
    nodes = [n for n in changed.graph.node if n.op_type == "BatchNormalization" and is_standard(n)]
    nodes = [n for n in nodes if all(name in changed.weights for name in n.input[1:5])]
    for i, node in enumerate(each(cache, [(node, [node.input[0]]) for node in nodes])):
        total, squares, count = np.zeros(1), np.zeros(1), 0
        for batch in cache.batches([node.input[0]]):
            value = batch[node.input[0]].astype(np.float64)
            axes = (0, *range(2, value.ndim))
            total, squares = total + value.sum(axis=axes), squares + np.square(value).sum(axis=axes)
            count += value.size // value.shape[1]
        mean = total / count
        variance = np.maximum(squares / count - np.square(mean), 1e-12)
        for k, value in ((3, mean), (4, variance)):
            name = f"{node.input[k]}_noise_{i}"
            changed.weights[name] = np.asarray(value, dtype=changed.weights[node.input[k]].dtype)
            node.input[k] = name
    return changed, len(nodes)
