"""Weights in few bits, as many for each layer as its effect on the outputs warrants, under a limit for all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from ....graph.errors import UsageError
from ....graph.layer import Layer
from ....graph.model import Model
from ...budget.file_size import fit_file_size, room_for
from ...calibration.activation_cache import STORE_BYTES, Inputs, Store
from ...calibration.feeds import calibration_inputs
from ...calibration.runner import require_data
from ...precision.grid import Grid
from ...precision.layout import weight_bytes
from ...precision.result import Result
from ..prepare import Prepared, prepare_model
from ..scheme import SCHEMES, Job
from ..schemes.mixed import mix_grids, weight_bits
from ..schemes.weight_only import block_of, round_to_grids
from ..storage.storage import Form

CHOICES = (2, 3, 4, 5, 6, 8)
"""Bits to choose from under an average."""
STORED = (2, 4, 8)
"""Under a limit of bytes: what is stored as it is."""
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
        return _averaged(job, ready, options.bits)
    return _sized(job, ready, float(options.size or 0))


def _averaged(job: Job, ready: Prepared, bits: float) -> Result:
    def grids(model: Model, layers: Mapping[str, Layer]) -> Mapping[str, Grid]:
        limit = bits * sum(model.weights[one.weight].size for one in layers.values())
        return _allocated(job, model, dict.fromkeys(layers, CHOICES), limit, by_bytes=False)

    return round_to_grids(job, ready, grids, 4)


def _sized(job: Job, ready: Prepared, size: float) -> Result:
    return fit_file_size(job.model, size, lambda file: round_to_grids(job, ready, partial(_grids_for, job, file), 4))


def _grids_for(job: Job, file: float, model: Model, layers: Mapping[str, Layer]) -> Mapping[str, Grid]:
    """Grids with which a file of so many bytes comes out, if all but the layers stays as large as it is."""
    return _allocated(job, model, dict.fromkeys(layers, STORED), room_for(layers, model, file), by_bytes=True)


def _allocated(
    job: Job, model: Model, choices: Mapping[str, Sequence[int]], limit: float, *, by_bytes: bool
) -> dict[str, Grid]:
    form: Form = "nbits" if job.target.contrib else "dq"
    grids = {node: [Grid(bits) for bits in found] for node, found in choices.items()}

    def stored(layer: Layer, grid: Grid) -> float:
        return float(weight_bytes(layer, grid, block=block_of(job, layer, form)))

    with Store(STORE_BYTES, job.context.folder) as store:
        batches, _ = calibration_inputs(model, job.context)
        inputs = Inputs(batches, store).first(_LOOKED_AT)
        return mix_grids(
            model,
            inputs,
            grids,
            limit,
            name=job.options.allocator,
            price=stored if by_bytes else weight_bits,
            block=lambda layer: block_of(job, layer, form),
            tick=job.context.tick,
        )
