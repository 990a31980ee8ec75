"""Experts merge into others: equal ones with no change, however their units are ordered, others into weighed means."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from intaglio import PruneChannels, run
from intaglio.graph.errors import UsageError
from intaglio.graph.model import Model
from intaglio.graph.nodes import refill
from intaglio.measure.run.session import open_session
from intaglio.measure.run.session import run as once
from intaglio.passes.prune.experts.merging import Crowd, Units, msmoe, reordered
from intaglio.passes.prune.experts.routers import routers
from intaglio.passes.prune.experts.standing import interchangeable
from intaglio.pipeline.report import Report

from .test_experts import EXPERTS, HIDDEN, WIDTH, mixture

UNITS = Units({("stack0", 1): np.arange(HIDDEN)[:, None], ("down0", 2): np.arange(HIDDEN)[:, None]})
LOOKED = ("stack0", "down0")
TWIN_OF = {2: 0, 3: 1}


def with_twins(seed: int) -> Model:
    """Experts 2 and 3 are 0 and 1 with their units in another order, and tokens score them like those, but a bit lower."""
    model, random = mixture(seed, layers=1, bias=True), np.random.default_rng(seed)
    stacks = {name: np.array(model.weights[name]) for name in LOOKED}
    column = np.array(model.weights["r0"][:, :1])
    for twin, of in TWIN_OF.items():
        own = {name: stack[of] for name, stack in stacks.items()}
        for name, weight in reordered(own, UNITS, random.permutation(HIDDEN)).items():
            stacks[name][twin] = weight
    scores = np.concatenate([column, -column, column, -column], axis=1)
    for name, value in {**stacks, "r0": scores, "rb0": np.array([0.5, 0.5, 0, 0], np.float32)}.items():
        model.put(name, value)
    return model


def halved(model: Model, x: np.ndarray, folder: Path, merge: str | None) -> Report:
    np.savez(folder / "x.npz", x=x)
    options = PruneChannels(axis="experts", target="channels", keep=0.5, merge=merge)
    return run(model, options, data=str(folder / "x.npz"), measure=False)


def outputs(model: Model, x: np.ndarray) -> np.ndarray:
    return np.asarray(once(open_session(model), {"x": x})["y0"])


def tokens(seed: int) -> np.ndarray:
    """Each stands there with its opposite."""
    x = np.random.default_rng(seed).standard_normal((30, WIDTH)).astype(np.float32)
    return np.concatenate([x, -x])


@pytest.mark.parametrize("seed", range(4))
def test_equal_experts_merge_with_no_change_and_cannot_be_dropped_so(seed: int, tmp_path: Path) -> None:
    model, x = with_twins(seed), tokens(seed)
    merged, dropped = (halved(model, x, tmp_path, merge) for merge in ("msmoe", None))
    (told,) = merged.as_dict()["experts"].values()
    assert {expert % 2 for expert in told["kept"]} == {0, 1}, "both pairs are taken as often"
    assert [expert % 2 for expert in told["into"]] == [0, 1, 0, 1]
    np.testing.assert_allclose(outputs(merged.model, x), outputs(model, x), rtol=1e-4, atol=1e-4)
    assert np.abs(outputs(dropped.model, x) - outputs(model, x)).max() > 1e-2
    assert merged.model.weights["stack0"].shape == (EXPERTS // 2, HIDDEN, WIDTH)
    assert merged.model.weights["r0"].shape == (WIDTH, EXPERTS), "tokens choose among as many as before"


def test_different_experts_become_means_by_how_often_each_is_taken_once_aligned() -> None:
    random = np.random.default_rng(3)
    stacks = {name: random.standard_normal(shape).astype(np.float32) for name, shape in
              (("stack0", (3, HIDDEN, WIDTH)), ("down0", (3, WIDTH, HIDDEN)))}  # fmt: skip
    order = np.array([2, 0, 4, 1, 3])
    near = {name: stack[0] + 0.01 * random.standard_normal(stack[0].shape) for name, stack in stacks.items()}
    for name, weight in reordered(near, UNITS, order).items():
        stacks[name][2] = weight
    scores = np.array([[1, 0, 0.9], [0, 1, 0.1], [0.9, 0.1, 1]])
    done = msmoe(Crowd(np.array([30, 50, 10]), scores, stacks, [UNITS]), np.array([0, 1]))
    assert done.place.tolist() == [0, 1, 0]
    for name in LOOKED:
        np.testing.assert_allclose(done.stacks[name][0], 0.75 * stacks[name][0] + 0.25 * near[name], atol=1e-5)
        np.testing.assert_array_equal(done.stacks[name][1], stacks[name][1])


def test_experts_may_be_fewer_than_a_token_takes(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x=tokens(0))
    options = PruneChannels(axis="experts", target="params", keep=0.45, merge="msmoe")
    report = run(mixture(), options, data=str(tmp_path / "x.npz"), measure=False)
    assert report.as_dict()["kept"]["params"] <= 0.45
    assert min(one["after"] for one in report.as_dict()["groups"]) == 1
    assert report.as_dict()["verified"]["passed"]


@pytest.mark.parametrize("same", [True, False])
def test_units_are_reordered_only_where_that_changes_nothing(same: bool) -> None:
    """One bias for the units of all experts makes them differ by their places."""
    model = mixture(layers=1)
    if not same:
        node = next(n for n in model.graph.node if n.op_type == "Relu")
        nodes = []
        for one in model.graph.node:
            nodes.append(one)
            if one is node:
                made = type(node)()
                made.op_type = "Mul"
                made.input.extend(
                    [node.output[0], model.put("uneven", np.arange(1, HIDDEN + 1, dtype=np.float32)[:, None])]
                )
                made.output.append("uneven/y")
                nodes.append(made)
            elif node.output[0] in one.input:
                one.input[list(one.input).index(node.output[0])] = "uneven/y"
        refill(model.graph.node, nodes)
    found, _ = routers(model)
    units = interchangeable(model, found, ([{"x": tokens(1)}], "made-up"), 0, 1 << 28)
    assert bool(units[found[0].name]) is same


def test_merging_is_of_experts_alone() -> None:
    with pytest.raises(UsageError, match="`merge` is of experts"):
        PruneChannels(target="params", keep=0.5, merge="msmoe")
