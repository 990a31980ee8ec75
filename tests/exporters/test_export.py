"""Exports: what is written runs in its runtime, is compared there, and gets its place only when it is right."""

from __future__ import annotations

import lzma
import shutil
import sys
from collections.abc import Mapping
from functools import partial
from importlib.machinery import ModuleSpec
from importlib.util import module_from_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx.parser import parse_model

from intaglio import load
from intaglio.exporters import EXPORTERS, Artifact, CannotExport, Exporter, Runner, refuse
from intaglio.graph.errors import BadModel, UsageError
from intaglio.graph.io import compressed
from intaglio.graph.io.save import CannotWrite, save
from intaglio.graph.lazy import absent
from intaglio.graph.model import Model
from intaglio.pipeline.exporting import export, file_name
from intaglio.pipeline.importing import read_source

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
DIGITS, BITS, TEST = EXAMPLES / "digits.onnx", EXAMPLES / "binary_digits.onnx", EXAMPLES / "digits_test.npz"


def test_what_does_not_run_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    """By ONNX Runtime, which loads it; exporters take for granted that operands fit."""
    text = "g (float[2, 4, 8] x) => (float[2, 4, 8] y) <float[8, 1] s> { y = LayerNormalization(x, s) }"
    model = parse_model(f'<ir_version: 8, opset_import: ["" : 17]> {text}')
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.ones((8, 1), np.float32), "s"))
    np.savez(tmp_path / "x.npz", x=np.ones((2, 4, 8), np.float32))
    onnx.save(model, tmp_path / "m.onnx")
    for data in (None, str(tmp_path / "x.npz")):
        for target in ("tflite", "c", "torch"):
            with pytest.raises(BadModel, match="run"):
                export(tmp_path / "m.onnx", target, tmp_path / f"o.{target}", data=data)
    assert {one.name for one in tmp_path.iterdir()} == {"x.npz", "m.onnx"}


@pytest.mark.parametrize("target", [name for name in EXPORTERS.builtin if EXPORTERS[name].suffix])
def test_a_name_by_which_readers_do_not_know_the_format_is_refused(target: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=rf"call it named{EXPORTERS[target].suffix}"):
        export(DIGITS, target, tmp_path / "named.bin")
    if EXPORTERS[target].by_name:
        with pytest.raises(UsageError, match=rf"call it named{EXPORTERS[target].suffix}"):
            export(DIGITS, target, tmp_path / "named")
    assert not [*tmp_path.iterdir()]


def in_half(spelled: bool) -> onnx.ModelProto:
    """The digits in floats of 16 bits, between casts or from end to end; a Tanh keeps one normalization apart."""
    model = onnx.load(DIGITS)
    at = next(k for k, node in enumerate(model.graph.node) if node.op_type == "BatchNormalization")
    model.graph.node.insert(at, onnx.helper.make_node("Tanh", [model.graph.node[at].input[0]], ["bent"], "bend"))
    model.graph.node[at + 1].input[0] = "bent"
    for tensor in model.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT:
            half = onnx.numpy_helper.to_array(tensor).astype(np.float16)
            tensor.CopyFrom(onnx.numpy_helper.from_array(half, tensor.name))
    del model.graph.value_info[:]
    (given,), (made,) = model.graph.input, model.graph.output
    if not spelled:
        for value in (given, made):
            value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT16
        return model
    for node in model.graph.node:
        node.input[:] = ["half" if name == given.name else name for name in node.input]
        node.output[:] = ["made" if name == made.name else name for name in node.output]
    model.graph.node.insert(0, onnx.helper.make_node("Cast", [given.name], ["half"], to=onnx.TensorProto.FLOAT16))
    model.graph.node.append(onnx.helper.make_node("Cast", ["made"], [made.name], to=onnx.TensorProto.FLOAT))
    return model


@pytest.mark.parametrize("target", sorted(set(EXPORTERS) - {"genai"}))  # that takes nothing but language models
@pytest.mark.parametrize("spelled", [False, True])
def test_floats_of_16_bits_are_computed_with_or_refused_by_name(tmp_path: Path, target: str, spelled: bool) -> None:
    """Never by an error of the runtime, or of ours."""
    if absent(EXPORTERS[target].imports):
        pytest.skip(f"{target} needs a package that is not installed")
    onnx.save(in_half(spelled), tmp_path / "m.onnx")
    if EXPORTERS[target].halves:
        done = export(tmp_path / "m.onnx", target, tmp_path / file_name(target), measure=False, gates=["sqnr >= 40dB"])
        assert done.as_dict()["passed"]
        return
    with pytest.raises(CannotExport, match=rf"^{target} cannot hold .*Tanh, BatchNormalization") as told:
        export(tmp_path / "m.onnx", target, tmp_path / file_name(target), measure=False)
    assert "16 bits" in told.value.why


class Folder(Exporter):
    """A folder with a model that was changed by ``change``."""

    change: float = 0.0
    name = "folder"

    def write(self, model: Model, path: Path) -> Artifact:
        path.mkdir()
        changed = model.copy()
        name = next(name for name, weight in model.weights.items() if weight.ndim > 1)
        changed.put(name, model.weights[name] * np.float32(1 + self.change))
        EXPORTERS["onnx"].write(changed, path / "model.onnx")
        return Artifact(path, ("written",), {"weight": name})

    def open(self, artifact: Artifact, model: Model, threads: int) -> Runner:
        if self.change < 0:
            raise RuntimeError("cannot load\nreally")
        return EXPORTERS["onnx"].open(Artifact(artifact.path / "model.onnx"), model, threads)


class Scores(Exporter):
    """``scores`` computed in 64 bits, then ``off``, as a part or as a number."""

    part: float = 0.0
    number: float = 0.0
    name = "scores"

    def write(self, model: Model, path: Path) -> Artifact:
        path.mkdir()
        return Artifact(path)

    def open(self, artifact: Artifact, model: Model, threads: int) -> Runner:
        weight, bias = model.weights["w"].astype(float), model.weights["b"].astype(float)
        part, number = self.part, self.number

        class Computed(Runner):
            def run(self, inputs: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
                exact = 1 / (1 + np.exp(-(inputs["x"] @ weight + bias)))
                return {"y": (exact * (1 + part) + number).reshape(1, 8, 8).astype(np.float32)}

        return Computed()


def scores(path: Path, bias: float, last: str = "Sigmoid") -> Path:
    """A layer that says about ``sigmoid(bias)``."""
    before = "a = Sub(o, h) e = Exp(a) f = Add(e, p)  g = Reciprocal(f)" if last == "Exp" else f"g = {last}(h)"
    proto = parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> net (float[1, 16] x) => (float[1, 8, 8] y) '
        "<float[16, 64] w, float[64] b, int64[3] d = {1, 8, 8}, float o = {0}, float p = {1}> "
        f"{{ m = MatMul(x, w) h = Add(m, b) {before} y = Reshape(g, d) }}"
    )
    drawn = np.random.default_rng(0).normal(0, 0.05, (16, 64)).astype(np.float32)
    for name, value in (("w", drawn), ("b", np.full(64, bias, np.float32))):
        proto.graph.initializer.append(onnx.numpy_helper.from_array(value, name))
    onnx.save(proto, path)
    return path


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    list(EXPORTERS)
    known = EXPORTERS._found
    monkeypatch.setattr(EXPORTERS, "_found", dict(known))
    EXPORTERS.register("folder", options=Folder)(Folder)
    EXPORTERS.register("scores", options=Scores)(Scores)


def test_what_agrees_is_put_in_its_place_and_told(tmp_path: Path) -> None:
    done = export(DIGITS, "folder", tmp_path / "out", data=TEST, samples=64, seconds=0, gates=["drop <= 0"])
    told = done.as_dict()
    assert done.failed is None
    assert [file.name for file in tmp_path.iterdir()] == ["out"]
    assert told["outputs"]["logits"]["identical"]
    assert told["accuracy"]["before"] == told["accuracy"]["after"]
    assert told["after"]["size_bytes"] == (tmp_path / "out" / "model.onnx").stat().st_size
    assert (told["samples"], told["latency_ms"]["runs"]) == (64, 20)


def test_what_differs_lies_aside(tmp_path: Path) -> None:
    done = export(DIGITS, "folder:change=0.5", tmp_path / "out", measure=False)
    assert done.failed is not None
    assert [file.name for file in tmp_path.iterdir()] == ["out.gate-failed"]
    kept = export(DIGITS, "folder:change=0.5", tmp_path / "out", measure=False, gates=["sqnr >= 1dB"])
    assert kept.failed is None


def test_small_numbers_from_sigmoid_are_as_close_as_float32_rounds_it(tmp_path: Path) -> None:
    model = scores(tmp_path / "m.onnx", bias=-11.5)
    done = export(model, "scores", tmp_path / "out", measure=False)
    assert done.failed is None
    assert 20 < done.told["outputs"]["y"]["sqnr_db"] < 60
    assert any("'y': small numbers from Sigmoid" in note for note in done.told["notes"])
    large = export(scores(tmp_path / "l.onnx", bias=0), "scores", tmp_path / "large", measure=False)
    assert [gate["limit"] for gate in large.told["gates"]] == [60]
    if shutil.which("gcc"):
        assert export(model, "c", tmp_path / "c", measure=False).failed is None


@pytest.mark.parametrize(
    ("bias", "last", "wrong"),
    [
        (-11.5, "Sigmoid", "part=0.05"),
        (-11.5, "Sigmoid", "part=-1"),
        (-11.5, "Sigmoid", "number=5e-7"),
        (-16.0, "Sigmoid", "part=-1"),
        (-16.0, "Sigmoid", "part=1"),
        (-11.5, "Exp", "number=1e-7"),
        (0.0, "Sigmoid", "part=0.01"),
    ],
)
def test_wrong_small_numbers_are_refused(tmp_path: Path, bias: float, last: str, wrong: str) -> None:
    done = export(scores(tmp_path / "m.onnx", bias, last), f"scores:{wrong}", tmp_path / "out", measure=False)
    assert done.failed is not None


def test_what_does_not_load_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(CannotExport, match="does not load") as caught:
        export(DIGITS, "folder:change=-1", tmp_path / "out", measure=False)
    assert caught.value.why == "cannot load"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("target", ["c", "tflite", "ort"])
def test_what_onnx_runtime_cannot_run_is_refused_as_such(tmp_path: Path, target: str) -> None:
    text = """<ir_version: 8, opset_import: ["" : 17, "far.away" : 1]>
        net (float[1,3] x) => (float[1,3] y) { h = far.away.Op (x) y = Add (h, h) }"""
    onnx.save(parse_model(text), tmp_path / "far.onnx")
    with pytest.raises(BadModel, match="ONNX Runtime cannot load"):
        export(tmp_path / "far.onnx", target, tmp_path / file_name(target))
    assert [file.name for file in tmp_path.iterdir()] == ["far.onnx"]


def test_a_folder_of_others_is_not_replaced_one_of_ours_is(tmp_path: Path) -> None:
    out = tmp_path / "out"
    export(DIGITS, "folder", out, measure=False)
    export(DIGITS, "folder", out, measure=False)
    (out / "mine.txt").write_text("mine")
    with pytest.raises(CannotWrite, match="other files"):
        export(DIGITS, "folder", out, measure=False)
    assert (out / "mine.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("target", "path", "error"),
    [
        ("folder:change=x", "out", "change"),
        ("nowhere", "out", "no exporter"),
        ("onnx", "out.tflite", "is no name"),
        ("onnx:io=float8", "out.onnx", "io"),
    ],
)
def test_what_is_asked_wrongly_is_refused_before_any_work(tmp_path: Path, target: str, path: str, error: str) -> None:
    with pytest.raises(UsageError, match=error):
        export(DIGITS, target, tmp_path / path)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_package_is_told_with_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Folder, "imports", ("no_such_runtime",))
    monkeypatch.setattr(Folder, "extra", "some")
    with pytest.raises(UsageError, match="no_such_runtime") as caught:
        export(DIGITS, "folder", tmp_path / "out")
    assert caught.value.fix == "pip install 'intaglio[some]'"


NEEDED = [(name, module) for name in EXPORTERS.builtin for module in EXPORTERS.entry(name).thing.imports]


@pytest.mark.parametrize(("target", "module"), NEEDED)
def test_every_target_says_what_to_install(
    target: str, module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in EXPORTERS[target].imports:  # others may be absent here
        there = module_from_spec(ModuleSpec(name, None))
        monkeypatch.setitem(sys.modules, name, None if name == module else there)
    with pytest.raises(UsageError, match=f"exporter {target} needs {module}, which is not installed") as caught:
        export(DIGITS, target, tmp_path / file_name(target))
    assert caught.value.fix == f"pip install 'intaglio[{EXPORTERS[target].extra}]'"
    assert list(tmp_path.iterdir()) == []


def test_the_model_that_was_read_is_not_replaced(tmp_path: Path) -> None:
    own = tmp_path / "own.onnx"
    own.write_bytes(DIGITS.read_bytes())
    with pytest.raises(UsageError, match="was read"):
        export(own, "onnx", own)


def test_all_operators_that_a_target_cannot_hold_are_named_at_once() -> None:
    nodes = [onnx.helper.make_node(op, ["x"], [f"y{i}"]) for i, op in enumerate(["Relu", "Elu", "Relu"])]
    with pytest.raises(CannotExport, match="t cannot hold Relu, Elu") as caught:
        refuse("t", [(node, "no such thing") for node in nodes], "use onnx")
    assert caught.value.why == "Relu 'y0' and 1 more: no such thing; Elu 'y1': no such thing"
    refuse("t", [])


def learned(path: Path, body: str, kind: str = "float") -> Path:
    text = f"""<ir_version: 8, opset_import: ["" : 17, "ai.onnx.ml" : 3]>
        net ({kind}[N, 3] x) => (float[N, 2] y) <float[3, 2] w> {{ {body} }}"""
    model = parse_model(text)
    weights = np.arange(6, dtype=np.float32).reshape(3, 2) - 2.5
    model.graph.initializer.append(onnx.numpy_helper.from_array(weights, "w"))
    onnx.save(model, path)
    return path


SCALER = "s = ai.onnx.ml.Scaler<offset=[0.5, -1.0, 2.0], scale=[2.0, 0.25, -3.0]>(x) y = MatMul(s, w)"
LEARNERS = {
    "scaler": (SCALER, "float"),
    "one for all": ("s = ai.onnx.ml.Scaler<offset=[0.5], scale=[2.0]>(x) y = MatMul(s, w)", "float"),
    "of integers": (SCALER, "int64"),
    "l1": ('s = ai.onnx.ml.Normalizer<norm="L1">(x) y = MatMul(s, w)', "float"),
    "l2": ('s = ai.onnx.ml.Normalizer<norm="L2">(x) y = MatMul(s, w)', "float"),
    "linear": (
        "y = ai.onnx.ml.LinearRegressor<coefficients=[1.0, -2.0, 3.0, 0.5, 4.0, 2.5], intercepts=[0.5, -1.0], targets=2>(x)",
        "float",
    ),
}


@pytest.mark.parametrize("case", LEARNERS)
def test_learners_are_written_as_arithmetic_where_a_target_has_none(tmp_path: Path, case: str) -> None:
    from intaglio.graph.io.learners import without_learners

    model = load(learned(tmp_path / "m.onnx", *LEARNERS[case]))
    made = without_learners(model)
    assert {node.domain for node in made.graph.node} == {""}
    assert "ai.onnx.ml" in {node.domain for node in model.graph.node}
    save(made, tmp_path / "plain.onnx")
    x = np.random.default_rng(0).normal(0, 3, (5, 3))
    x[0] = 0
    feed = {"x": x.astype(np.int64 if LEARNERS[case][1] == "int64" else np.float32)}
    np.testing.assert_allclose(
        ran(tmp_path / "plain.onnx", feed)[0], ran(tmp_path / "m.onnx", feed)[0], rtol=1e-5, atol=1e-6
    )


def test_a_scaler_runs_in_c_and_trees_are_refused_with_what_to_do(tmp_path: Path) -> None:
    if shutil.which("gcc") is None:
        pytest.skip("there is no gcc")
    done = export(learned(tmp_path / "m.onnx", SCALER), "c", tmp_path / "c", measure=False)
    assert done.failed is None
    assert done.told["outputs"]["y"]["sqnr_db"] > 100
    body = 'n = ai.onnx.ml.Normalizer<norm="MAX">(x) y = MatMul(n, w)'
    with pytest.raises(CannotExport, match=r"c cannot hold ai\.onnx\.ml:Normalizer") as caught:
        export(learned(tmp_path / "other.onnx", body), "c", tmp_path / "none")
    assert caught.value.why == "ai.onnx.ml:Normalizer 'n': there is no rule that writes it in C"
    assert "export to onnx" in str(caught.value.fix)


@pytest.mark.parametrize("target", ["c", "tflite"])
def test_shapes_that_only_a_run_tells_are_refused_by_name(tmp_path: Path, target: str) -> None:
    proto = parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> g (float[2, 4] x, int64[2] k) => (float[2, 3] y) '
        "<float[4, 3] w, float[3] b, int64[1] o> { n = NonZero(k) s = Squeeze(n, o) q = Gather(k, s) "
        "e = Reshape(x, q) p = MatMul(e, w) y = Add(p, b) }"
    )
    values: dict[str, np.ndarray] = {
        "w": np.ones((4, 3), np.float32),
        "b": np.ones(3, np.float32),
        "o": np.zeros(1, np.int64),
    }
    proto.graph.initializer.extend(onnx.numpy_helper.from_array(value, name) for name, value in values.items())
    path = tmp_path / "m.onnx"
    onnx.save(proto, path)
    with pytest.raises(CannotExport, match=r"'p' is|NonZero"):
        export(path, target, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def ran(path: Path, feed: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    values: list[np.ndarray] = onnxruntime.InferenceSession(str(path)).run(None, dict(feed))
    return values


def test_ends_in_half_precision_keep_their_names_and_nearly_their_numbers(tmp_path: Path) -> None:
    export(DIGITS, "onnx:io=float16", tmp_path / "half.onnx", measure=False)
    session = onnxruntime.InferenceSession(str(tmp_path / "half.onnx"))
    (end,), (out,) = session.get_inputs(), session.get_outputs()
    assert (end.type, out.type) == ("tensor(float16)",) * 2
    x = np.load(TEST)["image"][:8].astype(np.float32)
    half = session.run(None, {end.name: x.astype(np.float16)})[0]
    assert np.abs(half - ran(DIGITS, {end.name: x})[0]).max() < 0.05
    export(tmp_path / "half.onnx", "onnx:io=float32", tmp_path / "back.onnx", measure=False)
    assert onnxruntime.InferenceSession(str(tmp_path / "back.onnx")).get_inputs()[0].type == "tensor(float)"


def test_functions_are_kept_or_their_bodies_stand_in_their_place(tmp_path: Path) -> None:
    from intaglio.cli.main import main
    from intaglio.kernels.operators import DOMAIN

    packed = tmp_path / "packed.onnx"
    assert main(["binarize", str(BITS), "-o", str(packed), "--no-measure"]) == 0
    for kind in ("keep", "inline"):
        export(packed, f"onnx:functions={kind}", tmp_path / f"{kind}.onnx", measure=False)
    domains = {kind: {n.domain for n in onnx.load(tmp_path / f"{kind}.onnx").graph.node} for kind in ("keep", "inline")}
    assert DOMAIN in domains["keep"]
    assert domains["inline"] == {""}


def test_a_file_for_an_older_runtime_has_its_operator_set(tmp_path: Path) -> None:
    export(DIGITS, "onnx:opset=15,ir=8", tmp_path / "old.onnx", measure=False)
    made = onnx.load(tmp_path / "old.onnx")
    assert (made.opset_import[0].version, made.ir_version) == (15, 8)


def test_the_format_of_onnx_runtime_comes_with_its_operators(tmp_path: Path) -> None:
    done = export(DIGITS, "ort", tmp_path / "digits.ort", measure=False)
    assert done.as_dict()["outputs"]["logits"]["sqnr_db"] > 100
    lines = (tmp_path / "digits.required_operators.config").read_text().splitlines()
    assert any(line.startswith("ai.onnx;") and "Gemm" in line for line in lines)


def test_what_lies_beside_an_artifact_goes_where_it_goes(tmp_path: Path) -> None:
    config = "required_operators.config"
    done = export(DIGITS, "ort", tmp_path / "d.ort", measure=False, gates=["size <= 1B"])
    assert done.failed is not None
    aside = ["d.gate-failed.ort", f"d.gate-failed.{config}"]
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted(done.told["files"]) == aside
    assert any(f"d.gate-failed.{config} lists" in note for note in done.told["notes"])
    assert onnxruntime.InferenceSession(str(tmp_path / aside[0]))
    export(BITS, "ort", tmp_path / "d.ort", measure=False)
    good = {name: (tmp_path / name).read_bytes() for name in ("d.ort", f"d.{config}")}
    export(DIGITS, "ort", tmp_path / "d.ort", measure=False, gates=["size <= 1B"])
    assert {name: (tmp_path / name).read_bytes() for name in good} == good
    assert {file.name for file in tmp_path.iterdir()} == {*aside, *good}


def test_weights_in_a_file_of_their_own_go_with_their_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("intaglio.graph.io.save.save", partial(save, external_data=True))
    out = tmp_path / "d.onnx"
    export(DIGITS, "onnx", out, measure=False)
    first = {file.name for file in tmp_path.iterdir()}
    export(BITS, "onnx", out, measure=False)
    second = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    assert len(first) == len(second) == 2
    assert first & {*second} == {"d.onnx"}
    failed = export(DIGITS, "onnx", out, measure=False, gates=["size <= 1B"])
    now = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    assert {name: now.pop(name) for name in second} == second
    assert sorted(now) == failed.told["files"]
    assert all(name.startswith("d.gate-failed.onnx") for name in now)
    feed = {"image": np.load(TEST)["image"][:4].astype(np.float32)}
    assert np.array_equal(ran(tmp_path / "d.gate-failed.onnx", feed)[0], ran(DIGITS, feed)[0])


def four_bits(tmp_path: Path) -> Path:
    text = """<ir_version: 10, opset_import: ["" : 21]>
    net (float[N, 4] x) => (float[N, 2] y) <float s = {0.5}>
    { w = DequantizeLinear (q, s)  y = MatMul (x, w) }"""
    model = parse_model(text)
    model.graph.initializer.append(onnx.helper.make_tensor("q", onnx.TensorProto.INT4, [4, 2], list(range(8))))
    onnx.save(model, tmp_path / "four.onnx")
    return tmp_path / "four.onnx"


def test_the_format_of_onnx_runtime_refuses_small_integers_by_name(tmp_path: Path) -> None:
    with pytest.raises(CannotExport, match="2 or 4 bits") as caught:
        export(four_bits(tmp_path), "ort", tmp_path / "out.ort")
    assert "'q'" in caught.value.why
    assert not (tmp_path / "out.ort").exists()


@pytest.mark.parametrize("model", [DIGITS, BITS], ids=["float", "bits"])
def test_openvino_computes_what_onnx_runtime_does(tmp_path: Path, model: Path) -> None:
    pytest.importorskip("openvino", reason="OpenVINO is not installed")
    done = export(model, "openvino", tmp_path / "out", data=TEST, samples=100, seconds=0)
    assert done.failed is None
    assert done.as_dict()["outputs"]["logits"]["top1_agreement"] == 1
    assert {file.name for file in (tmp_path / "out").iterdir()} == {"model.xml", "model.bin"}


def test_artifacts_in_a_folder_of_compress_have_names_of_their_own() -> None:
    assert (file_name("ort"), file_name("openvino")) == ("model.ort", "model_openvino")


def test_flags_of_the_command_are_options_of_the_target(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from intaglio.cli.main import main

    words = ["export", str(DIGITS), "--to", "onnx", "--io", "float16", "-o", str(tmp_path / "a.onnx"), "--no-measure"]
    assert main(words) == 0
    assert load(tmp_path / "a.onnx").graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT16
    assert main([*words, "--weights", "float16"]) == 2
    assert "weights" in capsys.readouterr().err


def test_ncnn_computes_nearly_what_onnx_runtime_does(tmp_path: Path) -> None:
    pytest.importorskip("ncnn", reason="ncnn is not installed")
    pytest.importorskip("pnnx", reason="pnnx is not installed")
    done = export(DIGITS, "ncnn", tmp_path / "out", data=TEST, samples=20, seconds=0)
    assert done.failed is None
    assert {file.name for file in (tmp_path / "out").iterdir()} == {"model.ncnn.param", "model.ncnn.bin"}
    with pytest.raises(CannotExport, match="QuantizeLinear"):
        export(quantized(tmp_path), "ncnn", tmp_path / "integers")


def test_what_pnnx_leaves_in_torchs_words_is_told(tmp_path: Path) -> None:
    pytest.importorskip("ncnn", reason="ncnn is not installed")
    pytest.importorskip("pnnx", reason="pnnx is not installed")
    text = """<ir_version: 8, opset_import: ["" : 17]> g (float[1, 4, 8, 8] x) => (float[1, 4, 4, 4] y)
    <int64[2] b = {0, 0}, int64[2] e = {8, 8}, int64[2] a = {2, 3}, int64[2] s = {2, 2}> {
        c = Relu (x) y = Slice (c, b, e, a, s)
    }"""
    onnx.save(onnx.parser.parse_model(text), tmp_path / "m.onnx")
    with pytest.raises(CannotExport, match="does not load what pnnx wrote") as caught:
        export(tmp_path / "m.onnx", "ncnn", tmp_path / "out", measure=False)
    assert "Tensor.slice" in caught.value.why
    assert not (tmp_path / "out").exists()


def quantized(tmp_path: Path) -> Path:
    from intaglio import Quantize, run

    run(
        DIGITS,
        Quantize(scheme="int8"),
        data=EXAMPLES / "digits_calib.npz",
        samples=16,
        out=tmp_path / "q.onnx",
        measure=False,
    )
    return tmp_path / "q.onnx"


@pytest.fixture(params=["xz", "zstd"])
def packing(request: pytest.FixtureRequest) -> tuple[str, str, Any]:
    """A target, its suffix, and the module that programs open its files with."""
    if request.param == "xz":
        return "xz", ".xz", lzma
    told = "Zstandard is not installed: pip install 'intaglio[zstd]'"
    return "zstd", ".zst", pytest.importorskip("zstandard", reason=told)


def test_a_compressed_file_is_read_by_python_and_by_every_command(
    packing: tuple[str, str, Any], tmp_path: Path
) -> None:
    target, suffix, module = packing
    for name in ("d", "again"):
        done = export(DIGITS, target, tmp_path / f"{name}{suffix}", data=TEST, samples=64, seconds=0)
        assert done.failed is None
    file = tmp_path / f"d{suffix}"
    assert file.read_bytes() == (tmp_path / f"again{suffix}").read_bytes()
    assert file.stat().st_size < 0.95 * DIGITS.stat().st_size
    image = np.load(TEST)["image"][:4].astype(np.float32)
    with module.open(file) as opened:
        session = onnxruntime.InferenceSession(opened.read())
    (found,), (known,) = (one.run(None, {"image": image}) for one in (session, onnxruntime.InferenceSession(DIGITS)))
    assert np.array_equal(found, known)
    assert weights_of(read_source(file).model) == weights_of(load(DIGITS))


def weights_of(model: Model) -> dict[str, bytes]:
    return {name: weight.tobytes() for name, weight in model.weights.items()}


def test_what_is_no_compressed_model_is_refused(packing: tuple[str, str, Any], tmp_path: Path) -> None:
    _, suffix, module = packing
    whole, other = module.compress(DIGITS.read_bytes()), module.compress(b"no model at all")
    for content in (b"", b"not packed", whole[: len(whole) // 2], whole[:-1], other):
        (tmp_path / f"bad{suffix}").write_bytes(content)
        with pytest.raises(BadModel, match=rf"bad\{suffix}"):
            read_source(tmp_path / f"bad{suffix}")


def test_a_small_file_that_would_fill_the_memory_is_refused(
    packing: tuple[str, str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, suffix, module = packing
    (tmp_path / f"bomb{suffix}").write_bytes(module.compress(bytes(8 << 20)))
    monkeypatch.setattr(compressed, "LARGEST_FILE", 1 << 20)
    with pytest.raises(BadModel, match="larger than a model can be"):
        read_source(tmp_path / f"bomb{suffix}")


def test_without_zstandard_one_line_tells_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "zstandard", None)  # its import fails
    (tmp_path / "d.zst").write_bytes(b"any")
    for step in (lambda: read_source(tmp_path / "d.zst"), lambda: export(DIGITS, "zstd", tmp_path / "out.zst")):
        with pytest.raises(UsageError, match="zstandard, which is not installed") as raised:
            step()
        assert "intaglio[zstd]" in str(raised.value.fix)
