"""Every conversion against LiteRT: one node, in floats and in integers, gives what ONNX Runtime gives."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import pytest
from onnx import helper

from intaglio.exporters.tflite.convert import Ends, program_of, write
from intaglio.exporters.tflite.plan import Plan
from intaglio.exporters.tflite.table import conversions
from intaglio.graph.model import Model
from intaglio.graph.traits import Runtime, Trait, operator, operators
from intaglio.measure.run.session import open_session, run

from .examples import EXAMPLES, Example, model_of

litert = pytest.importorskip("intaglio.measure.litert.session", reason="needs ai-edge-litert")
pytest.importorskip("ai_edge_litert", reason="needs ai-edge-litert")

STEP = 1 / 32
"""Of the integers that operands are rounded to here."""
_OPERATORS_OF_ENDS = {"QUANTIZE", "DEQUANTIZE", "TRANSPOSE", "RESHAPE"}


def both(model: Model, feeds: dict[str, np.ndarray]) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """What ONNX Runtime makes, and LiteRT."""
    return run(open_session(model), feeds), litert.Session(write(model)).run(feeds)


@pytest.mark.parametrize("example", EXAMPLES, ids=str)
def test_floats_are_those_of_onnx_runtime(example: Example) -> None:
    ours, theirs = both(example.model(), example.feeds())
    assert ours.keys() == theirs.keys()
    for name, wanted in ours.items():
        assert theirs[name].shape == wanted.shape
        assert theirs[name].dtype == wanted.dtype
        np.testing.assert_allclose(theirs[name], wanted, rtol=2e-5, atol=2e-5)


def test_every_conversion_has_an_example() -> None:
    missing = conversions().keys() - {example.op for example in EXAMPLES}
    assert missing <= {"SimplifiedLayerNormalization"}  # ONNX Runtime's own name for one that is tried


FIXED = {"Softmax": (1 / 256, -128), "Sigmoid": (1 / 256, -128), "Tanh": (1 / 128, 0)}
WIDE_FIXED = dict.fromkeys(FIXED, (1 / 32768, 0))
"""Scales and zero points that kernels give."""


def rounded(example: Example, kind: type = np.int8) -> Model:
    """The node between integers: what it reads of floats is restored, what it makes is rounded."""
    wide = kind is np.int16
    row = operator(example.op)
    nodes: list[onnx.NodeProto] = []
    names: list[str] = []
    constants: dict[str, np.ndarray] = {
        "s": np.array(STEP / 256 if wide else STEP, np.float32),
        "z": np.array(0 if wide else 3, kind),
    }
    usual = (0.0713 / 256, 0) if wide else (0.0713, -5)
    out_scale = (WIDE_FIXED if wide else FIXED).get(example.op, usual)
    constants |= {"so": np.array(out_scale[0], np.float32), "zo": np.array(out_scale[1], kind)}
    for k, given in enumerate(example.operands):
        name = "" if given is None else f"x{k}"
        if isinstance(given, np.ndarray):
            constants[name] = given
        if (
            given is not None and (row.is_data(k) or k in row.weights) and np.asarray(given).dtype != np.int64
        ) or isinstance(given, tuple):
            name = restored(example, k, constants, nodes)
        names.append(name)
    outputs = [f"y{k}" for k in range(example.outputs)]
    nodes.append(helper.make_node(example.op, names, [f"{o}/raw" for o in outputs], "node", **example.attributes))
    for o in outputs:
        nodes.append(helper.make_node("QuantizeLinear", [f"{o}/raw", "so", "zo"], [f"{o}/q"]))
        nodes.append(helper.make_node("DequantizeLinear", [f"{o}/q", "so", "zo"], [o]))
    return model_of(nodes, example.inputs, constants, outputs, example.opset)


def restored(example: Example, k: int, constants: dict[str, np.ndarray], nodes: list[onnx.NodeProto]) -> str:
    """An operand as it comes out of integers: activations of one scale, weights of one for each output."""
    given, name = example.operands[k], f"x{k}"
    if isinstance(given, tuple):
        nodes.append(helper.make_node("QuantizeLinear", [name, "s", "z"], [f"{name}/q"]))
        nodes.append(helper.make_node("DequantizeLinear", [f"{name}/q", "s", "z"], [f"{name}/dq"]))
        return f"{name}/dq"
    axis = 0 if example.op == "Conv" or example.attributes.get("transB") else 1
    kind = np.dtype(np.int8)
    if k not in operator(example.op).weights or given.ndim < 2 or example.op == "Gather" or given.ndim == 3:
        kind = kind if example.op in ("Conv", "ConvTranspose") else constants["z"].dtype
        axis, scale = -1, np.array(np.abs(given).max() / np.iinfo(kind).max, np.float32)
    else:
        others = tuple(a for a in range(given.ndim) if a != axis)
        scale = (np.abs(given).max(others) / 127).astype(np.float32)
    shape = [-1 if a == axis else 1 for a in range(given.ndim)] if axis >= 0 else []
    constants[name] = np.rint(given / scale.reshape(shape)).astype(kind)
    constants |= {f"{name}/s": scale, f"{name}/z": np.zeros(scale.shape, kind)}
    nodes.append(helper.make_node("DequantizeLinear", [name, f"{name}/s", f"{name}/z"], [f"{name}/dq"]))
    if axis >= 0:
        nodes[-1].attribute.append(helper.make_attribute("axis", axis))
    return f"{name}/dq"


def is_integer(example: Example) -> bool:
    """Whether the node has a kernel for the integers of ``rounded``."""
    plan = Plan(rounded(example))
    node = next((n for n in plan.index.nodes if n.op_type == example.op), None)
    return node is not None and conversions()[example.op].is_integer(node, plan)


INTEGER = [example for example in EXAMPLES if example.kind is np.float32 and is_integer(example)]


@pytest.mark.parametrize("example", INTEGER, ids=str)
def test_integers_are_those_of_onnx_runtime_up_to_a_step(example: Example) -> None:
    model = rounded(example)
    ours, theirs = both(model, example.feeds())
    step = float(model.weights["so"])
    for name, wanted in ours.items():
        assert theirs[name].shape == wanted.shape
        steps = np.abs(theirs[name] - wanted) / step
        assert steps.max() < 2.01, steps.max()
        assert np.mean(steps > 0.01) < 0.2  # in most places not even a step


@pytest.mark.parametrize("example", [one for one in INTEGER if not conversions()[one.op].narrow], ids=str)
def test_integers_of_16_bits_are_those_of_onnx_runtime_up_to_a_step(example: Example) -> None:
    model = rounded(example, np.int16)
    program = program_of(model, Ends(integer=True))
    assert not [op.code for op in program.ops if any(t.kind.dtype == np.float32 for t in op.outputs)]
    ours, theirs = both(model, example.feeds())
    step = float(model.weights["so"])
    for name, wanted in ours.items():
        assert theirs[name].shape == wanted.shape
        assert (np.abs(theirs[name] - wanted) / step).max() < 16


@pytest.mark.parametrize("example", INTEGER, ids=str)
def test_nothing_but_the_ends_is_in_floats(example: Example) -> None:
    program = program_of(rounded(example), Ends(integer=True))
    floats = Counter(op.code for op in program.ops for tensor in op.outputs if tensor.kind.dtype == np.float32)
    assert not floats


def test_what_is_said_to_have_integer_kernels_has_conversions_to_them() -> None:
    said = {op for op in operators(Trait(0)) if Runtime.LITERT in operator(op).integer and ":" not in op}
    assert said <= {op for op, entry in conversions().items() if entry.integer}
    assert said <= {example.op for example in INTEGER}
