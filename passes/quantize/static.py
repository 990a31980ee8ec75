"""Static integers: weights and activations, scales fixed beforehand, in the QuantizeLinear form that runtimes fuse.

Sources: Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference",
CVPR 2018, arXiv:1712.05877; Krishnamoorthi, 2018, arXiv:1806.08342 (a scale for each output channel).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ...graph.model import Model
from ...graph.nodes import display_name
from ...graph.opset import raise_opset
from ..calibration.feeds import calibration_inputs, with_mirrored
from ..calibration.layers import Floats, Layer, Layers
from ..calibration.runner import required
from ..simplify import fold_batch_norm, with_biases
from .activations import Found, calibrate
from .biases import roomy, store_biases
from .edit import Outcome, chosen_nodes
from .grid import Affine, Grid, Quantized
from .insert import insert
from .placement import Placement, place
from .scheme import SCHEMES, Job, LayerNote, Result, study
from .storage import store
from .walk import ROWS, Rounded, Spec, Walked, round_in_turn

WIDE = 7
"""Bits from which on the nearest integers do; only biases then follow the data."""
NARROW = 4
"""Bits below which the first and the last layer keep 8."""
_FEW_ROWS, _FEW_SAMPLES = 1 << 14, 256
"""What means are taken over where only biases follow the data."""
METHODS = ("nearest", "mse", "gptq", "descent")


@dataclass(frozen=True)
class Kinds:
    """Integers of weights and activations. Without ``between`` only what layers read is rounded."""

    weights: Grid
    activations: Grid
    symmetric: bool = False
    between: bool = True


@SCHEMES.register("int8")
def int8(job: Job) -> Result:
    """Weights and activations in 8 bits, computed in integers; needs data, or BatchNormalization kept."""
    target = job.target
    return static(job, Kinds(target.weight, target.activation, target.symmetric))


@SCHEMES.register("wXaY")
def any_bits(job: Job) -> Result:
    """Weights of X bits and activations of Y, such as w4a8: to see what they cost in accuracy, not accelerated."""
    grids = study(job.options.scheme) or (Grid(4), Grid(8, signed=False))
    result = static(job, Kinds(*grids, between=False))
    return replace(
        result.noted(
            "no runtime here computes in such integers: this graph shows what they cost in accuracy, not in time"
        ),
        accelerated=False,
    )


def static(job: Job, kinds: Kinds) -> Result:
    """Raises UsageError without data where BatchNormalization's statistics cannot stand in for it."""
    model = with_biases(fold_batch_norm(job.model)[0])
    if kinds.activations.stored_bits > 8:
        model = raise_opset(model, 21)
    allowed = [
        chosen and display_name(node) not in job.spared
        for node, chosen in zip(
            model.graph.node, chosen_nodes(model, job.options.include, job.options.exclude), strict=True
        )
    ]
    placement = place(model, allowed, between=kinds.between)
    layers = {one.node: one for one in Layers(model)}
    taken = {model.graph.node[k].output[0] for k in placement.nodes}
    layers = {node: one for node, one in layers.items() if node in taken}
    if not layers:
        return Result(Outcome(job.model, {}, placement.skipped), job.model)
    data = required(job.context, without="--scheme dynamic, or a weight-only scheme such as w8")
    found = calibrate(
        model,
        placement,
        data,
        kinds.activations,
        symmetric=kinds.symmetric,
        method=job.options.ranges,
        context=job.context,
    )
    running = insert(model, placement, found.affines, kinds.activations, symmetric=kinds.symmetric)
    walked = _rounded(job, model, running, layers, kinds)
    result = _stored(job, model, running, walked, found)
    return Result(
        Outcome(result, _done(model, placement, walked), placement.skipped),
        reference=model,
        layers=_notes(model, placement, walked, kinds),
        details={"ranges": found.methods},
    )


def _done(model: Model, placement: Placement, walked: Walked) -> dict[str, str]:
    nodes = model.graph.node
    return {
        display_name(nodes[k]): "integers"
        for k in placement.nodes
        if nodes[k].output[0] in walked.rounded or nodes[k].op_type not in ("Conv", "Gemm", "MatMul")
    }


def _notes(model: Model, placement: Placement, walked: Walked, kinds: Kinds) -> list[LayerNote]:
    names = {node.output[0]: display_name(node) for node in model.graph.node if node.output}
    activations = f"{'' if kinds.activations.signed else 'u'}int{kinds.activations.bits}"
    return [
        LayerNote(
            names[node],
            placement.absorbed.get(node, node),
            one.layer.x,
            f"int{one.quantized.grid.bits}",
            activations,
            one.method,
            one.error,
        )
        for node, one in walked.rounded.items()
    ]


def specs_for(
    layers: Mapping[str, Layer], grid: Grid, job: Job, *, block: int = 0, symmetric: bool = True
) -> dict[str, Spec]:
    """What becomes of each layer; the first and the last keep 8 bits where the others have very few."""
    chosen = job.options.method
    found = {}
    names = list(layers)
    for node in names:
        edge = grid.bits < NARROW and node in (names[0], names[-1])
        used = Grid(8, narrow=True) if edge else grid
        methods = (METHODS[:2] if used.bits >= WIDE else METHODS) if chosen == "auto" else (chosen,)
        found[node] = Spec(used, methods, block, symmetric)
    return found


def _rounded(job: Job, model: Model, running: Model, layers: Mapping[str, Layer], kinds: Kinds) -> Walked:
    wide = kinds.weights.bits >= WIDE
    batches, _ = calibration_inputs(model, job.context)
    batches = _first(batches, _FEW_SAMPLES) if wide else with_mirrored(batches, model)
    specs = specs_for(layers, kinds.weights, job)
    rows = _FEW_ROWS if wide else ROWS
    return round_in_turn(model, running, batches, specs, job.context, refit=not wide, rows=rows)


def _first(batches: Sequence[Mapping[str, Floats]], samples: int) -> list[Mapping[str, Floats]]:
    """Whole batches from the beginning, until there are so many samples."""
    counts = np.cumsum([0, *(len(next(iter(b.values()))) for b in batches)])
    return [batch for batch, before in zip(batches, counts[:-1], strict=True) if before < samples]


def _stored(job: Job, model: Model, running: Model, walked: Walked, found: Found) -> Model:
    """The running model with integers in the place of the rounded layers' constants."""
    changed = running.copy()
    changed.weights.update(walked.biases)
    here = dict(zip((one.node for one in Layers(model)), Layers(running), strict=True))
    rounded: dict[str, Rounded] = {}
    stored: dict[str, tuple[Layer, Quantized, Affine]] = {}
    for node, one in walked.rounded.items():
        now, x = here[node], found.affines[one.layer.x]
        quantized = one.quantized
        offset = one.layer.offset(changed)
        if job.target.integer_bias and offset is not None:
            wanted = one.layer.matrix(model.weights[one.layer.weight])
            quantized = roomy(quantized, wanted, offset, float(x.scale))
        rounded[now.node] = replace(one, layer=now, quantized=quantized)
        stored[now.node] = (now, quantized, x)
    if job.target.integer_bias:
        changed = store_biases(changed, stored)
    return store(changed, rounded)
