"""Static integers: weights and activations, scales fixed beforehand, in the QuantizeLinear form that runtimes fuse.

Sources: Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference",
CVPR 2018, arXiv:1712.05877; Krishnamoorthi, 2018, arXiv:1806.08342 (a scale for each output channel).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np

from ....graph.errors import BadModel
from ....graph.index import index_of
from ....graph.io.opset import raise_opset
from ....graph.layer import Layer
from ....graph.layers import Layers
from ....graph.model import Model
from ....graph.nodes import display_name
from ....graph.traits import Runtime, Trait, has
from ....measure.run.tensor_specs import input_specs
from ...calibration.feeds import calibration_inputs, with_mirrored
from ...calibration.moments import one_blas_thread
from ...calibration.normal.correction import bias_correction
from ...calibration.runner import require_data
from ...calibration.walk import Rounded, Walked, round_in_turn, round_plainly
from ...patterns import choose_nodes
from ...precision.decibels import EXACT
from ...precision.grid import Affine, Grid, Quantized
from ...precision.noise import outputs_noise
from ...precision.result import Result
from ..allocation.budgeted import within_size
from ..balance.biases import roomy, store_biases
from ..placement.insert import insert
from ..placement.placement import Placement, place
from ..prepare import Prepared, prepare_model
from ..ranges import datafree
from ..ranges.activations import Found, assign_scales, calibrate
from ..ranges.ranges import rounding_error
from ..restored import rounded_restoring
from ..rounding.rounding import BLIND
from ..rounding.specs import WIDE, specs_for
from ..scheme import SCHEMES, Job, study
from ..storage.storage import store
from ..targets import adds_in_16_bits
from .weight_only import Grids, layer_note

DEEP, CLEAN = 32, 28.0
"""Below so many layers a walk takes little time, and is always taken: it gains up to 16 dB. From there on means that were
seen in one reading do, unless outputs are below so many decibels: then errors have added up, as on a ResNet-56, where a walk
gained 1.1 dB."""
_SEEN, _SEEN_DEEP = (256, 1 << 13), (64, 1 << 11)
"""Samples and patches that a walk sees: more gained nothing on deep networks."""


@dataclass(frozen=True)
class Kinds:
    """Integers of weights and activations. Without ``between`` only what layers read is rounded."""

    weights: Grid
    activations: Grid
    symmetric: bool = False
    between: bool = True


@dataclass(frozen=True)
class _Made:
    """The integers of the layers, the model that stores them, and the noise of its outputs where that was measured."""

    walked: Walked[Quantized]
    model: Model
    noise: Mapping[str, float] | None = None


@SCHEMES.register("int8")
def int8(job: Job) -> Result:
    """Weights and activations in 8 bits, computed in integers; needs data, or BatchNormalization kept."""
    target = job.target
    result = static(job, Kinds(target.weight, target.activation, target.symmetric))
    if job.options.target == "x86" and adds_in_16_bits():
        return result.noted(
            "this processor has no VNNI: products of 8-bit weights can overflow here, --target x86-avx2 avoids that"
        )
    return result


@SCHEMES.register("wXaY")
def any_bits(job: Job) -> Result:
    """Weights of X bits and activations of Y, such as w4a8: to see what they cost in accuracy, not accelerated.

    LiteRT computes in weights of 8 bits and activations of 16: w8a16 with --target tflite.
    """
    grids = study(job.options.scheme) or (Grid(4), Grid(8, signed=False))
    if job.target.runtime == Runtime.LITERT and (grids[0].bits, grids[1].bits) == (8, 16):
        return static(job, Kinds(job.target.weight, Grid(16, narrow=True), symmetric=True))
    result = static(job, Kinds(*grids, between=False))
    return replace(
        result.noted(
            "no runtime here computes in such integers: this graph shows what they cost in accuracy, not in time"
        ),
        accelerated=False,
    )


def static(job: Job, kinds: Kinds) -> Result:
    """Raises UsageError without data where BatchNormalization's statistics cannot stand in for it."""
    blind = job.context.data is None
    ready = prepare_model(job, level=blind, absorb=blind)
    model = ready.model
    if kinds.activations.stored_bits > 8:
        model = raise_opset(model, 21)
    nodes, options = model.graph.node, job.options
    allowed = [
        chosen and display_name(node) not in job.higher_precision
        for node, chosen in zip(nodes, choose_nodes(model, options.include, options.exclude), strict=True)
    ]
    if blind:
        placement, found = _from_statistics(job, ready, model, allowed, kinds)
    else:
        placement = place(model, allowed, runtime=job.target.runtime, between=kinds.between)
        require_data(job.context, without="--scheme dynamic, or a weight-only scheme such as w8")
        found = calibrate(model, placement, kinds.activations, kinds.symmetric, options.ranges, job.context)
    layers = {one.node: one for one in Layers(model) if one.place in placement.nodes}
    if not layers:
        return Result(job.model, {}, placement.skipped, reference=job.model)
    running = insert(model, placement, found.affines, kinds.activations, symmetric=kinds.symmetric)

    def made(job: Job, grids: Grids) -> Result:
        chosen = grids(model, layers)
        if blind:
            walked = _blindly(job, ready, model, layers, chosen)
            done = _Made(walked, _stored(job, model, running, walked, found))
        else:
            done = _rounded(job, ready, running, layers, chosen, found)
            walked = done.walked
        return Result(
            done.model,
            _done(model, placement, walked),
            placement.skipped,
            [*ready.notes, *found.notes],
            reference=model,
            layers=[
                layer_note(one, placement.absorbed.get(node, node), kinds.activations.name)
                for node, one in walked.rounded.items()
            ],
            details={"ranges": found.methods},
            noise=done.noise,
        )

    if options.size is not None:
        return within_size(job, options.size, made)
    return made(job, lambda _, layers: dict.fromkeys(layers, kinds.weights))


def _from_statistics(
    job: Job, ready: Prepared, model: Model, allowed: Sequence[bool], kinds: Kinds
) -> tuple[Placement, Found]:
    """Ranges that BatchNormalization tells; nodes around tensors of which it tells nothing stay in float."""
    known = datafree.ranges(ready.kept, {name: (low, high) for name, low, high in job.options.input_ranges})
    allowed = list(allowed)
    while True:
        placement = place(model, allowed, runtime=job.target.runtime, between=kinds.between)
        missing = {n for n in placement.tensors if n not in placement.moved and n not in {*known, *placement.lowest}}
        if not missing:
            break
        for k, node in enumerate(model.graph.node):
            touched = {placement.absorbed.get(o, o) for o in node.output} | set(node.input)
            allowed[k] = allowed[k] and not touched & missing
    limits = {n: known[n] for n in placement.tensors if n in known}
    return placement, Found(
        assign_scales(placement, limits, kinds.activations, kinds.symmetric), dict.fromkeys(limits, "statistics")
    )


def _blindly(
    job: Job, ready: Prepared, model: Model, layers: Mapping[str, Layer], grids: Mapping[str, Grid]
) -> Walked[Quantized]:
    """Weights by themselves, biases by what BatchNormalization says of the means."""
    if job.options.repair == "udfc":
        return rounded_restoring(job, ready, specs_for(ready, layers, grids, job))
    walked = round_plainly(model, specs_for(ready, layers, grids, job), job.context)
    changed = {one.layer.weight: walked.applied(model).weights[one.layer.weight] for one in walked.rounded.values()}
    walked.biases.update(bias_correction(model, changed, datafree.statistics(ready.kept)))
    return walked


def _done(model: Model, placement: Placement, walked: Walked[Quantized]) -> dict[str, str]:
    nodes = model.graph.node
    return {
        display_name(nodes[k]): "integers"
        for k in placement.nodes
        if nodes[k].output[0] in walked.rounded or not has(nodes[k], Trait.LAYER)
    }


def _rounded(
    job: Job, ready: Prepared, running: Model, layers: Mapping[str, Layer], grids: Mapping[str, Grid], found: Found
) -> _Made:
    specs, model = specs_for(ready, layers, grids, job), ready.model

    def stored(walked: Walked[Quantized]) -> _Made:
        return _Made(walked, _stored(job, model, running, walked, found))

    if job.context.data is None:  # to see how large a file becomes
        return stored(round_plainly(model, specs))
    if not all(spec.grid.bits >= WIDE for spec in specs.values()):
        batches, _ = calibration_inputs(model, job.context)
        return stored(round_in_turn(model, running, with_mirrored(batches, model), specs, job.context))
    deep = len(layers) >= DEEP
    if deep and all({*spec.methods} <= {*BLIND} for spec in specs.values()):
        made = _heard(job, stored(_with_means(model, round_plainly(model, specs), found)))
        if min((made.noise or {}).values(), default=EXACT) >= CLEAN:
            return made
    samples, patches = _SEEN_DEEP if deep else _SEEN
    batches, _ = calibration_inputs(model, job.context, samples)
    return stored(round_in_turn(model, running, batches, specs, job.context, refit=False, most=patches))


def _heard(job: Job, made: _Made) -> _Made:
    """With the noise of its outputs, unless that is not wanted."""
    if job.context.data is not None and job.options.verify:
        with suppress(BadModel):  # what does not run is told later
            noise = outputs_noise(job.model, made.model, job.context.data, job.context.memory, job.target.contrib)
            return replace(made, noise=noise)
    return made


@one_blas_thread
def _with_means(model: Model, walked: Walked[Quantized], found: Found) -> Walked[Quantized]:
    """Biases with which layers give on average what they gave, whatever is rounded: weights, and what they read.

    Source: the correction of Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction",
    ICCV 2019, arXiv:1906.04721, section 4.2, with means that were measured.
    """
    uses = index_of(model).uses
    for node, one in walked.rounded.items():
        layer, seen = one.layer, found.seen[node]
        wanted, made = layer.matrix(model.weights[layer.weight]), one.quantized.floats()
        u, mean = seen.patches.astype(np.float64), seen.mean
        walked.rounded[node] = replace(one, error=_noise(u, made - wanted) / (_noise(u, wanted) or 1.0))
        offset = layer.offset(model)
        if offset is not None and layer.bias is not None and uses[layer.bias] == 1:
            read = mean + rounding_error(found.affines[layer.x], u).mean(axis=1)
            offset = offset + np.einsum("goc,gc->go", wanted, mean) - np.einsum("goc,gc->go", made, read)
            walked.biases[layer.bias] = layer.bias_like(offset, model.weights[layer.bias])
    return walked


def _noise(patches: np.ndarray, matrices: np.ndarray) -> float:
    """Variance of what matrices make of patches, all outputs together."""
    return float(np.matmul(patches, matrices.transpose(0, 2, 1)).var(axis=1).sum())


def _stored(job: Job, model: Model, running: Model, walked: Walked[Quantized], found: Found) -> Model:
    """The running model with integers in the place of the rounded layers' constants."""
    changed = running.copy()
    changed.weights.update(walked.biases)
    here = dict(zip((one.node for one in Layers(model)), Layers(running), strict=True))
    dims = index_of(model).shapes.dims
    pinned = all(isinstance(d, int) for p in input_specs(model) for d in p.shape or ("",))
    rounded: list[Rounded[Quantized]] = []
    stored: dict[str, tuple[Layer, Quantized, Affine]] = {}
    for node, one in walked.rounded.items():
        now, x = here[node], found.affines[one.layer.x]
        quantized = one.quantized
        offset = one.layer.offset(changed)
        if offset is not None:  # float biases too: runtimes round them themselves
            wanted = one.layer.matrix(model.weights[one.layer.weight])
            quantized = roomy(quantized, wanted, offset, float(x.scale))
        quantized = replace(quantized, zero=np.zeros_like(quantized.scale))  # some integer kernels want it
        rounded.append(replace(one, layer=now, quantized=quantized))
        # ONNX Runtime joins a product with its bias into a Gemm where it knows the shapes, and that wants an integer one.
        if now.op != "MatMul" or pinned or len(dims.get(one.layer.x, ())) == 2:
            stored[now.output] = (now, quantized, x)
    if job.target.integer_bias:
        changed = store_biases(changed, stored)
    return store(changed, rounded, form="bytes")
