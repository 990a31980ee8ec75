"""Where times decided what a pass chose, its recipe says what that was: replayed, it measures nothing and gives the same bytes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import yaml

from intaglio.graph.io.save import save
from intaglio.graph.model import Model
from intaglio.measure.optime.times import LayerTimes
from intaglio.measure.run.latency import Timing
from intaglio.passes.change import amounts
from tests.passes.prune.depth.test_depth import net
from tests.passes.prune.test_latency import Machine, machine

from .conftest import Command
from .test_bodies import looped

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
DIGITS, TRANSFORMER, CALIBRATION = (EXAMPLES / name for name in ("digits.onnx", "vit_digits.onnx", "digits_calib.npz"))
BY_WEIGHTS = ("--no-measure", "--no-verify", "--force")
BY_DATA = (*BY_WEIGHTS, "--data", CALIBRATION, "--samples", "64")
TIMERS = (
    "intaglio.passes.prune.prune.LatencyModel",
    "intaglio.passes.prune.depth.depth.time_pair",
    "intaglio.passes.bodies.time_pair",
    "intaglio.passes.factorize.gains.LayerTimes",
    "intaglio.passes.factorize.latency.time_wholes",
    "intaglio.passes.factorize.latency.time_pair",
)


def paired(before: Model, after: Model, *_: object, **__: object) -> Timing:
    """A machine on which time follows the MACs."""
    full, left = (1e4 + amounts(one).of("macs") for one in (before, after))
    return Timing(np.array([[1.0] * 40, [left / full] * 40]), 1, "a machine")


def known_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    one = Machine()
    known = (machine, paired, paired, partial(LayerTimes, timer=one.layers), one.wholes, paired)
    for name, timer in zip(TIMERS, known, strict=True):
        monkeypatch.setattr(name, timer)


def no_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of which nothing may be asked."""

    def measures(*_: object, **__: object) -> Any:
        raise AssertionError("something was measured")

    for name in TIMERS:
        monkeypatch.setattr(name, measures)


def asked(recipe: Path) -> dict[str, Any]:
    return dict(yaml.safe_load(recipe.read_text())["passes"][0])


def replayed(intaglio: Command, monkeypatch: pytest.MonkeyPatch, model: Path, *command: object) -> dict[str, Any]:
    """What the recipe of a command asks for, once it and the metadata have given the same bytes without measuring."""
    known_machine(monkeypatch)
    ran = intaglio(*command[:1], model, "-o", "small.onnx", *command[1:], "--save-recipe", "r.yaml")
    assert ran.code == 0, ran.err
    no_machine(monkeypatch)
    for number, recipe in enumerate(("r.yaml", "small.onnx")):
        told = [word for word in command if word == "--data" or word == CALIBRATION]
        again = intaglio("compress", model, "-o", f"again{number}", "--recipe", recipe, "--no-measure", *told)
        assert again.code == 0, again.err
        assert Path(f"again{number}/model.onnx").read_bytes() == Path("small.onnx").read_bytes()
    return asked(Path("r.yaml"))


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("INTAGLIO_CACHE", str(tmp_path / "times"))


@pytest.mark.parametrize(
    "options",
    [
        ("--criterion", "l2"),
        ("--criterion", "l2", "--steps", "3", "--round-to", "8"),
        ("--criterion", "fpgm", "--axis", "both", "--min-channels", "5"),
        ("--criterion", "obspa", *BY_DATA[3:]),
        ("--criterion", "obspa", "--scope", "group", *BY_DATA[3:]),
        ("--followed-by", "int8", *BY_DATA[3:]),
    ],
    ids=lambda one: " ".join(str(word) for word in one[:4] if word != CALIBRATION),
)
@pytest.mark.parametrize("model", [DIGITS, TRANSFORMER], ids=["digits", "vit_digits"])
def test_widths_that_times_chose_are_what_a_recipe_asks_for(
    intaglio: Command, monkeypatch: pytest.MonkeyPatch, model: Path, options: Sequence[object]
) -> None:
    found = replayed(intaglio, monkeypatch, model, "prune", "--latency", 0.8, *options, *BY_WEIGHTS)
    assert found["widths"]
    assert found.keys().isdisjoint({"latency", "followed_by", "round_to"})


def test_branches_that_times_chose_are_what_a_recipe_asks_for(
    intaglio: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ("--axis", "depth", "--latency", 0.8, *BY_DATA)
    found = replayed(intaglio, monkeypatch, TRANSFORMER, "prune", *options)
    assert found["branches"]
    assert found["axis"] == "depth"


@pytest.mark.parametrize("target", ["--latency", "--macs"])
@pytest.mark.parametrize("data", [(), BY_DATA[3:]], ids=["weights", "data"])
def test_ranks_that_times_chose_are_what_a_recipe_asks_for(
    intaglio: Command, monkeypatch: pytest.MonkeyPatch, target: str, data: Sequence[object]
) -> None:
    options = (target, 0.8, "--min-gain", 1, "--min-speedup", 0, *data)
    found = replayed(intaglio, monkeypatch, DIGITS, "factorize", *options, "--no-verify", "--force")
    assert found["ranks"]
    assert [name for name, _ in found["ranks"]] == [name for name, _ in found["scheme_of"]]


@pytest.mark.parametrize("command", ["prune", "factorize"])
def test_of_bodies_a_recipe_asks_for_the_macs_that_met_the_time(
    intaglio: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, command: str
) -> None:
    model = looped(tmp_path / "loop.onnx", "Loop")
    found = replayed(intaglio, monkeypatch, model, command, "--latency", 0.8, *BY_WEIGHTS)
    assert 0 < found["keep"] < 1


def test_a_search_saves_what_its_passes_chose(intaglio: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bytes are those of its own recipe on a machine that takes other times."""
    known_machine(monkeypatch)
    data = ("--data", CALIBRATION, "--samples", "64")
    monkeypatch.setattr("intaglio.pipeline.search.chains.time_pair", paired)
    ran = intaglio("compress", TRANSFORMER, "-o", "out", "--latency", 0.8, *data, "--no-measure", "--force")
    assert ran.code == 0, ran.err
    no_machine(monkeypatch)
    again = intaglio("compress", "-o", "again", "--recipe", "out/recipe.yaml", "--no-measure", "--force")
    assert again.code == 0, again.err
    assert Path("again/model.onnx").read_bytes() == Path("out/model.onnx").read_bytes()


def test_only_the_branches_that_are_named_go(intaglio: Command, tmp_path: Path) -> None:
    save(net([1.0, 0.05, 1.0]), tmp_path / "net.onnx")
    ran = intaglio("prune", "net.onnx", "-o", "a.onnx", "--axis", "depth", "--macs", 0.75, "--no-measure", "--json")
    names = [one["name"] for one in ran.json["branches"]]
    asked = intaglio("prune", "net.onnx", "-o", "b.onnx", "--branch", names[2], "--no-measure", "--json")
    assert asked.code == 0, asked.err
    assert [one["removed"] for one in asked.json["branches"]] == [False, False, True]
    assert len(onnx.load("b.onnx").graph.node) < len(onnx.load("net.onnx").graph.node)


@pytest.mark.parametrize(
    ("options", "what"),
    [
        (("--branch", "nowhere"), "no branch 'nowhere'"),
        (("--branch", "a", "--axis", "width"), "--axis depth"),
        (("--branch", "a", "--macs", "0.5"), "target of their own"),
        (("--axis", "depth", "--width", "stem=3"), "thins no channels"),
    ],
)
def test_branches_that_are_not_there_and_other_targets_are_told(
    intaglio: Command, tmp_path: Path, options: Sequence[str], what: str
) -> None:
    save(net([1.0, 1.0]), tmp_path / "net.onnx")
    ran = intaglio("prune", "net.onnx", "-o", "a.onnx", *options)
    assert ran.code == 2
    assert what in ran.err
    assert not Path("a.onnx").exists()
