"""Calibration inputs of a pass: as many of the user's samples as a reading of them all may cost."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ...graph.cost import cost
from ...graph.model import Model
from ...graph.shapes import infer_shapes
from ..base import Context
from .layers import Floats
from .runner import required

_BATCH = 64
_BATCH_BYTES = 1 << 26
"""The largest tensor of one run: decides how many samples run at once."""
_RUN_MACS = 6e11
"""Multiply-accumulates of one reading of all samples: where the data has more, the first samples are used."""
_LEAST_SAMPLES = 64


def calibration_inputs(model: Model, context: Context) -> tuple[list[Mapping[str, Floats]], list[str]]:
    """The inputs of each run, and notes for the user.

    Raises:
        UsageError: there is no calibration data.
        BadData: it holds no samples.
    """
    data = required(context)
    shapes = infer_shapes(model)
    widest = max((int(np.prod(d, dtype=np.int64)) for d in shapes.dims.values()), default=1)
    size = int(np.clip(_BATCH_BYTES // (4 * widest), 1, _BATCH))
    most = max(_LEAST_SAMPLES, int(_RUN_MACS / max(1, cost(model, shapes).macs)))
    batches: list[Mapping[str, Floats]] = []
    seen = 0
    for batch in data.batches(size):
        if batch.filled and seen:
            break
        batches.append(batch.inputs)
        seen += batch.count
        if seen >= most and (data.samples is None or data.samples > seen):
            return batches, [f"calibrated on the first {seen} of {data.samples or 'the'} samples: more would take long"]
    return batches, []
