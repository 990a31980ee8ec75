"""Ranges of inputs that are images, from how they are preprocessed."""

from __future__ import annotations

import numpy as np

from ....graph.model import Model
from ....measure.data.preprocess import parse_preprocess
from ....measure.run.tensor_specs import input_specs


def pixel_ranges(model: Model, preprocess: str | None) -> tuple[tuple[str, float, float], ...]:
    """What preprocessing makes of the darkest and the brightest pixel, for each image input it describes."""
    specs = input_specs(model)
    found = []
    for spec in specs:
        steps = parse_preprocess(preprocess, [p.name for p in specs])[spec.name]
        if not steps.steps or spec.dtype.kind != "f" or len(spec.shape or ()) != 4:
            continue
        colours = min(d for d in (spec.shape or ())[1::2] if isinstance(d, int))
        ends = np.zeros((2, 8, 8, colours), np.uint8)
        ends[1] = 255
        values = steps(ends, channels_last=True)
        found.append((spec.name, float(values.min()), float(values.max())))
    return tuple(found)
