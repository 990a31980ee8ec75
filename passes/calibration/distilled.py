"""Calibration without data: inputs made from what BatchNormalization kept of real ones."""

from __future__ import annotations

import importlib.util

import numpy as np

from ...graph.errors import UsageError
from ...graph.model import Model
from ...measure.data.callable_reader import CallableReader
from ...measure.data.readers import Field
from ...measure.data.source import DataSource, read_data
from .noise import noise_source

_AT_ONCE = 64


def distilled_source(model: Model, *, samples: int, preprocess: str | None = None, seed: int = 0) -> DataSource:
    """Inputs as the model takes them, made a batch at a time.

    Raises UsageError where an input is no float tensor of pinned size, nothing is normalized, or torch is missing.
    """
    if importlib.util.find_spec("torch") is None:
        raise UsageError(
            "distilling inputs needs torch, which is not installed",
            why="inputs are moved along gradients",
            fix="pip install 'intaglio[torch]', or --dialect noise",
        )
    from ...measure.autograd.distilled import distill_inputs

    noise = noise_source(model, samples=samples, preprocess=preprocess, seed=seed)
    made = [distill_inputs(model, {n: v[: b.count] for n, v in b.inputs.items()})[0] for b in noise.batches(_AT_ONCE)]
    arrays = {name: np.concatenate([one[name] for one in made]) for name in made[0]}
    fields = {name: Field(value.shape, value.dtype) for name, value in arrays.items()}
    reader = CallableReader(make=lambda: [arrays], name="distilled", fields=fields, count=samples)
    return read_data("distilled", reader, model)
