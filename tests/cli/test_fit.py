"""Files need no more of a runtime than is asked for, and mean the same; what cannot be is told before long work."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import parser

from intaglio.graph.io.fit import Fit, fitted
from intaglio.graph.io.load import from_proto, load
from intaglio.graph.model import Model
from intaglio.measure.run.session import open_session, run
from tests.test_example import EXAMPLES

from .conftest import Command

DIGITS = EXAMPLES / "digits.onnx"


def written(path: Path) -> tuple[int, int]:
    proto = onnx.load(path, load_external_data=False)
    return next(one.version for one in proto.opset_import if not one.domain), proto.ir_version


def quantized(intaglio: Command, out: Path, *options: object) -> Path:
    ran = intaglio("quantize", DIGITS, "-o", out, "--method", "nearest", "--no-measure", *options)
    assert ran.code == 0, ran.err
    return out


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ((), (17, 8)),
        (("--opset", "13"), (13, 8)),
        (("--opset", "21"), (21, 10)),
        (("--opset", "14", "--ir", "7"), (14, 7)),
        (("--ir", "9"), (17, 9)),
        (("--runtime", "ort>=1.16"), (17, 8)),
    ],
)
def test_files_are_of_the_set_and_version_that_are_asked_for(
    options: Sequence[str], expected: tuple[int, int], intaglio: Command, tmp_path: Path
) -> None:
    usual = run(open_session(load(quantized(intaglio, tmp_path / "a.onnx", "--scheme", "w3"))), {"image": images()})
    asked = quantized(intaglio, tmp_path / "b.onnx", "--scheme", "w3", *options)
    assert written(asked) == expected
    for name, value in run(open_session(load(asked)), {"image": images()}).items():
        np.testing.assert_allclose(value, usual[name], atol=1e-5)


def images() -> np.ndarray:
    with np.load(EXAMPLES / "digits_test.npz") as data:
        return np.asarray(data["image"][:4], np.float32)


def test_forms_fit_an_old_operator_set(intaglio: Command, tmp_path: Path) -> None:
    """DequantizeLinear takes 4 bits from set 21 on."""
    usual = quantized(intaglio, tmp_path / "a.onnx", "--scheme", "w4", "--target", "generic")
    assert written(usual)[0] == 21
    asked = "--scheme", "w4", "--target", "generic", "--runtime", "ort>=1.18"
    older = quantized(intaglio, tmp_path / "b.onnx", *asked)
    assert written(older)[0] == 17
    assert not any(node.op_type == "DequantizeLinear" for node in onnx.load(older).graph.node)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--opset", "16"), "it does not have LayerNormalization"),
        (("--opset", "12"), "give one from 13 to"),
        (("--opset", "23", "--runtime", "ort>=1.20"), "operator set 23 came with 1.23"),
        (("--ir", "7"), "operator set 17 needs 8"),
        (("--runtime", "tflite"), "write it like ort>=1.20"),
        (("--runtime", "ort>=1.2"), "was not tried"),
    ],
)
def test_what_cannot_be_is_said_and_nothing_is_written(
    options: Sequence[str], told: str, intaglio: Command, tmp_path: Path
) -> None:
    out = tmp_path / "out.onnx"
    ran = intaglio("quantize", EXAMPLES / "vit_digits.onnx", "-o", out, "--scheme", "w8", *options)
    assert ran.code != 0
    assert told in " ".join(ran.err.split())
    assert not out.exists()


def test_attributes_that_say_nothing_do_not_keep_a_set_new(intaglio: Command, tmp_path: Path) -> None:
    """BatchNormalization has a mode from set 14 on."""
    out = tmp_path / "out.onnx"
    ran = intaglio("prune", DIGITS, "-o", out, "--channels", 0.5, "--opset", 13, "--no-measure")
    assert ran.code == 0, ran.err
    nodes = [node for node in onnx.load(out).graph.node if node.op_type == "BatchNormalization"]
    assert nodes
    assert not any(one.name == "training_mode" for node in nodes for one in node.attribute)


def test_a_file_that_needs_a_newer_runtime_says_so(intaglio: Command, tmp_path: Path) -> None:
    out = tmp_path / "out.onnx"
    ran = intaglio("quantize", DIGITS, "-o", out, "--scheme", "w8", "--opset", 23, "--no-measure", "--json")
    assert any("from 1.23 on: operator set 23, IR version 11" in note for note in ran.json["notes"])


def test_a_recipe_holds_what_the_file_may_need(intaglio: Command, tmp_path: Path) -> None:
    recipe = tmp_path / "r.yaml"
    asked = "--scheme", "w3", "--opset", 14, "--ir", 8, "--save-recipe", recipe
    first = quantized(intaglio, tmp_path / "a.onnx", *asked)
    ran = intaglio("compress", DIGITS, "-o", tmp_path / "again", "--recipe", recipe, "--no-measure")
    assert ran.code == 0, ran.err
    assert written(tmp_path / "again" / "model.onnx") == (14, 8) == written(first)


def model(text: str) -> Model:
    return from_proto(parser.parse_model(text))


def test_a_version_that_nothing_needs_is_lowered_for_old_runtimes() -> None:
    newest = model('<ir_version: 12, opset_import: ["" : 17]> g (float[4] x) => (float[4] y) { y = Relu (x) }')
    made, notes = fitted(newest, Fit())
    assert (made.proto.ir_version, notes) == (10, [])
    assert newest.proto.ir_version == 12
    assert fitted(made, Fit())[0] is made


def test_integers_that_a_release_does_not_have_are_named() -> None:
    proto = parser.parse_model("""
        <ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]> g (float[2,32] x) => (float[2,4] y) {
        y = com.microsoft.MatMulNBits <K = 32, N = 4, bits = 8, block_size = 32> (x, q, s) }""")
    weights: dict[str, np.ndarray] = {"q": np.zeros((4, 1, 32), np.uint8), "s": np.ones(4, np.float32)}
    proto.graph.initializer.extend(onnx.numpy_helper.from_array(value, name) for name, value in weights.items())
    wide = from_proto(proto)
    assert fitted(wide, Fit())[1] == ["ONNX Runtime reads this file from 1.22 on: MatMulNBits 'y' of 8 bits"]
    assert fitted(wide, Fit(release=(1, 22), asked=True))[1] == []


@pytest.mark.parametrize("target", ["arm", "web", "openvino", "tensorrt", "generic"])
def test_nothing_of_this_machine_is_told_of_another(target: str, intaglio: Command, tmp_path: Path) -> None:
    out = tmp_path / "out.onnx"
    data = "--data", EXAMPLES / "digits_calib.npz", "--samples", 32, "--ranges", "minmax"
    told = intaglio("quantize", DIGITS, "-o", out, *data, "--target", target, "--json").json
    assert told.keys().isdisjoint({"latency_ms", "runtime", "accelerated"})
    assert told["predicted"]["integer"]["Conv"] == 9
    notes = " ".join(told["notes"])
    assert "slower" not in notes
    assert f"not what --target {target} stands for" in notes
    refused = intaglio("quantize", DIGITS, "-o", out, *data, "--target", target, "--gate", "latency <= 0.9x")
    assert refused.code == 2
    assert f"not what --target {target} stands for" in " ".join(refused.err.split())
