"""What becomes of each layer's weights."""

from __future__ import annotations

from collections.abc import Mapping

from ....graph.layer import Layer
from ...needs import GRADIENTS
from ...precision.grid import WEIGHTS8, Grid
from ..prepare import Prepared
from ..scheme import Job
from .rounding import BLIND, CANDIDATES, ROUNDERS, Spec

WIDE = 7
"""Bits from which on the nearest integers do; only biases then follow the data."""
NARROW = 4
"""Bits below which the first and the last layer keep 8."""


def specs_for(ready: Prepared, layers: Mapping[str, Layer], grids: Mapping[str, Grid], job: Job) -> dict[str, Spec]:
    """The methods to choose from for each layer; those in higher precision keep 8 bits.

    So do the first and the last where all have the same and fewer than 4, and no limit asks for that: they hold few
    weights, and hurt most.
    """
    chosen, order = job.options.method, list(layers)
    found = {}
    slopes = ready.gradients if GRADIENTS in ROUNDERS.entry(chosen).needs else None
    alike = job.options.bits is None and job.options.size is None and len({grids[node].bits for node in order}) == 1
    for node in order:
        grid = grids[node]
        edge = alike and grid.bits < NARROW and node in (order[0], order[-1])
        used = WEIGHTS8 if edge or layers[node].name in job.higher_precision else grid
        if chosen != "auto":
            methods: tuple[str, ...] = (chosen,)
        else:
            methods = BLIND if used.bits >= WIDE or job.context.data is None else CANDIDATES
        found[node] = Spec(used, methods, gradient=slopes.matrices(layers[node]) if slopes else None)
    return found
