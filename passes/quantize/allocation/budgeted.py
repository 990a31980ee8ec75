"""Weights in few bits, as many for each layer as its effect on the outputs warrants, under a limit for all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

from ....graph.errors import UsageError
from ....graph.layer import Layer
from ....graph.model import Model
from ...budget.file_size import fit_file_size, room_for
from ...calibration.activation_cache import STORE_BYTES, Inputs, Store
from ...calibration.feeds import calibration_inputs
from ...calibration.runner import require_data
from ...precision.grid import Grid
from ...precision.layout import independent, weight_bytes
from ...precision.result import Result
from ..prepare import Prepared, prepare_model
from ..scheme import SCHEMES, Job
from ..schemes.mixed import Cost, mix_grids, weight_bits
from ..schemes.weight_only import block_of, independent_grid, round_to_grids

CHOICES = (2, 3, 4, 5, 6, 8)
"""Bits to choose from under an average."""
STORED = (2, 4, 8)
"""Under a limit of bytes: what is stored as it is."""
_ALONE = 4
"""Least bits of weights that are rounded by themselves."""
_LOOKED_AT = 256
"""Samples on which outputs are compared."""


@SCHEMES.register("mixed")
def mixed_precision(job: Job) -> Result:
    """Weights in 2 to 8 bits, each layer its own, under --bits on average or --size; needs data."""
    options = job.options
    if options.bits is None and options.size is None:
        raise UsageError("scheme mixed needs a limit", fix="give --bits, an average, or --size, a fraction of the file")
    require_data(job.context, without="a scheme with one number of bits, such as w4")
    ready = prepare_model(job)
    if options.bits is not None:
        return round_to_grids(job, ready, partial(_averaged, job, options.bits), _ALONE)
    return _within_size(job, ready, options.size or 0)


def _within_size(job: Job, ready: Prepared, size: float) -> Result:
    plainly = job.options.model_copy(update={"method": "nearest"})
    blind = replace(job, options=plainly, context=replace(job.context, data=None))
    smallest = round_to_grids(blind, ready, lambda _, layers: dict.fromkeys(layers, Grid(STORED[0])), _ALONE)
    alone = sum(
        ready.model.weights[one.weight].nbytes - _stored(job, one, independent_grid(one, _ALONE))
        for one in independent(ready.model)
        if one.name in smallest.done
    )

    def sized(file: float) -> Result:
        return round_to_grids(job, ready, partial(_sized, job, file + alone), _ALONE)

    return fit_file_size(job.bytes_for(1), size, smallest, sized)


def _averaged(job: Job, bits: float, model: Model, layers: Mapping[str, Layer]) -> Mapping[str, Grid]:
    limit = bits * sum(model.weights[one.weight].size for one in layers.values())
    return _allocated(job, model, layers, CHOICES, limit, weight_bits)


def _sized(job: Job, file: float, model: Model, layers: Mapping[str, Layer]) -> Mapping[str, Grid]:
    """Grids with which a file of so many bytes comes out, if all but the layers stays as large as it is."""
    stored = partial(_stored, job)
    least = sum(min(stored(one, Grid(bits)) for bits in STORED) for one in layers.values())
    return _allocated(job, model, layers, STORED, max(least, room_for(layers, model, file)), stored)


def _stored(job: Job, layer: Layer, grid: Grid) -> float:
    return float(weight_bytes(layer, grid, block=block_of(job, layer)))


def _allocated(
    job: Job, model: Model, layers: Mapping[str, Layer], choices: Sequence[int], limit: float, price: Cost
) -> dict[str, Grid]:
    with Store(STORE_BYTES, job.context.folder) as store:
        batches, _ = calibration_inputs(model, job.context)
        return mix_grids(
            model,
            Inputs(batches, store).first(_LOOKED_AT),
            dict.fromkeys(layers, tuple(map(Grid, choices))),
            limit,
            name=job.options.allocator,
            price=price,
            block=partial(block_of, job),
            tick=job.context.tick,
        )
