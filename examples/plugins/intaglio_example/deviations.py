"""A range method: so many standard deviations around nought."""

from __future__ import annotations

import numpy as np

from intaglio.passes.calibration.statistics import Histogram
from intaglio.passes.precision.grid import Grid
from intaglio.passes.quantize.ranges.ranges import RANGES, Range

_REACH = 12.0


@RANGES.register("deviations")
def deviations(histogram: Histogram, grid: Grid, symmetric: bool) -> Range:
    """Twelve times the root mean square of the values, and no further than they go."""
    centres = -histogram.limit + (np.arange(histogram.bins) + 0.5) * histogram.width
    reach = _REACH * float(np.sqrt(np.average(np.square(centres), weights=histogram.counts)))
    return max(histogram.minimum, -reach), min(histogram.maximum, reach)
