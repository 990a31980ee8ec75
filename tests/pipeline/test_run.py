"""A run from Python: what it writes and reports is what the commands write and print."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import intaglio.pipeline.measured as measured
from intaglio import PruneChannels, Quantize, load, run
from intaglio.cli.main import main
from intaglio.graph.errors import GateFailed, IntaglioError, NothingChanged, UsageError
from intaglio.graph.io.save import to_bytes
from intaglio.measure.accuracy import evaluate_model
from intaglio.measure.data.source import open_data
from intaglio.passes import Change, Context, Pass
from intaglio.passes.binarize import Binarize
from intaglio.passes.factorize import Factorize
from intaglio.pipeline.run import Logged

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
DIGITS, CALIBRATION, LABELLED = (str(EXAMPLES / n) for n in ("digits.onnx", "digits_calib.npz", "digits_test.npz"))
MANY = {"prune": ["--macs", "0.5"], "factorize": ["--macs", "0.7"], "quantize": [], "binarize": []}
SAME: dict[str, Pass] = {
    "prune": PruneChannels(target="macs", keep=0.5),
    "factorize": Factorize(target="macs", keep=0.7, measure=False),
    "quantize": Quantize(),
    "binarize": Binarize(),
}


def timeless(told: Any) -> Any:
    if isinstance(told, dict):
        return {k: timeless(v) for k, v in told.items() if k not in ("seconds", "out")}
    return [timeless(v) for v in told] if isinstance(told, list) else told


@pytest.mark.parametrize("name", list(SAME))
def test_a_command_and_a_run_write_and_tell_the_same(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = ["--data", CALIBRATION, "--eval-data", LABELLED, "--samples", "64", "--no-measure", "--json"]
    assert main([name, DIGITS, "-o", str(tmp_path / "a.onnx"), *MANY[name], *data]) == 0
    printed = json.loads(capsys.readouterr().out)
    report = run(
        DIGITS, SAME[name], data=CALIBRATION, eval_data=LABELLED, samples=64, out=tmp_path / "b.onnx", measure=False
    )
    assert (tmp_path / "b.onnx").read_bytes() == (tmp_path / "a.onnx").read_bytes()
    assert timeless(json.loads(json.dumps(report.as_dict()))) == timeless(printed)
    assert not capsys.readouterr().out


def test_passes_in_a_row_are_those_one_by_one(tmp_path: Path) -> None:
    steps = [PruneChannels(target="macs", keep=0.5), Quantize(scheme="w8")]
    report = run(DIGITS, steps, data=CALIBRATION, eval_data=LABELLED, samples=64, out=tmp_path / "two.onnx")
    model = load(DIGITS)
    first = steps[0].run(model, Context(data=open_data(CALIBRATION, model, samples=64)))
    second = steps[1].run(first.model, Context(data=open_data(CALIBRATION, first.model, samples=64)))
    assert to_bytes(report.model) == to_bytes(second.model)
    told = report.as_dict()
    assert told["before"] == first.before.as_dict()
    assert told["after"] == told["steps"][1]["details"]["after"] == second.after.as_dict()
    assert [one["pass"] for one in told["steps"]] == ["prune", "quantize"]
    labelled = open_data(LABELLED, model)
    assert report.accuracy is not None
    assert report.accuracy["before"] == evaluate_model(model, labelled).values
    assert report.accuracy["after"] == told["steps"][1]["accuracy"] == evaluate_model(second.model, labelled).values
    assert told["steps"][0]["accuracy"] == evaluate_model(first.model, labelled).values
    assert told["steps"][0]["size_bytes"] == first.after.size > told["steps"][1]["size_bytes"]
    assert told["steps"][0]["sqnr_db"] > told["steps"][1]["sqnr_db"] > 0
    assert report.latency_ms is not None
    written = {p.key: p.value for p in onnx.load(tmp_path / "two.onnx").metadata_props}
    recipe = json.loads(written["intaglio.recipe"])
    assert [one["pass"] for one in recipe["passes"]] == ["prune", "quantize"]
    assert recipe["passes"][0]["criterion"] == "obspa"


def test_a_result_that_misses_a_gate_is_kept_aside(tmp_path: Path) -> None:
    hard = PruneChannels(target="macs", keep=0.1, criterion="l2")
    with pytest.raises(UsageError, match="gate 'drop <= 1' needs labelled data"):
        run(DIGITS, hard, out=tmp_path / "a.onnx", gates=["drop <= 1"], measure=False)
    assert list(tmp_path.iterdir()) == []
    limits = ["size <= 0.9x", "drop <= 1"]
    with pytest.raises(GateFailed, match=r"1 of 2 gates missed: drop <= 1 \(it is .* points\)") as caught:
        run(DIGITS, hard, eval_data=LABELLED, out=tmp_path / "a.onnx", gates=limits, measure=False)
    assert [p.name for p in tmp_path.iterdir()] == ["a.gate-failed.onnx"]
    told = caught.value.report.as_dict()
    assert (told["out"], told["passed"]) == (str(tmp_path / "a.gate-failed.onnx"), False)
    lost = 100 * (told["accuracy"]["before"]["top1"] - told["accuracy"]["after"]["top1"])
    assert [(one["gate"], one["passed"]) for one in told["gates"]] == [("size <= 0.9x", True), ("drop <= 1", False)]
    assert told["gates"][1]["value"] == pytest.approx(lost)
    assert told["gates"][0]["value"] == pytest.approx(told["kept"]["size_bytes"])
    assert to_bytes(load(tmp_path / "a.gate-failed.onnx")) == to_bytes(load(caught.value.report.out))
    report = run(DIGITS, hard, eval_data=LABELLED, out=tmp_path / "b.onnx", gates=["drop <= 99"], measure=False)
    assert report.out == tmp_path / "b.onnx"
    assert report.out.is_file()


class Refusing(Pass):
    """Copies the model, and advises against the copy."""

    name = "refusing"

    def run(self, model: Any, context: Context | None = None) -> Change:
        return Change(model, model.copy(), refusal=NothingChanged("it is slower"))


def test_what_a_pass_advises_against_is_written_by_force_alone(tmp_path: Path) -> None:
    with pytest.raises(NothingChanged, match="it is slower"):
        run(DIGITS, Refusing(), out=tmp_path / "a.onnx", measure=False)
    assert list(tmp_path.iterdir()) == []
    run(DIGITS, Refusing(), out=tmp_path / "a.onnx", measure=False, force=True)
    assert [p.name for p in tmp_path.iterdir()] == ["a.onnx"]


def test_model_and_proof_appear_together_or_not_at_all(tmp_path: Path) -> None:
    half = PruneChannels(target="macs", keep=0.5)
    run(DIGITS, half, out=tmp_path / "a.onnx", proof=tmp_path / "proof.onnx", measure=False)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.onnx", "proof.onnx"]
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}

    class Spoiling(Logged):
        def warnings(self, sentences: Sequence[str]) -> None:
            (tmp_path / "gone").rmdir()

    (tmp_path / "gone").mkdir()
    with pytest.raises(IntaglioError, match="no folder"):
        run(
            DIGITS,
            PruneChannels(target="macs", keep=0.7),
            out=tmp_path / "a.onnx",
            proof=tmp_path / "gone" / "proof.onnx",
            measure=False,
            view=Spoiling(),
        )
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_requests_that_mean_nothing_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no pass"):
        run(DIGITS, [])
    with pytest.raises(UsageError, match="a proof is of one pass"):
        run(DIGITS, [Quantize(), Quantize()], proof=tmp_path / "proof.onnx")
    with pytest.raises(UsageError, match="quantize makes no model to compare"):
        run(DIGITS, Quantize(scheme="w8"), out=tmp_path / "a.onnx", proof=tmp_path / "proof.onnx", measure=False)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(UsageError, match="noise runs without data"):
        run(DIGITS, PruneChannels(dialect="noise"), data=CALIBRATION)


@pytest.mark.parametrize(
    ("model", "passes", "given", "told"),
    [
        (DIGITS, "quantize", {}, "'quantize' is no pass"),
        (DIGITS, Quantize, {}, "Quantize'> is no pass"),
        (DIGITS, None, {}, "None is no pass"),
        (DIGITS, [Quantize(), {"scheme": "w8"}], {}, "{'scheme': 'w8'} is no pass"),
        (onnx.ModelProto(), Quantize(), {}, "a ModelProto is no model to run on"),
        (DIGITS, Quantize(), {"data": {"image": np.zeros((4, 1, 8, 8))}}, "a dict is no data to open"),
        (DIGITS, Quantize(), {"eval_data": np.zeros((4, 1, 8, 8))}, "a ndarray is no data to open"),
        (DIGITS, Quantize(), {"data": CALIBRATION, "samples": -3}, "samples -3 is out of range"),
        (DIGITS, Quantize(), {"seed": -1}, "seed -1 is out of range"),
    ],
)
def test_arguments_of_another_kind_are_refused_with_what_to_give(
    tmp_path: Path, model: Any, passes: Any, given: dict[str, Any], told: str
) -> None:
    out = tmp_path / "out.onnx"
    with pytest.raises(UsageError) as refused:
        run(model, passes, out=out, measure=False, **given)
    assert told in refused.value.what
    assert refused.value.fix
    assert not out.exists()


def test_a_pass_that_can_do_nothing_is_passed_over_where_that_is_allowed(tmp_path: Path) -> None:
    nothing = Quantize(scheme="w8", exclude=("Conv", "Gemm"))
    with pytest.raises(NothingChanged):
        run(DIGITS, [nothing, Quantize(scheme="w8")], measure=False)
    report = run(DIGITS, [nothing, Quantize(scheme="w8")], measure=False, force=True)
    alone = run(DIGITS, Quantize(scheme="w8"), measure=False)
    assert to_bytes(report.model) == to_bytes(alone.model)
    same = run(DIGITS, nothing, out=tmp_path / "same.onnx", measure=False, force=True)
    assert same.as_dict()["changed"] is False
    assert (tmp_path / "same.onnx").exists()


def test_models_too_large_for_the_machine_are_not_timed_and_what_they_take_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(measured, "_free_bytes", lambda: 1000.0)
    told = run(DIGITS, Quantize(scheme="w8", method="nearest"), memory=1000)
    assert told.latency_ms is None
    notes = " ".join(told.notes)
    assert "nothing was timed: opening both models takes about 0.0 GB, and 0.0 GB of memory are free here" in notes
    assert "ONNX Runtime takes about 0.0 GB to open the result" in notes
    assert "checked part by part" in notes


def test_opened_data_is_taken_as_it_is(tmp_path: Path) -> None:
    model = load(DIGITS)
    by_name = run(DIGITS, Quantize(), data=CALIBRATION, samples=64, measure=False)
    opened = run(model, Quantize(), data=open_data(CALIBRATION, model, samples=64), measure=False)
    assert to_bytes(by_name.model) == to_bytes(opened.model)


def test_what_preprocessing_says_of_pixels_is_known_without_data(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """On a model that keeps its BatchNormalization, integers then need no data."""
    options = ["--preprocess", "unit", "--no-measure", "--json"]
    assert main(["quantize", DIGITS, "-o", str(tmp_path / "a.onnx"), *options]) == 0
    told = json.loads(capsys.readouterr().out)
    report = run(DIGITS, Quantize(), preprocess="unit", out=tmp_path / "b.onnx", measure=False)
    assert (tmp_path / "b.onnx").read_bytes() == (tmp_path / "a.onnx").read_bytes()
    assert report.recipe["passes"][0]["input_ranges"] == [["image", 0.0, 1.0]]
    assert set(told["kept"]) == {"macs", "params", "size_bytes"}
