"""A network written as a torch module computes what it did, and learns: gradients are those of the network."""

from __future__ import annotations

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx.parser import parse_model

from intaglio import load
from intaglio.exporters import CannotExport
from intaglio.graph.model import Model
from intaglio.pipeline.exporting import export

torch = pytest.importorskip("torch", reason="torch is not installed")
from ..graph.bodies import BODIES  # noqa: E402
from ..graph.traits.examples import Example  # noqa: E402
from ..measure.autograd.test_operators import CASES  # noqa: E402

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def module_of(folder: Path) -> Any:
    spec = spec_from_file_location("exported", folder / "model.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def written(text: str, folder: Path, **weights: np.ndarray) -> dict[str, Any]:
    """What the export of a model tells that was given as text, its weights at random unless they are given."""
    model = parse_model(text)
    random = np.random.default_rng(1)
    for value in list(model.graph.value_info):
        shape = [d.dim_value for d in value.type.tensor_type.shape.dim]
        array = weights.get(value.name, random.normal(size=shape).astype(np.float32))
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, value.name))
    del model.graph.value_info[:]
    onnx.save(model, folder / "m.onnx")
    done = export(folder / "m.onnx", "torch", folder / "out", measure=False)
    assert done.failed is None, done.as_dict()["outputs"]
    return done.as_dict()


def graph(body: str, inputs: str = "float[N, 4, 8, 6] x", outputs: str = "float y", weights: str = "") -> str:
    held = f"<{weights}>" if weights else ""
    return f'<ir_version: 10, opset_import: ["" : 20]> net ({inputs}) => ({outputs}) {held} {{ {body} }}'


FORMS = {
    "strided convolution with uneven pads": (
        "y = Conv <pads = [0, 1, 1, 2], strides = [2, 1]> (x, w, b)",
        "float[6, 4, 3, 3] w, float[6] b",
    ),
    "same padding": ('y = Conv <auto_pad = "SAME_UPPER", strides = [2, 2], group = 4> (x, w)', "float[4, 1, 3, 3] w"),
    "transposed convolution": (
        "y = ConvTranspose <strides = [2, 2], pads = [1, 1, 1, 1], output_padding = [1, 1]> (x, w)",
        "float[4, 3, 3, 3] w",
    ),
    "pools": (
        "a = MaxPool <kernel_shape = [3, 3], pads = [1, 1, 0, 0], ceil_mode = 1> (x) b = AveragePool <kernel_shape = [2, 2], pads = [1, 0, 0, 1]> (a) y = GlobalMaxPool (b)",
        "",
    ),
    "normalizations": (
        "a = BatchNormalization (x, s, t, m, v) b = InstanceNormalization (a, s, t) c = Transpose <perm = [0, 2, 3, 1]> (b) y = LayerNormalization (c, s, t)",
        "float[4] s, float[4] t, float[4] m, float[4] v",
    ),
    "activations": (
        "a = HardSwish (x) b = LeakyRelu <alpha = 0.2> (a) c = PRelu (b, s) d = Selu (c) e = HardSigmoid (d) f = Mish (e) y = Gelu (f)",
        "float[4, 1, 1] s",
    ),
    "sizes that follow from the input": (
        "s = Shape (x) n = Slice (s, zero, one) m = Concat <axis = 0> (n, rest) y = Reshape (x, m)",
        "int64[1] zero = {0}, int64[1] one = {1}, int64[2] rest = {-1, 6}",
    ),
    "slices": (
        'a = Slice (x, b, e, ax, st) c = Slice (a, h, l, axis, back) y = Pad <mode = "reflect"> (c, p)',
        "int64[2] b = {1, 0}, int64[2] e = {4, 9223372036854775807}, int64[2] ax = {1, 2}, int64[2] st = {1, 2}, int64[1] h = {-1}, int64[1] l = {-9223372036854775807}, int64[1] axis = {3}, int64[1] back = {-1}, int64[8] p = {0, 0, 1, 2, 0, 0, 2, 1}",
    ),
    "several outputs": (
        "a, b = Split <axis = 1, num_outputs = 2> (x) c = ReduceMean <keepdims = 0> (a, ax) d = ReduceMax <keepdims = 0> (b, ax) y = Concat <axis = -1> (c, d)",
        "int64[1] ax = {2}",
    ),
    "gathers": (
        "a = Gather <axis = 3> (x, i) b = Gather <axis = 1> (a, k) y = Softmax <axis = 1> (b)",
        "int64[2] i = {-1, 2}, int64 k = {1}",
    ),
    "resizing": (
        'a = Resize <mode = "nearest", coordinate_transformation_mode = "asymmetric", nearest_mode = "floor"> (x, , s) y = Resize <mode = "linear"> (a, , s)',
        "float[4] s = {1, 1, 2, 3}",
    ),
}


RECURRENT = [
    ("LSTM", 4, 1, 'direction = "reverse"', "l, h, c"),
    ("LSTM", 4, 2, 'direction = "bidirectional"', ", h, c"),
    ("GRU", 3, 2, 'direction = "bidirectional"', ", h"),
    ("GRU", 3, 1, "linear_before_reset = 1", ""),
    ("RNN", 1, 1, "", "l"),
]


@pytest.mark.parametrize(("op", "gates", "d", "told", "more"), RECURRENT)
def test_recurrent_layers_compute_the_same_in_torch(
    op: str, gates: int, d: int, told: str, more: str, tmp_path: Path
) -> None:
    """With lengths of their own and first states; all outputs of them."""
    weights = f"float[{d}, {5 * gates}, 4] w, float[{d}, {5 * gates}, 5] r, float[{d}, {10 * gates}] b"
    states = f", float[{d}, 3, 5] h, float[{d}, 3, 5] c, int32[3] l"
    outputs = ["y", "last", *(["cell"] if op == "LSTM" else [])]
    attributes = ", ".join(filter(None, ["hidden_size = 5", told]))
    body = f"{', '.join(outputs)} = {op} <{attributes}> (x, w, r, b{', ' + more if more else ''})"
    ends = ", ".join(f"float {one}" for one in outputs)
    text = graph(body, "float[6, 3, 4] x", ends, weights + states)
    found = written(text, tmp_path, l=np.array([2, 6, 4], np.int32))["outputs"]
    assert min(found[one]["sqnr_db"] for one in outputs) > 100


@pytest.mark.parametrize("name", FORMS)
def test_forms_of_operators_compute_the_same_in_torch(name: str, tmp_path: Path) -> None:
    body, weights = FORMS[name]
    known = {key: np.abs(np.random.default_rng(3).normal(size=4)).astype(np.float32) for key in "v"}
    told = written(graph(body, weights=weights), tmp_path, **known)
    assert told["outputs"]["y"]["sqnr_db"] > 100


@pytest.mark.parametrize("name", ["digits", "vit_digits", "attention", "residual"])
def test_networks_compute_the_same_under_the_same_names(name: str, tmp_path: Path) -> None:
    source = EXAMPLES / f"{name}.onnx"
    done = export(source, "torch", tmp_path / "out", measure=False)
    assert done.failed is None
    state = module_of(tmp_path / "out").Model().state_dict()
    weights = load(source).weights
    assert {key for key in state if key in weights} == set(state)
    assert all(np.array_equal(state[key].numpy(), weights[key]) for key in state)


def test_gradients_are_those_of_the_network(tmp_path: Path) -> None:
    from intaglio.measure.autograd.network import Network

    source = EXAMPLES / "digits.onnx"
    export(source, "torch", tmp_path / "out", measure=False)
    module = module_of(tmp_path / "out").Model().eval()
    x = np.load(EXAMPLES / "digits_test.npz")["image"][:4].astype(np.float32)
    module(torch.from_numpy(x)).square().sum().backward()
    found = dict(module.named_parameters())
    network = Network(load(source), trained=list(found))
    outputs = network({load(source).graph.input[0].name: x})
    torch.autograd.backward(outputs["logits"].square().sum())
    assert len(found) > 5
    for name, parameter in found.items():
        wanted = network.trained[name].grad
        assert parameter.grad is not None
        assert wanted is not None
        assert torch.allclose(parameter.grad, wanted, rtol=1e-4, atol=1e-4 * wanted.abs().max()), name


def test_gradients_pass_rounding_within_the_range(tmp_path: Path) -> None:
    body = "q = QuantizeLinear (x, s, z) y = DequantizeLinear (q, s, z)"
    text = graph(body, "float[N, 4] x", weights="float s = {0.5}, int8 z = {3}")
    written(text, tmp_path)
    module = module_of(tmp_path / "out").Model()
    x = torch.tensor([[0.3, -1.2, 500.0, -500.0]], requires_grad=True)
    module(x).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [[1, 1, 0, 0]]


def text_of(model: Model) -> Any:
    """A model as the module that is written of it, without a file."""
    from intaglio.exporters.torch.code import Writer

    writer = Writer(model)
    space: dict[str, Any] = {"__file__": "model.py", "__name__": "exported"}
    exec(writer.module(), space)
    return space["Model"]({key: torch.from_numpy(value.copy()) for key, value in writer.weights.items()}).eval()


KNOWN_ALONE = {"Dropout": 2, "QuantizeLinear": 2}
"""Operands that have to be constant: they decide on which function it is."""


@pytest.mark.parametrize("held", [False, True], ids=["computed", "constant"])
@pytest.mark.parametrize("example", CASES, ids=lambda e: f"{e.op} {e.name}".strip())
def test_every_operator_of_the_one_table_is_the_same_as_text(example: Example, held: bool) -> None:
    """Whether its other operands are constants or come from outside."""
    operands = example.draw(3)
    if not held and len(operands) > KNOWN_ALONE.get(example.op, 9):
        pytest.skip("that operand has to be constant")
    wanted, feeds = example.run(operands), example.feeds(operands)
    model = Model(example.model(operands), {name: value for name, value in feeds.items() if held and name != "i0"})
    kept = [value for value in model.graph.input if value.name not in model.weights]
    del model.graph.input[:]
    model.graph.input.extend(kept)
    made = text_of(model)(*(torch.from_numpy(np.array(feeds[value.name])) for value in kept))
    found = (made[0] if isinstance(made, tuple) else made).detach().numpy()
    assert found.shape == wanted.shape
    np.testing.assert_allclose(found.astype(np.float64), wanted.astype(np.float64), rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("name", BODIES)
def test_bodies_are_blocks_of_python(name: str, tmp_path: Path) -> None:
    model, feeds = BODIES[name]()
    onnx.save(model, tmp_path / "m.onnx")
    done = export(tmp_path / "m.onnx", "torch", tmp_path / "out", measure=False)
    assert done.failed is None
    module = module_of(tmp_path / "out").Model().eval()
    session = onnxruntime.InferenceSession(model.SerializeToString())
    for feed in feeds:
        found = module(*(torch.from_numpy(feed[value.name]) for value in model.graph.input))
        for one, wanted in zip(found if isinstance(found, tuple) else (found,), session.run(None, feed), strict=True):
            assert one.shape == wanted.shape
            np.testing.assert_allclose(one.detach().numpy(), wanted, rtol=1e-5, atol=1e-6)


def test_all_that_torch_has_no_words_for_is_named(tmp_path: Path) -> None:
    text = graph("a = Det (x) b = Sigmoid (a) y = Bernoulli (b)", "float[N, 3, 3] x")
    onnx.save(parse_model(text), tmp_path / "m.onnx")
    with pytest.raises(CannotExport, match="torch cannot hold Det, Bernoulli"):
        export(tmp_path / "m.onnx", "torch", tmp_path / "out", measure=False)


def test_names_that_python_or_torch_keep_do_no_harm(tmp_path: Path) -> None:
    text = graph(
        "class = Relu (x) self = Mul (class, forward) y = Add (self, a)", weights="float[1] forward, float[6] a"
    )
    model = parse_model(text)
    for value in model.graph.value_info:
        shape = [d.dim_value for d in value.type.tensor_type.shape.dim]
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.ones(shape, np.float32), value.name))
    del model.graph.value_info[:]
    model.graph.node[2].input[1] = model.graph.initializer[1].name = "a.b/__c\"\n'import os"
    onnx.save(model, tmp_path / "m.onnx")
    assert export(tmp_path / "m.onnx", "torch", tmp_path / "out", measure=False).failed is None
    assert "forward_weight" in module_of(tmp_path / "out").Model().state_dict()
    assert "exported" not in sys.modules
