"""Each criterion against its definition, written out with numpy on one small network."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from intaglio.graph.coupling import Removal, analyse
from intaglio.graph.model import Model
from intaglio.passes.calibration.gradients import Gradient
from intaglio.passes.prune.criteria.criteria import CRITERIA, Scored
from intaglio.passes.prune.weights import GroupWeights, Weights

from ..nets import attention, conv_pair

W = dict[str, np.ndarray]


def hidden(model: Model, seed: int = 0) -> GroupWeights:
    """The one prunable group of the conv net."""
    coupling = analyse(model)
    (number,) = [k for k, g in enumerate(coupling.groups) if g.prunable]
    return Weights(coupling, gradients=slopes(model)).group(number, Removal(coupling, coupling.nothing()), seed)


def slopes(model: Model) -> dict[str, Gradient]:
    """Some gradients, squares of which are powers of the weights' absolute values, so that definitions know them."""
    exact = {name: weight.astype(np.float64) for name, weight in model.weights.items()}
    return {name: Gradient(value, np.abs(value), value**2) for name, value in exact.items()}


def filters(w: W) -> np.ndarray:
    return w["w1"].reshape(len(w["w1"]), -1).astype(np.float64)


def readers(w: W) -> np.ndarray:
    moved = np.moveaxis(w["w2"], 1, 0)
    return np.asarray(moved.reshape(len(moved), -1), dtype=np.float64)


def relative(rows: np.ndarray) -> np.ndarray:
    squares = np.square(rows)
    flat = squares.reshape(-1)
    scores = np.array([v / flat[flat >= v].sum() for v in flat])
    return np.asarray(scores.reshape(rows.shape).sum(axis=1))


def normalized(scores: np.ndarray) -> np.ndarray:
    return scores / scores.mean()


def powers(w: W, p: float) -> np.ndarray:
    parts = np.abs(filters(w)) ** p, np.abs(readers(w)) ** p, np.abs(w["scale"].astype(np.float64))[:, None] ** p
    return normalized(np.sum([part.sum(1) for part in parts], axis=0) / 3)


def sums(w: W, score: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Over all that goes with each channel."""
    flat = (w[name].astype(np.float64) for name in ("scale", "shift"))
    return np.asarray(sum(score(one).sum(1) for one in (filters(w), readers(w), *(one[:, None] for one in flat))))


DEFINITIONS: dict[str, Callable[[W], np.ndarray]] = {
    "l1": lambda w: powers(w, 1),
    "l2": lambda w: powers(w, 2),
    "norm": lambda w: powers(w, 1),
    "bn-scale": lambda w: normalized(np.abs(w["scale"]).astype(np.float64)),
    "fpgm": lambda w: normalized(
        np.array([sum(np.linalg.norm(f - g) for g in filters(w)) for f in filters(w)], dtype=np.float64)
    ),
    "lamp": lambda w: (relative(filters(w)) + relative(readers(w))) / 2,
    "udfc": lambda w: normalized(
        np.linalg.norm(filters(w), axis=1) * np.abs(w["scale"]) / np.sqrt(w["variance"] + 1e-5)
    ),
    "snip": lambda w: normalized(sums(w, np.square)),
    "grasp": lambda w: sums(w, lambda v: v**3),
    "crop": lambda w: normalized(sums(w, lambda v: np.abs(v) ** 3)),
    "taylor": lambda w: normalized(
        (np.abs(filters(w)) ** 3).sum(1)
        + (np.abs(readers(w)) ** 3).sum(1)
        + np.abs(w["scale"].astype(np.float64)) ** 3
        + np.abs(w["shift"].astype(np.float64)) ** 3
    ),
    "dfpc": lambda w: normalized(
        np.abs(filters(w)).sum(1) * (np.abs(w["scale"]) / np.sqrt(w["variance"] + 1e-5)) * np.abs(readers(w)).sum(1)
    ),
}


def scored() -> dict[str, Scored]:
    every = {name: CRITERIA[name] for name in CRITERIA}
    return {name: found for name, found in every.items() if isinstance(found, Scored)}


@pytest.mark.parametrize("name", sorted(DEFINITIONS))
@pytest.mark.parametrize("seed", [0, 1])
def test_the_score_is_what_the_paper_defines(name: str, seed: int) -> None:
    model = conv_pair(seed)
    found = scored()[name](hidden(model))
    np.testing.assert_allclose(found, DEFINITIONS[name](model.weights), rtol=1e-4)


@pytest.mark.parametrize("p", [0.5, 1, 2, 3])
def test_a_norm_has_the_power_that_was_asked_for(p: float) -> None:
    model, found = conv_pair(0), CRITERIA[f"norm:p={p}"]
    assert isinstance(found, Scored)
    np.testing.assert_allclose(found(hidden(model)), powers(model.weights, p), rtol=1e-4)


def test_every_scoring_criterion_has_a_definition_here() -> None:
    orders = {"random", "cluster", "spline"}
    assert set(scored()) == {*DEFINITIONS, *orders}


def test_random_scores_depend_on_the_seed_alone() -> None:
    model = conv_pair()
    a, b, c = (scored()["random"](hidden(model, seed)) for seed in (1, 1, 2))
    assert np.array_equal(a, b)
    assert not np.array_equal(a, c)
    assert ((a >= 0) & (a < 1)).all()


def test_scores_are_per_channel_also_where_heads_and_width_cross() -> None:
    coupling = analyse(attention())
    weights = Weights(coupling, gradients=slopes(coupling.model))
    for number, group in enumerate(coupling.groups):
        if group.prunable:
            view = weights.group(number, Removal(coupling, coupling.nothing()), 0)
            for criterion in scored().values():
                scores = criterion(view)
                assert scores.shape == (group.channels,)
                assert np.isfinite(scores).all()


def test_a_head_scores_by_all_its_rows() -> None:
    model = attention()
    coupling = analyse(model)
    (number,) = [k for k, g in enumerate(coupling.groups) if g.prunable and g.channels == 4]
    view = Weights(coupling).group(number, Removal(coupling, coupling.nothing()), 0)
    makers = [np.square(model.weights[n].astype(np.float64)).sum(0).reshape(4, 6).sum(1) for n in ("wq", "wk", "wv")]
    reader = np.square(model.weights["wo"].astype(np.float64)).sum(1).reshape(4, 6).sum(1)
    np.testing.assert_allclose(scored()["l2"](view), normalized(np.mean([*makers, reader], axis=0)), rtol=1e-5)
