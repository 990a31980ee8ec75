"""Every operator that runs in torch computes what ONNX Runtime computes, and its gradients are differences."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

pytest.importorskip("torch")

import torch

from intaglio.graph.errors import IntaglioError
from intaglio.graph.model import Model
from intaglio.measure.autograd.call import KEPT_APART
from intaglio.measure.autograd.network import Network
from intaglio.measure.autograd.table import OPERATORS

from ...graph.traits.examples import EXAMPLES, Example

_ROWS = (3, 8)
_WEIGHT = np.random.default_rng(5).normal(size=(6, 4, 3, 3)).astype(np.float32)
_GROUPED = _WEIGHT[:, :2]
_SPREAD = np.moveaxis(_WEIGHT, 0, 1)
_BIAS = np.linspace(-1, 1, 6, dtype=np.float32)
_FLAT = _WEIGHT.reshape(-1)[:40].reshape(8, 5)
_FOUR = np.array([0.5, -1.0, 2.0, 1.5], np.float32)
_IN_NETWORKS = {
    "Constant": "load makes weights of it: there is no such node",
    **dict.fromkeys(
        ("intaglio:UnpackWeight", "intaglio:MatMul1Bit", "intaglio:MatMul1BitInt8"), "networks with them are trained"
    ),
}
"""Operators without a call of their own, and why."""


def _scales(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def _sizes(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def _recurrent(directions: int, gates: int, inputs: int) -> np.ndarray:
    """Weights of so many inputs, or of none: biases."""
    shape = (directions, 5 * gates, inputs) if inputs else (directions, 5 * gates)
    return np.random.default_rng(7).uniform(-0.8, 0.8, shape).astype(np.float32)


def _resizes() -> list[Example]:
    modes = ("half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel")
    kinds: list[tuple[str, dict[str, Any]]] = [
        ("nearest", {"nearest_mode": m}) for m in ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")
    ]
    kinds += [("linear", {}), ("cubic", {}), ("cubic", {"exclude_outside": 1, "cubic_coeff_a": -0.5})]
    return [
        Example(
            "Resize",
            [None, *([None, _sizes(2, 4, 9, 4)] if mode != "asymmetric" else [_scales(1, 1, 2, 0.5)])],
            {"mode": kind, "coordinate_transformation_mode": mode, **more},
            name=f"{kind} {mode} {k}",
        )
        for k, (kind, more) in enumerate(kinds)
        for mode in modes
    ]


MORE = [
    *(Example(op, settings={"axis": 1}) for op in ("ArgMax", "ArgMin")),
    *(Example(op, ["x"]) for op in ("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual")),
    *(Example(op, ["x", "x"], name="three") for op in ("Max", "Mean", "Min", "Sum")),
    Example("AveragePool", settings={"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 0, 1, 1]}, name="edges"),
    Example(
        "AveragePool",
        settings={"kernel_shape": [3, 2], "strides": [2, 3], "pads": [1, 0, 1, 1], "count_include_pad": 1},
        name="counted",
    ),
    Example("AveragePool", settings={"kernel_shape": [2, 2], "strides": [4, 3], "ceil_mode": 1}, name="behind"),
    Example("AveragePool", settings={"kernel_shape": [3, 3], "auto_pad": "SAME_LOWER", "strides": [2, 2]}, name="auto"),
    Example("CastLike", ["x"], name="floats"),
    Example("Cast", settings={"to": 1}, name="floats"),
    Example("ConstantOfShape", first=_sizes(3, 2)),
    Example("ConstantOfShape", first=_sizes(80, 90), name="large"),
    Example("Conv", [_WEIGHT, _BIAS], {"pads": [1, 0, 2, 1], "strides": [2, 1]}),
    Example("Conv", [_GROUPED], {"group": 2, "dilations": [2, 1], "pads": [1, 1, 1, 1]}, name="grouped"),
    Example("Conv", [_WEIGHT], {"auto_pad": "SAME_UPPER", "strides": [2, 2]}, name="auto"),
    Example("Conv", [_WEIGHT[..., 0]], {"auto_pad": "SAME_LOWER"}, (2, 4, 7), name="line"),
    Example("ConvTranspose", [_SPREAD, _BIAS], {"strides": [2, 3], "pads": [1, 0, 0, 2], "output_padding": [1, 2]}),
    Example("ConvTranspose", [_SPREAD[:, :3]], {"group": 2, "dilations": [2, 1]}, name="grouped"),
    Example("ConvTranspose", [_SPREAD], {"strides": [2, 2], "output_shape": [12, 13]}, name="sized"),
    Example("ConvTranspose", [_SPREAD], {"strides": [2, 2], "auto_pad": "SAME_UPPER"}, name="upper"),
    Example("ConvTranspose", [_SPREAD], {"strides": [2, 2], "auto_pad": "SAME_LOWER"}, name="lower"),
    Example("DepthToSpace", settings={"blocksize": 2, "mode": "CRD"}, name="other order"),
    Example("Div", [np.arange(1, 289, dtype=np.int64).reshape(2, 4, 6, 6)], dtype=np.int64, name="integers"),
    Example("Dropout", [np.float32(0.5), np.bool_(False)], name="told"),
    Example("Einsum", ["x"], {"equation": "bchw, bdhw -> bcd"}),
    Example("Flatten", settings={"axis": -1}, name="end"),
    Example("Gather", [np.array([[1, -1], [0, 2]], np.int64)], {"axis": 2}, name="matrix"),
    Example("Gemm", [_FLAT, _BIAS[:5]], shape=_ROWS),
    Example("Gemm", [_FLAT.T], {"transA": 1, "transB": 1, "alpha": 0.5}, (8, 3), name="turned"),
    Example("Gemm", [_FLAT, _BIAS[:5]], {"beta": 2.0}, _ROWS, name="scaled"),
    Example("GroupNormalization", [_FOUR[:2], _FOUR[:2]], {"num_groups": 2}, opset=18, name="older"),
    Example("LayerNormalization", [np.full((6, 6), 0.5, np.float32)], {"axis": -2}, name="two axes"),
    Example("LpNormalization", settings={"axis": 1, "p": 1}, name="one"),
    Example("LRN", settings={"size": 5, "alpha": 0.1, "bias": 2.0, "beta": 0.5}, name="five"),
    Example("MatMul", [_FLAT], shape=(2, 3, 8)),
    Example("MaxPool", settings={"kernel_shape": [2, 3], "strides": [4, 2], "ceil_mode": 1}, name="behind"),
    Example("MaxPool", settings={"kernel_shape": [2, 2], "dilations": [2, 3], "pads": [1, 1, 0, 1]}, name="dilated"),
    Example("MaxPool", settings={"kernel_shape": [3, 3], "auto_pad": "SAME_UPPER", "strides": [2, 2]}, name="auto"),
    Example("Mod", [np.full((2, 4, 6, 6), 3)], first=np.arange(-144, 144).reshape(2, 4, 6, 6), name="integers"),
    Example("Pad", [_sizes(2, -1, 1, 3), None, _sizes(3, 1)], {"mode": "edge"}, name="edge"),
    Example("Pad", [_sizes(2, 1), np.float32(7), _sizes(-1)], name="filled"),
    Example("Pad", [_sizes(2, 1), None, _sizes(2)], {"mode": "wrap"}, opset=19, name="wrap"),
    Example("Pow", [np.float32(2)], name="square"),
    Example("Range", [np.int64(9), np.int64(2)], first=np.array(1, np.int64)),
    Example("ReduceSum", name="all"),
    Example("ReduceSum", settings={"noop_with_empty_axes": 1}, name="none"),
    Example("Reshape", [_sizes(0, -1)], name="zero"),
    Example("RMSNormalization", [np.full((6, 6), 0.5, np.float32)], {"axis": -2}, name="two axes"),
    Example("Shape", settings={"start": 1, "end": -1}, name="part"),
    Example("Split", [_sizes(1, 3)], {"axis": 1}, name="uneven"),
    Example("Split", settings={"axis": 2, "num_outputs": 2}, shape=(2, 3, 5), name="rest"),
    Example("Squeeze", shape=(1, 3, 1), name="all"),
    Example("TopK", [_sizes(3)], {"axis": 1}),
    Example("TopK", [_sizes(2)], {"largest": 0}, name="least"),
    Example("Transpose", name="reversed"),
    Example("Trilu", [np.int64(1)], {"upper": 0}, name="lower"),
    Example("QuantizeLinear", [np.float32(0.02), np.uint8(120)]),
    Example("QuantizeLinear", [abs(_FOUR) / 9, np.array([3, -5, 0, 9], np.int8)], name="channels"),
    Example(
        "DequantizeLinear",
        [_FOUR, np.array([3, -5, 0, 9], np.int8)],
        first=np.arange(-48, 48, dtype=np.int8).reshape(2, 4, 4, 3),
    ),
    Example(
        "DequantizeLinear",
        [np.linspace(0.1, 2, 12, dtype=np.float32).reshape(2, 6)],
        {"axis": 0, "block_size": 3},
        first=np.arange(30, dtype=np.int8).reshape(5, 6),
        opset=21,
        name="blocks",
    ),
    Example("com.microsoft:Gelu"),
    *(
        Example(
            op,
            [_recurrent(d, gates, 4), _recurrent(d, gates, 5), _recurrent(d, 2 * gates, 0)],
            told,
            (6, 3, 4),
            name=name,
        )
        for op, gates in (("LSTM", 4), ("GRU", 3), ("RNN", 1))
        for name, d, told in (
            ("bidirectional", 2, {"hidden_size": 5, "direction": "bidirectional"}),
            ("reverse", 1, {"hidden_size": 5, "direction": "reverse"}),
            ("reset after", 1, {"hidden_size": 5, **({"linear_before_reset": 1} if op == "GRU" else {})}),
        )
    ),
    *_resizes(),
]
CASES = [one for one in (*EXAMPLES, *MORE) if one.op in OPERATORS]
WITHOUT = {"Resize": "i2", "Pad": "i2"}
"""Float operands that no gradient is taken of: scales, and what fills up."""
ROUNDS = {"QuantizeLinear"}
"""Operators that are flat in steps: what takes the place of their gradients has a test of its own."""


def network(example: Example, operands: list[np.ndarray | None], dtype: torch.dtype) -> Network:
    return Network(Model(example.model(operands), {}), ["y"], dtype=dtype)


def test_every_operator_of_the_table_has_a_case() -> None:
    assert {*OPERATORS, *KEPT_APART} == {one.op for one in CASES} | set(_IN_NETWORKS)


@pytest.mark.parametrize("example", CASES, ids=lambda e: f"{e.op} {e.name}".strip())
def test_it_computes_what_onnx_runtime_computes(example: Example) -> None:
    operands = example.draw(3)
    wanted = example.run(operands)
    found = network(example, operands, torch.float32)(example.feeds(operands))["y"]
    assert found.shape == wanted.shape
    np.testing.assert_allclose(found.numpy().astype(np.float64), wanted.astype(np.float64), rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("example", [e for e in CASES if e.op not in ROUNDS], ids=lambda e: f"{e.op} {e.name}".strip())
def test_its_gradients_are_differences(example: Example) -> None:
    operands = example.draw(4)
    feeds = example.feeds(operands)
    run = network(example, operands, torch.float64)
    floats = [name for name, value in feeds.items() if value.dtype == np.float32 and name != WITHOUT.get(example.op)]
    told = [torch.tensor(feeds[name].astype(np.float64), requires_grad=True) for name in floats]

    def output(*values: torch.Tensor) -> torch.Tensor:
        return run({**feeds, **dict(zip(floats, values, strict=True))})["y"]

    if not floats or not output(*told).requires_grad:
        pytest.skip("nothing of it changes with a float")
    assert torch.autograd.gradcheck(output, told, fast_mode=True, atol=1e-4)


@pytest.mark.parametrize(
    ("example", "why"),
    [
        (Example("Det", shape=(3, 3)), "there is no definition of it for torch"),
        (Example("AveragePool", settings={"kernel_shape": [2, 2], "dilations": [2, 2]}), "its window is dilated"),
        (Example("Resize", [None, _scales(1, 1, 0.5, 0.5)], {"mode": "linear", "antialias": 1}), "antialias"),
    ],
    ids=lambda v: v.op if isinstance(v, Example) else "",
)
def test_what_does_not_run_is_refused_by_its_name_and_reason(example: Example, why: str) -> None:
    operands = example.draw(0)
    with pytest.raises(IntaglioError, match=f"cannot pass {example.op} 'y'") as caught:
        network(example, operands, torch.float32)(example.feeds(operands))
    assert why in caught.value.why
    assert caught.value.fix


def test_gradients_pass_rounding_within_the_limits_of_the_integers() -> None:
    """One for what is rounded, none beyond the limits; of the scale what is left over, or the limit.

    Source: Esser et al., ICLR 2020, arXiv:1902.08153, equation 3.
    """
    ends = [
        onnx.helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"]),
        onnx.helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["y"]),
    ]
    graph = onnx.helper.make_graph(
        ends,
        "g",
        [onnx.helper.make_tensor_value_info("x", 1, [5])],
        [onnx.helper.make_tensor_value_info("y", 1, [5])],
    )
    model = Model(
        onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)]),
        {"scale": np.array(0.5, np.float32), "zero": np.array(0, np.int8)},
    )
    run = Network(model, trained=["scale"])
    x = torch.tensor([0.1, 0.6, -3.3, 100.0, -100.0], requires_grad=True)
    each = run({"x": x})["y"]
    assert each.tolist() == [0.0, 0.5, -3.5, 63.5, -64.0]
    steps = torch.autograd.grad(each.sum(), [x, run.trained["scale"]], retain_graph=True)
    assert steps[0].tolist() == [1, 1, 1, 0, 0]
    v = x.detach() / 0.5
    wanted = [float(torch.round(one) - one) for one in v[:3]] + [127.0, -128.0]
    assert float(steps[1]) == pytest.approx(sum(wanted), abs=1e-4)
