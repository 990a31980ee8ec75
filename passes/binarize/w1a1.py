"""Activations and weights as signs, of a network that was not trained for it: for study, as it ruins most.

What a layer reads is compared with its channels' means, and the layer multiplies signs; one scale and one offset for
each output are what fits the original's output best on the data. Without data the threshold is 0 and scales are those of
XNOR-Net: the mean sizes of a row's weights and, in every run, of a sample's activations.

The graph is the canonical form of a binary network in standard operators: ``Where`` makes signs, a convolution or product
of signs, a scale, an offset.

Source: Rastegari et al., "XNOR-Net: ImageNet Classification Using Binary Convolutional Neural Networks", ECCV 2016,
arXiv:1603.05279, section 3.2 (signs and scales); Liu et al., "ReActNet", ECCV 2020, arXiv:2003.03488 (thresholds for each
channel). Differs: thresholds, scales and offsets are solved for, not trained.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import onnx

from ...graph.errors import BadModel
from ...graph.layer import Floats, Layer
from ...graph.model import Model
from ...graph.nodes import copied, refill
from ..base import Context
from ..calibration.activation_cache import ActivationCache, Inputs, Store, each
from ..calibration.feeds import calibration_inputs
from ..calibration.patches import outputs_at, patches
from ..calibration.samples import placed, positions_of
from ..precision.protect import relative
from ..precision.result import Result
from ..rewrite.edit import Edit
from ..simplify import fold_batch_norm, with_biases
from .eligible import choose_layers
from .scheme import SCHEMES, BitNote, Job, Scheme

HALF = "its activations are no float32"


@dataclass(frozen=True)
class Fitted:
    """What goes into a layer less ``mean`` becomes signs, what comes out is scaled and shifted. Shapes: mean (channels,),
    scale and offset (outputs,).
    """

    mean: Floats
    scale: Floats
    offset: Floats


def w1a1(job: Job) -> Result:
    """Raises BadModel unless it was forced: the network is expected to be ruined."""
    options = job.options
    if not options.force:
        raise BadModel(
            "the model was not trained for activations of one bit: it would be ruined",
            why="signs keep 64 % of an activation's power at best, in every layer; what follows was never trained on that",
            fix="train it in bits and use --scheme pack, binarize its weights alone with --scheme planes, or see for "
            "yourself with --force",
        )
    model = with_biases(fold_batch_norm(job.model)[0])
    found = choose_layers(model, options, job.higher_precision)
    half = {one.node: one for one in found.layers.values() if model.weights[one.weight].dtype != np.float32}
    skipped = found.skipped | {one.name: "a transposed convolution" for one in found.independent.values()}
    skipped |= {one.name: HALF for one in half.values()}
    layers = {node: one for node, one in found.layers.items() if node not in half}
    if not layers:
        return Result(job.model, {}, skipped, reference=job.model)
    fits = fit_lines(model, layers, job.context) if job.context.data is not None else {}
    made = rewrite_layers(model, layers, fits)
    packed = _packed(job, made)
    notes = [_note(one, model, packed is not None) for one in layers.values()]
    done = {note.name: "signs" for note in notes}
    return Result(packed or made, done, skipped, reference=model, layers=notes)


SCHEMES.register("w1a1")(
    Scheme(w1a1, "Weights and activations as signs, of a network that was not trained for it: with --force only.")
)


def _packed(job: Job, canonical: Model) -> Model | None:
    """With operators on bits; None where none were asked for, or none could be used."""
    if job.options.stored == "dense" or "pack" not in SCHEMES:
        return None
    options = job.options.model_copy(update={"include": (), "exclude": (), "size": None, "block": None})
    packed = SCHEMES["pack"].run(replace(job, model=canonical, options=options, higher_precision=frozenset()))
    return packed.model if packed.changed else None


def _note(layer: Layer, model: Model, packed: bool) -> BitNote:
    """Signs that are not packed take as much as floats do."""
    weight = model.weights[layer.weight]
    matrices = layer.matrix(weight)
    near = np.where(matrices < 0, -1.0, 1.0) * np.abs(matrices).mean(axis=-1, keepdims=True)
    return BitNote(
        layer.name,
        layer.node,
        layer.x,
        "sign",
        "sign",
        "w1a1",
        bits=(1 if packed else 32) + 64 / matrices.shape[2],
        weights_count=weight.size,
        weight_error=relative(matrices, near),
    )


def fit_lines(model: Model, layers: Mapping[str, Layer], context: Context) -> dict[str, Fitted]:
    """Means of what goes into each layer, and the line from its products of signs to what it gives, by least squares."""
    found = {}
    with Store.of(context) as store:
        batches, _ = calibration_inputs(model, context)
        cache = ActivationCache(model, Inputs(batches, store))
        for node, layer in each(cache, [(pair, [pair[1].x, pair[1].node]) for pair in layers.items()]):
            found[node] = _fit(model, layer, cache)
            context.tick(len(found), len(layers))
    return found


def _fit(model: Model, layer: Layer, cache: ActivationCache) -> Fitted:
    signs = np.where(layer.matrix(model.weights[layer.weight]) < 0, -1.0, 1.0).astype(np.float32)
    mean = _means(layer, cache)
    sums = np.zeros((5, *signs.shape[:2]))
    for batch, places in placed(layer, cache, positions_of(layer, cache), layer.node):
        dots = patches(layer, _signs(batch[layer.x], mean, layer), places) @ signs.transpose(0, 2, 1)
        wanted = outputs_at(layer, batch[layer.node], places)
        d, y = dots.astype(np.float64), wanted.astype(np.float64)
        sums += np.stack([np.ones_like(d).sum(1), d.sum(1), y.sum(1), (d * d).sum(1), (d * y).sum(1)])
    n, d, y, dd, dy = sums
    spread = dd - d * d / n
    scale = np.where(spread > 0, (dy - d * y / n) / np.where(spread > 0, spread, 1.0), 0.0)
    return Fitted(mean, scale.reshape(-1), ((y - scale * d) / n).reshape(-1))


def _means(layer: Layer, cache: ActivationCache) -> Floats:
    """Of each channel of what a layer reads."""
    total, count = np.zeros(1), 0
    for batch in cache.batches([layer.x]):
        x = np.moveaxis(batch[layer.x], layer.x_axis, -1).reshape(-1, batch[layer.x].shape[layer.x_axis])
        total, count = total + x.sum(axis=0, dtype=np.float64), count + len(x)
    return np.asarray((total / max(1, count)).astype(np.float32))


def _signs(x: Floats, mean: Floats, layer: Layer) -> Floats:
    shape = [1] * x.ndim
    shape[layer.x_axis] = -1
    return np.where(x - mean.reshape(shape) < 0, np.float32(-1), np.float32(1))


def rewrite_layers(model: Model, layers: Mapping[str, Layer], fits: Mapping[str, Fitted]) -> Model:
    """The canonical form of the layers."""
    edit = Edit(model)
    zero, one, minus = (edit.constant(f"bits/{n}", np.array(v, np.float32)) for n, v in _NUMBERS.items())
    for node in model.graph.node:
        layer = layers.get(node.output[0]) if node.output else None
        if layer is None:
            edit.keep(node)
            continue
        edit.replace(node)
        wide = (-1, *[1] * (len(layer.window.kernel) if layer.window else 0))
        fit, name = fits.get(layer.node), layer.node
        x = layer.x
        if fit is not None:
            mean = edit.constant(f"{name}/mean", fit.mean.reshape(wide))
            x = edit.add("Sub", [x, mean], edit.tensor(f"{name}/centred"))
        positive = edit.add("GreaterOrEqual", [x, zero], edit.tensor(f"{name}/positive"))
        signs = edit.add("Where", [positive, one, minus], edit.tensor(f"{name}/signs"))
        dots = _product(edit, node, layer, signs, model)
        scale, offset = _line(edit, layer, fit, model)
        scaled = edit.add("Mul", [dots, edit.constant(f"{name}/scale", scale.reshape(wide))], edit.tensor(f"{name}/y"))
        if fit is None:
            size = edit.add("Abs", [layer.x], edit.tensor(f"{name}/sizes"))
            scaled = edit.add("Mul", [scaled, _mean_size(edit, layer, size)], edit.tensor(f"{name}/sized"))
        edit.add("Add", [scaled, edit.constant(f"{name}/offset", offset.reshape(wide))], node.output[0])
    return edit.finish()


_NUMBERS = {"zero": 0.0, "one": 1.0, "minus": -1.0}


def _product(edit: Edit, node: onnx.NodeProto, layer: Layer, signs: str, model: Model) -> str:
    weight = model.weights[layer.weight]
    ones = np.where(weight < 0, np.float32(-1), np.float32(1))
    ones = ones if layer.window is not None or layer.axis else np.ascontiguousarray(ones.T)
    copy = copied(node)
    if layer.op == "Gemm":
        copy.op_type = "MatMul"
        del copy.attribute[:]
    refill(copy.input, [signs, edit.constant(f"{layer.node}/weight", ones)])
    copy.output[0] = edit.tensor(f"{layer.node}/dots")
    edit.keep(copy)
    return copy.output[0]


def _line(edit: Edit, layer: Layer, fit: Fitted | None, model: Model) -> tuple[np.ndarray, np.ndarray]:
    """Scale and offset of each output. The constant Add after a MatMul stays where it is."""
    if fit is not None:
        return fit.scale.astype(np.float32), fit.offset.astype(np.float32)
    sizes = np.abs(layer.matrix(model.weights[layer.weight])).mean(axis=-1).reshape(-1)
    bias = layer.offset(model) if layer.op != "MatMul" else None
    return sizes.astype(np.float32), (np.zeros(len(sizes)) if bias is None else bias.reshape(-1)).astype(np.float32)


def _mean_size(edit: Edit, layer: Layer, size: str) -> str:
    """Of each sample's activations, or of each row's."""
    axes = list(range(1, 2 + len(layer.window.kernel))) if layer.window else [-1]
    out = edit.tensor(f"{layer.node}/size")
    if edit.model.opset >= 18:
        return edit.add("ReduceMean", [size, edit.constant(f"{layer.node}/axes", np.array(axes, np.int64))], out)
    return edit.add("ReduceMean", [size], out, axes=axes)
