"""Refitting from the inputs to the outputs: every layer comes nearer to the original than if it were left alone."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from intaglio import PruneChannels
from intaglio.graph.coupling import Coupling, Removal, analyse, remove
from intaglio.graph.errors import UsageError
from intaglio.graph.io.save import to_bytes
from intaglio.graph.layer import Layer
from intaglio.graph.layers import Layers
from intaglio.graph.model import Model
from intaglio.passes import Context
from intaglio.passes.calibration.activation_cache import Inputs, Store
from intaglio.passes.calibration.reconstruct import RIDGE
from intaglio.passes.calibration.samples import moments_of_patches
from intaglio.passes.calibration.targets import ReconstructionTargets, targets_of
from intaglio.passes.calibration.turns import in_turn
from intaglio.passes.prune.proof import prove
from intaglio.passes.prune.readers import Readers
from intaglio.passes.prune.repair.refit import Pruned, Refitted, choose, locally_decided, refit_in_turn
from intaglio.passes.prune.repair.repair import with_weights
from intaglio.passes.simplify import with_biases
from tests.passes.parsed import data_for, parsed, run_plainly

from ..small import GRAPHS, chain, concat, grouped, residual, shuffled

SAMPLES = 96
ROUNDING = 1e-4
"""Of the variance of what is compared: weights and activations are single precision."""
DRAWN = [
    "chain",
    "residual",
    "concat",
    "flattened",
    "shuffled",
    "split",
    "grouped",
    "depthwise",
    "excited",
    "perceptron",
]


class Case:
    """A network with inputs, and some channels of every group that go."""

    def __init__(self, model: Model, seed: int = 0, share: float = 0.4) -> None:
        self.model, self.coupling = model, analyse(model)
        rng = np.random.default_rng(seed)
        (port,) = model.graph.input
        shape = [d.dim_value for d in port.type.tensor_type.shape.dim][1:]
        mixed = rng.standard_normal((shape[0], shape[0]))
        self.x = np.einsum("cd,nd...->nc...", mixed, rng.standard_normal((SAMPLES, *shape))).astype(np.float32)
        self.removed = self.coupling.nothing()
        for group in self.coupling.groups:
            if group.prunable:
                gone = rng.permutation(len(group.atoms))[: int(share * len(group.atoms))]
                self.removed[group.atoms[gone]] = True

    def walk(self, keep: Mapping[int, int] | None = None, batch: int = 40, **options: Any) -> Refitted:
        """Refit. Groups in ``keep`` choose their channels themselves."""
        readers = Readers(self.coupling)
        targets = ReconstructionTargets(self.coupling.model, self.coupling.prepared.shapes, readers.layers)
        with Store(1 << 26) as store:
            batches = [{"x": self.x[k : k + batch]} for k in range(0, SAMPLES, batch)]
            inputs = Inputs(batches, store)
            before = store.used_bytes
            done = refit_in_turn(readers, targets, inputs, self.removed, keep, **options)
            assert store.used_bytes == before
        return done

    def removal(self, weights: Mapping[str, np.ndarray]) -> Removal:
        return with_weights(Removal(self.coupling, self.removed), weights)

    @cached_property
    def truth(self) -> dict[str, np.ndarray]:
        """All tensors of the original."""
        names = [o for n in self.coupling.nodes for o in n.output if o]
        return run_plainly(self.coupling.model, {"x": self.x}, names) | {"x": self.x}


def names_of(layer: Layer) -> set[str]:
    return {layer.weight} | ({layer.bias} if layer.bias else set())


def error_at(case: Case, layer: Layer, weights: Mapping[str, np.ndarray], *, centred: bool) -> tuple[float, float]:
    """Mean square of what the layer's target misses, and that of the target itself; without the mean where ``centred``."""
    targets = ReconstructionTargets(case.coupling.model, case.coupling.prepared.shapes, Layers(case.coupling.model))
    target = targets.of(layer)
    removal = case.removal(weights)
    found = run_plainly(remove(removal), {"x": case.x}, [layer.output, *[n for n in target.others if n != "x"]])
    got = sum((found | {"x": case.x})[name] for name in (layer.output, *target.others))
    wanted = case.truth[target.tensor]
    for axis, mask in removal.tensor(target.tensor).items():
        wanted = np.compress(mask, wanted, axis=axis)
    axis = layer.y_axis % wanted.ndim
    gap, size = (np.moveaxis(v, axis, -1).reshape(-1, v.shape[axis]).astype(np.float64) for v in (got - wanted, wanted))
    size = size - size.mean(axis=0)
    gap = gap - gap.mean(axis=0) if centred else gap
    return float(np.square(gap).sum(axis=1).mean()), float(np.square(size).sum(axis=1).mean())


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(DRAWN), st.booleans(), st.integers(0, 99))
def test_no_layer_misses_its_goal_by_more_than_if_it_were_left_alone(name: str, biased: bool, seed: int) -> None:
    """Layers before it are refitted either way. A layer with a bias is compared with the best bias for old weights."""
    model = GRAPHS[name]()
    case = Case(with_biases(model) if biased else model, seed)
    done = case.walk(rounds=0)
    before: dict[str, np.ndarray] = {}
    looked = 0
    for layer in Layers(case.coupling.model):
        mine = {n: w for n, w in done.weights.items() if n in names_of(layer)}
        if mine:
            plain, power = error_at(case, layer, before, centred=layer.bias is not None)
            before |= mine
            refitted, _ = error_at(case, layer, before, centred=False)
            assert refitted <= plain + ROUNDING * power, layer.node
            looked += 1
    assert looked == done.layers > 0


@pytest.mark.parametrize("name", sorted(set(GRAPHS) - {"digits", "two heads", "attention", "conv pair"}))
def test_outputs_are_nearer_to_the_original_than_those_of_plain_removal(name: str) -> None:
    model = with_biases(GRAPHS[name]())
    ratios = []
    for seed in range(4):
        case = Case(model, seed)
        outputs = [
            run_plainly(remove(case.removal(weights)), {"x": case.x}, ["y"])["y"]
            for weights in ({}, case.walk().weights)
        ]
        plain, refitted = (float(np.square(y - case.truth["y"]).mean()) for y in outputs)
        ratios.append(refitted / plain)
    assert max(ratios) < 1, ratios
    assert np.mean(ratios) < 0.7, ratios


@pytest.mark.parametrize("name", DRAWN)
@pytest.mark.parametrize("rounds", [0, 2])
def test_full_width_constants_cut_by_surgery_are_what_was_fitted(name: str, rounds: int) -> None:
    """The proof of the pass holds for them, and entries of removed channels change nothing."""
    case = Case(with_biases(GRAPHS[name]()), 1)
    done = case.walk(rounds=rounds)
    removal = case.removal(done.weights)
    assert prove(removal, remove(removal), [{"x": case.x}], 0).passed
    for weight_name, value in done.weights.items():
        original = case.coupling.model.weights[weight_name]
        assert (value.shape, value.dtype) == (original.shape, original.dtype)
    np.testing.assert_array_equal(done.removed, case.removed)


def test_nothing_removed_is_nothing_refitted() -> None:
    case = Case(residual(), share=0)
    done = case.walk()
    assert (done.layers, done.weights) == (0, {})


def test_layers_before_the_first_removal_stay_as_they_are() -> None:
    case = Case(with_biases(chain()), share=0)
    group = next(g for g in case.coupling.groups if g.name == "z")
    case.removed[group.atoms[:2]] = True
    done = case.walk()
    assert set(done.weights) == {"head", "y_bias"}
    assert done.layers == 1


def test_layers_behind_a_refitted_one_make_up_for_what_it_could_not() -> None:
    case = Case(with_biases(chain()), share=0)
    case.removed[case.coupling.groups[0].atoms[:3]] = True
    assert set(case.walk().weights) == {"w2", "z_bias", "head", "y_bias"}


@pytest.mark.parametrize("rounds", [0, 2])
def test_channels_that_others_can_replace_cost_nothing(rounds: int) -> None:
    """Each filter stands there twice; one of each pair goes, wherever it is."""
    model = with_biases(chain()).copy()
    for name in ("w1", "b1"):
        model.weights[name] = np.concatenate([model.weights[name][:3]] * 2)
    case = Case(model, share=0)
    group = case.coupling.groups[0]
    assert len(group.atoms) == 6
    case.removed[group.atoms[[0, 4, 2]]] = True
    done = case.walk(rounds=rounds, strength=1e-5)
    y = run_plainly(remove(case.removal(done.weights)), {"x": case.x}, ["y"])["y"]
    np.testing.assert_allclose(y, case.truth["y"], atol=2e-3 * np.abs(case.truth["y"]).max())


@settings(max_examples=8, deadline=None)
@given(st.sampled_from(["chain", "residual", "split", "grouped"]), st.integers(1, 96), st.integers(0, 9))
def test_how_samples_are_cut_into_batches_makes_no_difference(name: str, batch: int, seed: int) -> None:
    case = Case(with_biases(GRAPHS[name]()), seed)
    whole, parts = case.walk(batch=SAMPLES), case.walk(batch=batch)
    np.testing.assert_array_equal(whole.removed, parts.removed)
    for weight, value in whole.weights.items():
        np.testing.assert_allclose(parts.weights[weight], value, atol=2e-3 * np.abs(value).max() + 1e-5, err_msg=weight)


def test_two_walks_give_the_same_bytes() -> None:
    case = Case(with_biases(residual()), 3)
    one, two = (to_bytes(remove(case.removal(case.walk().weights))) for _ in range(2))
    assert one == two


@pytest.mark.parametrize("left", [1, 2, 4])
def test_groups_that_choose_anew_get_the_width_that_was_asked_for(left: int) -> None:
    case = Case(with_biases(chain()), share=0)
    done = case.walk({0: left, 1: 2})
    names = [g.name for g in case.coupling.groups]
    kept = {name: int((~done.removed[g.atoms]).sum()) for name, g in zip(names, case.coupling.groups, strict=True)}
    assert kept["a"] == left
    case.removed = done.removed
    removal = case.removal(done.weights)
    assert prove(removal, remove(removal), [], 0).passed


def test_a_group_that_chooses_anew_loses_what_its_reader_does_not_miss() -> None:
    """Of the channels one is never positive, one is read with zeros, one stands there twice."""
    model = with_biases(chain()).copy()
    w1, b1, w2 = (model.weights[n].copy() for n in ("w1", "b1", "w2"))
    b1[:] = 1.0
    b1[1] = -1000
    w2[:, 3] = 0
    w1[5], b1[5] = w1[0], b1[0]
    model.weights |= {"w1": w1, "b1": b1, "w2": w2}
    case = Case(model, share=0)
    done = case.walk({0: 3}, strength=1e-5)
    gone = set(np.flatnonzero(done.removed[case.coupling.groups[0].atoms]).tolist())
    assert gone in ({1, 3, 0}, {1, 3, 5})


def test_after_a_choice_the_turn_goes_on_with_what_is_left() -> None:
    case = Case(with_biases(residual()), share=0)
    readers = Readers(case.coupling)
    (group,) = locally_decided(readers, range(len(case.coupling.groups)))
    (seat,) = readers.seats(group)
    twin, model = Pruned(readers, case.removed), case.coupling.model
    with Store(1 << 26) as store:
        inputs = Inputs([{"x": case.x[:40]}, {"x": case.x[40:]}], store)
        for turn in in_turn(model, twin, inputs, list(readers.layers), targets_of(model, readers.layers)):
            if turn.layer.node != seat.layer.node:
                continue
            choose(turn, twin, {group: 2}, RIDGE)
            (now,) = run_plainly(twin.model, {"x": case.x}, [turn.now.x]).values()
            assert now.shape[turn.now.x_axis] == 2
            held = np.concatenate([batch[turn.now.x] for batch in turn.ours.batches([turn.now.x])])
            np.testing.assert_allclose(held, now, atol=1e-5)
            fresh = moments_of_patches(turn.now, turn.ours, SAMPLES**2)
            np.testing.assert_allclose(turn.moments.second_moment, fresh.second_moment, atol=1e-3)
            assert turn.weight.shape == turn.now.matrix(twin.model.weights[turn.now.weight]).shape
            return
    raise AssertionError("its layer had no turn")


def test_choosing_anew_helps_against_choosing_at_random() -> None:
    better = 0
    for seed in range(6):
        case = Case(with_biases(residual()), seed)
        numbers = locally_decided(Readers(case.coupling), range(len(case.coupling.groups)))
        keep = {k: int((~case.removed[case.coupling.groups[k].atoms]).sum()) for k in numbers}
        settled = case.walk()
        chosen = case.walk(keep)
        errors = []
        for done in (settled, chosen):
            case.removed = done.removed
            y = run_plainly(remove(case.removal(done.weights)), {"x": case.x}, ["y"])["y"]
            errors.append(float(np.square(y - case.truth["y"]).mean()))
        better += errors[1] < errors[0]
    assert better >= 5


def names(coupling: Coupling, numbers: list[int]) -> set[str]:
    return {coupling.groups[k].name for k in numbers}


def test_only_groups_that_one_plain_layer_alone_reads_choose_anew() -> None:
    def decided(model: Model) -> set[str]:
        coupling = analyse(model)
        numbers = [k for k, g in enumerate(coupling.groups) if g.prunable]
        return names(coupling, locally_decided(Readers(coupling), numbers))

    assert decided(chain()) == {"a", "z"}
    assert decided(residual()) == {"b"}
    assert decided(concat()) == {"a", "b", "z"}
    assert decided(grouped()) == {"z"}
    assert decided(shuffled()) == set()
    assert decided(GRAPHS["attention"]()) == set()


def test_weights_that_two_layers_share_are_left_alone() -> None:
    model = parsed(
        "float[N, 3, 6, 6] x",
        "float[N, 5] y",
        "float[6, 3, 1, 1] w1, float[6] b1, float[6, 6, 3, 3] shared, float[6] b2, float[6] b3, float[6, 5] head",
        "a = Conv(x, w1, b1) b = Conv <pads = [1, 1, 1, 1]> (a, shared, b2) r = Relu(b) "
        "c = Conv <pads = [1, 1, 1, 1]> (r, shared, b3) p = GlobalAveragePool(c) f = Flatten(p) y = Gemm(f, head)",
    )
    case = Case(model, 1)
    assert case.removed.any()
    done = case.walk()
    assert "shared" not in done.weights
    assert "head" in done.weights
    removal = case.removal(done.weights)
    assert prove(removal, remove(removal), [], 0).passed


def test_progress_is_told_layer_by_layer() -> None:
    case = Case(with_biases(chain()))
    told: list[tuple[int, int | None]] = []
    case.walk(tick=lambda done, total: told.append((done, total)))
    assert told == [(1, 3), (2, 3), (3, 3)]


@pytest.mark.parametrize("criterion", ["l2", "random"])
def test_any_criterion_can_be_refitted_on_data(criterion: str) -> None:
    model = with_biases(residual())
    x = Case(model).x
    truth = run_plainly(model, {"x": x}, ["y"])["y"]
    errors = []
    for repair in ("none", "refit"):
        chosen = PruneChannels(criterion=criterion, repair=repair, keep=0.5)
        result = chosen.run(model, Context(data=data_for(model, x=x)))
        assert result.proof is not None
        assert result.proof.passed
        errors.append(float(np.square(run_plainly(result.model, {"x": x}, ["y"])["y"] - truth).mean()))
    assert errors[1] < errors[0] / 2


def test_refitting_without_data_says_what_is_missing() -> None:
    with pytest.raises(UsageError, match="calibration data is missing") as error:
        PruneChannels(criterion="l2", repair="refit").run(chain(), Context())
    assert "--data" in error.value.fix
