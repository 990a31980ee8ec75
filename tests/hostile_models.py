"""Sound models of many kinds, for the tests that break them."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.helper import make_node, make_opsetid, make_tensor_value_info

from intaglio.cli.main import main
from tests.passes.sized import network

EXAMPLES = Path(__file__).parent.parent / "examples"
CALIBRATION = str(EXAMPLES / "digits_calib.npz")
RESULTS = (
    ("quantize", "digits.onnx", "--scheme", "int8", "--data", CALIBRATION, "--samples", "16"),
    ("quantize", "digits.onnx", "--scheme", "w4"),
    ("quantize", "vit_digits.onnx", "--scheme", "dynamic"),
    ("quantize", "attention.onnx", "--scheme", "fp16"),
    ("binarize", "digits.onnx", "--scheme", "planes", "--include-first-last"),
)
"""What of our own results is broken."""
MADE: list[Callable[[], onnx.ModelProto]] = []
Shape = Sequence[int | str]
F, I64 = TensorProto.FLOAT, TensorProto.INT64


class Dice:
    """Decisions of random networks, by a seed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def integer(self, low: int, high: int) -> int:
        return self.random.randint(low, high)


def made(build: Callable[[], onnx.ModelProto]) -> Callable[[], onnx.ModelProto]:
    MADE.append(build)
    return build


def weight(*shape: int) -> np.ndarray:
    return (np.random.default_rng(sum(shape)).standard_normal(shape) / np.sqrt(shape[-1])).astype(np.float32)


def model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Mapping[str, Shape],
    outputs: Mapping[str, Shape | None],
    weights: Mapping[str, np.ndarray],
    kinds: Mapping[str, int] = {},
) -> onnx.ModelProto:
    given, made = (
        [make_tensor_value_info(n, kinds.get(n, F), s) for n, s in side.items()] for side in (inputs, outputs)
    )
    graph = helper.make_graph(nodes, "g", given, made, [numpy_helper.from_array(w, n) for n, w in weights.items()])
    imports = [make_opsetid("", 17), make_opsetid("com.microsoft", 1), make_opsetid("ai.onnx.ml", 3)]
    return helper.make_model(graph, opset_imports=imports, ir_version=8)


@made
def recurrent() -> onnx.ModelProto:
    """A table, an LSTM in both directions, a GRU and a layer over all steps."""
    nodes = [
        make_node("Gather", ["table", "ids"], ["x"]),
        make_node("LSTM", ["x", "lw", "lr", "lb"], ["l4", "", ""], hidden_size=8, direction="bidirectional"),
        make_node("Transpose", ["l4"], ["l3"], perm=[0, 2, 1, 3]),
        make_node("Reshape", ["l3", "rows"], ["l"]),
        make_node("GRU", ["l", "gw", "gr"], ["g4", ""], hidden_size=12, linear_before_reset=1),
        make_node("Squeeze", ["g4", "one"], ["g"]),
        make_node("MatMul", ["g", "out"], ["y"]),
    ]
    weights = {"table": weight(20, 16), "lw": weight(2, 32, 16), "lr": weight(2, 32, 8), "lb": weight(2, 64)}
    weights |= {"gw": weight(1, 36, 16), "gr": weight(1, 36, 12), "out": weight(12, 6)}
    weights |= {"rows": np.array([0, 0, -1]), "one": np.array([1])}
    return model(nodes, {"ids": ["T", "N"]}, {"y": ["T", "N", 6]}, weights, {"ids": I64})


@made
def classic() -> onnx.ModelProto:
    """Classical learners: scaled and normalized features, a tree, a linear and a kernel model."""
    tree = make_node("TreeEnsembleRegressor", ["n"], ["t"], domain="ai.onnx.ml", n_targets=1, post_transform="NONE")
    lists: dict[str, list[int] | list[float] | list[str]] = {
        "nodes_treeids": [0, 0, 0], "nodes_nodeids": [0, 1, 2], "nodes_featureids": [1, 0, 0],
        "nodes_modes": ["BRANCH_LEQ", "LEAF", "LEAF"], "nodes_values": [0.2, 0.0, 0.0],
        "nodes_truenodeids": [1, 0, 0], "nodes_falsenodeids": [2, 0, 0], "nodes_hitrates": [1.0, 1.0, 1.0],
        "nodes_missing_value_tracks_true": [0, 0, 0], "target_treeids": [0, 0], "target_nodeids": [1, 2],
        "target_ids": [0, 0], "target_weights": [0.5, -0.5],
    }  # fmt: skip
    tree.attribute.extend(helper.make_attribute(k, v) for k, v in lists.items())
    ml = {"domain": "ai.onnx.ml"}
    nodes = [
        make_node("Imputer", ["x"], ["i"], imputed_value_floats=[0.0] * 4, replaced_value_float=float("nan"), **ml),
        make_node("Scaler", ["i"], ["s"], offset=[0.1] * 4, scale=[2.0] * 4, **ml),
        make_node("Normalizer", ["s"], ["n"], norm="L2", **ml),
        tree,
        make_node("LinearRegressor", ["n"], ["l"], coefficients=[0.1, 0.2, 0.3, 0.4], intercepts=[0.5], **ml),
        make_node("SVMRegressor", ["n"], ["v"], kernel_type="RBF", kernel_params=[0.5, 0.0, 3.0], n_supports=2,
                  support_vectors=[0.1] * 8, coefficients=[1.0, -1.0], rho=[0.1], **ml),
        make_node("Concat", ["t", "l", "v"], ["c"], axis=1),
        make_node("Gemm", ["c", "w", "b"], ["h"]),
        make_node("Relu", ["h"], ["r"]),
        make_node("Gemm", ["r", "u"], ["y"]),
    ]  # fmt: skip
    weights = {"w": weight(3, 16), "b": weight(16), "u": weight(16, 2)}
    return model(nodes, {"x": ["N", 4]}, {"y": ["N", 2]}, weights)


@made
def fused() -> onnx.ModelProto:
    """What ONNX Runtime's optimizer leaves of a transformer and of a convolution."""
    ms = {"domain": "com.microsoft"}
    nodes = [
        make_node("FusedConv", ["x", "cw", "cb"], ["c"], activation="Relu", kernel_shape=[3, 3], pads=[1] * 4, **ms),
        make_node("Reshape", ["c", "rows"], ["d"]),
        make_node("Transpose", ["d"], ["e"], perm=[0, 2, 1]),
        make_node("Attention", ["e", "aw", "ab"], ["a"], num_heads=2, **ms),
        make_node("SkipLayerNormalization", ["a", "e", "gamma", "beta"], ["n"], **ms),
        make_node("MatMul", ["n", "w1"], ["m"]),
        make_node("BiasGelu", ["m", "b1"], ["g"], **ms),
        make_node("FusedMatMul", ["g", "w2"], ["f"], transB=1, alpha=0.5, **ms),
        make_node("ReduceMean", ["f"], ["y"], axes=[1], keepdims=0),
    ]
    weights = {"cw": weight(16, 3, 3, 3), "cb": weight(16), "rows": np.array([0, 16, -1]), "aw": weight(16, 48)}
    weights |= {"ab": weight(48), "gamma": weight(16), "beta": weight(16), "w1": weight(16, 32), "b1": weight(32)}
    weights["w2"] = weight(16, 32)
    return model(nodes, {"x": ["N", 3, 4, 4]}, {"y": ["N", 16]}, weights)


@made
def pyramid() -> onnx.ModelProto:
    """A detector's neck with free height and width: Resize, Concat, Pad, Split, InstanceNormalization, a deconvolution."""
    nodes = [
        make_node("Conv", ["x", "w0", "b0"], ["a"], strides=[2, 2], pads=[1] * 4),
        make_node("HardSwish", ["a"], ["a1"]),
        make_node("Conv", ["a1", "w1"], ["b"], strides=[2, 2], pads=[1] * 4),
        make_node("InstanceNormalization", ["b", "gamma", "beta"], ["b1"]),
        make_node("Resize", ["b1", "", "scales"], ["up"], mode="nearest"),
        make_node("ConvTranspose", ["b1", "wt"], ["tr"], strides=[2, 2], kernel_shape=[2, 2]),
        make_node("Concat", ["up", "a1", "tr"], ["c"], axis=1),
        make_node("Split", ["c", "parts"], ["s0", "s1"], axis=1),
        make_node("Conv", ["s0", "wd"], ["d"], group=16, pads=[1] * 4),
        make_node("Mul", ["d", "s1"], ["m"]),
        make_node("GlobalAveragePool", ["m"], ["p"]),
        make_node("Flatten", ["p"], ["f"]),
        make_node("Gemm", ["f", "wo"], ["y"], transB=1),
    ]
    weights = {"w0": weight(8, 3, 3, 3), "b0": weight(8), "w1": weight(16, 8, 3, 3), "gamma": weight(16)}
    weights |= {"beta": weight(16), "wt": weight(16, 8, 2, 2), "wd": weight(16, 1, 3, 3), "wo": weight(5, 16)}
    weights |= {"scales": np.array([1, 1, 2, 2], np.float32), "parts": np.array([16, 16])}
    return model(nodes, {"x": ["N", 3, "H", "W"]}, {"y": ["N", 5]}, weights)


def written(folder: Path) -> Iterator[Path]:
    """Files of all kinds: the examples, models of other sources, networks with bodies, and what passes made of them."""
    yield from (
        EXAMPLES / f"{name}.onnx" for name in ("digits", "attention", "residual", "vit_digits", "binary_digits")
    )
    for build in MADE:
        onnx.save(build(), folder / f"{build.__name__}.onnx")
        yield folder / f"{build.__name__}.onnx"
    for seed in range(12):
        onnx.save(network(Dice(seed)), folder / f"bodies{seed}.onnx")
        yield folder / f"bodies{seed}.onnx"
    for args in RESULTS:
        out = folder / f"{args[3]}.onnx"
        main([*args[:1], str(EXAMPLES / args[1]), "-o", str(out), "--no-measure", *args[2:]])
        yield out
