"""What becomes of each layer's weights."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from ....graph.layer import Layer
from ...calibration.journal import each_once, journal_in
from ...calibration.walk import glimpse, relative_error, solve_plainly
from ...masks import masks
from ...needs import GRADIENTS
from ...precision.grid import WEIGHTS8, Grid
from ...precision.layout import weight_bytes
from ...precision.protect import Harm, protected, sentence
from ..prepare import Prepared
from ..scheme import Job
from .rounding import BLIND, CANDIDATES, ROUNDERS, Spec

WIDE = 7
"""Bits from which on the nearest integers do; only biases then follow the data."""
NARROW = 4
"""Bits below which the first and the last layer keep 8."""


def specs_for(ready: Prepared, layers: Mapping[str, Layer], grids: Mapping[str, Grid], job: Job) -> dict[str, Spec]:
    """The methods to choose from for each layer; those in higher precision keep 8 bits.

    So do the first, the last and tiny ones where all have the same and fewer than 4, and no limit asks for that: they
    hold few weights, and hurt most.
    """
    chosen, order = job.options.method, list(layers)
    found: dict[str, Spec] = {}
    slopes = ready.gradients if GRADIENTS in ROUNDERS.entry(chosen).needs else None
    stated = job.options.bits, job.options.size, job.options.layer_bits or None
    alike = all(one is None for one in stated) and len({grids[node].bits for node in order}) == 1
    kept, sparse = set[str](), masks(ready.model)
    if alike and grids[order[0]].bits < NARROW:
        kept = {order[0], order[-1]}
        kept |= _tiny(ready, {node: one for node, one in layers.items() if node not in kept}, grids, job)
    for node in order:
        used = WEIGHTS8 if node in kept or layers[node].name in job.higher_precision else grids[node]
        if chosen != "auto":
            methods: tuple[str, ...] = (chosen,)
        else:
            methods = BLIND if used.bits >= WIDE or job.context.data is None else CANDIDATES
        slope, masked = slopes.matrices(layers[node]) if slopes else None, layers[node].weight in sparse
        found[node] = Spec(used, methods, gradient=slope, masked=masked)
    return found


def _tiny(ready: Prepared, layers: Mapping[str, Layer], grids: Mapping[str, Grid], job: Job) -> set[str]:
    """Of some layers those that keep 8 bits, as they hurt most for the bytes that they save; a note names them."""

    def harm(node: str) -> Harm:
        one, bytes_of = layers[node], partial(weight_bytes, layers[node])
        part, weight = glimpse(one, ready.model.weights[one.weight])
        near = solve_plainly(Spec(grids[node], BLIND), part, weight)[1]
        return Harm(one.name, relative_error(part, weight, near), bytes_of(grids[node]), bytes_of(WEIGHTS8))

    looked = list(layers) if job.options.protect else []
    journal = journal_in(job.context.resume if looked else None, [ready.model], (), "harms", looked, grids)
    harms = dict(zip(looked, each_once(journal, looked, harm, len(looked)), strict=True))
    kept = protected(harms)
    if kept:
        ready.notes.append(sentence(harms, kept, "8 bits"))
    return kept
