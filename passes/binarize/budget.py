"""Which layers become bits under a limit of bytes: those in which that loses least for what it saves."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import cache

import numpy as np

from ...graph.errors import UsageError
from ...graph.layer import Layer
from ...graph.model import Model
from ...measure.executors.pieces import HERE
from ..base import Context
from ..budget.file_size import fit_file_size, room_for
from ..budget.solvers import Item, solve_exact
from ..calibration.activation_cache import Inputs, Store
from ..calibration.feeds import calibration_inputs
from ..precision.result import Result
from ..precision.sensitivity import sensitivity
from .algorithms.binarizer import BitRule
from .eligible import Chosen
from .scheme import Job
from .storage.storage import Bits

KEPT = "stays in float: --size is reached without it"
UNMEASURED = "a transposed convolution, whose loss is not measured for --size"
_LOOKED_AT = 256
"""Samples on which outputs are compared."""
_NODES_BYTES = 500
"""Of a layer's nodes that decode it, about; what is missed is made up for."""


def within_size(
    job: Job, model: Model, layers: Chosen, rules: Mapping[str, BitRule], make: Callable[[Job, Chosen], Result]
) -> Result:
    """What ``make`` gives for as few layers as the fraction ``size`` of the file asks for.

    Raises:
        UsageError: there are no inputs to measure losses on.
        TargetUnreachable: all layers in bits, the file is still larger.
    """
    data = job.context.inputs
    if data is None:
        raise UsageError(
            "--size chooses layers by what they lose, which takes inputs to measure",
            fix="add --data or --eval-data, or name the layers with --include",
        )
    context = replace(job.context, data=data)
    sizes = {node: _bytes(one, model, rules[node]) for node, one in layers.layers.items()}
    skipped = {**layers.skipped, **{one.name: UNMEASURED for one in layers.independent.values()}}
    losses = cache(lambda: _losses(context, model, rules))

    def made(job: Job, picked: Iterable[int]) -> Result:
        few = {node: one for (node, one), k in zip(layers.layers.items(), picked, strict=True) if k}
        kept = {one.name: KEPT for node, one in layers.layers.items() if node not in few}
        return make(job, replace(layers, layers=few, independent={}, skipped={**skipped, **kept}))

    def smaller(file: float) -> Result:
        items = [Item(np.array(sizes[node], float), np.array([0.0, losses()[node]])) for node in layers.layers]
        room = max(room_for(layers.layers, model, file), sum(item.cost.min() for item in items))
        return made(job, solve_exact(items, room))

    plainly = replace(job, context=replace(job.context, data=None, pieces=HERE))
    smallest = made(plainly, [int(bits < floats) for floats, bits in sizes.values()])
    more = "" if job.options.include_first_last else "add --include-first-last, "
    return fit_file_size(job.bytes_for(1), float(job.options.size or 1), smallest, smaller, more=more)


def _losses(context: Context, model: Model, rules: Mapping[str, BitRule]) -> dict[str, float]:
    """The squared error of the outputs, relative to their variance, with one layer alone in bits."""
    with Store.of(context) as store:
        batches, _ = calibration_inputs(model, context)
        inputs = Inputs(batches, store).first(_LOOKED_AT)
        found = sensitivity(
            model, inputs, {node: [rule] for node, rule in rules.items()}, tick=context.tick, pieces=context.pieces
        )
    return {node: float(loss[0]) for node, loss in found.items()}


def _bytes(layer: Layer, model: Model, rule: BitRule) -> tuple[int, int]:
    """Of the weight in float, and in bits with the nodes that decode them."""
    weight = model.weights[layer.weight]
    _, code = rule.solve(layer.matrix(weight), None)
    return weight.nbytes, Bits(layer, code, weight, multiplied=not rule.half).nbytes + _NODES_BYTES
