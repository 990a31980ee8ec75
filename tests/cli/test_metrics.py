"""What is measured on labelled data, by name or by a file of one's own, wherever an accuracy is asked for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from intaglio.measure.metrics.boxes import Decoding, detections

from .conftest import Command, refused, write_model

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
DIGITS = EXAMPLES / "digits.onnx"
FAST = ("--no-measure", "--json")


@pytest.fixture
def regression(tmp_path: Path) -> Path:
    """Maps eight numbers to four by a weight, and data whose labels are near what it gives: ``values.npz``."""
    rng = np.random.default_rng(1)
    weight, x = rng.normal(size=(64, 32)).astype(np.float32), rng.normal(size=(40, 64)).astype(np.float32)
    held = ",".join(map(str, weight.ravel()))
    path = write_model(
        tmp_path / "values.onnx", "float[N,64] x", "float[N,32] y", "y = MatMul(x, w)", f"float[64,32] w = {{{held}}}"
    )
    np.savez(tmp_path / "values.npz", x=x, labels=x @ weight + 0.05 * rng.normal(size=(40, 32)).astype(np.float32))
    return path


def file(folder: Path, text: str) -> str:
    (folder / "mine.py").write_text(text)
    return str(folder / "mine.py")


def test_smaller_is_better_in_limits_gates_and_tables(intaglio: Command, regression: Path, tmp_path: Path) -> None:
    data, out = tmp_path / "values.npz", tmp_path / "out.onnx"
    args = ("quantize", regression, "-o", out, "--scheme", "w8", "--eval-data", data, "--metric", "mse")
    told = intaglio(*args, *FAST).json["accuracy"]
    assert told["before"].keys() == {"mse"}
    lost = told["drop"]["mse"]
    assert (lost["unit"], lost["better"]) == ("%", "smaller")
    assert lost["points"] == pytest.approx(100 * (told["after"]["mse"] / told["before"]["mse"] - 1))
    assert lost["points"] > 0
    failed = intaglio(*args, *FAST, "--gate", "drop <= 1")
    assert failed.code == 3
    assert failed.json["gates"][0]["value"] > 1
    assert intaglio(*args, *FAST, "--gate", "mse <= 1.01x").code == 3
    assert intaglio(*args, *FAST, "--gate", "mse <= 0.02", "--gate", "mse <= 9x", "--gate", "cosine >= 0.9").code == 0
    shown = intaglio(*args, "--no-measure")
    assert "warning: mse rose by" in shown.err
    assert "mse is worse by" in shown.out
    kept = intaglio(*args, *FAST, "--max-drop", "5")
    assert (kept.code, kept.json["error"]["what"][:31]) == (1, "accuracy cannot stay within 5 %")
    assert intaglio(*args, *FAST, "--max-drop", "500").code == 0


def test_compare_and_evaluate_measure_by_the_same_names(intaglio: Command, regression: Path, tmp_path: Path) -> None:
    data = ("--data", tmp_path / "values.npz")
    one = intaglio("evaluate", regression, *data, "--metric", "mse", "--metric", "psnr:peak=3", "--json").json
    assert one["better"] == {"mse": "smaller", "psnr:peak=3": "larger"}
    two = intaglio("compare", regression, regression, *data, "--metric", "mse", "--runs", 3, "--json").json
    assert two["accuracy"]["after"]["mse"] == pytest.approx(one["metrics"]["mse"])
    ran = intaglio("evaluate", regression, *data, "--metric", "mse", "--min", "mse=0.1")
    assert ran.code == 2
    assert '--gate "mse <= 0.1"' in ran.err
    assert intaglio("compare", regression, regression, "--metric", "mse").code == 2
    assert intaglio("quantize", regression, "-o", tmp_path / "q.onnx", "--metric", "mse").code == 2
    ran = intaglio("evaluate", regression, *data, "--json")
    assert "--metric: mse, map" in ran.json["error"]["fix"]


def test_a_recipe_tells_what_was_measured(intaglio: Command, regression: Path, tmp_path: Path) -> None:
    data = ("--eval-data", tmp_path / "values.npz", "--data", tmp_path / "values.npz")
    limits = ("--size", "0.6", "--max-drop", "900", "--metric", "mse")
    told = intaglio("compress", regression, "-o", tmp_path / "out", *data, *limits, *FAST)
    assert told.code == 0, told.err
    assert {*told.json["points"][0]["accuracy"]} == {"mse"}
    assert told.json["accuracy"]["drop"]["mse"]["points"] <= 900
    recipe = tmp_path / "out" / "recipe.yaml"
    assert "metrics:\n  - mse" in recipe.read_text()
    again = intaglio("compress", regression, "-o", tmp_path / "again", "--recipe", recipe, *FAST)
    assert again.json["accuracy"]["after"] == told.json["accuracy"]["after"]
    assert "mse" in (tmp_path / "out" / "report.html").read_text()


def test_a_function_of_ones_own_is_a_metric(
    intaglio: Command, regression: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = """
import numpy as np
import beside

def worst(outputs, labels):
    print("not on stdout")
    return np.abs(outputs["y"] - labels).max(axis=1) * beside.ONE

worst.smaller_is_better, worst.share = True, False

def near(outputs, labels):
    return float((np.abs(outputs["y"] - labels) < 0.2).mean())

class Largest:
    share = False
    def __init__(self): self.found = 0.0
    def add(self, outputs, labels): self.found = max(self.found, float(outputs["y"].max()))
    def result(self): return self.found
"""
    file(tmp_path, text)
    (tmp_path / "beside.py").write_text("ONE = 1.0")
    monkeypatch.chdir(tmp_path)
    names = [word for name in ("worst", "near", "Largest") for word in ("--metric", f"mine.py:{name}")]
    told = intaglio("evaluate", regression, "--data", "values.npz", *names, "--json", "--batch", 7).json
    with np.load("values.npz") as held:
        x, labels = held["x"], held["labels"]
    (y,) = onnxruntime.InferenceSession(str(regression)).run(None, {"x": x})
    assert told["metrics"] == {
        "mine.py:worst": pytest.approx(np.abs(y - labels).max(axis=1).mean(), rel=1e-5),
        "mine.py:near": pytest.approx((np.abs(y - labels) < 0.2).mean(), rel=1e-5),
        "mine.py:Largest": pytest.approx(float(y.max()), rel=1e-5),
    }
    args = ("quantize", regression, "-o", "q.onnx", "--scheme", "w8", "--eval-data", "values.npz", *names, *FAST)
    lost = intaglio(*args, "--gate", "mine.py:worst <= 1").json
    assert lost["accuracy"]["drop"]["mine.py:worst"]["better"] == "smaller"
    assert lost["accuracy"]["drop"]["mine.py:worst"]["low"] is not None
    assert lost["gates"][0]["passed"]


@pytest.mark.parametrize(
    ("text", "name", "code", "said"),
    [
        ("", "none", 2, "defines no function 'none'"),
        ("none = 3", "none", 2, "defines no function 'none'"),
        ("1 / 0", "f", 2, "ZeroDivisionError"),
        ("raise SystemExit(0)", "f", 2, "SystemExit"),
        ("def f(a, b): raise ValueError('my own')", "f", 1, "ValueError: my own"),
        ("def f(a, b): raise SystemExit(0)", "f", 1, "SystemExit: 0"),
        ("def f(a, b): return None", "f", 1, "returned NoneType"),
        ("def f(a, b): return 'good'", "f", 1, "returned str"),
        (
            "import numpy as np\ndef f(a, b): return np.zeros(3)",
            "f",
            1,
            "returned an array of shape (3,) for 40 samples",
        ),
        ("def f(a): return 1", "f", 1, "TypeError"),
        ("class f: pass", "f", 2, "has no add"),
    ],
)
def test_a_function_that_fails_is_told(
    intaglio: Command, regression: Path, tmp_path: Path, text: str, name: str, code: int, said: str
) -> None:
    metric = f"{file(tmp_path, text)}:{name}"
    ran = intaglio("evaluate", regression, "--data", tmp_path / "values.npz", "--metric", metric, "--json")
    assert ran.code == code
    assert said in ran.json["error"]["what"] + ran.json["error"]["why"]
    assert metric in ran.json["error"]["what"]


@pytest.mark.parametrize(("word", "meant"), [("mAP", "map"), ("accuracy", "top1"), ("PSNR", "psnr"), ("mse1", "mse")])
def test_names_that_others_use_suggest_ours(
    intaglio: Command, regression: Path, tmp_path: Path, word: str, meant: str
) -> None:
    ran = intaglio("evaluate", regression, "--data", tmp_path / "values.npz", "--metric", word)
    assert (ran.code, f"did you mean {meant}" in ran.err) == (2, True)


def test_a_file_that_is_not_there_is_told(intaglio: Command, regression: Path, tmp_path: Path) -> None:
    ran = intaglio("evaluate", regression, "--data", tmp_path / "values.npz", "--metric", "no.py:f")
    assert ran.code == 2
    assert "there is no file no.py" in ran.err
    ran = intaglio("evaluate", regression, "--data", tmp_path / "values.npz", "--metric", "no.py")
    assert "write no.py:FUNCTION" in ran.err


def test_a_function_of_ones_own_is_a_criterion(
    intaglio: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file(tmp_path, "def rows(group):\n    return group.mean(lambda rows: abs(rows).sum(axis=1), 'out', 'in', 'scale')")
    made: dict[str, Any] = {}
    for name in ("mine.py:rows", "l1"):
        args = ("prune", DIGITS, "-o", f"{len(made)}.onnx", "--macs", "0.6", "--criterion", name, *FAST)
        made[name] = intaglio(*args).json
    assert made["mine.py:rows"]["groups"] == made["l1"]["groups"]
    (plugin,) = made["mine.py:rows"]["plugins"]
    assert (plugin["kind"], plugin["name"]) == ("criterion", "mine.py:rows")
    ran = intaglio("compress", DIGITS, "-o", tmp_path / "out", "--recipe", "0.onnx", "--json")
    assert ran.code == 2
    assert "names code to run" in ran.json["error"]["what"]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("raise ValueError('my own')", "ValueError: my own"),
        ("raise SystemExit(0)", "SystemExit"),
        ("return [1, 2]", "returned numbers of shape (2,)"),
        ("return [float('nan')] * group.channels", "what is no number"),
        ("return 'good'", "ValueError"),
    ],
)
def test_a_criterion_that_fails_is_told(intaglio: Command, tmp_path: Path, body: str, said: str) -> None:
    name, folder = f"{file(tmp_path, f'def f(group): {body}')}:f", tmp_path / "made"
    folder.mkdir()
    ran = intaglio("prune", DIGITS, "-o", folder / "p.onnx", "--macs", "0.6", "--criterion", name, *FAST)
    refused(ran, folder, 1, said)


def test_a_real_detector_is_measured_as_it_stands(intaglio: Command, shared_data: Path, tmp_path: Path) -> None:
    model = shared_data / "version-slim-320.onnx"
    with np.load(shared_data / "cifar10_test_first2000.npz") as held:
        images = np.repeat(np.repeat(held["x"][:48].reshape(6, 8, 32, 32, 3), 8, axis=2), 8, axis=3)
    frames = np.zeros((6, 240, 320, 3), np.uint8)
    for place in range(4):  # two rows of two pictures
        top, left = 120 * (place // 2), 160 * (place % 2)
        frames[:, top : top + 120, left : left + 160] = images[:, place, :120, :160]
    inputs = ((frames.astype(np.float32) - 127) / 128).transpose(0, 3, 1, 2)
    session, labels = onnxruntime.InferenceSession(str(model)), np.full((6, 12, 5), -1.0, np.float32)
    made = [session.run(["scores", "boxes"], {"input": one[None]}) for one in inputs]
    found = [*detections(dict(zip(("scores", "boxes"), map(np.concatenate, zip(*made)))), Decoding())]  # noqa: B905
    least = np.sort(np.concatenate([one.scores for one in found]))[-12]
    for rows, one in zip(labels, found, strict=True):
        best = one.scores >= least
        rows[: best.sum()] = np.column_stack([one.boxes[best], one.classes[best]])
    np.savez(tmp_path / "frames.npz", input=frames, labels=labels)
    data = ("--preprocess", "offset=-127,scale=1/128,layout=nchw", "--metric", "map", "--metric", "map50", "--json")
    told = intaglio("evaluate", model, "--data", tmp_path / "frames.npz", *data).json
    assert told["metrics"] == {"map": pytest.approx(1), "map50": pytest.approx(1)}  # the labels are its own best boxes
    out = tmp_path / "w8.onnx"
    args = ("quantize", model, "-o", out, "--scheme", "w8", "--eval-data", tmp_path / "frames.npz", "--no-measure")
    lost = intaglio(*args, *data, "--gate", "map >= 0.9999")
    assert lost.code == 3
    assert 0 < lost.json["accuracy"]["drop"]["map"]["points"] < 100
    assert json.loads(lost.out)["accuracy"]["drop"]["map"]["low"] is None
