"""Weights in bits, activations in float: smaller files, and faster where multiplying waits for memory.

Layers are binarized in turn on calibration data, each towards what the original made; without data each by its weights
alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from ...graph.errors import UsageError
from ...graph.index import index_of
from ...graph.layer import Layer
from ...graph.model import Model
from ..calibration.gradients import gradients
from ..calibration.journal import each_once, journal_in
from ..calibration.walk import Rounded, glimpse, relative_error, round_layers, solve_plainly
from ..needs import GRADIENTS
from ..precision.protect import Harm, protected, sentence
from ..precision.result import Result
from ..simplify import fold_batch_norm, with_biases
from .algorithms.binarizer import BINARIZERS, BitRule
from .algorithms.codes import Code
from .budget import within_size
from .eligible import PROTECTED, Chosen, choose_layers
from .options import BinarizeOptions
from .scheme import BitNote, Job
from .storage.products import pays
from .storage.storage import Bits, store


def weight_only(name: str, job: Job) -> Result:
    """Raises UsageError where a block was asked for and rows cannot be cut, BadData for data that does not fit."""
    options = job.options
    if options.block and BINARIZERS[name].block is None:
        raise UsageError(f"scheme {name} has one scale for each row and column", fix="leave out --block")
    model = with_biases(fold_batch_norm(job.model)[0])
    layers = choose_layers(model, options, job.higher_precision)
    rules, notes = rules_for(name, job, model, {**layers.layers, **layers.independent})
    if options.size is None:
        layers, told = _without_tiny(job, model, layers, rules)
        return binarize_layers(name, job, model, layers, rules).noted(*notes, *told)
    result = within_size(job, model, layers, rules, lambda job, few: binarize_layers(name, job, model, few, rules))
    return result.noted(*notes)


def _without_tiny(job: Job, model: Model, layers: Chosen, rules: Mapping[str, BitRule]) -> tuple[Chosen, list[str]]:
    """The layers less those that hurt most for the bytes that they save, and what to tell of these."""

    def harm(node: str) -> Harm:
        one = layers.layers[node]
        weight = model.weights[one.weight]
        part, few = glimpse(one, weight)
        _, code = solve_plainly(rules[node], part, few)
        bits = Bits(part, code, few, multiplied=not rules[node].half)
        return Harm(one.name, relative_error(part, few, code), bits.nbytes * weight.size / few.size, weight.nbytes)

    looked = list(layers.layers) if job.options.protect else []
    journal = journal_in(job.context.resume if looked else None, [model], (), "harms", looked, rules)
    harms = dict(zip(looked, each_once(journal, looked, harm, len(looked)), strict=True))
    kept = protected(harms)
    few = {node: one for node, one in layers.layers.items() if node not in kept}
    skipped = {**layers.skipped, **{harms[node].name: PROTECTED for node in kept}}
    return replace(layers, layers=few, skipped=skipped), [sentence(harms, kept, "their floats")] if kept else []


def binarize_layers(name: str, job: Job, model: Model, layers: Chosen, rules: Mapping[str, BitRule]) -> Result:
    """All chosen layers in bits."""
    if not layers.layers and not layers.independent:
        return Result(job.model, {}, layers.skipped, reference=job.model)
    walked = round_layers(model, {node: rules[node] for node in layers.layers}, job.context, job.model)
    coded = {
        node: Bits(one.layer, one.quantized, model.weights[one.layer.weight], multiplied=not rules[node].half)
        for node, one in walked.rounded.items()
    }
    for node, layer in layers.independent.items():
        weight = model.weights[layer.weight]
        coded[node] = Bits(layer, solve_plainly(rules[node], layer, weight)[1], weight)
    changed = model.copy()
    changed.weights.update(walked.biases)
    made = store(changed, coded.values(), job.options.stored, activations=job.options.activations)
    notes = [_note(name, one, walked.rounded.get(node), job.options) for node, one in coded.items()]
    done = {one.name: one.weights for one in notes}
    result = Result(made, done, layers.skipped, reference=model, layers=notes)
    if job.options.activations == "int8" and all(one.activations != "int8" for one in notes):
        result.notes.append("no layer is a product with so many weights that int8 activations would make it faster")
    return result


def rules_for(name: str, job: Job, model: Model, layers: Mapping[str, Layer]) -> tuple[dict[str, BitRule], list[str]]:
    """What becomes of each layer, and what to tell of it."""
    asked = layers and GRADIENTS in BINARIZERS.entry(name).needs
    slopes = gradients(model, job.context) if asked else None
    block = BINARIZERS[name].block or 0
    if job.options.block is not None:
        block = job.options.block
    dims = index_of(model).shapes.dims

    def decoded(one: Layer) -> bool:
        if one.unfit or one.window is not None:
            return True
        return not pays(dims.get(one.x), model.weights[one.weight].size, rounded=job.options.activations == "int8")

    rules = {
        node: BitRule(name, block, job.options.salient, decoded(one), slopes.matrices(one) if slopes else None)
        for node, one in layers.items()
    }
    return rules, [slopes.note] if slopes else []


def _note(scheme: str, one: Bits, rounded: Rounded[Code] | None, options: BinarizeOptions) -> BitNote:
    power, size = _means(one.where, one.weight)
    return BitNote(
        one.where.name,
        one.where.node,
        "" if one.where.unfit else one.where.x,
        one.code.book.name,
        activations="int8" if options.activations == "int8" and one.multiplies else "float32",
        method=scheme,
        error=rounded.error if rounded else None,
        bits=8 * one.nbytes / one.weight.size,
        weights_count=one.weight.size,
        expected=BINARIZERS[scheme].expected(power, size, options.salient),
        weight_error=relative_error(one.where, one.weight, one.code),
    )


def _means(layer: Layer, weight: np.ndarray) -> tuple[float, float]:
    """Of squares and of sizes."""
    power = size = 0.0
    for outputs in layer.parts:
        matrices = layer.matrix(weight, outputs)
        power, size = power + float(np.square(matrices).sum()), size + float(np.abs(matrices).sum())
    return power / weight.size, size / weight.size
