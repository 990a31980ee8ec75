"""Running times are predicted as a machine would have them, and targets are met by measuring.

Most tests run on a machine of which the times are known: it is told by the shapes of what it runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from math import prod
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from intaglio import load
from intaglio.graph.coupling import Coupling, Removal, analyse, remove
from intaglio.graph.index import index_of
from intaglio.graph.model import Model
from intaglio.graph.nodes import attribute
from intaglio.measure.optime.block import UNIT, channel_block
from intaglio.measure.optime.probe import Layer, feeds_of, open_layer, time_runs
from intaglio.measure.optime.times import LayerTimes
from intaglio.measure.optime.wholes import Wholes
from intaglio.measure.run.latency import Timing, time_pair
from intaglio.passes.budget.latency_target import report
from intaglio.passes.prune import PruneChannels
from intaglio.passes.prune.choose import Limits, Ranking, eligible, one_direction
from intaglio.passes.prune.latency.model import LatencyModel, meet_target
from tests.passes.parsed import parsed

from .nets import attention, conv_pair

BLOCK = max(channel_block(), UNIT)
EXAMPLES = Path(__file__).resolve().parents[3] / "examples"
EMPTY, REFERENCE_MS = 7.0, 0.5


def padded(width: int) -> int:
    return -(-width // BLOCK) * BLOCK


def time_of(op: str, dims: Sequence[tuple[int, ...]], group: int) -> float:
    """A machine that computes convolutions in blocks of channels, thrice as slowly where inputs are no multiple of 4."""
    if op != "Conv":
        return prod(dims[0]) * dims[1][-1] / 1e3
    (_, channels, *image), (filters, _, *kernel) = dims[:2]
    area = prod(image) * prod(kernel) / 1e3
    if channels >= BLOCK and channels % UNIT:
        return area * 3 * channels * (1 if group > 1 else filters)
    inputs = padded(channels) if channels >= BLOCK else channels
    return area * inputs * (1 if group > 1 else padded(filters))


class Timed(LatencyModel):
    """Whole networks take what the machine says of them."""

    def time(self, small: Model, original: Model | None = None) -> Timing:
        kept = Machine.whole(small) / Machine.whole(original or self.coupling.original)
        return Timing(np.array([[1.0] * 40, [kept] * 40]), 1, "a machine")


def machine(coupling: Coupling, **_: object) -> LatencyModel:
    return Timed(coupling, times=LayerTimes(timer=Machine().layers), whole=Machine().wholes)


class Machine:
    """Times layers and whole models by ``time_of``, and notes which layers it was asked for."""

    def __init__(self) -> None:
        self.asked: list[Layer] = []

    def layers(self, layers: Sequence[Layer], threads: int) -> list[float | None]:
        self.asked += layers
        return [self._layer(layer) for layer in layers]

    @staticmethod
    def _layer(layer: Layer) -> float:
        node = onnx.NodeProto.FromString(layer.node)
        return time_of(node.op_type, [o.dims for o in layer.operands if o], attribute(node, "group", 1))

    def wholes(self, models: Sequence[Model], inputs: object, threads: int) -> Wholes:
        return Wholes([self.whole(model) for model in models], EMPTY, REFERENCE_MS)

    @staticmethod
    def whole(model: Model) -> float:
        dims = index_of(model).shapes.dims
        heavy = [n for n in model.graph.node if n.op_type in ("Conv", "Gemm", "MatMul")]
        return EMPTY + sum(time_of(n.op_type, [dims[i] for i in n.input], attribute(n, "group", 1)) for n in heavy)

    def model(self, coupling: Coupling) -> LatencyModel:
        return LatencyModel(coupling, times=LayerTimes(timer=self.layers), whole=self.wholes)


@cache
def wide() -> Coupling:
    return analyse(conv_pair(width=48))


@cache
def digits() -> Coupling:
    return analyse(load(EXAMPLES / "digits.onnx"))


@cache
def predictor(name: str) -> LatencyModel:
    return Machine().model({"wide": wide, "digits": digits}[name]())


def nothing(coupling: Coupling) -> Removal:
    return Removal(coupling, coupling.nothing())


def keeping(coupling: Coupling, fractions: Sequence[float], round_to: int = 1) -> Removal:
    """Groups narrowed to these fractions, the first being for the first group and so on round."""
    numbers = one_direction(coupling, eligible(coupling, include=(), exclude=(), exact_only=False), "width")
    scores = [np.arange(coupling.groups[k].channels, dtype=np.float64) for k in numbers]
    ranking = Ranking(coupling, numbers, scores, Limits(1, round_to), "group")
    wanted = [int(np.ceil(n * fractions[i % len(fractions)])) for i, n in enumerate(ranking.sizes.tolist())]
    return ranking.removal(ranking.allowed(np.array(wanted)))


fractions = st.lists(st.floats(0.05, 1), min_size=1, max_size=5)


@settings(deadline=None)
@given(fractions)
def test_a_machine_that_works_in_blocks_is_predicted_exactly(kept: list[float]) -> None:
    removal = keeping(wide(), kept)
    real = Machine.whole(remove(removal)) * REFERENCE_MS
    assert predictor("wide").after(removal) == pytest.approx(real, rel=1e-3)


@settings(deadline=None)
@given(fractions, st.sampled_from([1, 4, 8, 16]))
def test_depthwise_layers_concatenations_and_residual_sums_are_predicted_as_well(
    kept: list[float], round_to: int
) -> None:
    removal = keeping(digits(), kept, round_to)
    real = Machine.whole(remove(removal)) * REFERENCE_MS
    assert predictor("digits").after(removal) == pytest.approx(real, rel=0.05)


def test_widths_that_do_not_suit_are_known_to_be_slower() -> None:
    """Whatever the block: the layer that reads the width has outputs enough to fill some."""
    coupling = analyse(
        parsed(
            "float[N, 3, 8, 8] x",
            "float[N, 64, 8, 8] y",
            "float[48, 3, 3, 3] w, float[64, 48, 3, 3] v",
            "a = Conv <pads = [1, 1, 1, 1]> (x, w) r = Relu(a) y = Conv <pads = [1, 1, 1, 1]> (r, v)",
        )
    )
    model = Machine().model(coupling)
    suiting, odd = (model.after(keeping(coupling, [width / 48])) for width in (2 * BLOCK, 2 * BLOCK - 1))
    assert odd > 1.5 * suiting


def test_with_nothing_removed_the_prediction_is_the_measured_time() -> None:
    for coupling in (wide(), digits(), analyse(attention())):
        model = Machine().model(coupling)
        assert model.full == pytest.approx(Machine.whole(coupling.original) * REFERENCE_MS)
        assert model.after(nothing(coupling)) == pytest.approx(model.full)


def test_really_measured_times_add_up_to_the_measured_whole() -> None:
    coupling = analyse(conv_pair(width=24))
    model = LatencyModel(coupling, times=LayerTimes())
    assert model.full > 0
    assert model.after(nothing(coupling)) == pytest.approx(model.full)
    assert 0 < model.after(keeping(coupling, [1 / 3])) < 10 * model.full


def test_narrower_is_never_predicted_slower_in_whole_blocks() -> None:
    model, steps = predictor("digits"), np.linspace(1, 0.1, 12)
    times = [model.after(keeping(digits(), [f], BLOCK)) for f in steps]
    assert all(later <= sooner * 1.001 for sooner, later in pairwise(times))
    assert times[-1] < 0.7 * times[0]


def test_equal_nodes_are_measured_once_and_with_one_sample() -> None:
    machine = Machine()
    machine.model(digits())
    assert len(set(machine.asked)) == len(machine.asked)
    batches = {o.dims[0] for layer in machine.asked for o in layer.operands if o and not o.constant}
    assert batches == {1}


def test_depthwise_nodes_stay_depthwise_at_every_width() -> None:
    machine = Machine()
    machine.model(digits())
    grouped = [(attribute(onnx.NodeProto.FromString(x.node), "group", 1), x.operands) for x in machine.asked]
    found = {(group, x.dims[1], w.dims[0]) for group, (x, w, *_) in grouped if group > 1 and x and w}
    assert len(found) > 3
    assert all(group == channels == filters for group, channels, filters in found)


def test_before_integers_convolutions_are_timed_in_integers_and_what_follows_is_in_the_whole() -> None:
    asked, followed = list[Layer](), list[Model]()

    def timer(layers: Sequence[Layer], threads: int) -> list[float | None]:
        asked.extend(layers)
        return [1.0] * len(layers)

    def follow(model: Model) -> Model:
        followed.append(model)
        return model

    model = LatencyModel(digits(), times=LayerTimes(timer=timer), whole=Machine().wholes, follow=follow)
    ops = {onnx.NodeProto.FromString(layer.node).op_type for layer in asked}
    assert "QLinearConv" in ops
    assert "Conv" not in ops
    for layer in asked[::5]:
        assert np.isfinite(
            time_runs([open_layer(layer, 1, 1)], [feeds_of(layer, 1)], 1, budget_s=0, rounds=(1, 1)).relative
        )
    assert model.block == 16
    assert followed[0] is digits().original
    assert len(followed) == 3


def test_widths_that_integers_follow_are_whole_blocks() -> None:
    done = PruneChannels(target="macs", keep=0.6, criterion="l2", followed_by="int8").run(digits().original)
    left = {one["after"] for one in done.layers if one["after"] != one["before"]}
    assert left
    assert all(width % 16 == 0 for width in left)


def test_within_a_time_integers_get_whole_blocks_while_these_reach_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def left(keep: float) -> set[int]:
        asked = {"target": "latency", "criterion": "l2", "followed_by": "int8", "verify": False}
        done = PruneChannels.model_validate({**asked, "keep": keep}).run(digits().original)
        return {one["after"] for one in done.layers if one["after"] != one["before"]}

    monkeypatch.setattr("intaglio.passes.prune.prune.LatencyModel", machine)
    blocks = left(0.7)
    assert blocks
    assert all(width % 16 == 0 for width in blocks)
    finer = left(0.14)
    assert all(width % 8 == 0 for width in finer)
    assert any(width % 16 for width in finer)


def test_nodes_that_cannot_be_measured_count_by_what_they_compute() -> None:
    coupling = wide()

    def fails(layers: Sequence[Layer], threads: int) -> list[float | None]:
        return [None] * len(layers)

    model = LatencyModel(coupling, times=LayerTimes(timer=fails), whole=Machine().wholes)
    assert model.after(nothing(coupling)) == pytest.approx(model.full)
    assert model.after(keeping(coupling, [0.2])) < model.after(keeping(coupling, [0.7])) < model.full


def test_a_model_of_which_nothing_can_go_has_a_time_too() -> None:
    coupling = analyse(conv_pair(width=1))
    model = Machine().model(coupling)
    assert model.after(nothing(coupling)) == pytest.approx(model.full)


@pytest.mark.parametrize("power", [0.8, 1.5])
def test_a_removal_meets_the_target_though_predictions_are_wrong(power: float) -> None:
    """What is left takes a power of what was predicted; the plan obeys predictions."""
    model = predictor("wide")

    def plan(goal_ms: float) -> Removal:
        removals = (keeping(model.coupling, [kept], 1) for kept in np.linspace(1, 1 / 48, 48))
        return next(removal for removal in removals if model.after(removal) <= goal_ms)

    def time(removal: Removal) -> Timing:
        kept = (model.after(removal) / model.full) ** power
        return Timing(np.array([[2.0] * 40, [2.0 * kept] * 40]), 1, "a machine")

    removal, result = meet_target(plan, model, 0.5, time=time)
    assert result.verdict == "met"
    assert result.kept <= 0.5 * 1.03
    assert result.predicted == pytest.approx(model.after(removal) / model.full)


def test_two_models_are_really_timed_in_turn() -> None:
    large, small = conv_pair(width=96), remove(keeping(analyse(conv_pair(width=96)), [1 / 6]))
    timing = time_pair(large, small)
    before, after = timing.latencies
    assert timing.threads == 1
    assert timing.times_ms.shape[0] == 2
    assert 0 < after.median_ms < before.median_ms
    assert report(0.9, 0.5, timing).verdict == "met"


def test_half_a_block_is_weighed_by_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sixteen channels, of which a machine that works on sixteen reads eight in half the time."""
    monkeypatch.setattr("intaglio.passes.prune.prune.LatencyModel", lambda coupling, **_: Machine().model(coupling))
    model = conv_pair(width=16)
    done = PruneChannels(target="latency", keep=0.85, criterion="l2", verify=False).run(model)
    assert {one["after"] for one in done.layers if one["after"] != one["before"]} == {8}


@pytest.mark.parametrize("goal", [0.5, 0.6, 0.7, 0.8])
def test_steps_of_eight_lose_no_more_than_whole_blocks_in_no_more_time(
    monkeypatch: pytest.MonkeyPatch, goal: float
) -> None:
    """On a machine of which the times are known: what stays of the weights is more, or takes less time."""
    monkeypatch.setattr("intaglio.passes.prune.prune.LatencyModel", machine)
    whole, found = Machine.whole(digits().original), []
    for step in (16, 8):
        monkeypatch.setattr("intaglio.passes.prune.prune._TIMED_BLOCK", step)
        small = PruneChannels(target="latency", keep=goal, criterion="l2", verify=False).run(digits().original).model
        left = sum(float(np.square(w).sum()) for w in small.weights.values() if w.dtype == np.float32)
        found.append((Machine.whole(small) / whole, left))
    (blocks_time, blocks_left), (time, left) = found
    assert max(blocks_time, time) <= goal * 1.03
    assert time < blocks_time or left >= blocks_left
