"""Restoration of what rounding takes, without data."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ...graph.errors import UsageError
from ..calibration.restoring import Restored, round_restoring
from ..precision.grid import Quantized
from .prepare import Prepared
from .rounding.rounding import Spec
from .scheme import Job


def rounded_restoring(job: Job, ready: Prepared, specs: Mapping[str, Spec]) -> Restored[Quantized]:
    """Layers rounded, each making up for those before it; a note tells how much nearer that is predicted to be.

    Raises:
        UsageError: nothing tells what any channel is like that a layer reads.
    """
    walked = round_restoring(ready.model, specs, ready.kept)
    if not walked.predicted:
        raise UsageError(
            "--repair udfc finds nothing to go by in this model",
            why="no layer reads what another makes through BatchNormalization and a function of single numbers; where "
            "BatchNormalization was folded into layers before import, nothing tells what channels are like",
            fix="leave out --repair, or export the model with BatchNormalization kept",
        )
    gains = [1 - after / before if before > 0 else 0.0 for before, after in walked.predicted.values()]
    taken = sum(gain > 0 for gain in gains)
    ready.notes.append(
        f"udfc: {taken} of {len(specs)} layers make up for what rounding takes from their inputs, by which their error is "
        f"predicted to fall by {np.mean(gains):.1%} on average"
    )
    return walked
