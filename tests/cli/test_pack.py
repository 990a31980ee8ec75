"""``intaglio binarize`` on a network that was trained with bits: the same predictions, a smaller file, any form."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from intaglio.graph.io.load import load
from intaglio.kernels.loader import why_absent
from intaglio.measure.run.session import open_session, run

from .conftest import Command

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
BINARY, FLOAT, TEST = EXAMPLES / "binary_digits.onnx", EXAMPLES / "digits.onnx", EXAMPLES / "digits_test.npz"


def stock(path: Path) -> np.ndarray:
    """Logits by ONNX Runtime without the library of kernels."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    with np.load(TEST, allow_pickle=False) as test:
        return np.asarray(session.run(["logits"], {"image": test["image"]})[0])


def test_a_network_trained_with_bits_keeps_every_prediction(intaglio: Command, tmp_path: Path) -> None:
    out = tmp_path / "packed.onnx"
    ran = intaglio("binarize", BINARY, "-o", out, "--eval-data", TEST, "--no-measure", "--json")
    assert ran.code == 0, ran.err
    result = ran.json
    assert result["scheme"] == "pack"
    assert result["accuracy"]["after"] == result["accuracy"]["before"]
    assert [one["numbers"] for one in result["layers"]] == ["binary"] * 4
    assert result["proof"]["signs"] > 10_000
    assert result["proof"]["max_rel_diff"] < 1e-6
    np.testing.assert_array_equal(stock(out).argmax(1), stock(BINARY).argmax(1))
    recipe = json.loads(next(p.value for p in onnx.load(out).metadata_props if p.key == "intaglio.recipe"))
    (done,) = recipe["passes"]
    assert (done["pass"], done["scheme"], done["form"]) == ("binarize", "auto", "packed")


def test_the_library_gives_the_same_numbers_as_the_definitions(intaglio: Command, tmp_path: Path) -> None:
    if why_absent() is not None:
        pytest.skip("the library of kernels was not built")
    out = tmp_path / "packed.onnx"
    assert intaglio("binarize", BINARY, "-o", out, "--no-measure").code == 0
    with np.load(TEST, allow_pickle=False) as test:
        fast = run(open_session(out), {"image": test["image"]})["logits"]
    np.testing.assert_array_equal(fast, stock(out))


def test_its_binary_layers_take_a_fifteenth_of_floats(intaglio: Command, tmp_path: Path) -> None:
    out = tmp_path / "packed.onnx"
    assert intaglio("binarize", BINARY, "-o", out, "--no-measure").code == 0
    model = load(out)
    bits = sum(model.weights[i].nbytes for n in model.graph.node if n.op_type == "BConv" for i in n.input[1:])
    floats = 4 * 9 * (64 * 64 + 64 * 128 + 2 * 128 * 128)
    assert floats >= 15 * bits


@pytest.mark.parametrize("form", ["standard", "dense"])
def test_other_forms_need_no_operators_of_ours(intaglio: Command, tmp_path: Path, form: str) -> None:
    out = tmp_path / "standard.onnx"
    assert intaglio("binarize", BINARY, "-o", out, "--form", form, "--no-measure").code == 0
    model = onnx.load(out)
    assert {o.domain for o in model.opset_import} == {""}
    assert not model.functions
    np.testing.assert_allclose(stock(out), stock(BINARY), atol=0.1)
    np.testing.assert_array_equal(stock(out).argmax(1), stock(BINARY).argmax(1))


def test_qonnx_is_written_and_read(intaglio: Command, tmp_path: Path) -> None:
    written, packed = tmp_path / "q.onnx", tmp_path / "p.onnx"
    assert intaglio("binarize", BINARY, "-o", written, "--form", "qonnx", "--no-measure").code == 0
    kinds = [n.op_type for n in onnx.load(written).graph.node]
    assert kinds.count("BipolarQuant") == 8  # weights and activations of four layers
    ran = intaglio("binarize", written, "-o", packed, "--eval-data", TEST, "--no-measure", "--json")
    assert ran.code == 0, ran.err
    assert ran.json["scheme"] == "pack"
    np.testing.assert_array_equal(stock(packed).argmax(1), stock(BINARY).argmax(1))


def test_two_runs_write_the_same_bytes(intaglio: Command, tmp_path: Path) -> None:
    files = [tmp_path / "a.onnx", tmp_path / "b.onnx"]
    for file in files:
        assert intaglio("binarize", BINARY, "-o", file, "--no-measure", "--eval-data", TEST).code == 0
    assert files[0].read_bytes() == files[1].read_bytes()


def test_layers_can_be_left_out(intaglio: Command, tmp_path: Path) -> None:
    out = tmp_path / "packed.onnx"
    ran = intaglio("binarize", BINARY, "-o", out, "--exclude", "re:blocks.2/conv", "--no-measure", "--json")
    assert ran.code == 0, ran.err
    assert len(ran.json["layers"]) == 3
    assert "left out" in ran.json["skipped"]["/blocks/blocks.2/conv/Conv"]
    np.testing.assert_array_equal(stock(out).argmax(1), stock(BINARY).argmax(1))


def test_a_network_of_floats_has_nothing_to_pack(intaglio: Command, tmp_path: Path) -> None:
    ran = intaglio("binarize", FLOAT, "-o", tmp_path / "p.onnx", "--scheme", "pack", "--no-measure")
    assert ran.code == 4
    assert "its weights are no signs" in ran.err
    assert not (tmp_path / "p.onnx").exists()


def with_sign(folder: Path) -> Path:
    """The network as code with torch.sign exports it."""
    model = onnx.load(BINARY)
    for node in model.graph.node:
        if node.op_type == "Where":
            below = next(n for n in model.graph.node if n.output[0] == node.input[0])
            node.CopyFrom(onnx.helper.make_node("Sign", [below.input[0]], list(node.output), node.name))
    onnx.save(model, folder / "sign.onnx")
    return folder / "sign.onnx"


def test_the_sign_operator_needs_a_word(intaglio: Command, tmp_path: Path) -> None:
    model, out = with_sign(tmp_path), tmp_path / "p.onnx"
    ran = intaglio("binarize", model, "-o", out, "--no-measure")
    assert ran.code == 4
    assert "read the operator Sign" in ran.err
    assert "--zeros" in ran.err
    assert not out.exists()
    ran = intaglio("binarize", model, "-o", out, "--zeros", "--eval-data", TEST, "--no-measure", "--json")
    assert ran.code == 0, ran.err
    assert len(ran.json["layers"]) == 4
    np.testing.assert_array_equal(stock(out).argmax(1), stock(BINARY).argmax(1))


def test_options_for_weights_of_floats_are_refused(intaglio: Command, tmp_path: Path) -> None:
    ran = intaglio("binarize", BINARY, "-o", tmp_path / "p.onnx", "--size", "0.5", "--no-measure")
    assert ran.code == 2
    assert "keeps what the network computes" in ran.err


def test_qonnx_needs_a_network_trained_with_bits(intaglio: Command, tmp_path: Path) -> None:
    out = tmp_path / "q.onnx"
    ran = intaglio("binarize", FLOAT, "-o", out, "--form", "qonnx", "--no-measure")
    assert ran.code == 4
    assert not out.exists()


@pytest.mark.parametrize(("options", "takes"), [("--form qonnx", "pack"), ("--salient 0.2", "pb"), ("--zeros", "pack")])
def test_what_a_scheme_would_pass_over_is_refused(intaglio: Command, tmp_path: Path, options: str, takes: str) -> None:
    out = tmp_path / "q.onnx"
    ran = intaglio("binarize", FLOAT, "-o", out, "--scheme", "planes", *options.split(), "--no-measure")
    assert ran.code == 2
    assert f"error: {options.removesuffix(' 0.2')} means nothing to scheme planes" in ran.err
    assert f"take --scheme {takes}" in ran.err
    assert not out.exists()
