"""Convolutions, products, pools and normalizations in torch's words."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...graph.layer import Window
from .call import Call, Unspelled, spells

_MOST_AXES = 3


def _axes(rank: int) -> int:
    if not 1 <= rank - 2 <= _MOST_AXES:
        raise Unspelled(f"it works on {rank - 2} axes of pixels, not 1 to 3")
    return rank - 2


def _reversed(begins: Sequence[int], ends: Sequence[int]) -> list[int]:
    """In the order of ``F.pad``: the last axis first."""
    return [n for pair in zip(reversed(begins), reversed(ends), strict=True) for n in pair]


def _padding(c: Call, window: Window) -> tuple[tuple[int, ...], tuple[int, ...]]:
    return window.pads or window.padding(c.shape(start=2))


@spells("Conv")
def convolution(c: Call) -> str:
    axes = _axes(c.rank(1))
    window = Window.of(c.node, c.shape(1)[2:])
    begins, ends = _padding(c, window)
    same = tuple(begins) == tuple(ends)
    x = c[0] if same else f"F.pad({c[0]}, {_reversed(begins, ends)})"
    padding = tuple(begins) if same else 0
    how = f"{tuple(window.strides)}, {padding}, {tuple(window.dilations)}, {c.attr('group', 1)}"
    return f"F.conv{axes}d({x}, {c[1]}, {c[2]}, {how})"


@spells("ConvTranspose")
def transposed(c: Call) -> str:
    axes = _axes(c.rank(1))
    ones = [1] * axes
    pads = c.attr("pads", [0] * 2 * axes)
    if pads[:axes] != pads[axes:] or c.attr("auto_pad", "NOTSET") != "NOTSET" or c.attr("output_shape"):
        raise Unspelled("its padding is not the same on both sides")
    strides, more, dilations = c.attr("strides", ones), c.attr("output_padding", [0] * axes), c.attr("dilations", ones)
    how = f"{strides}, {pads[:axes]}, {more}, {c.attr('group', 1)}, {dilations}"
    return f"F.conv_transpose{axes}d({c[0]}, {c[1]}, {c[2]}, {how})"


@spells("Gemm")
def gemm(c: Call) -> str:
    alpha, beta = c.attr("alpha", 1.0), c.attr("beta", 1.0)
    a = f"{c[0]}.T" if c.attr("transA", 0) else c[0]
    if alpha == beta == 1 and c.attr("transB", 0) and (not c.has(2) or c.rank(2) == 1):
        return f"F.linear({a}, {c[1]}, {c[2]})"
    product = f"{a} @ {c[1]}{'.T' if c.attr('transB', 0) else ''}"
    product = product if alpha == 1 else f"{alpha!r} * ({product})"
    added = c[2] if beta == 1 else f"{beta!r} * {c[2]}"
    return f"{product} + {added}" if c.has(2) else product


@spells("Einsum")
def einsum(c: Call) -> str:
    return f"torch.einsum({c.attr('equation').replace(' ', '')!r}, {', '.join(t for t in c.tensors if t)})"


@spells("MaxPool")
def max_pool(c: Call) -> str:
    if len([name for name in c.node.output if name]) > 1:
        raise Unspelled("its indices are read")
    axes, window = _axes(c.rank()), Window.of(c.node, tuple(c.attr("kernel_shape")))
    begins, ends = _padding(c, window)
    x = f"F.pad({c[0]}, {_reversed(begins, ends)}, value=-math.inf)" if any((*begins, *ends)) else c[0]
    how = f"{window.kernel}, {window.strides}, 0, {window.dilations}, {bool(c.attr('ceil_mode', 0))}"
    return f"F.max_pool{axes}d({x}, {how})"


@spells("AveragePool")
def average_pool(c: Call) -> str:
    axes, window = _axes(c.rank()), Window.of(c.node, tuple(c.attr("kernel_shape")))
    begins, ends = _padding(c, window)
    if any(d != 1 for d in window.dilations) or c.attr("ceil_mode", 0):
        raise Unspelled("its window is dilated, or its last windows are cut")
    pool, padding = f"F.avg_pool{axes}d", _reversed(begins, ends)
    if not any(padding):
        return f"{pool}({c[0]}, {window.kernel}, {window.strides})"
    if c.attr("count_include_pad", 0):
        return f"{pool}(F.pad({c[0]}, {padding}), {window.kernel}, {window.strides})"
    return f"mean_pool({pool}, {c[0]}, {padding}, {window.kernel}, {window.strides})"


@spells("GlobalAveragePool")
def global_average(c: Call) -> str:
    return f"{c[0]}.mean(list(range(2, {c[0]}.dim())), keepdim=True)"


@spells("GlobalMaxPool")
def global_max(c: Call) -> str:
    return f"{c[0]}.amax(list(range(2, {c[0]}.dim())), keepdim=True)"


@spells("BatchNormalization")
def batch_normalization(c: Call) -> str:
    if c.attr("training_mode", 0):
        raise Unspelled("it is in training mode")
    how = f"self.training, {1 - c.attr('momentum', 0.9):.6g}, {c.attr('epsilon', 1e-5)!r}"
    return f"F.batch_norm({c[0]}, {c[3]}, {c[4]}, {c[1]}, {c[2]}, {how})"


@spells("LayerNormalization")
def layer_normalization(c: Call) -> str:
    axis = c.attr("axis", -1) % c.rank()
    return f"F.layer_norm({c[0]}, {c[0]}.shape[{axis}:], {c[1]}, {c[2]}, {c.attr('epsilon', 1e-5)!r})"


@spells("InstanceNormalization")
def instance_normalization(c: Call) -> str:
    return f"F.instance_norm({c[0]}, None, None, {c[1]}, {c[2]}, True, 0.0, {c.attr('epsilon', 1e-5)!r})"


@spells("GroupNormalization")
def group_normalization(c: Call) -> str:
    return f"F.group_norm({c[0]}, {c.attr('num_groups')}, {c[1]}, {c[2]}, {c.attr('epsilon', 1e-5)!r})"


@spells("LRN")
def local_response(c: Call) -> str:
    alpha, beta, bias = c.attr("alpha", 1e-4), c.attr("beta", 0.75), c.attr("bias", 1.0)
    if c.attr("size") % 2 == 0:
        raise Unspelled("it looks at an even number of channels")
    return f"F.local_response_norm({c[0]}, {c.attr('size')}, {alpha!r}, {beta!r}, {bias!r})"


@spells("DepthToSpace")
def depth_to_space(c: Call) -> str:
    if c.attr("mode", "DCR") != "CRD":
        raise Unspelled("its mode is DCR")
    return f"F.pixel_shuffle({c[0]}, {c.attr('blocksize')})"


@spells("Resize")
def resize(c: Call) -> str:
    """Those forms that torch has, of two axes of an image."""
    mode, place = c.attr("mode", "nearest"), c.attr("coordinate_transformation_mode", "half_pixel")
    rounds = c.attr("nearest_mode", "round_prefer_floor")
    scales, sizes = (None, c.ints(3)) if c.has(3) else (c.array(2), None)
    if scales is None:
        assert sizes is not None
        scales = np.array([n / m for n, m in zip(sizes, c.shape(), strict=True)])
    if c.rank() != 4 or tuple(scales[:2]) != (1, 1) or c.attr("antialias", 0) or c.attr("axes"):
        raise Unspelled("it resizes other axes than two of an image")
    whole = all(s == round(s) >= 1 for s in scales[2:].tolist())
    if mode == "nearest" and whole and (place == "half_pixel" or (place, rounds) == ("asymmetric", "floor")):
        high, wide = (round(s) for s in scales[2:].tolist())
        return f"{c[0]}.repeat_interleave({high}, 2).repeat_interleave({wide}, 3)"
    told = f"{sizes[2:]}" if sizes else f"scale_factor={tuple(scales[2:].tolist())}"
    if (mode, place, rounds) == ("nearest", "asymmetric", "floor"):
        return f"F.interpolate({c[0]}, {told}, mode='nearest')"
    if mode == "linear" and place in ("half_pixel", "align_corners", "pytorch_half_pixel"):
        return f"F.interpolate({c[0]}, {told}, mode='bilinear', align_corners={place == 'align_corners'})"
    raise Unspelled(f"torch has no {mode} resizing with {place} coordinates that rounds like this")


@spells("QuantizeLinear")
def to_integers(c: Call) -> str:
    """In floats, so that gradients pass within the range."""
    if c.attr("block_size", 0):
        raise Unspelled("its scales are of blocks")
    axis, rank = c.attr("axis", 1), c.rank()
    signed = c.has(2) and c.known[2] is not None and c.known[2].dtype.kind == "i"
    wide = c.known[2].dtype.itemsize * 8 if c.has(2) and c.known[2] is not None else 8
    low, high = (-(1 << wide - 1), (1 << wide - 1) - 1) if signed else (0, (1 << wide) - 1)
    zero = f" + along({c[2]}.float(), {rank}, {axis})" if c.has(2) else ""
    return f"(straight_round({c[0]} / along({c[1]}, {rank}, {axis})){zero}).clamp({low}, {high})"


@spells("DequantizeLinear")
def to_floats(c: Call) -> str:
    if c.attr("block_size", 0):
        raise Unspelled("its scales are of blocks")
    axis, rank = c.attr("axis", 1), c.rank()
    zero = f" - along({c[2]}.float(), {rank}, {axis})" if c.has(2) else ""
    return f"({c[0]}.float(){zero}) * along({c[1]}, {rank}, {axis})"


@spells("LSTM", "GRU", "RNN")
def recurrent_layer(c: Call) -> str:
    from ...graph.traits.recurrent import STATES
    from ...measure.autograd.recurrent import directions, refusal

    why = refusal(c.node)
    if why:
        raise Unspelled(why)
    first = ", ".join(c[k] for k in STATES[c.node.op_type])
    told = f"{', '.join(c[k] for k in range(5))}, [{first}], {directions(c.node)}"
    made = f"recurrent({c.node.op_type!r}, {told}, {bool(c.attr('linear_before_reset', 0))})"
    wanted = max(k for k, name in enumerate(c.node.output) if name) + 1
    return f"{made}[:{wanted}]" if wanted > 1 else f"{made}[0]"
