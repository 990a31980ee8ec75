"""Weights in few bits, activations in float: smaller files, and faster where multiplying waits for memory.

Layers are rounded in turn on calibration data, each towards what the original made; without data each by its weights
alone. Other constants that hold many numbers (tables, transposed convolutions, recurrent layers) are rounded by
themselves and keep more bits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

from ....graph.errors import UsageError
from ....graph.layer import Layer
from ....graph.layers import Layers
from ....graph.model import Model
from ....graph.nodes import display_name
from ....graph.traits import Trait, has
from ...calibration.walk import Rounded, round_layers, solve_plainly
from ...patterns import choose_nodes
from ...precision.grid import Grid, Quantized
from ...precision.layout import fitting_block, independent
from ...precision.result import LayerNote, Result
from ..prepare import Prepared, prepare_model
from ..restored import rounded_restoring
from ..rounding.rounding import BLIND, Spec
from ..rounding.specs import specs_for
from ..scheme import SCHEMES, Job
from ..storage.nbits import nbits_pays
from ..storage.storage import Form, store

GROUP = 32
"""Weights that share a scale where the runtime multiplies by blocks."""
_LEAST_BITS, _LEAST_RECURRENT = 4, 8
"""Of weights that are rounded by themselves."""


def weight_only(bits: int, job: Job) -> Result:
    """Raises BadData for calibration data that does not fit, UsageError with a budget, which is for ``mixed``."""
    if job.options.bits is not None or job.options.size is not None:
        raise UsageError(
            f"scheme w{bits} gives every layer {bits} bits",
            fix="leave --scheme out: --bits and --size give each layer its own",
        )
    return round_to_grids(job, prepare_model(job), lambda model, layers: dict.fromkeys(layers, Grid(bits)), bits)


Grids = Callable[[Model, Mapping[str, Layer]], Mapping[str, Grid]]
"""What each layer's weights become, by its node."""


def round_to_grids(job: Job, ready: Prepared, grids: Grids, least: int) -> Result:
    """Round all layers to their grids, and other weights to ``least`` bits or more."""
    model, nodes = ready.model, ready.model.graph.node
    chosen = choose_nodes(model, job.options.include, job.options.exclude)
    layers = {one.node: one for one in Layers(model) if chosen[one.place]}
    found = grids(model, layers)
    specs = {
        node: replace(spec, block=block_of(job, layers[node]))
        for node, spec in specs_for(ready, layers, found, job).items()
    }
    walked = (
        rounded_restoring(job, ready, specs)
        if job.options.repair == "udfc"
        else round_layers(model, specs, job.context, ready.kept)
    )
    alone = [_alone(job, layer, model, least) for layer in independent(model) if chosen[layer.place]]
    rounded = [*walked.rounded.values(), *alone]
    unfit = (one for one in Layers(model).weighted if one.unfit and has(one.op, Trait.LAYER) and one.op != "MatMul")
    skipped = {one.name: one.reason for one in Layers(model).unused} | {one.name: one.unfit for one in unfit}
    skipped |= {
        display_name(node): "left out by --include or --exclude"
        for node, wanted in zip(nodes, chosen, strict=True)
        if not wanted
    }
    if not rounded:
        return Result(job.model, {}, skipped, reference=job.model)
    changed = model.copy()
    changed.weights.update(walked.biases)
    stored = store(changed, rounded, form=partial(_form, job), newest=job.context.fit.newest)
    notes = [layer_note(one, one.layer.node) for one in rounded]
    return Result(stored, {one.name: one.weights for one in notes}, skipped, ready.notes, reference=model, layers=notes)


def _form(job: Job, one: Rounded[Quantized]) -> Form:
    if not job.target.contrib:
        return "dq"
    return "nbits" if nbits_pays(one.layer, one.quantized.grid, job.context.fit.release) else "once"


def layer_note(one: Rounded[Quantized], tensor: str, activations: str = "float32") -> LayerNote:
    """Of a layer whose output is now in ``tensor``."""
    layer, weights = one.layer, one.quantized.grid.name
    reads = "" if layer.unfit else layer.x
    return LayerNote(layer.name, tensor, reads, weights, activations, one.method, one.error)


for _bits in (8, 4, 3, 2):
    _scheme = partial(weight_only, _bits)
    _scheme.__doc__ = f"Weights in {_bits} bits, activations in float; better with data."
    SCHEMES.register(f"w{_bits}")(_scheme)


def block_of(job: Job, layer: Layer) -> int:
    """How many weights share a scale: what the user says, else whole rows but where the runtime works by blocks."""
    wanted = job.options.group_size
    if wanted is None:
        wanted = GROUP if job.target.contrib and has(layer.op, Trait.BLOCK_KERNEL) else 0
    return fitting_block(layer, wanted)


def independent_grid(layer: Layer, bits: int) -> Grid:
    """Of a weight that is rounded by itself where layers get so many bits."""
    return Grid(max(bits, _LEAST_RECURRENT if has(layer.op, Trait.RECURRENT) else _LEAST_BITS))


def _alone(job: Job, layer: Layer, model: Model, bits: int) -> Rounded[Quantized]:
    spec = Spec(independent_grid(layer, bits), BLIND, block_of(job, layer))
    method, quantized = solve_plainly(spec, layer, model.weights[layer.weight])
    return Rounded(layer, quantized, method)
