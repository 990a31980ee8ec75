"""``compress`` through the real command: recipes, the folder, steps that are kept, and what is refused."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from intaglio import compress, load
from intaglio.graph.errors import UsageError
from intaglio.pipeline.recipe.presets import presets
from tests.conftest import hear_interrupts

from .conftest import Command, write_model

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
DIGITS, CALIBRATION, LABELLED = (EXAMPLES / n for n in ("digits.onnx", "digits_calib.npz", "digits_test.npz"))
QUICK = ("--no-measure", "--samples", "32")
DATA = ("--data", CALIBRATION, *QUICK)
TWO = "passes:\n- pass: prune\n  keep: ${keep}\n  criterion: l2\n- pass: quantize\n  scheme: ${scheme}\n"
TWO += "variables: {keep: 0.5, scheme: w8}\n"


def untimed(told: Any) -> Any:
    if isinstance(told, dict):
        return {k: untimed(v) for k, v in told.items() if k not in ("seconds", "out", "notes", "machine")}
    return [untimed(v) for v in told] if isinstance(told, list) else told


@pytest.fixture
def two(tmp_path: Path) -> Path:
    path = tmp_path / "two.yaml"
    path.write_text(TWO)
    return path


@pytest.mark.parametrize("name", presets())
def test_every_preset_runs_on_a_bundled_model(name: str, intaglio: Command, tmp_path: Path) -> None:
    blind = name == "udfc" or name.startswith("data-free")
    data = () if blind else ("--data", CALIBRATION, "--samples", "64")
    ran = intaglio("compress", DIGITS, "-o", tmp_path / "out", "--recipe", name, "--no-measure", "--json", *data)
    assert ran.code == 0, ran.err
    assert ran.json["kept"]["size_bytes"] < 0.75
    onnx.checker.check_model(str(tmp_path / "out/model.onnx"))
    assert name in intaglio("compress", "--presets").out
    assert intaglio("passes", name).out.strip() == intaglio("passes", name, "--json").json["recipe"].strip()


@pytest.mark.parametrize(
    ("name", "data", "chosen"),
    [
        ("tiny", (), "channels and roundings"),
        ("half-macs", (), "channels"),
        ("weights-4bit", (), "roundings"),
        ("data-free", (), ""),
        ("weights-4bit", ("--data", CALIBRATION, "--samples", "32"), ""),
    ],
)
def test_what_is_chosen_without_data_is_a_warning(
    name: str, data: tuple[object, ...], chosen: str, intaglio: Command, tmp_path: Path
) -> None:
    ran = intaglio("compress", DIGITS, "-o", tmp_path / "out", "--recipe", name, "--no-measure", "--json", *data)
    told = f"no data: {chosen} were chosen by weights alone; accuracy is not known; add --data"
    assert ran.json["warnings"] == ([told] if chosen else [])


def test_advice_names_what_a_recipe_can_say(intaglio: Command, tmp_path: Path) -> None:
    recipe = tmp_path / "none.yaml"
    recipe.write_text('passes:\n- pass: quantize\n  scheme: w8\n  exclude: ["re:.*"]\n')
    ran = intaglio("compress", DIGITS, "-o", tmp_path / "out", "--recipe", recipe, "--no-measure")
    assert ran.code == 4
    told = "intaglio inspect MODEL; check include and exclude; in the recipe: include: ..., exclude: ..."
    assert told in ran.err


def test_one_command_prunes_and_rounds_and_makes_up_for_both(intaglio: Command, tmp_path: Path) -> None:
    out = tmp_path / "out"
    ran = intaglio("compress", DIGITS, "-o", out, "--method", "udfc", "--set", "keep=0.8", "--no-measure", "--json")
    assert ran.code == 0, ran.err
    pruned, rounded = ran.json["steps"]
    assert pruned["details"]["repair"]["restored"] > 0
    assert any("udfc" in note and "predicted to fall" in note for note in ran.json["notes"])
    assert (out / "recipe.yaml").read_text().count("repair: udfc") == 2
    assert rounded["pass"] == "quantize"


def test_only_some_of_the_presets_without_data_need_batch_normalization(intaglio: Command, tmp_path: Path) -> None:
    folded = tmp_path / "folded.onnx"
    assert intaglio("simplify", DIGITS, "-o", folded, "--no-measure").code == 0
    assert all(node.op_type != "BatchNormalization" for node in onnx.load(folded).graph.node)
    for name, code in (("data-free", 0), ("udfc", 1), ("data-free-prune", 1)):
        ran = intaglio("compress", folded, "-o", tmp_path / name, "--recipe", name, "--no-measure")
        assert ran.code == code, ran.err
    assert "(criterion obspa --data DATA)" in ran.err
    assert ran.err.endswith("; in the recipe: criterion: ...\n")


def test_the_folder_holds_the_model_the_reports_the_recipe_and_the_steps(
    intaglio: Command, tmp_path: Path, two: Path
) -> None:
    out = tmp_path / "a" / "out"
    given = ("--set", "scheme=w4", "--eval-data", LABELLED, "--gate", "drop <= 90", *DATA)
    ran = intaglio("compress", DIGITS, "-o", out, "--recipe", two, "--json", *given)
    assert ran.code == 0, ran.err
    assert sorted(p.name for p in out.iterdir()) == [
        "model.onnx", "recipe.yaml", "report.html", "report.json", "report.md", "steps",
    ]  # fmt: skip
    told = json.loads((out / "report.json").read_text())
    assert untimed(told) == untimed(ran.json)
    assert (told["command"], told["out"]) == ("compress", str(out / "model.onnx"))
    assert [step["pass"] for step in told["steps"]] == ["prune", "quantize"]
    assert "<html" in (out / "report.html").read_text()
    assert "digits.onnx" in (out / "report.md").read_text()
    figures = json.loads((out / "steps/02-quantize/figures.json").read_text())
    assert figures["pass"]["scheme"] == "w4"
    assert load(out / "steps/01-prune/model.onnx").weights
    again = intaglio("compress", "-o", tmp_path / "b", "--recipe", out / "recipe.yaml", "--no-measure")
    assert again.code == 0, again.err
    assert (tmp_path / "b/model.onnx").read_bytes() == (out / "model.onnx").read_bytes()
    assert "drop <= 90" in again.out


FAMILIES = {
    "prune": ("--macs", "0.6", "--round-to", "2"),
    "factorize": ("--macs", "0.8", "--scheme", "spatial"),
    "quantize": ("--scheme", "w4", "--exclude", "re:.*wide.*"),
    "binarize": ("--scheme", "xnor"),
    "simplify": (),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_every_command_writes_a_recipe_that_gives_the_same_bytes(name: str, intaglio: Command, tmp_path: Path) -> None:
    saved, made = tmp_path / "saved.yaml", tmp_path / "made.onnx"
    ran = intaglio(name, DIGITS, "-o", made, *FAMILIES[name], "--seed", "3", "--save-recipe", saved, *DATA)
    assert ran.code == 0, ran.err
    for place, recipe in enumerate((saved, made)):
        out = tmp_path / f"out{place}"
        ran = intaglio("compress", DIGITS, "-o", out, "--recipe", recipe, "--no-measure", "--no-keep-steps")
        assert ran.code == 0, ran.err
        assert (out / "model.onnx").read_bytes() == made.read_bytes()
        assert not (out / "steps").exists()
    assert str(tmp_path) not in str(onnx.load(made).metadata_props)


def test_a_recipe_remembers_pinned_shapes_and_inputs(intaglio: Command, tmp_path: Path) -> None:
    body = "t = Mul(x, s) y = MatMul(t, w)"
    weights = "float[4, 4] w = {1,2,3,4,5,6,7,8,9,1,2,3,4,5,6,7}"
    model = write_model(tmp_path / "m.onnx", "float[N, 4] x, float s", "float[N, 4] y", body, weights)
    options = ("--shape", "x:3,4", "--input", "s=2.5", "--scheme", "fp16", "--force", "--no-measure")
    ran = intaglio("quantize", model, "-o", tmp_path / "a.onnx", *options, "--save-recipe", tmp_path / "r.yaml")
    assert ran.code == 0, ran.err
    ran = intaglio("compress", "-o", tmp_path / "out", "--recipe", tmp_path / "r.yaml", "--no-measure")
    assert ran.code == 0, ran.err
    assert (tmp_path / "out/model.onnx").read_bytes() == (tmp_path / "a.onnx").read_bytes()


def test_what_changed_is_done_anew_and_nothing_else(intaglio: Command, tmp_path: Path, two: Path) -> None:
    def run(out: str, *given: str) -> tuple[bytes, str]:
        ran = intaglio("compress", DIGITS, "-o", tmp_path / out, "--recipe", two, *DATA, *given)
        assert ran.code == 0, ran.err
        return (tmp_path / out / "model.onnx").read_bytes(), ran.err

    first, told = run("out")
    assert "done before" not in told
    again, told = run("out")
    assert again == first
    assert told.count("was done before") == 2
    other, told = run("out", "--set", "scheme=w4")
    assert other != first
    assert "01-prune was done before" in told
    assert "02-quantize was" not in told
    assert run("fresh", "--set", "scheme=w4", "--no-keep-steps")[0] == other
    assert "done before" not in run("out", "--set", "scheme=w4", "--seed", "5")[1]
    (tmp_path / "out/steps/01-prune/model.onnx").write_bytes(b"spoiled")
    assert "01-prune was" not in run("out", "--set", "scheme=w4", "--seed", "5")[1]
    two.write_text("passes:\n- pass: quantize\n  scheme: w8\n")
    assert intaglio("compress", DIGITS, "-o", tmp_path / "out", "--recipe", two, *DATA).code == 0
    assert [p.name for p in (tmp_path / "out/steps").iterdir()] == ["01-quantize"]


SLOW = '''"""Edits that wait, unless they are let go."""
import time
from pathlib import Path


def wait(graph):
    Path("waiting").touch()
    while not Path("go").exists():
        time.sleep(0.05)
    for node in graph.nodes:
        node.name += "_edited"
'''


@pytest.mark.skipif(os.name != "posix", reason="signals")
@pytest.mark.parametrize(("how", "code"), [(signal.SIGKILL, -signal.SIGKILL), (signal.SIGINT, 130)])
def test_a_run_that_was_ended_goes_on_to_the_same_bytes(how: signal.Signals, code: int, tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(SLOW)
    passes = "- pass: prune\n  criterion: l2\n- pass: edit\n  function: slow:wait\n- pass: quantize\n  scheme: w8\n"
    (tmp_path / "r.yaml").write_text("passes:\n" + passes)
    command = [sys.executable, "-m", "intaglio", "compress", str(DIGITS), "--recipe", "r.yaml", "--no-measure"]

    def start(out: str) -> subprocess.Popen[str]:
        environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
        pipes: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "cwd": tmp_path}
        return subprocess.Popen([*command, "-o", out], env=environment, preexec_fn=hear_interrupts, **pipes)

    running = start("out")
    while not (tmp_path / "waiting").exists():
        assert running.poll() is None, running.communicate()
        time.sleep(0.05)
    running.send_signal(how)
    _, told = running.communicate(timeout=60)
    assert running.returncode == code
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["steps"]
    if how == signal.SIGINT:
        assert "finished steps are kept" in told
        assert "Traceback" not in told
        assert [p.name for p in (tmp_path / "out").rglob(".*")] == []
    (tmp_path / "go").touch()
    for out, reused in (("out", True), ("whole", False)):
        _, told = (running := start(out)).communicate(timeout=120)
        assert running.returncode == 0, told
        assert ("01-prune was done before" in told) == reused
    resumed, whole = (tmp_path / out for out in ("out", "whole"))
    assert (resumed / "model.onnx").read_bytes() == (whole / "model.onnx").read_bytes()
    reports = [json.loads((one / "report.json").read_text()) for one in (resumed, whole)]
    assert untimed(reports[0]) == untimed(reports[1])
    assert {p.name for p in resumed.rglob("*")} == {p.name for p in whole.rglob("*")}


def test_a_missed_gate_keeps_the_result_aside_and_a_kept_one_clears_it(
    intaglio: Command, tmp_path: Path, two: Path
) -> None:
    given = ("compress", DIGITS, "-o", tmp_path / "out", "--recipe", two, *DATA)
    ran = intaglio(*given, "--gate", "size <= 0.001x")
    assert ran.code == 3
    assert {p.name for p in (tmp_path / "out").glob("*.onnx")} == {"model.gate-failed.onnx"}
    assert not json.loads((tmp_path / "out/report.json").read_text())["passed"]
    assert intaglio(*given).code == 0
    assert {p.name for p in (tmp_path / "out").glob("*.onnx")} == {"model.onnx"}
    assert intaglio(*given, "--gate", "size <= 0.001x").code == 3
    assert {p.name for p in (tmp_path / "out").glob("*.onnx")} == {"model.gate-failed.onnx"}


def test_limits_that_cannot_be_kept_leave_the_nearest_aside_with_all_that_was_tried(
    intaglio: Command, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    given = ("compress", DIGITS, "-o", out, "--size", "0.01", "--no-measure")
    ran = intaglio(*given)
    assert ran.code == 3
    assert "tried" in ran.out
    assert "the least that any of them reached is --size 0." in ran.err
    assert "model.gate-failed.onnx" in ran.err
    names = {"model.gate-failed.onnx", "recipe.yaml", "report.json", "report.html", "report.md"}
    assert {one.name for one in out.iterdir() if one.is_file()} == names
    ran = intaglio(*given, "--json")
    assert (ran.code, ran.json["passed"], ran.json["out"]) == (3, False, str(out / "model.gate-failed.onnx"))
    points = ran.json["points"]
    assert sum(one["chosen"] for one in points) == 1
    assert not any(one["meets"] for one in points)
    assert len({one["name"] for one in points}) == len(points)
    assert not any("target size=" in one["told"] for one in points)
    told = json.loads((out / "report.json").read_text())
    assert (told["points"], told["error"], told["passed"]) == (points, ran.json["error"], False)
    assert "no chain of passes" in (out / "report.md").read_text()
    assert intaglio(*given, "--force").code == 0
    assert [one.name for one in out.glob("*.onnx")] == ["model.onnx"]


def test_folders_that_hold_files_of_others_stay_as_they_are(intaglio: Command, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "model.onnx").write_bytes(b"mine")
    ran = intaglio("compress", DIGITS, "-o", out, "--recipe", "weights-4bit", "--json", *QUICK[:1])
    assert ran.code == 1
    assert "model.onnx" in ran.json["error"]["why"]
    assert [(p.name, p.read_bytes()) for p in out.iterdir()] == [("model.onnx", b"mine")]
    (out / "model.onnx").rename(out / "notes.txt")
    for name in ("notes", "03-notes"):
        (out / "steps" / name).mkdir(parents=True)
        (out / "steps" / name / "figures.json").write_text("[1, 2]")
    ran = intaglio("compress", DIGITS, "-o", out, "--recipe", "weights-4bit", *QUICK[:1])
    assert ran.code == 0, ran.err
    assert (out / "notes.txt").read_bytes() == b"mine"
    assert {p.name for p in (out / "steps").iterdir()} == {"notes", "03-notes", "01-quantize"}
    assert intaglio("compress", DIGITS, "-o", out / "notes.txt", "--recipe", "weights-4bit").code == 1
    assert intaglio("compress", DIGITS, "-o", out / "notes.txt" / "x", "--recipe", "weights-4bit").code == 1


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_is_read_only_is_told_before_any_work(intaglio: Command, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir(mode=0o500)
    ran = intaglio("compress", DIGITS, "-o", tmp_path / "out", "--recipe", "weights-4bit")
    assert ran.code == 1
    assert "read-only" in ran.err


@pytest.mark.parametrize(
    ("given", "code", "said"),
    [
        ((), 2, "--recipe, or limits: --size, --macs"),
        (("--recipe", "edge-int9"), 2, "edge-int8"),
        (("--recipe", "tiny", "--size", "0.5"), 2, "a recipe and --size exclude each other"),
        (("--recipe", "tiny", "--set", "kep=1"), 2, "keep"),
        (("--recipe", "tiny", "--set", "keep=0"), 2, "tiny:7: passes[0].keep cannot be 0"),
        (("--set", "keep=0.5"), 2, "add --recipe"),
        (("--size", "lots"), 2, "--size"),
        (("--size", "7", "--dry-run"), 2, "--size 7 is no limit"),
        (("--recipe", "tiny", "--gate", "sise <= 3"), 2, "size"),
        (("--recipe", "tiny", "--data", "nothing.npz"), 1, "nothing.npz"),
        (("--recipe", str(DIGITS)), 2, "holds no recipe"),
        (("--recipe", "tiny", "--memory", "3"), 2, "256MB"),
        (("--size", "0.5", "--samples", "3"), 2, "--samples says nothing without data"),
        (("--recipe", "half-macs", "--preprocess", "imagenet"), 2, "--preprocess says nothing without data"),
        (("--recipe", "tiny", "--samples", "3"), 2, "--samples says nothing without data"),
    ],
)
def test_what_cannot_be_done_is_told_and_leaves_nothing(
    given: tuple[str, ...], code: int, said: str, intaglio: Command, tmp_path: Path
) -> None:
    ran = intaglio("compress", DIGITS, "-o", tmp_path / "out", *given)
    assert ran.code == code, ran.err
    assert said in ran.err
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_place_of_the_folder_is_told_with_what_to_do(intaglio: Command, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    ran = intaglio("compress", DIGITS, "-o", tmp_path / "out", "--recipe", "weights-4bit", "--no-measure")
    assert ran.code == 1
    assert "fix: choose another place" in ran.err
    assert (tmp_path / "out").read_text() == "mine"


def test_a_model_is_named_by_the_command_or_the_recipe(intaglio: Command, tmp_path: Path) -> None:
    assert "give MODEL" in intaglio("compress", "-o", tmp_path / "out", "--recipe", "tiny").err
    assert "add -o DIR" in intaglio("compress", DIGITS, "--recipe", "tiny").err


def test_the_recipe_of_a_model_from_a_stranger_runs_no_code(intaglio: Command, tmp_path: Path) -> None:
    for told in (
        {"passes": [{"pass": "edit", "function": "os:abort"}]},
        {"passes": ["quantize"], "data": {"calibration": "os:abort"}},
    ):
        model = onnx.load(DIGITS)
        onnx.helper.set_model_props(model, {"intaglio.recipe": json.dumps(told)})
        onnx.save(model, tmp_path / "evil.onnx")
        ran = intaglio("compress", DIGITS, "-o", tmp_path / "out", "--recipe", tmp_path / "evil.onnx")
        assert ran.code == 2
        assert "names code to run" in ran.err
    for text in ("[" * 9000, "{}", "3", '{"passes": 3}', '{"passes": [[]]}', "nonsense"):
        onnx.helper.set_model_props(model, {"intaglio.recipe": text})
        onnx.save(model, tmp_path / "evil.onnx")
        assert intaglio("compress", DIGITS, "-o", tmp_path / "out", "--recipe", tmp_path / "evil.onnx").code == 2
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", [*FAMILIES, "compress"])
def test_a_dry_run_says_what_would_be_done_and_writes_nothing(name: str, intaglio: Command, tmp_path: Path) -> None:
    given: tuple[object, ...] = ("--recipe", "tiny") if name == "compress" else FAMILIES[name]
    ran = intaglio(name, DIGITS, "-o", tmp_path / "x", *given, "--data", CALIBRATION, "--dry-run", "--json")
    assert ran.code == 0, ran.err
    assert ran.json["dry_run"]
    assert ran.json["passes"][-1]["pass"] == ("quantize" if name == "compress" else name)
    assert "nothing was run" in intaglio(name, DIGITS, "-o", tmp_path / "x", *given, "--dry-run").out
    assert intaglio(name, DIGITS, "-o", tmp_path / "x", *given, "--data", "no.npz", "--dry-run").code == 1
    assert list(tmp_path.iterdir()) == []


def test_what_is_expected_is_near_what_comes_of_it(intaglio: Command, tmp_path: Path) -> None:
    given = ("quantize", DIGITS, "-o", tmp_path / "x.onnx", "--scheme", "w4", "--no-measure", "--json")
    (planned,) = intaglio(*given, "--dry-run").json["passes"]
    assert planned["expected"]["size_bytes"] == pytest.approx(intaglio(*given).json["kept"]["size_bytes"], abs=0.05)


def test_python_gets_the_report_that_the_command_prints(intaglio: Command, tmp_path: Path, two: Path) -> None:
    ran = intaglio("compress", DIGITS, "-o", tmp_path / "a", "--recipe", two, "--set", "keep=0.6", "--json", *DATA)
    report = compress(
        DIGITS, tmp_path / "b", two, settings={"keep": 0.6}, data=str(CALIBRATION), samples=32, measure=False
    )
    assert untimed(json.loads(json.dumps(report.as_dict()))) == untimed(ran.json)
    assert (tmp_path / "a/model.onnx").read_bytes() == (tmp_path / "b/model.onnx").read_bytes()
    plain = {"passes": [{"pass": "prune", "keep": 0.6, "criterion": "l2"}, "quantize:scheme=w8"]}
    compress(load(DIGITS), tmp_path / "c", plain, data=str(CALIBRATION), samples=32, measure=False)
    assert (tmp_path / "c/model.onnx").read_bytes() == (tmp_path / "b/model.onnx").read_bytes()
    with pytest.raises(UsageError, match="nothing was asked for"):
        compress(DIGITS, tmp_path / "d")


def test_data_of_a_callable_are_known_by_what_they_give(
    intaglio: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, two: Path
) -> None:
    text = "import numpy as np\n\n\ndef images():\n    yield {'image': np.full((4, 1, 8, 8), VALUE, np.float32)}\n"
    monkeypatch.syspath_prepend(tmp_path)
    two.write_text("passes:\n- pass: quantize\n  scheme: w8\n")
    (tmp_path / "calls.py").write_text(text.replace("VALUE", "0.5"))
    given = ("compress", DIGITS, "-o", tmp_path / "out", "--recipe", two, "--data", "calls:images", "--no-measure")
    assert intaglio(*given).code == 0
    assert "was done before" in intaglio(*given).err
    monkeypatch.setattr("calls.images", lambda: iter([{"image": np.zeros((4, 1, 8, 8), np.float32)}]))
    assert "was done before" not in intaglio(*given).err


def test_a_recipe_is_saved_with_the_model_or_not_at_all(intaglio: Command, tmp_path: Path) -> None:
    out = tmp_path / "w8.onnx"
    given = ("quantize", DIGITS, "-o", out, "--scheme", "w8", "--no-measure", "--save-recipe")
    for path in (out, tmp_path / "no" / "r.yaml", tmp_path):
        ran = intaglio(*given, path)
        assert ran.code in (1, 2), ran.err
        assert list(tmp_path.iterdir()) == []
    ran = intaglio(*given, tmp_path / "r.yaml", "--gate", "size <= 0.01x")
    assert ran.code == 3
    assert sorted(p.name for p in tmp_path.iterdir()) == ["r.yaml", "w8.gate-failed.onnx"]
    assert "scheme: w8" in (tmp_path / "r.yaml").read_text()


def test_a_search_that_was_done_is_taken_as_it_is(intaglio: Command, tmp_path: Path) -> None:
    out = tmp_path / "out"
    given = ("compress", DIGITS, "-o", out, "--size", "0.3", "--data", CALIBRATION, "--samples", "64", "--no-measure")
    ran = intaglio(*given)
    assert ran.code == 0, ran.err
    assert "chosen" in ran.out
    told = json.loads((out / "report.json").read_text())
    assert f"in {told['seconds']:.1f} s, found in {told['search_seconds']:.0f} s" in ran.out
    first = (out / "model.onnx").read_bytes()
    ran = intaglio(*given)
    assert ran.code == 0, ran.err
    assert "the search was done before" in ran.err
    assert "chosen" in ran.out
    assert (out / "model.onnx").read_bytes() == first
    ran = intaglio("compress", "-o", tmp_path / "again", "--recipe", out / "recipe.yaml", "--no-measure")
    assert (tmp_path / "again/model.onnx").read_bytes() == first
    assert json.loads((out / "report.json").read_text())["points"]


def test_nothing_is_timed_here_for_a_target_elsewhere_also_where_no_pass_asks_for_one(
    intaglio: Command, tmp_path: Path
) -> None:
    recipe = tmp_path / "prune.yaml"
    recipe.write_text("passes:\n- pass: prune\n  keep: 0.5\n  criterion: l2\ntarget: tensorrt\n")
    job = ("compress", DIGITS, "-o", tmp_path / "out", "--recipe", recipe)
    told = intaglio(*job, "--json").json
    assert "latency_ms" not in told
    assert "latency_ms" not in told["lossless"]
    assert "not what --target tensorrt stands for" in " ".join(told["notes"])
    refused = intaglio(*job, "--gate", "latency <= 0.9x")
    assert refused.code == 2
    assert "not what --target tensorrt stands for" in " ".join(refused.err.split())
    assert "target 'bogus'" in intaglio(*job, "--target", "bogus").err
