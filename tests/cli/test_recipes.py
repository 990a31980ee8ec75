"""What is wrong with a recipe is told with its place, also where only a run finds out, and in words of recipes."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from intaglio.passes.quantize.options import QuantizeOptions
from intaglio.passes.quantize.targets import TARGETS

from .conftest import Command

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
DIGITS, CALIBRATION = EXAMPLES / "digits.onnx", EXAMPLES / "digits_calib.npz"
W8 = "passes:\n- pass: quantize\n  scheme: w8\n"


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("text", "what", "fix"),
    [
        ("memory: lots\n", "r.yaml:4: memory 'lots' is no size", "256MB"),
        ("opset: 3\n", "r.yaml:4: opset: operator set 3 is not written", "from 13 to"),
        ("ir: 1\n", "r.yaml:4: ir: IR version 1 is not written", "from 7 to"),
        ("runtime: tvm\n", "r.yaml:4: runtime: cannot read runtime 'tvm'", "ort>=1.20"),
        ("gates:\n- drop <= 1\n- drop =< 1\n", "r.yaml:6: gates[1]: there is no figure 'drop ='", "drop"),
        ("gates: drop <= 1\n", "r.yaml:4: gates cannot be 'drop <= 1'", "give a list: [drop <= 1]"),
        ("shapes: {image: [1, a]}\n", "r.yaml:4: shapes.image[1] cannot be 'a'", "a whole number"),
        ("made_by: {intaglio: 9.9}\n", "r.yaml:4: made_by.intaglio cannot be 9.9", "give text"),
        ("made_by: me\n", "r.yaml:4: made_by is a mapping", "made_by: {intaglio: ...}"),
        ("shapes: {imag: [1]}\n", "r.yaml:4: shapes.imag: there is no graph input 'imag'", "image"),
        ("inputs: {imag: 1}\n", "r.yaml:4: inputs.imag: there is no graph input 'imag'", "image"),
        ("data:\n  calibration: no.npz\n", "r.yaml:5: data.calibration: there is no data at 'no.npz'", "path"),
        ("data: {preprocess: imaginet}\n", "r.yaml:4: data.preprocess: there is no preprocessing step", "imagenet"),
        ("gates:\n- top1 >= 0.9\n", "r.yaml:5: gates[0]: gate 'top1 >= 0.9' needs labelled data", "--eval-data"),
        ("  exclude: [nosuch]\n", "r.yaml:4: passes[0].exclude[0]: pattern 'nosuch' matches no", "inspect"),
        ("- pass: prune\n  target: latency\n", "r.yaml:5: passes[1].target: prune for 'latency' measures", "macs"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(intaglio: Command, text: str, what: str, fix: str) -> None:
    given = ("--data", CALIBRATION) if "preprocess" in text else ()
    Path("r.yaml").write_text(f"{W8}{text}" + "target: arm\n" * ("latency" in text))
    ran = intaglio("compress", DIGITS, "-o", "out", "--recipe", "r.yaml", "--json", *given)
    assert ran.code == 1 + ("no.npz" not in text)
    assert ran.json["error"]["what"].startswith(what)
    assert fix in ran.json["error"]["fix"]
    assert not Path("out").exists()


def test_a_model_that_the_recipe_names_and_is_not_there_is_told_with_its_place(intaglio: Command) -> None:
    Path("r.yaml").write_text(f"{W8}model: none.onnx\n")
    assert "r.yaml:4: model: none.onnx does not exist" in intaglio("compress", "-o", "o", "--recipe", "r.yaml").err


def test_notes_and_advice_of_passes_name_options_of_recipes(intaglio: Command) -> None:
    Path("r.yaml").write_text("passes:\n- pass: quantize\n  scheme: int8\n- pass: prune\n  keep: 0.9\n")
    ran = intaglio("compress", DIGITS, "-o", "out", "--recipe", "r.yaml", "--data", CALIBRATION, "--json", "--force")
    assert "--exclude" not in ran.out
    assert "--ranges" not in ran.out
    advice = {one["advice"] for one in ran.json["steps"][0]["details"]["worst"]}
    assert any("ranges mse or percentile" in one for one in advice)
    Path("r.yaml").write_text('passes:\n- pass: quantize\n  scheme: w8\n  exclude: ["/wide/wide.0/Conv"]\n')
    ran = intaglio("compress", DIGITS, "-o", "out", "--recipe", "r.yaml", "--json", "--no-measure")
    assert "left out by include or exclude" in ran.json["skipped"].values()
    ran = intaglio("quantize", DIGITS, "-o", "a.onnx", "--scheme", "w8", "--no-measure", "--exclude", "Gemm", "--json")
    assert "left out by --include or --exclude" in ran.json["skipped"].values()


def test_a_recipe_that_is_replayed_keeps_its_target(intaglio: Command) -> None:
    """Nothing is timed here for it, whether or not a pass asks for a target."""
    Path("r.yaml").write_text("passes:\n- pass: prune\n  criterion: l2\n")
    assert intaglio("compress", DIGITS, "-o", "a", "--recipe", "r.yaml", "--target", "tensorrt").code == 0
    for recipe in ("a/recipe.yaml", "a/model.onnx"):
        again = intaglio("compress", DIGITS, "-o", "b", "--recipe", recipe, "--json")
        assert again.code == 0, again.out
        assert "latency_ms" not in again.json
        assert Path("b/model.onnx").read_bytes() == Path("a/model.onnx").read_bytes()
    kept = {one.key: one.value for one in onnx.load("a/model.onnx").metadata_props}["intaglio.recipe"]
    assert '"target":"tensorrt"' in kept


def test_help_names_every_target(intaglio: Command) -> None:
    told = str(QuantizeOptions.model_fields["target"].description).removesuffix(".")
    assert told.partition(": ")[2].split(", ") == sorted(TARGETS.builtin, key=told.find)
    assert all(name in intaglio("compress", "--help").out for name in TARGETS.builtin)
