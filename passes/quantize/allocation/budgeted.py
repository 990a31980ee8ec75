"""Mixed precision: as many bits for each layer as its effect on the outputs warrants, under a limit for all."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from ....graph.cost import cost
from ....graph.errors import UsageError
from ....graph.io.save import file_bytes
from ....graph.layer import Layer
from ....graph.layers import Layers
from ....graph.model import Model
from ....graph.spec import near
from ....measure.executors.pieces import HERE, Pieces
from ...budget.file_size import fit_file_size
from ...calibration.activation_cache import ActivationCache, Inputs, Store
from ...calibration.feeds import calibration_inputs
from ...calibration.runner import require_data
from ...precision.grid import Grid
from ...precision.layout import weight_bytes
from ...precision.result import Result
from ...precision.sensitivity import sensitivity
from ..prepare import Prepared, prepare_model
from ..rounding.rounding import Spec
from ..scheme import SCHEMES, Job
from ..schemes.weight_only import Grids, block_of, round_to_grids
from .allocate import ALLOCATORS, Choices
from .ompq import SAMPLES, grams

CHOICES = (2, 3, 4, 5, 6, 8)
"""Bits to choose from under an average."""
STORED = (2, 3, 4, 6, 8)
"""Under a limit of bytes: fewer, as each is measured."""
_ALONE = 4
"""Least bits of weights that are rounded by themselves."""
_MOST = 8
"""Bits of layers that nobody named."""
_ROUNDS = 16
"""How often a limit is corrected by what weights that are not fitted take: what stands beside integers differs by bits."""
_LOOKED_AT, _LEAST_LOOKED_AT, _MACS = 256, 16, 1.6e11
"""Samples on which outputs are compared: as many as so many multiply-accumulates allow, for all layers and bits."""

Cost = Callable[[Layer, Grid], float]
"""Of a layer whose weight has this shape."""


@SCHEMES.register("mixed")
def mixed_precision(job: Job) -> Result:
    """Weights in 2 to 8 bits, each layer its own, under --bits on average or --size; needs data."""
    options = job.options
    if options.bits is None and options.size is None and not options.layer_bits:
        fix = "give --bits, an average, --size, a fraction of the file, or --layer-bits"
        raise UsageError("scheme mixed needs a limit", fix=fix)
    ready = prepare_model(job)
    if options.layer_bits:
        return round_to_grids(job, ready, partial(_stated, options.layer_bits), _ALONE)
    if options.bits is not None:
        require_data(job.context, without="a scheme with one number of bits, such as w4")
        return round_to_grids(job, ready, partial(_averaged, job, options.bits), _ALONE)
    return _within_size(job, ready, options.size or 0)


def _stated(wanted: Sequence[tuple[str, int]], _: Model, layers: Mapping[str, Layer]) -> Mapping[str, Grid]:
    """What each layer gets where that was said. Raises UsageError."""
    by_name = {name: node for node, one in layers.items() for name in (one.weight, one.name)}
    for name, _bits in wanted:
        if name not in by_name:
            raise UsageError(f"`layer_bits`: there is no layer {name!r} to quantize", fix=near(name, by_name))
    return dict.fromkeys(layers, Grid(_MOST)) | {by_name[name]: Grid(bits) for name, bits in wanted}


def _within_size(job: Job, ready: Prepared, size: float) -> Result:
    def made(job: Job, grids: Grids) -> Result:
        return round_to_grids(job, ready, grids, _ALONE)

    return within_size(job, size, made)


def within_size(job: Job, size: float, make: Callable[[Job, Grids], Result]) -> Result:
    """What ``make`` gives for the grids with which the file keeps the fraction ``size`` of its bytes.

    Raises:
        TargetUnreachable: the fewest bits are more than that.
    """
    require_data(job.context, without="a scheme without a limit, such as w4")
    plainly = job.options.model_copy(update={"method": "nearest"})
    blind = replace(job, options=plainly, context=replace(job.context, data=None, pieces=HERE))
    smallest = make(blind, lambda _, layers: dict.fromkeys(layers, Grid(STORED[0])))

    known, asked = list[Sequence[Choices]](), [0.0]

    def grids(more: float) -> Grids:
        """That together take so many bytes more than the smallest ones."""

        def of(model: Model, layers: Mapping[str, Layer]) -> Mapping[str, Grid]:
            if not known:
                known.append(_choices(job, model, layers, STORED, partial(_stored, job)))
            least = sum(float(one.cost.min()) for one in known[0])
            return _chosen(known[0], least + max(0.0, more), job.options.allocator)

        return of

    def sized(how: Job, file: float) -> Result:
        asked.append(file - file_bytes(smallest.model))
        return make(how, grids(asked[-1]))

    whole = job.bytes_for(1)
    # What a file takes hardly depends on how weights are rounded.
    fit_file_size(whole, size, smallest, partial(sized, blind), rounds=_ROUNDS)
    more = asked[-1]
    while more > 0:
        result = make(job, grids(more))
        excess = file_bytes(result.model) - size * whole
        if excess <= 0:
            return result
        more -= excess
    return fit_file_size(whole, size, smallest, lambda _: make(job, grids(0.0)))


def _averaged(job: Job, bits: float, model: Model, layers: Mapping[str, Layer]) -> Mapping[str, Grid]:
    limit = bits * sum(model.weights[one.weight].size for one in layers.values())
    return _chosen(_choices(job, model, layers, CHOICES, weight_bits), limit, job.options.allocator)


def _stored(job: Job, layer: Layer, grid: Grid) -> float:
    return float(weight_bytes(layer, grid, block=block_of(job, layer)))


def _choices(job: Job, model: Model, layers: Mapping[str, Layer], choices: Sequence[int], price: Cost) -> list[Choices]:
    with Store.of(job.context) as store:
        batches, _ = calibration_inputs(model, job.context)
        return choices_of(
            model,
            Inputs(batches, store).first(_samples(model, len(layers) * len(choices))),
            dict.fromkeys(layers, tuple(map(Grid, choices))),
            name=job.options.allocator,
            price=price,
            measure=job.options.sensitivity,
            block=partial(block_of, job),
            tick=job.context.tick,
            pieces=job.context.pieces,
        )


def _samples(model: Model, trials: int) -> int:
    """Each trial runs what comes behind its layer: half of the model on average."""
    return int(np.clip(2 * _MACS / max(1, trials * cost(model).macs), _LEAST_LOOKED_AT, _LOOKED_AT))


def _chosen(choices: Sequence[Choices], limit: float, name: str) -> dict[str, Grid]:
    return {node: Grid(bits) for node, bits in ALLOCATORS[name](choices, limit).items()}


def weight_bits(layer: Layer, grid: Grid) -> float:
    """Bits of all weights: for a limit on the average number of bits, which counts no scales."""
    return float(np.prod(layer.shape)) * grid.bits


def choices_of(
    model: Model,
    inputs: Inputs,
    grids: Mapping[str, Sequence[Grid]],
    *,
    name: str,
    price: Cost,
    measure: str = "outputs",
    block: Callable[[Layer], int] = lambda layer: 0,
    tick: Callable[[int, int | None], None] = lambda done, total: None,
    pieces: Pieces = HERE,
) -> list[Choices]:
    """What each layer may get; layers that are settled have one grid to choose from."""
    needs = ALLOCATORS.entry(name).needs
    layers = [one for one in Layers(model) if one.node in grids]
    rules = {
        one.node: [Spec(grid, ("gptq",), block(one)) for grid in grids[one.node]]
        for one in layers
        if len(grids[one.node]) > 1
    }
    losses = sensitivity(model, inputs, rules, measure=measure, tick=tick, pieces=pieces) if "losses" in needs else {}
    products: dict[str, np.ndarray] = {}
    if "grams" in needs:
        cache = ActivationCache(model, inputs.first(SAMPLES))
        products = {one.node: gram for one, gram in zip(layers, grams(cache, layers), strict=True)}
    return [
        Choices(
            one.node,
            tuple(grid.bits for grid in grids[one.node]),
            np.array([price(one, grid) for grid in grids[one.node]]),
            losses.get(one.node, np.zeros(len(grids[one.node]))),
            products.get(one.node),
        )
        for one in layers
    ]
