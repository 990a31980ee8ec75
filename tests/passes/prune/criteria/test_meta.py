"""What the graph tells of channels, against what zeroing them does."""

from __future__ import annotations

import numpy as np
import pytest

from intaglio.graph.coupling import Removal, analyse
from intaglio.graph.errors import UsageError
from intaglio.graph.model import Model
from intaglio.passes import Context
from intaglio.passes.prune import PruneChannels
from intaglio.passes.prune.choose import Limits
from intaglio.passes.prune.criteria.meta import Meta, MetaOptions, Nodes
from intaglio.passes.prune.plan import Job
from intaglio.passes.prune.ranked import Ranked
from tests.passes.parsed import data_for, parsed, run_plainly

WIDTHS = 20, 24, 16
DEAD = {"w0": (3, 7), "w1": (0, 5, 11)}


def network(dead: bool) -> Model:
    """Three convolutions whose channels matter unlike much, some not at all: nothing makes them, or nothing reads them."""
    rng, drawn, before = np.random.default_rng(2), dict[str, np.ndarray](), 3
    for k, width in enumerate(WIDTHS):
        loud = np.exp(rng.normal(size=(width, 1, 1, 1)))
        drawn[f"w{k}"] = loud * rng.standard_normal((width, before, 3, 3)) / np.sqrt(9 * before)
        before = width
    if dead:
        drawn["w0"][list(DEAD["w0"])] = 0
        drawn["w2"][:, list(DEAD["w1"])] = 0
    shapes = ", ".join(f"float[{','.join(map(str, w.shape))}] {name}" for name, w in drawn.items())
    return parsed(
        "float[N, 3, 8, 8] x",
        "float[N, 5] y",
        f"{shapes}, float[{WIDTHS[-1]}, 5] head",
        """a = Conv <pads = [1, 1, 1, 1]> (x, w0) b = Relu(a) c = Conv <pads = [1, 1, 1, 1]> (b, w1) d = Relu(c)
        e = Conv <pads = [1, 1, 1, 1]> (d, w2) f = Relu(e) p = GlobalAveragePool(f) g = Flatten(p) y = MatMul(g, head)""",
        **{name: w.astype(np.float32) for name, w in drawn.items()},
    )


def images() -> np.ndarray:
    return np.random.default_rng(5).normal(size=(32, 3, 8, 8)).astype(np.float32)


def job_of(model: Model, seed: int = 0) -> Job:
    coupling = analyse(model)
    numbers = [k for k, group in enumerate(coupling.groups) if group.prunable]
    context = Context(data=data_for(model, x=images()), seed=seed)
    return Job(PruneChannels(criterion="meta"), model, coupling, numbers, Limits(), 1.0, lambda _: 1.0, context)


def predicted(job: Job, measured: int) -> dict[str, np.ndarray]:
    """Of each group, by the layer that makes it: what is predicted of its channels, per unit of cost taken back."""
    planner = Meta(options=MetaOptions(measured=measured, images=32)).planner(job)
    assert isinstance(planner, Ranked)
    nothing, found = Removal(job.coupling, job.coupling.nothing()), {}
    for k in job.numbers:
        group = planner.weights.group(k, nothing, 0)
        (made,) = [m.tensor for m in group.having("out")]
        found[made] = planner.score(group) * job.coupling.groups[k].macs
    return found


def zeroed(model: Model, name: str, channel: int) -> float:
    """How far the output is off without the channel that this weight makes."""
    weight = model.weights[name].copy()
    weight[channel] = 0
    other = Model(model.proto, {**model.weights, name: weight}, None, [])
    ours, theirs = (run_plainly(one, {"x": images()}, ["y"])["y"] for one in (model, other))
    return float(np.square(ours - theirs).mean())


def tau(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.sign(np.subtract.outer(a, a) * np.subtract.outer(b, b)).sum() / (len(a) * (len(a) - 1)))


def test_channels_that_nothing_makes_or_reads_go_first() -> None:
    job = job_of(network(dead=True))
    for name, scores in predicted(job, measured=16).items():
        dead = DEAD.get(name, ())
        assert sorted(np.argsort(scores, kind="stable")[: len(dead)]) == list(dead)
        assert (np.delete(scores, dead) > 0).all()


def test_the_predicted_order_is_that_of_effects_which_were_not_measured() -> None:
    model = network(dead=False)
    names = [
        (name, channel) for name, width in zip(("w0", "w1", "w2"), WIDTHS, strict=True) for channel in range(width)
    ]
    truth = np.array([zeroed(model, *one) for one in names])
    found, norms = [], []
    for seed in range(4):
        job = job_of(model, seed)
        guess, nodes = np.concatenate([*predicted(job, measured=24).values()]), Nodes(job)
        held = np.setdiff1d(np.arange(len(names)), nodes.drawn(24, seed))
        assert len(held) == len(names) - 24
        found.append(tau(guess[held], truth[held]))
        norms.append(tau(nodes.bound[held], truth[held]))
    assert min(found) > 0.35
    assert np.mean(found) > 0.48
    assert np.mean(found) > np.mean(norms) + 0.05


def test_the_same_seed_gives_the_same_model_and_the_report_tells_the_rank_correlation() -> None:
    model = network(dead=True)
    options = {"criterion": "meta:measured=16", "target": "channels", "keep": 0.6, "repair": "none"}
    twice = [
        PruneChannels.model_validate(options).run(model, Context(data=data_for(model, x=images()), seed=3))
        for _ in range(2)
    ]
    for name, weight in twice[0].model.weights.items():
        np.testing.assert_array_equal(weight, twice[1].model.weights[name])
    assert any("60 channels were predicted from those of 16; rank correlation" in note for note in twice[0].notes)


def test_it_asks_for_data() -> None:
    with pytest.raises(UsageError, match="calibration data"):
        PruneChannels(criterion="meta").run(network(dead=False), Context())
