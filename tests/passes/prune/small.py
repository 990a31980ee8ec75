"""Small networks in which groups meet layers in every way: chains, sums, parts side by side, shuffles, heads."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from intaglio.graph.io.load import load
from intaglio.graph.model import Model
from tests.passes.parsed import parsed

from .nets import attention, conv_pair

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"
IMAGE = "float[N, 3, 6, 6] x"


def image(weights: str, nodes: str) -> Model:
    return parsed(IMAGE, "float[N, 5] y", weights, nodes + " p = GlobalAveragePool(z) f = Flatten(p) y = Gemm(f, head)")


def chain() -> Model:
    return image(
        "float[6, 3, 3, 3] w1, float[6] b1, float[4, 6, 3, 3] w2, float[4, 5] head",
        "a = Conv <pads = [1, 1, 1, 1]> (x, w1, b1) r = Relu(a) z = Conv(r, w2)",
    )


def residual() -> Model:
    return image(
        "float[6, 3, 3, 3] w1, float[8, 6, 1, 1] w2, float[6, 8, 3, 3] w3, float[6, 5] head",
        "a = Conv(x, w1) b = Conv(a, w2) r = Relu(b) c = Conv <pads = [1, 1, 1, 1]> (r, w3) z = Add(a, c)",
    )


def concat() -> Model:
    """Two widths side by side, one of them twice, and a part that is the graph input."""
    return image(
        "float[4, 3, 1, 1] w1, float[6, 3, 1, 1] w2, float[5, 17, 3, 3] w3, float[5, 5] head",
        "a = Conv(x, w1) b = Conv(x, w2) j = Concat <axis = 1> (b, a, x, a) z = Conv(j, w3)",
    )


def flattened() -> Model:
    return parsed(
        IMAGE,
        "float[N, 5] y",
        "float[4, 3, 3, 3] w1, float[64, 7] w2, float[7] b2, float[5, 7] w3",
        "a = Conv(x, w1) f = Flatten(a) h = Gemm(f, w2, b2) r = Relu(h) y = Gemm <transB = 1> (r, w3)",
    )


def shuffled() -> Model:
    """As in ShuffleNet: a grouped convolution, its channels shuffled, another one."""
    return image(
        "float[8, 3, 1, 1] w1, float[12, 4, 1, 1] w2, float[8, 6, 1, 1] w3, float[8, 5] head, "
        "int64[5] apart = {0, 2, 6, 6, 6}, int64[4] together = {0, 12, 6, 6}",
        "a = Conv(x, w1) b = Conv <group = 2> (a, w2) q = Reshape(b, apart) t = Transpose <perm = [0, 2, 1, 3, 4]> (q) "
        "s = Reshape(t, together) z = Conv <group = 2> (s, w3)",
    )


def split() -> Model:
    """As in ShuffleNetV2: half of the channels goes on as it is."""
    return image(
        "float[8, 3, 1, 1] w1, float[4, 4, 1, 1] w2, float[5, 8, 1, 1] w3, float[5, 5] head, int64[2] parts = {4, 4}",
        "a = Conv(x, w1) l, m = Split <axis = 1> (a, parts) b = Conv(l, w2) r = Relu(b) j = Concat <axis = 1> (r, m) "
        "z = Conv(j, w3)",
    )


def grouped() -> Model:
    return image(
        "float[6, 3, 1, 1] w1, float[9, 2, 3, 3] w2, float[5, 9, 1, 1] w3, float[5, 5] head",
        "a = Conv(x, w1) b = Conv <group = 3> (a, w2) z = Conv(b, w3)",
    )


def depthwise() -> Model:
    return image(
        "float[6, 3, 1, 1] w1, float[6, 1, 3, 3] w2, float[5, 6, 1, 1] w3, float[5, 5] head",
        "a = Conv(x, w1) b = Conv <group = 6> (a, w2) r = Relu(b) z = Conv(r, w3)",
    )


def excited() -> Model:
    """Squeeze and excitation: the same channels are read by two layers and multiplied."""
    return image(
        "float[6, 3, 3, 3] w1, float[3, 6, 1, 1] w2, float[6, 3, 1, 1] w3, float[4, 6, 1, 1] w4, float[4, 5] head",
        "a = Conv(x, w1) g = GlobalAveragePool(a) h = Conv(g, w2) r = Relu(h) e = Conv(r, w3) i = Sigmoid(e) "
        "m = Mul(a, i) z = Conv(m, w4)",
    )


def perceptron() -> Model:
    return parsed(
        "float[N, 7, 4] x",
        "float[N, 7, 3] y",
        "float[4, 8] w1, float[8] b1, float[8, 3] w2",
        "a = MatMul(x, w1) b = Add(b1, a) r = Relu(b) y = MatMul(r, w2)",
    )


GRAPHS: dict[str, Callable[[], Model]] = {
    f.__name__: f
    for f in (chain, residual, concat, flattened, shuffled, split, grouped, depthwise, excited, perceptron)
} | {
    "conv pair": conv_pair,
    "attention": attention,
    "digits": lambda: load(EXAMPLES / "digits.onnx"),
    "two heads": lambda: load(EXAMPLES / "attention.onnx"),
}
