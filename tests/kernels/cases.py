"""For every operator on bits: nodes over random shapes, with what they must compute."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from intaglio.kernels.onebit import reference as onebit
from intaglio.kernels.operators import DOMAIN, attach
from intaglio.kernels.packing import pack, unpack

Draw = Callable[[st.SearchStrategy[Any]], Any]
CHANNELS = st.sampled_from([1, 2, 7, 8, 9, 31, 32, 33, 63, 64, 65, 127, 128, 130])


@dataclass(frozen=True)
class Case:
    """One node. ``inputs`` go by name, in order; ``fed`` names those that are given at run time."""

    op: str
    inputs: Mapping[str, np.ndarray]
    fed: tuple[str, ...]
    attributes: Mapping[str, Any]
    expected: np.ndarray
    rtol: float = 0.0
    """Allowed difference, as a fraction of the largest number. Zero: the same bits."""

    def model(self, opset: int = 17, *, fed: tuple[str, ...] | None = None) -> onnx.ModelProto:
        """A model of this node alone, with the definition of its operator."""
        fed = self.fed if fed is None else fed
        node = helper.make_node(self.op, list(self.inputs), ["result"], name="node", domain=DOMAIN, **self.attributes)
        graph = helper.make_graph(
            [node],
            "case",
            [_info(name, self.inputs[name]) for name in fed],
            [_info("result", self.expected)],
            [numpy_helper.from_array(value, name) for name, value in self.inputs.items() if name not in fed],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
        attach(model)
        return model

    def feed(self, fed: tuple[str, ...] | None = None) -> dict[str, np.ndarray]:
        return {name: self.inputs[name] for name in (self.fed if fed is None else fed)}

    def check(self, got: np.ndarray) -> None:
        assert got.dtype == self.expected.dtype
        assert got.shape == self.expected.shape
        if not self.rtol:
            np.testing.assert_array_equal(got, self.expected)
        else:
            room = self.rtol * max(np.abs(self.expected).max(initial=0), 1e-6)
            np.testing.assert_allclose(got, self.expected, rtol=self.rtol, atol=room)


def _info(name: str, value: np.ndarray) -> onnx.ValueInfoProto:
    """Every size free, so that a wrong one is found when the model runs."""
    kind = helper.np_dtype_to_tensor_dtype(value.dtype)
    return helper.make_tensor_value_info(name, kind, [f"{name}{i}" for i in range(value.ndim)])


def floats(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """A few of them exactly 0, of either sign."""
    values = rng.standard_normal(shape).astype(np.float32)
    values[rng.random(shape) < 0.1] = 0
    values[rng.random(shape) < 0.1] = -0.0
    return values


def signs(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.choice(np.array([-1.0, 1.0], np.float32), shape)


def affine(dot: np.ndarray, scale: np.ndarray, bias: np.ndarray) -> np.ndarray:
    return np.asarray(dot.astype(np.float32) * scale + bias, np.float32)


def bits_below(values: np.ndarray, threshold: np.ndarray) -> np.ndarray:
    return np.packbits(values < threshold, axis=-1, bitorder="little")


def bit_pack(draw: Draw, rng: np.random.Generator) -> Case:
    rank = draw(st.integers(1, 5))
    shape = [draw(st.integers(1, 5)) for _ in range(rank - 1)] + [draw(CHANNELS)]
    usual = [[0, *range(2, rank), 1]] if rank > 2 else []
    perm = draw(st.sampled_from([list(range(rank)), *usual]) | st.permutations(range(rank)))
    x = floats(rng, *rng.permutation(shape))
    if draw(st.booleans()):
        x = (x * 100).astype(np.int8)
    moved = np.transpose(x, perm).astype(np.float32)
    threshold = rng.choice(moved.reshape(-1), draw(st.sampled_from([1, moved.shape[-1]])))  # equal numbers happen
    return Case("BitPack", {"X": x, "threshold": threshold}, ("X",), {"perm": perm}, bits_below(moved, threshold))


def _image(draw: Draw, rng: np.random.Generator, channels: int) -> np.ndarray:
    return signs(rng, draw(st.integers(1, 2)), draw(st.integers(4, 9)), draw(st.integers(4, 9)), channels)


def _convolved(draw: Draw, rng: np.random.Generator) -> tuple[dict[str, np.ndarray], dict[str, Any], np.ndarray]:
    """Inputs B and W, attributes, and the dot products (N, H, W, O)."""
    group, planes = draw(st.sampled_from([1, 1, 2, 3])), draw(st.integers(1, 2))
    within, each = draw(CHANNELS), draw(st.sampled_from([1, 3, 8, 16, 17]))
    channels, outputs = within * group, each * group
    kernel, strides, dilations = (
        [draw(st.integers(1, most)), draw(st.integers(1, most))] for most in ((3, 2, 2) if within < 64 else (3, 1, 1))
    )
    pads = [draw(st.integers(0, 2)) for _ in range(4)]
    pad_value = draw(st.sampled_from([-1.0, 0.0, 1.0]))
    image = _image(draw, rng, channels)
    image = np.pad(image, ((0, 0), (0, 2), (0, 2), (0, 0)), mode="edge")  # room for a dilated filter
    filters = signs(rng, planes, outputs, *kernel, within)
    top, left, bottom, right = pads
    padded = np.pad(image, ((0, 0), (top, bottom), (left, right), (0, 0)), constant_values=pad_value)
    dot = _slide(padded, filters.mean(axis=0), strides, dilations, group)
    attributes = {
        "channels": channels,
        "kernel": kernel,
        "strides": strides,
        "pads": pads,
        "dilations": dilations,
        "group": group,
        "pad_value": pad_value,
    }
    return {"B": pack(image), "W": pack(filters.reshape(planes, outputs, -1))}, attributes, dot


def _slide(image: np.ndarray, filters: np.ndarray, strides: Any, dilations: Any, group: int) -> np.ndarray:
    """A convolution by its definition. Shapes: image (N, H, W, C), filters (O, kh, kw, C / group)."""
    outputs, down, across, within = filters.shape
    height, width = (
        (size - (k - 1) * d - 1) // s + 1
        for size, k, d, s in zip(image.shape[1:3], (down, across), dilations, strides, strict=True)
    )
    result = np.zeros((image.shape[0], height, width, outputs))
    for y in range(down):
        for x in range(across):
            rows = slice(y * dilations[0], y * dilations[0] + (height - 1) * strides[0] + 1, strides[0])
            columns = slice(x * dilations[1], x * dilations[1] + (width - 1) * strides[1] + 1, strides[1])
            seen = image[:, rows, columns].reshape(*result.shape[:3], group, within)
            tap = filters[:, y, x].reshape(group, outputs // group, within)
            result += np.einsum("nhwgc,goc->nhwgo", seen, tap).reshape(result.shape)
    return result


def b_conv(draw: Draw, rng: np.random.Generator) -> Case:
    inputs, attributes, dot = _convolved(draw, rng)
    scale, bias = floats(rng, dot.shape[-1]), floats(rng, dot.shape[-1])
    expected = affine(dot, scale, bias).transpose(0, 3, 1, 2)
    return Case("BConv", {**inputs, "scale": scale, "bias": bias}, ("B",), attributes, expected)


def b_conv_bits(draw: Draw, rng: np.random.Generator) -> Case:
    inputs, attributes, dot = _convolved(draw, rng)
    threshold = thresholds(rng, dot)
    return Case("BConvBits", {**inputs, "threshold": threshold}, ("B",), attributes, bits_below(dot, threshold))


def thresholds(rng: np.random.Generator, dot: np.ndarray) -> np.ndarray:
    """For each output one of its own results, so that ties happen; or one that none or all stay under."""
    each = dot.reshape(-1, dot.shape[-1])
    threshold = each[rng.integers(0, len(each), each.shape[1]), np.arange(each.shape[1])].astype(np.int32)
    constant = rng.random(len(threshold)) < 0.2
    threshold[constant] = rng.choice(np.array([-(2**30), 2**30], np.int32), constant.sum())
    return threshold


def _multiplied(draw: Draw, rng: np.random.Generator) -> tuple[dict[str, np.ndarray], dict[str, Any], np.ndarray]:
    length, outputs, planes = draw(CHANNELS), draw(CHANNELS), draw(st.integers(1, 2))
    rows = signs(rng, *(draw(st.integers(1, 9)) for _ in range(draw(st.integers(0, 2)))), length)
    weights = signs(rng, planes, outputs, length)
    return {"B": pack(rows), "W": pack(weights)}, {"channels": length}, rows @ weights.mean(axis=0).T


def b_gemm(draw: Draw, rng: np.random.Generator) -> Case:
    inputs, attributes, dot = _multiplied(draw, rng)
    scale, bias = floats(rng, dot.shape[-1]), floats(rng, dot.shape[-1])
    expected = affine(dot, scale, bias)
    return Case("BGemm", {**inputs, "scale": scale, "bias": bias}, ("B",), attributes, expected)


def b_gemm_bits(draw: Draw, rng: np.random.Generator) -> Case:
    inputs, attributes, dot = _multiplied(draw, rng)
    threshold = thresholds(rng, dot)
    return Case("BGemmBits", {**inputs, "threshold": threshold}, ("B",), attributes, bits_below(dot, threshold))


def b_max_pool(draw: Draw, rng: np.random.Generator) -> Case:
    channels = draw(CHANNELS)
    image = _image(draw, rng, channels)
    kernel, strides = ([draw(st.integers(1, 3)) for _ in range(2)] for _ in range(2))
    pads = [draw(st.integers(0, k - 1)) for k in kernel * 2]
    top, left, bottom, right = pads
    padded = np.pad(image, ((0, 0), (top, bottom), (left, right), (0, 0)), constant_values=-1)
    windows = np.lib.stride_tricks.sliding_window_view(padded, kernel, axis=(1, 2))
    most = windows[:, :: strides[0], :: strides[1]].max(axis=(-2, -1))
    attributes = {"channels": channels, "kernel": kernel, "strides": strides, "pads": pads}
    return Case("BMaxPool", {"B": pack(image)}, ("B",), attributes, pack(most))


def _one_bit(draw: Draw, rng: np.random.Generator) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    channels, outputs, planes = draw(CHANNELS), draw(CHANNELS), draw(st.integers(1, 3))
    block = draw(st.sampled_from([1, 16, 32, 33, 64, 128, 1000]))
    weights = pack(signs(rng, planes, outputs, channels))
    scale = floats(rng, planes, outputs, -(-channels // block))
    return {"W": weights, "scale": scale}, {"channels": channels, "block": block}


def _matmul(op: str, draw: Draw, rng: np.random.Generator, *, int8: bool, rtol: float) -> Case:
    inputs, attributes = _one_bit(draw, rng)
    channels, block = attributes["channels"], attributes["block"]
    x = floats(rng, *(draw(st.integers(1, 5)) for _ in range(draw(st.integers(0, 2)))), channels)
    expected = onebit(x, inputs["W"], inputs["scale"], channels, block, int8=int8)
    return Case(op, {"X": x, **inputs}, ("X",), attributes, expected, rtol=rtol)


def matmul_1bit(draw: Draw, rng: np.random.Generator) -> Case:
    return _matmul("MatMul1Bit", draw, rng, int8=False, rtol=1e-5)


def matmul_1bit_int8(draw: Draw, rng: np.random.Generator) -> Case:
    return _matmul("MatMul1BitInt8", draw, rng, int8=True, rtol=1e-5)


def unpack_weight(draw: Draw, rng: np.random.Generator) -> Case:
    inputs, attributes = _one_bit(draw, rng)
    channels, block = attributes["channels"], attributes["block"]
    each = np.repeat(inputs["scale"], block, axis=-1)[..., :channels]
    dense = (unpack(inputs["W"], channels) * each).sum(axis=0)
    return Case("UnpackWeight", inputs, (), attributes, dense, rtol=1e-6)


CASES: dict[str, Callable[[Draw, np.random.Generator], Case]] = {
    "BConv": b_conv,
    "BConvBits": b_conv_bits,
    "BGemm": b_gemm,
    "BGemmBits": b_gemm_bits,
    "BMaxPool": b_max_pool,
    "BitPack": bit_pack,
    "MatMul1Bit": matmul_1bit,
    "MatMul1BitInt8": matmul_1bit_int8,
    "UnpackWeight": unpack_weight,
}


@st.composite
def cases(draw: Draw, op: str) -> Case:
    return CASES[op](draw, np.random.default_rng(draw(st.integers(0, 999))))


def run(model: onnx.ModelProto, feed: Mapping[str, np.ndarray], library: str | None = None, **options: Any) -> Any:
    """What ONNX Runtime makes of the model's only output."""
    return session(model, library, **options).run(None, dict(feed))[0]


def session(
    model: onnx.ModelProto | bytes, library: str | None = None, *, threads: int = 1, optimize: bool = True
) -> Any:
    import onnxruntime as ort

    ort.set_default_logger_severity(4)
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = threads
    level = ort.GraphOptimizationLevel
    options.graph_optimization_level = level.ORT_ENABLE_ALL if optimize else level.ORT_DISABLE_ALL
    if library:
        options.register_custom_ops_library(library)
    content = model if isinstance(model, bytes) else model.SerializeToString()
    return ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
