"""Searches from files to a folder: fronts, limits, strategies, going on."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from intaglio import PruneChannels, Quantize, load
from intaglio.graph.coupling import analyse
from intaglio.graph.errors import GateFailed, IntaglioError, UsageError
from intaglio.graph.io.save import CannotWrite
from intaglio.graph.layers import Layers
from intaglio.measure.data.drawn import drawn
from intaglio.measure.data.source import open_data
from intaglio.passes.base import Context
from intaglio.passes.kept import Kept
from intaglio.pipeline import html
from intaglio.pipeline.study.cache import Cache
from intaglio.pipeline.study.objectives import objectives
from intaglio.pipeline.study.record import Record, Told
from intaglio.pipeline.study.search import Searching, search
from intaglio.pipeline.study.space import Space
from intaglio.pipeline.study.storage import open_storage
from intaglio.pipeline.study.strategies.strategy import STRATEGIES
from intaglio.pipeline.study.sweep import sweep

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"
DIGITS = EXAMPLES / "digits.onnx"
LABELLED = str(EXAMPLES / "digits_test.npz")
CALIBRATION = str(EXAMPLES / "digits_calib.npz")


def given(out: Path, **more: Any) -> dict[str, Any]:
    """A search over bits without calibration data, a tenth of a second a trial; what trials share lies beside all tests."""
    cache = {"cache": out.parent / "shared"} if "cache" not in more else {}
    return {
        "eval_data": LABELLED,
        "scored": 100,
        "storage": f"lines:{out / 'study.jsonl'}",
        "batch": 4,
        **cache,
        **more,
    }


def figures(report: dict[str, Any]) -> list[Any]:
    return [{**one, "seconds": 0} for one in report["points"]]


def test_the_front_is_written_and_each_model_is_what_its_recipe_makes(tmp_path: Path) -> None:
    out = tmp_path / "out"
    report = search(DIGITS, out, ["bits"], **given(out, trials=8, write=2))
    assert report == json.loads((out / "report.json").read_text())
    assert {"report.html", "report.md", "front", "study.jsonl"} <= {one.name for one in out.iterdir()}
    assert len(report["points"]) == 8
    assert 1 <= len(report["written"]) <= 2
    for one in report["written"]:
        point = next(p for p in report["points"] if p["name"] == one["name"])
        assert point["front"]
        assert one["size_bytes"] == point["size_bytes"]
        again = tmp_path / "again.onnx"
        again.unlink(missing_ok=True)
        from intaglio.pipeline.recipe.load import load_recipe
        from intaglio.pipeline.run import run

        recipe = load_recipe(str(Path(one["out"]).with_name("recipe.yaml")))
        run(DIGITS, recipe.passes, eval_data=LABELLED, samples=128, out=again, measure=False, force=True)
        assert again.read_bytes() == Path(one["out"]).read_bytes()


@pytest.mark.parametrize(
    "strategy", ["random", "grid", "tpe", "nsga2:population=4", "linas:population=4", "stages", "bands"]
)
def test_a_study_goes_on_as_if_it_had_never_stopped(strategy: str, tmp_path: Path) -> None:
    if strategy.partition(":")[0] in ("tpe", "nsga2"):
        pytest.importorskip("optuna", reason="Optuna is not installed: pip install 'intaglio[search]'")
    one, two = tmp_path / "one", tmp_path / "two"
    common: dict[str, Any] = {"strategy": strategy, "objectives": ["accuracy", "size"]}
    whole = Searching(DIGITS, one, ["bits"], **given(one, trials=9, **common)).tried()
    for trials in (2, 5, 9):
        parts = Searching(DIGITS, two, ["bits"], **given(two, trials=trials, **common)).tried()
        assert len(parts.records) == trials
    assert [r.values for r in parts.records] == [r.values for r in whole.records]
    assert (parts.costs() == whole.costs()).all()
    assert len({str(r.values) for r in whole.records}) > 6
    other = Searching(DIGITS, two, ["bits"], **given(two, trials=6, seed=1, **common)).tried()
    assert strategy == "grid" or [r.values for r in other.records] != [r.values for r in whole.records[:6]]


def test_a_killed_driver_loses_nothing(tmp_path: Path) -> None:
    out, alone = tmp_path / "killed", tmp_path / "alone"
    words = [
        "search",
        DIGITS,
        "-o",
        out,
        "--space",
        "bits",
        "--eval-data",
        LABELLED,
        "--trials",
        12,
        "--eval-samples",
        100,
    ]
    words += ["--storage", f"lines:{out / 'study.jsonl'}", "--batch", 4, "--executor", "processes"]
    code = "import sys; from intaglio.cli.main import main; sys.exit(main(sys.argv[1:]))"
    driver = subprocess.Popen([sys.executable, "-c", code, *map(str, words)], stdout=subprocess.DEVNULL)
    lines = out / "study.jsonl"
    while not (lines.exists() and lines.read_text().count("\n") >= 2):
        assert driver.poll() is None
        time.sleep(0.02)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    told = lines.read_text().count("\n")
    common: dict[str, Any] = {"scored": 100, "trials": 12, "batch": 4, "eval_data": LABELLED}
    after = Searching(DIGITS, out, ["bits"], storage=f"lines:{lines}", **common).tried()
    whole = Searching(DIGITS, alone, ["bits"], storage=f"lines:{alone / 'study.jsonl'}", **common).tried()
    assert 2 <= told <= len(after.records) == 12
    assert [r.values for r in after.records] == [r.values for r in whole.records]
    assert (after.costs() == whole.costs()).all()


def test_limits_are_kept_or_missed(tmp_path: Path) -> None:
    out = tmp_path / "out"
    report = search(DIGITS, out, ["bits"], **given(out, trials=8, size=0.2, max_drop=50.0, write=1))
    kept = [one for one in report["points"] if one["meets"]]
    assert 0 < len(kept) < 8
    assert all(one["kept"]["size_bytes"] <= 0.2 for one in kept)
    assert all(one["meets"] for one in report["points"] if one["front"])
    with pytest.raises(GateFailed, match="none of 8 trials keeps the limits") as raised:
        search(DIGITS, out, ["bits"], **given(out, trials=8, size=0.01))
    assert raised.value.report["written"] == []
    assert not json.loads((out / "report.json").read_text())["passed"]


def test_hopeless_trials_are_stopped_on_few_samples(tmp_path: Path) -> None:
    out = tmp_path / "out"
    told = Searching(DIGITS, out, ["bits"], **given(out, trials=8, halving=True)).tried()
    assert [sum(r.stopped for r in told.records[k : k + 4]) for k in (0, 4)] == [2, 2]
    assert all(not one.stopped for one in told.front())
    whole = Searching(DIGITS, out, ["bits"], **given(out, trials=4, strategy="random")).tried()
    assert all(r.figures["accuracy"] for r in whole.records)


def test_a_recipe_with_ranges_is_searched(tmp_path: Path) -> None:
    out, recipe = tmp_path / "out", tmp_path / "open.yaml"
    recipe.write_text(
        "passes:\n  - pass: prune\n    criterion: l2\n    keep: {from: 0.3, to: 1.0}\n  - pass: quantize\n    scheme: {of: [w4, w8]}\n"
    )
    report = search(DIGITS, out, recipe=str(recipe), **given(out, trials=5, strategy="random", write=1))
    assert {one["name"] for one in report["parameters"]} == {"passes[0].keep", "passes[1].scheme"}
    for one in report["points"]:
        assert one["kept"]["macs"] == pytest.approx(one["values"]["passes[0].keep"], abs=0.03)


def test_how_much_goes_and_bits_are_open_where_nobody_says_what() -> None:
    names = [one.name for one in Searching(DIGITS, "out").open_space.parameters]
    assert names[0] == "macs"
    assert {name.split()[0] for name in names[1:]} == {"bits"}


COMPARED = {"methods": ["l2"], "keep": [0.5], "data": CALIBRATION}


@pytest.mark.parametrize(("command", "options"), [(search, {}), (sweep, COMPARED)])
def test_a_broken_model_leaves_no_folder(command: Any, options: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "broken.onnx").write_bytes(DIGITS.read_bytes()[:1000])
    with pytest.raises(IntaglioError, match=r"(?s)cut short"):
        command(tmp_path / "broken.onnx", tmp_path / "new" / "out", **options)
    assert not (tmp_path / "new").exists()


def test_what_makes_no_sense_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="both say what may be chosen"):
        search(DIGITS, tmp_path / "out", ["bits"], recipe="tiny")
    with pytest.raises(UsageError, match="accuracy needs labelled data"):
        search(DIGITS, tmp_path / "out", ["bits"], objectives=["accuracy"])
    with pytest.raises(UsageError, match="is no file"):
        search(tmp_path / "no.onnx", tmp_path / "out", ["bits"])
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("mine")
    with pytest.raises(CannotWrite, match="cannot write into"):
        search(DIGITS, tmp_path / "mine", ["bits"])


def test_a_width_for_each_group_is_kept_exactly() -> None:
    model = load(DIGITS)
    groups = [g for g in analyse(model).groups if g.prunable]
    widths = {g.name: max(1, g.channels // 2 - k) for k, g in enumerate(groups)}
    change = PruneChannels(widths=tuple(widths.items())).run(model)
    assert {one["name"]: one["after"] for one in change.layers if one["name"] in widths} == widths
    assert change.proof
    with pytest.raises(UsageError, match="no group 'convv'"):
        PruneChannels(widths=(("convv", 3),)).run(model)
    with pytest.raises(UsageError, match=f"has {groups[0].channels} channels"):
        PruneChannels(widths=((groups[0].name, 1000),)).run(model)


def test_bits_for_each_layer_are_those_that_were_asked_for() -> None:
    model = load(DIGITS)
    names = [one.name for one in Layers(model)]
    bits = dict(zip(names, (2, 3, 4, 6, 8), strict=False))
    change = Quantize(layer_bits=tuple(list(bits.items())[:-1]), verify=False).run(model)
    found = {one["name"]: one["weights"] for one in change.layers}
    assert {name: found[name] for name in bits} == {
        name: f"int{number}" for name, number in [*list(bits.items())[:-1], (names[len(bits) - 1], 8)]
    }
    with pytest.raises(UsageError, match="no layer 'convv'"):
        Quantize(layer_bits=(("convv", 3),)).run(model)


def test_orders_that_another_run_worked_out_give_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load(DIGITS)
    data = open_data(CALIBRATION, model, samples=32)
    kept = Kept(tmp_path, "key")

    def pruned(context: Context, keep: float) -> dict[str, np.ndarray]:
        return dict(PruneChannels(keep=keep, verify=False).run(model, context).model.weights)

    alone = pruned(Context(data=data), 0.4)
    first = pruned(Context(data=data, kept=kept), 0.6)
    monkeypatch.setattr(
        "intaglio.passes.prune.obspa.obspa.Obspa._worked_out", lambda self: pytest.fail("worked out again")
    )
    second = pruned(Context(data=data, kept=kept), 0.4)
    assert {name: one.tobytes() for name, one in second.items()} == {name: one.tobytes() for name, one in alone.items()}
    assert {one.shape for one in first.values()} != {one.shape for one in second.values()}


def test_nested_widths_lie_in_each_other_and_are_exact(tmp_path: Path) -> None:
    model = load(DIGITS)
    context = Context(data=open_data(CALIBRATION, model, samples=32), kept=Kept(tmp_path, "key"))
    group = max((g for g in analyse(model).groups if g.prunable), key=lambda g: g.channels)
    rows = []
    for width in (group.channels // 4, group.channels // 2):
        asked = PruneChannels(criterion="obspa", widths=((group.name, width),), nested=True)
        change = asked.run(model, context)
        assert change.proof.exact
        layer = next(one for one in Layers(change.model) if one.name == group.name)
        weight = change.model.weights[layer.weight]
        rows.append({row.tobytes() for row in weight.reshape(len(weight), -1)})
    assert [len(one) for one in rows] == [group.channels // 4, group.channels // 2]
    assert rows[0] < rows[1]


def test_the_cache_drops_what_was_not_used_for_longest(tmp_path: Path) -> None:
    cache = Cache(tmp_path, "key", most=3300)
    for number in range(5):
        cache.kept("x").take({"number": number}, lambda: {"a": np.zeros(100)})
        time.sleep(0.02)
        cache.kept("x").take({"number": 0}, lambda: pytest.fail("was there"))
    cache.trim()
    made: list[int] = []
    for number in (0, 4, 3, 2, 1):
        found = cache.kept("x").take({"number": number}, lambda: {"a": np.ones(100)})
        made += [number] * int(found["a"][0])
    assert made == [2, 1]


def test_drawn_samples_are_of_the_source_and_differ_by_seed() -> None:
    model = load(DIGITS)
    source = open_data(CALIBRATION, model, samples=40)
    whole = np.concatenate([next(iter(b.inputs.values())) for b in open_data(CALIBRATION, model).batches()])
    rows = {row.tobytes() for row in whole}
    found = [
        np.concatenate([next(iter(b.inputs.values())) for b in drawn(source, seed).batches(16)]) for seed in (0, 0, 1)
    ]
    assert [len(one) for one in found] == [40] * 3
    assert all(row.tobytes() in rows for row in found[0])
    assert (found[0] == found[1]).all()
    assert not (found[0] == found[2]).all()


def test_a_sweep_tells_each_method_at_each_size(tmp_path: Path) -> None:
    report = sweep(DIGITS, tmp_path / "out", ["l2", "random"], [0.7, 0.3], seeds=2, eval_data=LABELLED)
    assert [one["name"] for one in report["points"]] == ["l2 0.7", "l2 0.3", "random 0.7", "random 0.3"]
    assert [one["seeds"] for one in report["points"]] == [1, 1, 2, 2]
    rows = (tmp_path / "out" / "sweep.csv").read_text().splitlines()
    assert rows[0].startswith("method,keep,seed,")
    assert len(rows) == 1 + 2 + 4
    for one in report["rows"]:
        assert one["kept"]["macs"] == pytest.approx(one["keep"], abs=0.02)
    means = {one["name"]: one["accuracy"]["top1"] for one in report["points"]}
    found = [one["accuracy"]["top1"] for one in report["rows"] if (one["method"], one["keep"]) == ("random", 0.3)]
    assert means["random 0.3"] == pytest.approx(np.mean(found))


def test_many_trials_are_listed_and_drawn(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    storage = open_storage(
        f"lines:{tmp_path / 'study.jsonl'}", tmp_path, "many", "many", objectives(["accuracy", "size"])
    )
    usual: dict[str, Any] = {
        "latency_ms": None,
        "latency_ratio": None,
        "sqnr_db": 10.0,
        "agreement": None,
        "seconds": 1.0,
        "passes": [],
    }
    shares = rng.random((10_000, 2))
    storage.add(
        [
            Record(k, {"macs": 0.5}, {**usual, "kept": {"size_bytes": s, "macs": 1.0}, "accuracy": {"top1": a * s}})
            for k, (a, s) in enumerate(shares.tolist())
        ]
    )
    told = Told(Space([]), objectives(["accuracy", "size"]), storage.read())
    front = {one.number for one in told.front()}
    points = [{**one.figures, "name": f"trial {one.number}", "front": one.number in front} for one in told.records]
    page = html.render({"command": "search", "objectives": ["accuracy", "size"], "trials": 10_000, "points": points})
    assert f"{len(front)} of 10000 trials are beaten by none" in page
    assert page.count('class="mark ') == 10_000


def test_strategies_are_registered() -> None:
    assert {"random", "grid", "tpe", "nsga2", "linas", "stages", "bands"} <= set(STRATEGIES)
