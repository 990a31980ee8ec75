"""The pass: targets, limits, directions, order, and that the input stays as it was."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from intaglio import PruneChannels, load
from intaglio.graph.cost import cost
from intaglio.graph.coupling.labels import Axes
from intaglio.graph.coupling.node import RULES, Node
from intaglio.graph.errors import NothingChanged, ProofFailed, TargetUnreachable, UsageError
from intaglio.graph.io.save import file_bytes, to_bytes
from intaglio.graph.model import Model
from intaglio.passes import PASSES, Change, Context

from .nets import attention, conv_pair

DIGITS = Path(__file__).resolve().parents[3] / "examples" / "digits.onnx"
REAL = ["resnet20.onnx", "resnet20-bn.onnx", "mlperf-resnet8.onnx", "kws_dscnn_from_drq_tflite.onnx"]


def pruned(model: Model, seed: int = 0, **options: object) -> Change:
    return PruneChannels.model_validate(options).run(model, Context(seed=seed))


@pytest.mark.parametrize("target", ["macs", "params", "size"])
@pytest.mark.parametrize("keep", [0.85, 0.5, 0.25])
@pytest.mark.parametrize("scope", ["global", "group"])
def test_targets_are_reached_and_predicted_costs_are_the_real_ones(target: str, keep: float, scope: str) -> None:
    model = load(DIGITS)
    result = pruned(model, target=target, keep=keep, scope=scope)
    assert result.after.of(target) / result.before.of(target) == pytest.approx(keep, abs=0.01)
    left = cost(result.model)
    assert (result.after.macs, result.after.params) == (left.macs, left.params)
    assert result.after.size == file_bytes(result.model) == len(to_bytes(result.model))


@pytest.mark.parametrize("name", REAL)
@pytest.mark.parametrize("criterion", ["l2", "fpgm", "dfpc"])
def test_real_models_reach_their_target(shared_data: Path, name: str, criterion: str) -> None:
    result = pruned(load(shared_data / name), target="macs", keep=0.6, criterion=criterion, verify=False)
    assert result.after.macs / result.before.macs == pytest.approx(0.6, abs=0.01)


def test_an_unreachable_target_says_what_is_reachable_and_what_is_frozen() -> None:
    with pytest.raises(TargetUnreachable, match="lowest reachable is 0\\.") as error:
        pruned(conv_pair(), target="macs", keep=0.05, min_channels=6)
    assert "graph input" in error.value.why
    assert "--macs" in error.value.fix


@pytest.mark.parametrize("target", ["params", "macs"])
@pytest.mark.parametrize("scope", ["global", "group"])
def test_a_target_far_below_a_hundredth_is_not_met_by_a_hundredth(target: str, scope: str) -> None:
    model = load(DIGITS)
    with pytest.raises(TargetUnreachable) as error:
        pruned(model, target=target, keep=1e-5, scope=scope, verify=False)
    lowest = float(str(error.value).split("lowest reachable is ")[1].split(")")[0])
    assert 1e-4 < lowest < 0.1
    result = pruned(model, target=target, keep=lowest, scope=scope, verify=False)
    assert getattr(result.after, target) <= 1.1 * lowest * getattr(result.before, target)


def test_keeping_everything_is_no_change() -> None:
    with pytest.raises(NothingChanged):
        pruned(conv_pair(), target="macs", keep=1.0)


def test_the_input_model_is_never_changed() -> None:
    model = load(DIGITS)
    before = to_bytes(model)
    pruned(model, target="channels", keep=0.5)
    assert to_bytes(model) == before


def test_the_least_important_channels_go() -> None:
    model = conv_pair(width=12)
    result = pruned(model, target="channels", keep=0.5, criterion="bn-scale")
    kept = np.sort(np.abs(model.weights["scale"]))[6:]
    np.testing.assert_array_equal(np.sort(np.abs(result.model.weights["scale"])), kept)


@pytest.mark.parametrize(("least", "multiple", "kept"), [(1, 1, 3), (5, 1, 5), (1, 4, 4), (5, 4, 8), (50, 1, 12)])
def test_limits_hold_for_every_group(least: int, multiple: int, kept: int) -> None:
    options: dict[str, Any] = {"target": "channels", "keep": 0.25, "min_channels": least, "round_to": multiple}
    if kept == 12:
        with pytest.raises(NothingChanged):
            pruned(conv_pair(width=12), **options)
    else:
        assert pruned(conv_pair(width=12), **options).model.weights["w1"].shape[0] == kept


def test_steps_score_anew_and_reach_the_same_target() -> None:
    model = load(DIGITS)
    one, many = (pruned(model, target="macs", keep=0.4, steps=n) for n in (1, 5))
    assert many.after.macs / many.before.macs == pytest.approx(0.4, abs=0.01)
    assert many.proof is not None
    assert many.proof.exact
    assert one.after.macs / one.before.macs == pytest.approx(0.4, abs=0.01)


@pytest.mark.parametrize(
    ("axis", "heads", "qk_width", "v_width"), [("heads", 2, 6, 6), ("width", 4, 3, 3), ("both", 2, 3, 3)]
)
def test_heads_or_their_width_go(axis: str, heads: int, qk_width: int, v_width: int) -> None:
    weights = pruned(attention(), target="channels", keep=0.5, axis=axis).model.weights
    assert weights["wq"].shape == weights["wk"].shape == (10, heads * qk_width)
    assert weights["wv"].shape == weights["wo"].shape[::-1] == (10, heads * v_width)
    assert weights["wo"].shape[1] == 10


@pytest.mark.parametrize("pattern", ["first", "w1", "re:^fir", "BatchNormalization", "scale"])
def test_patterns_name_nodes_tensors_and_operator_types(pattern: str) -> None:
    with pytest.raises(NothingChanged):
        pruned(conv_pair(), target="channels", keep=0.5, exclude=(pattern,))
    assert pruned(conv_pair(), target="channels", keep=0.5, include=(pattern,)).changed


def test_a_pattern_that_matches_nothing_is_an_error() -> None:
    with pytest.raises(UsageError, match="matches no group"):
        pruned(conv_pair(), exclude=("frist",))


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others() -> None:
    a, b, c = (to_bytes(pruned(load(DIGITS), seed=s, criterion="random", verify=False).model) for s in (7, 7, 8))
    assert a == b
    assert a != c


def test_a_wrong_rule_is_caught_by_the_proof(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two halves of the channels reversed against each other: lengths fit, values do not."""
    right = RULES["Relu"].couple

    def reversed_channels(n: Node) -> Sequence[Axes]:
        samples, channels, *rest = right(n)[0]
        return [(samples, channels[::-1].copy() if isinstance(channels, np.ndarray) else channels, *rest)]

    monkeypatch.setattr(RULES["Relu"], "couple", reversed_channels)
    with pytest.raises(ProofFailed, match=r"Conv|Relu"):
        pruned(conv_pair(), target="channels", keep=0.5)


def test_options_are_checked() -> None:
    with pytest.raises(UsageError, match="`keep` cannot be 0"):
        PruneChannels(keep=0)
    with pytest.raises(UsageError, match="no criterion"):
        PruneChannels(criterion="l3")
    assert PASSES["prune"] is PruneChannels


def test_the_report_is_plain_data() -> None:
    report = PruneChannels(target="channels", keep=0.5).run(conv_pair())
    assert report.changed
    told = report.as_dict()
    assert told["kept"]["params"] < 0.75
    assert told["verified"]["exact"]
    assert json.loads(json.dumps(told)) == told
