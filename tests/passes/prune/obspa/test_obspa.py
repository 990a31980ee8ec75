"""OBSPA end to end: what it leaves is near the original, on data and on noise, and it says what it cannot do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from intaglio import PruneChannels, load
from intaglio.graph.cost import cost
from intaglio.graph.coupling import Removal, analyse, remove
from intaglio.graph.errors import TargetUnreachable, UsageError
from intaglio.graph.io.save import to_bytes
from intaglio.graph.model import Model
from intaglio.measure.accuracy import evaluate_model
from intaglio.measure.data.source import DataSource, open_data
from intaglio.passes import Change, Context
from intaglio.passes.base import MEMORY
from intaglio.passes.calibration import feeds
from intaglio.passes.calibration.noise import noise_source
from intaglio.passes.calibration.samples import PATCHES, patches_for
from intaglio.passes.live import live_part
from intaglio.passes.prune.criteria.criteria import CRITERIA
from intaglio.passes.prune.obspa import obspa as looking
from intaglio.passes.simplify import fold_batch_norm
from tests.passes.parsed import data_for, parsed, run_plainly

from ..nets import attention, conv_pair
from ..small import EXAMPLES, GRAPHS, chain, residual

DIGITS = EXAMPLES / "digits.onnx"
SMALL = sorted(set(GRAPHS) - {"digits", "two heads"})


def images(model: Model, samples: int = 128, seed: int = 0) -> np.ndarray:
    """Correlated inputs for a model's only input; as many as a fixed batch takes whole."""
    (port,) = model.graph.input
    shape = [d.dim_value for d in port.type.tensor_type.shape.dim][1:]
    rng = np.random.default_rng(seed)
    mixed = rng.standard_normal((shape[0], shape[0]))
    return np.einsum("cd,nd...->nc...", mixed, rng.standard_normal((samples, *shape))).astype(np.float32)


def digits(samples: int | None = 256) -> tuple[Model, DataSource]:
    model = load(DIGITS)
    return model, open_data(str(EXAMPLES / "digits_calib.npz"), model, samples=samples)


def obspa(
    model: Model, data: DataSource | None, *, folder: Path | None = None, memory: int = MEMORY, **options: Any
) -> Change:
    chosen = PruneChannels.model_validate({"criterion": "obspa", **options})
    return chosen.run(model, Context(data=data, folder=folder, memory=memory))


def right(model: Model) -> float:
    """Percent of the test digits."""
    data = open_data(str(EXAMPLES / "digits_test.npz"), model)
    return 100 * evaluate_model(model, data, names=["top1"]).values["top1"]


def output_error(model: Model, other: Model, x: np.ndarray) -> float:
    """Mean square of the difference of all outputs."""
    names, (port,) = [o.name for o in model.graph.output], model.graph.input
    size = port.type.tensor_type.shape.dim[0].dim_value or len(x)
    total = 0.0
    for k in range(0, len(x), size):
        feed = {port.name: x[k : k + size]}
        one, two = (run_plainly(m, feed, names) for m in (model, other))
        total += sum(float(np.square(one[n].astype(np.float64) - two[n]).mean()) for n in names)
    return total


def normalized() -> Model:
    """A residual block and a depthwise convolution, all normalized."""
    rng = np.random.default_rng(1)
    widths = {"1": 12, "2": 10, "3": 12, "4": 12, "5": 16}
    norms = {f"{part}{k}": values[part] for k, n in widths.items() for values in [_norm(rng, n)] for part in values}
    declared = ", ".join(f"float[{len(v)}] {name}" for name, v in norms.items())

    def norm(k: int) -> str:
        return f"n{k} = BatchNormalization(c{k}, g{k}, b{k}, m{k}, v{k})"

    return parsed(
        "float[N, 3, 8, 8] x",
        "float[N, 5] y",
        "float[12, 3, 3, 3] w1, float[10, 12, 3, 3] w2, float[12, 10, 3, 3] w3, float[12, 1, 3, 3] w4, "
        f"float[16, 12, 1, 1] w5, float[16, 5] head, {declared}",
        f"c1 = Conv <pads = [1, 1, 1, 1]> (x, w1) {norm(1)} r1 = Relu(n1) "
        f"c2 = Conv <pads = [1, 1, 1, 1]> (r1, w2) {norm(2)} r2 = Relu(n2) "
        f"c3 = Conv <pads = [1, 1, 1, 1]> (r2, w3) {norm(3)} s = Add(n3, r1) r3 = Relu(s) "
        f"c4 = Conv <group = 12, strides = [2, 2]> (r3, w4) {norm(4)} r4 = Relu(n4) "
        f"c5 = Conv(r4, w5) {norm(5)} r5 = Relu(n5) p = GlobalAveragePool(r5) f = Flatten(p) y = Gemm(f, head)",
        **norms,
    )


def _norm(rng: np.random.Generator, width: int) -> dict[str, np.ndarray]:
    found = {"g": rng.uniform(0.5, 1.5, width), "b": rng.standard_normal(width) / 2}
    found |= {"m": rng.standard_normal(width) / 4, "v": rng.uniform(0.5, 2, width)}
    return {name: value.astype(np.float32) for name, value in found.items()}


def plainly_cut(model: Model, data: DataSource | None, **options: Any) -> Model:
    """The channels removed that ``obspa`` removes, nothing else done."""
    equal, _ = CRITERIA["obspa"].ready(model)
    chosen = PruneChannels.model_validate({"criterion": "obspa", **options})
    return remove(Removal(analyse(equal), chosen.cut(live_part(model), Context(data=data)).removal.removed))


@pytest.fixture(scope="module")
def half() -> tuple[Model, DataSource, Change]:
    """The digits network with half of its work."""
    model, data = digits(192)
    return model, data, obspa(model, data, keep=0.5)


def test_half_of_the_work_of_the_digits_network_keeps_its_accuracy(half: tuple[Model, DataSource, Change]) -> None:
    model, _, result = half
    assert result.proof is not None
    assert result.proof.passed
    assert result.after.macs / result.before.macs == pytest.approx(0.5, abs=0.01)
    assert right(result.model) > right(model) - 1.5


def test_the_outputs_of_the_digits_network_are_far_nearer_than_after_plain_removal(
    half: tuple[Model, DataSource, Change],
) -> None:
    model, data, result = half
    x = next(iter(data.batches(192))).inputs["image"]
    assert output_error(model, result.model, x) < 0.1 * output_error(model, plainly_cut(model, data, keep=0.5), x)


def test_a_model_that_insists_on_a_batch_gets_the_same_widths(half: tuple[Model, DataSource, Change]) -> None:
    model, data, one = half
    fixed = load(DIGITS, shapes={"image": [16, -1, -1, -1]})
    two = obspa(fixed, open_data(str(EXAMPLES / "digits_calib.npz"), fixed, samples=192), keep=0.5)
    assert one.layers == two.layers
    x = next(iter(data.batches(192))).inputs["image"]
    errors = [output_error(model, one.model, x), output_error(fixed, two.model, x) / 12]
    assert errors[0] == pytest.approx(errors[1], rel=0.05)


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize(
    "options", [{"target": "macs", "keep": 0.6}, {"target": "channels", "keep": 0.6, "axis": "both"}]
)
def test_small_networks_of_every_kind_pass_the_proof_and_gain_by_the_refit(name: str, options: dict[str, Any]) -> None:
    model = GRAPHS[name]()
    x = images(model)
    result = obspa(model, data_for(model, x=x), **options)
    assert result.proof is not None
    assert result.proof.passed
    assert output_error(model, result.model, x) < output_error(
        model, plainly_cut(model, data_for(model, x=x), **options), x
    )


@pytest.mark.parametrize("dialect", ["id", "ood"])
def test_what_the_data_is_called_makes_no_difference_but_is_told(dialect: str) -> None:
    model = conv_pair()
    data = data_for(model, x=images(model))
    named, plain = obspa(model, data, dialect=dialect), obspa(model, data)
    assert named.details["dialect"] == dialect
    assert plain.details["dialect"] == "id"
    assert plain.details["samples"] == 128
    assert to_bytes(named.model) == to_bytes(plain.model)


def test_data_makes_obspa_the_criterion_and_without_it_a_norm_is() -> None:
    model = conv_pair()
    assert PruneChannels().run(model, Context(data=data_for(model, x=images(model)))).details["criterion"] == "obspa"
    assert PruneChannels().run(model, Context()).details["criterion"] == "l2"


@pytest.mark.parametrize("solver", ["knapsack", "greedy"])
def test_the_same_request_gives_the_same_bytes_and_leaves_the_model_as_it_was(solver: str) -> None:
    model = normalized()
    data, before = data_for(model, x=images(model)), to_bytes(model)
    one, two = (obspa(model, data, keep=0.6, solver=solver) for _ in range(2))
    assert to_bytes(one.model) == to_bytes(two.model)
    assert one.details["solver"] == solver
    assert to_bytes(model) == before


def test_the_order_of_samples_does_not_change_widths() -> None:
    """Nor what is in one batch with what."""
    model = normalized()
    x = images(model, 200)
    results = [obspa(model, data_for(model, x=v), keep=0.5) for v in (x, np.roll(x, 23, axis=0), x[::-1])]
    widths = [r.layers for r in results]
    assert widths[0] == widths[1] == widths[2]
    errors = [output_error(model, r.model, x) for r in results]
    assert errors == pytest.approx([errors[0]] * 3, rel=0.05)


@pytest.mark.parametrize(("target", "keep", "scope"), [("params", 0.5, "global"), ("size", 0.6, "group")])
def test_other_targets_and_scopes_are_reached(target: str, keep: float, scope: str) -> None:
    model, data = digits(64)
    result = obspa(model, data, target=target, keep=keep, scope=scope)
    assert result.after.of(target) / result.before.of(target) == pytest.approx(keep, abs=0.012)


def test_limits_on_widths_hold() -> None:
    model, data = digits(64)
    result = obspa(model, data, keep=0.5, round_to=8, min_channels=16)
    for group in result.layers:
        before, after = group["before"], group["after"]
        assert not group["prunable"] or after == before or (after % 8 == 0 and after >= min(before, 16))


def test_an_unreachable_target_says_what_is_reachable() -> None:
    model, data = digits(64)
    with pytest.raises(TargetUnreachable, match="lowest reachable is 0\\."):
        obspa(model, data, keep=0.02, min_channels=12)


def test_missing_data_says_how_to_give_it() -> None:
    with pytest.raises(UsageError, match="calibration data is missing") as error:
        obspa(conv_pair(), None)
    assert "--data" in error.value.fix


def test_steps_are_refused() -> None:
    model, data = digits(64)
    with pytest.raises(UsageError, match="--steps"):
        obspa(model, data, steps=3)


def test_noise_does_better_than_plain_removal_without_any_data() -> None:
    model = load(DIGITS)
    result = obspa(model, noise_source(model, samples=192), keep=0.25, dialect="noise")
    assert result.details["dialect"] == "noise"
    assert result.proof is not None
    assert result.proof.passed
    assert result.after.macs / result.before.macs == pytest.approx(0.25, abs=0.01)
    plain = plainly_cut(model, noise_source(model, samples=192), keep=0.25, dialect="noise")
    x = next(iter(digits(192)[1].batches(192))).inputs["image"]
    assert output_error(model, result.model, x) < 0.3 * output_error(model, plain, x)
    by_norm = PruneChannels(criterion="l2", keep=0.25).run(model, Context()).model
    assert right(result.model) > max(right(plain), right(by_norm)) + 3


def test_noise_needs_statistics_to_be_fitted_to() -> None:
    model, _ = fold_batch_norm(load(DIGITS))
    with pytest.raises(UsageError, match="noise cannot stand in") as error:
        obspa(model, noise_source(model, samples=32), dialect="noise")
    assert "BatchNormalization" in error.value.why
    assert "--data" in error.value.fix


class Interrupted(Exception):
    """As if the user had pressed a key."""


@pytest.mark.parametrize("stop_at", [1, 3, 5, 99])
@pytest.mark.parametrize("dialect", ["id", "noise"])
def test_an_interrupted_run_leaves_no_files(tmp_path: Path, stop_at: int, dialect: str) -> None:
    """Everything goes through files here, as with data that does not fit into memory."""
    model = normalized()
    told, files = 0, 0

    def tick(done: int, total: int | None) -> None:
        nonlocal told, files
        told, files = told + 1, max(files, sum(p.is_file() for p in tmp_path.rglob("*")))
        if told == stop_at:
            raise Interrupted

    data = noise_source(model, samples=64) if dialect == "noise" else data_for(model, x=images(model))
    chosen = PruneChannels.model_validate({"criterion": "obspa", "keep": 0.6, "dialect": dialect})
    try:
        chosen.run(model, Context(data=data, folder=tmp_path, tick=tick, memory=1 << 12))
    except Interrupted:
        assert told == stop_at
    else:
        assert 0 < told < stop_at
    assert files > 0
    assert not list(tmp_path.iterdir())


def test_progress_rises_to_its_end() -> None:
    model = normalized()
    told: list[float] = []
    data = data_for(model, x=images(model))
    context = Context(data=data, tick=lambda done, total: told.append(done / (total or done)))
    PruneChannels(criterion="obspa", keep=0.6).run(model, context)
    assert told == sorted(told)
    assert told[-1] == 1
    assert len(told) > 5


def test_results_do_not_depend_on_whether_activations_go_through_files(tmp_path: Path) -> None:
    model = normalized()
    data = data_for(model, x=images(model, 600))
    in_memory = obspa(model, data, keep=0.6)
    through_files = obspa(model, data, keep=0.6, folder=tmp_path, memory=1_600_000)
    assert to_bytes(in_memory.model) == to_bytes(through_files.model)
    assert not list(tmp_path.iterdir())


def tied() -> Model:
    """Two layers share one weight."""
    return parsed(
        "float[N, 3, 6, 6] x",
        "float[N, 5] y",
        "float[6, 3, 1, 1] w1, float[6, 6, 3, 3] w2, float[6] b2, float[6, 5] head",
        "a = Conv(x, w1) r = Relu(a) b = Conv <pads = [1, 1, 1, 1]> (r, w2, b2) s = Relu(b) "
        "c = Conv <pads = [1, 1, 1, 1]> (s, w2, b2) p = GlobalAveragePool(c) f = Flatten(p) y = Gemm(f, head)",
    )


def unread() -> Model:
    """Channels of which only the mean leaves the network: no layer reads them."""
    return parsed(
        "float[N, 3, 6, 6] x",
        "float[N, 1, 6, 6] z, float[N, 5] y",
        "float[4, 3, 1, 1] w1, float[8, 3, 3, 3] w2, float[4, 5] head",
        "b = Conv <pads = [1, 1, 1, 1]> (x, w2) q = Sigmoid(b) z = ReduceMean <axes = [1]> (q) "
        "a = Conv(x, w1) p = GlobalAveragePool(a) f = Flatten(p) y = Gemm(f, head)",
    )


def test_a_tied_weight_is_no_obstacle() -> None:
    model = tied()
    x = images(model)
    result = obspa(model, data_for(model, x=x), target="channels", keep=0.7)
    assert result.proof is not None
    assert result.proof.passed


@pytest.mark.parametrize("target", ["channels", "macs"])
@pytest.mark.parametrize(("make", "group"), [(attention, "q/width"), (unread, "b")])
def test_channels_that_no_layer_reads_are_no_obstacle(make: Callable[[], Model], group: str, target: str) -> None:
    model = make()
    result = obspa(model, data_for(model, x=images(model)), target=target, keep=0.5)
    kept = {g["name"]: (g["before"], g["after"]) for g in result.layers}
    assert kept[group][1] < kept[group][0]
    assert result.proof is not None
    assert result.proof.passed


def test_channels_that_cannot_be_told_apart_by_data_do_not_crash() -> None:
    """A network that is dead on the data."""
    model = chain()
    result = obspa(model, data_for(model, x=np.zeros((64, 3, 6, 6), dtype=np.float32)), keep=0.6)
    assert result.proof is not None
    assert result.proof.passed


def test_one_sample_is_enough_to_run() -> None:
    model = residual()
    result = obspa(model, data_for(model, x=images(model, 1)), keep=0.6)
    assert result.proof is not None
    assert result.proof.passed


def test_mirror_images_are_left_out_where_running_them_would_take_long(monkeypatch: pytest.MonkeyPatch) -> None:
    m = parsed("float[N, 3, 6, 6] x", "float[N, 4, 4, 4] y", "float[4, 3, 3, 3] w", "y = Conv(x, w)")
    batches = [{"x": images(m, 10)}]
    monkeypatch.setattr(feeds, "_RUN_MACS", 2 * 10 * cost(m).macs)
    assert len(feeds.with_mirrored(batches, m)) == 2
    monkeypatch.setattr(feeds, "_RUN_MACS", 2 * 10 * cost(m).macs - 1)
    assert len(feeds.with_mirrored(batches, m)) == 1


def test_activations_decide_how_many_samples_run_at_once_and_weights_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    m = parsed("float[N, 3, 6, 6] x", "float[N, 8, 4, 4] y", "float[8, 3, 3, 3] w", "y = Conv(x, w)")
    monkeypatch.setattr(feeds, "_BATCH_BYTES", 5 * 4 * 8 * 4 * 4)  # y is smaller than w
    for memory in (1 << 20, 1 << 30):
        context = Context(data=data_for(m, x=images(m, 10)), memory=memory)
        assert len(feeds.calibration_inputs(m, context)[0]) == 2


def test_a_network_too_large_to_look_at_often_still_meets_its_target(monkeypatch: pytest.MonkeyPatch) -> None:
    model, data = digits()
    monkeypatch.setattr(looking, "_SCORE_MACS", 1)
    result = obspa(model, data, keep=0.5)
    assert result.after.macs / result.before.macs == pytest.approx(0.5, abs=0.01)


def test_groups_ordered_a_few_at_a_time_get_the_widths_they_get_together(monkeypatch: pytest.MonkeyPatch) -> None:
    model, data = digits(64)
    together = obspa(model, data)
    little = obspa(model, data, memory=1 << 19)
    assert little.model.weights.keys() == together.model.weights.keys()
    for name, weight in together.model.weights.items():
        np.testing.assert_array_equal(little.model.weights[name], weight)
    monkeypatch.setattr(looking, "_MATRICES", 1 << 18)
    apart = obspa(model, data)
    assert [g["after"] for g in apart.layers] == [g["after"] for g in together.layers]


def test_wide_layers_look_at_fewer_rows_but_at_several_for_each_column() -> None:
    assert patches_for(576) == PATCHES
    assert patches_for(1152) < PATCHES / 3
    assert patches_for(4608) == 4 * 4608
    assert patches_for(4608, most=1000) == 1000
