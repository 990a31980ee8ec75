"""Whole models as TFLite files, in LiteRT and in TFLite Micro, against ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx.parser import parse_model

from intaglio import load
from intaglio.exporters import EXPORTERS, CannotExport
from intaglio.graph.io.load import from_proto
from intaglio.graph.model import Model
from intaglio.measure.data.source import open_data
from intaglio.measure.run.session import open_session, run
from intaglio.passes.base import Context
from intaglio.passes.quantize import Quantize
from intaglio.pipeline.exporting import export

pytest.importorskip("ai_edge_litert", reason="needs ai-edge-litert")

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"
TEST, CALIBRATION = EXAMPLES / "digits_test.npz", EXAMPLES / "digits_calib.npz"
WINDOWS = ("digits", "binary_digits", "vit_digits", "residual")


def exported(model: Model | Path, folder: Path, target: str = "tflite", **more: Any) -> dict[str, Any]:
    done = export(model, target, folder / "model.tflite", measure=False, **more)
    assert done.failed is None
    return done.as_dict()


def quantized(name: str, **options: Any) -> Model:
    model = load(EXAMPLES / f"{name}.onnx")
    return Quantize(**options).run(model, Context(data=open_data(str(CALIBRATION), model))).model


@pytest.fixture(scope="module")
def integers() -> Model:
    return quantized("digits", target="tflite", ranges="minmax", method="nearest")


@pytest.mark.parametrize("name", [*WINDOWS, "attention"])
def test_examples_give_what_they_give_in_onnx_runtime(name: str, tmp_path: Path) -> None:
    told = exported(EXAMPLES / f"{name}.onnx", tmp_path)
    assert min(one["sqnr_db"] for one in told["outputs"].values()) > 100
    assert ("channels last" in " ".join(told["notes"])) == (name in WINDOWS)


def test_integers_of_a_model_for_tflite_are_all_of_them_integers(integers: Model, tmp_path: Path) -> None:
    told = exported(integers, tmp_path, data=TEST)
    assert told["outputs"]["logits"]["top1_agreement"] >= 0.995
    assert not any("computes in floats" in note for note in told["notes"])
    assert told["after"]["size_bytes"] < 0.4 * (EXAMPLES / "digits.onnx").stat().st_size


def test_activations_of_16_bits_are_taken_over(tmp_path: Path) -> None:
    model = quantized("digits", scheme="w8a16", target="tflite", ranges="minmax", method="nearest")
    told = exported(model, tmp_path, data=TEST, samples=200)
    assert told["outputs"]["logits"]["top1_agreement"] >= 0.995
    assert told["outputs"]["logits"]["sqnr_db"] > 60
    assert not any("computes in floats" in note for note in told["notes"])


def test_integers_for_another_target_are_taken_over(tmp_path: Path) -> None:
    """Bytes without a sign become signed ones; the last layer, which gives floats there, stays in floats."""
    told = exported(quantized("digits", ranges="minmax", method="nearest"), tmp_path, data=TEST)
    assert told["outputs"]["logits"]["top1_agreement"] >= 0.995
    assert any("computes in floats: 1 FULLY_CONNECTED" in note for note in told["notes"])


@pytest.mark.parametrize("scheme", ["w8", "w4"])
@pytest.mark.parametrize("name", ["digits", "vit_digits"])
def test_weights_of_few_bits_stay_integers(scheme: str, name: str, tmp_path: Path) -> None:
    small = Quantize(scheme=scheme, method="nearest").run(load(EXAMPLES / f"{name}.onnx"), Context()).model
    told = exported(small, tmp_path)
    assert told["outputs"]["logits"]["sqnr_db"] > 100
    assert told["after"]["size_bytes"] < 0.5 * (EXAMPLES / f"{name}.onnx").stat().st_size


@pytest.mark.parametrize("options", ["io=integer", "io=integer,layout=as-given"])
def test_ends_are_as_asked_for(options: str, integers: Model, tmp_path: Path) -> None:
    from ai_edge_litert.interpreter import Interpreter

    told = exported(integers, tmp_path, f"tflite:{options}", data=TEST, samples=100)
    assert told["outputs"]["logits"]["top1_agreement"] >= 0.99
    (detail,) = Interpreter(str(tmp_path / "model.tflite")).get_input_details()
    assert detail["dtype"] == np.int8
    assert tuple(detail["shape"]) == ((1, 1, 8, 8) if "as-given" in options else (1, 8, 8, 1))


def test_micro_controllers_compute_the_same(integers: Model, tmp_path: Path) -> None:
    micro = pytest.importorskip("tflite_micro.python.tflite_micro.runtime", reason="needs tflite-micro")
    told = exported(integers, tmp_path)
    room = told["figures"]["arena_bytes"] + 1024
    interpreter = micro.Interpreter.from_file(str(tmp_path / "model.tflite"), arena_size=room)
    images = np.load(TEST)["image"][:50]
    wanted = run(open_session(integers), {"image": images})["logits"].argmax(1)
    given = []
    for image in images:
        interpreter.set_input(image[None].transpose(0, 2, 3, 1), 0)
        interpreter.invoke()
        given.append(interpreter.get_output(0).argmax())
    assert np.mean(given == wanted) >= 0.98


@pytest.mark.parametrize(
    "body",
    [
        "y = MatMul(x, x)",
        "t = Transpose <perm = [0, 2, 1]> (x) y = MatMul(x, t)",
        "t = Transpose <perm = [0, 2, 1]> (x) y = MatMul(t, t)",
        "t = Transpose <perm = [0, 2, 1]> (x) v = MatMul(t, w) y = Mul(v, x)",
    ],
)
def test_products_that_are_turned_come_out_right(body: str, tmp_path: Path) -> None:
    ends = '<ir_version: 10, opset_import: ["" : 21]> one (float[2, 4, 4] x) => (float[2, 4, 4] y) <float[4, 1] w = {1, -2, 3, 4}>'
    told = exported(from_proto(parse_model(f"{ends} {{ {body} }}")), tmp_path)
    assert told["outputs"]["y"]["sqnr_db"] > 100


def test_the_bias_of_a_product_of_a_vector_is_added(tmp_path: Path) -> None:
    model = from_proto(
        parse_model(
            '<ir_version: 10, opset_import: ["" : 21]> one (float[2] x) => (float[3] y)'
            "<float[2, 3] w = {1, 2, 3, 4, 5, 6}, float[3] b = {7, 8, 9}> { m = MatMul(x, w) y = Add(m, b) }"
        )
    )
    assert exported(model, tmp_path)["outputs"]["y"]["sqnr_db"] > 100


def test_all_that_has_no_form_is_named_at_once(tmp_path: Path) -> None:
    model = parse_model(
        '<ir_version: 10, opset_import: ["" : 21]> one (float[1, 4] x, float[1, 6, 6, 6] v) => (float[A, B] y, float[N, C, H, W] z)'
        "{ d = Det(m) u = Hardmax(x) m = Reshape(x, shape) y = Add(d, u) z = MaxPool <kernel_shape = [2, 2], dilations = [2, 2]> (v) }"
    )
    model.graph.node.insert(0, model.graph.node.pop(2))
    model.graph.initializer.extend([parse_weight()])
    with pytest.raises(CannotExport) as told:
        EXPORTERS["tflite"].write(from_proto(model), tmp_path / "model.tflite")
    assert told.value.what == "TFLite cannot hold Det, Hardmax, MaxPool"
    assert "gaps" in told.value.why
    assert "without dilation" in told.value.fix
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("scale", [0.0, -1.0, np.inf, np.nan])
def test_integers_of_no_scale_are_named(scale: float, tmp_path: Path) -> None:
    """LiteRT would end the process."""
    model = quantized("digits")
    node = next(n for n in model.graph.node if n.op_type == "QuantizeLinear")
    model.weights[node.input[1]] = np.array(scale, np.float32)
    with pytest.raises(CannotExport, match=r"cannot hold .*QuantizeLinear") as told:
        EXPORTERS["tflite"].write(model, tmp_path / "model.tflite")
    assert "is not above 0" in told.value.why


def test_an_output_that_tflite_does_not_make_is_named(tmp_path: Path) -> None:
    body = "d, mask = Dropout(x) f = Cast<to=1>(mask) y = Mul(d, f)"
    model = parse_model(f'<ir_version: 8, opset_import: ["" : 17]> g (float[1, 4] x) => (float[1, 4] y) {{ {body} }}')
    with pytest.raises(CannotExport, match="TFLite cannot hold Dropout") as told:
        EXPORTERS["tflite"].write(from_proto(model), tmp_path / "model.tflite")
    assert "'mask' is read" in told.value.why


@pytest.mark.parametrize("more", ["", "e = Exp(x) u = Hardmax(e) w = Add(s, u)"])
def test_what_follows_a_node_of_unknown_shape_is_not_named_with_it(more: str, tmp_path: Path) -> None:
    """Axes of a rank that nobody knows would be counted modulo 0."""
    nodes = f"n = NonZero(x) t = Transpose(n) s = Slice(t, from, to, axis) {more}"
    model = parse_model(
        f'<ir_version: 8, opset_import: ["" : 17]> g (float[2, 2] x) => (float[A, B] {"w" if more else "s"}) {{ {nodes} }}'
    )
    for name, value in (("from", 0), ("to", 1), ("axis", 1)):
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([value]), name))
    with pytest.raises(CannotExport) as told:
        EXPORTERS["tflite"].write(from_proto(model), tmp_path / "model.tflite")
    assert told.value.what == f"TFLite cannot hold NonZero{', Hardmax' if more else ''}"


def parse_weight() -> Any:
    from onnx import numpy_helper

    return numpy_helper.from_array(np.array([1, 2, 2]), "shape")


REAL = {
    "mlperf-resnet8.onnx": {"CONV_2D", "ADD", "MEAN", "RESHAPE", "FULLY_CONNECTED", "SOFTMAX"},
    "kws_dscnn_from_drq_tflite.onnx": {"CONV_2D", "DEPTHWISE_CONV_2D", "MEAN", "RESHAPE", "FULLY_CONNECTED", "SOFTMAX"},
}


@pytest.mark.parametrize("name", [*REAL, "resnet20.onnx", "resnet20-bn.onnx", "version-slim-320.onnx"])
def test_real_networks_give_what_they_give_in_onnx_runtime(name: str, shared_data: Path, tmp_path: Path) -> None:
    told = exported(shared_data / name, tmp_path)
    assert min(one["sqnr_db"] for one in told["outputs"].values()) > 90


@pytest.mark.parametrize("name", REAL)
def test_nothing_is_moved_where_all_is_channels_last(name: str, shared_data: Path) -> None:
    from intaglio.exporters.tflite.convert import Ends, program_of

    program = program_of(load(shared_data / name), Ends())
    assert {op.code for op in program.ops} == REAL[name]


def test_a_single_number_is_fed_as_one(tmp_path: Path) -> None:
    """Without an axis, as rates of samples come in."""
    text = '<ir_version: 8, opset_import: ["" : 17]> g (float[2, 3] x, float rate) => (float[2, 3] y) { y = Mul (x, rate) }'
    onnx.save(onnx.parser.parse_model(text), tmp_path / "m.onnx")
    assert exported(tmp_path / "m.onnx", tmp_path)["outputs"]["y"]["sqnr_db"] > 100
