"""One turn a layer: what each is shown is what the two networks really compute, and no more is held than is needed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from intaglio.graph.io.save import to_bytes
from intaglio.graph.layer import Floats, Layer
from intaglio.graph.layers import Layers
from intaglio.graph.model import Model
from intaglio.passes.calibration.activation_cache import ActivationCache as Cache
from intaglio.passes.calibration.activation_cache import Inputs, Store, each
from intaglio.passes.calibration.reconstruct import Fit
from intaglio.passes.calibration.targets import targets_of
from intaglio.passes.calibration.turns import Turn, all_left, in_turn
from tests.passes.parsed import parsed, run_plainly

SEEDS = st.integers(0, 10**6)
SAMPLES = 24
SIZES = [5, 16, 3]
CHANNELS = 4


def drawn(rng: np.random.Generator) -> Model:
    """Convolutions, sums, rectifiers and concatenations over each other, every tensor with four channels."""
    tensors, nodes, weights = ["x"], [], []
    for k in range(rng.integers(3, 10)):
        one, two = rng.choice(tensors, 2)
        kind = rng.choice(["conv", "conv", "biased", "biased", "add", "relu", "concat"]) if k else "biased"
        width, side = CHANNELS * (1 + (kind == "concat")), 1 if kind == "concat" else int(rng.choice([1, 3]))
        if kind not in ("add", "relu"):
            weights.append(f"float[{CHANNELS}, {width}, {side}] w{k}, float[{CHANNELS}] b{k}")
        pads = f"<pads = [{side // 2}, {side // 2}]>"
        nodes.append(
            {
                "conv": f"t{k} = Conv {pads} ({one}, w{k})",
                "biased": f"t{k} = Conv {pads} ({one}, w{k}, b{k})",
                "add": f"t{k} = Add({one}, {two})",
                "relu": f"t{k} = Relu({one})",
                "concat": f"c{k} = Concat <axis = 1> ({one}, {two}) t{k} = Conv (c{k}, w{k}, b{k})",
            }[kind]
        )
        tensors.append(f"t{k}")
    nodes.append(f"y = Sum({', '.join(tensors)})" if rng.random() < 0.5 else f"y = Tanh({tensors[-1]})")
    weights.append("float[1] unused")
    return parsed(f"float[N, {CHANNELS}, 6] x", "float y", ", ".join(weights), " ".join(nodes))


def samples(rng: np.random.Generator) -> Floats:
    return rng.standard_normal((SAMPLES, CHANNELS, 6)).astype(np.float32)


def batches(x: Floats) -> list[Mapping[str, Floats]]:
    return [{"x": part} for part in np.split(x, np.cumsum(SIZES)[:-1])]


def dumped(model: Model, x: Floats) -> dict[str, Floats]:
    """All tensors, in graph order."""
    return {"x": x} | run_plainly(model, {"x": x}, [o for n in model.graph.node for o in n.output])


class Altered:
    """A twin whose layers get other weights; it keeps every tensor and every name."""

    left = staticmethod(all_left)

    def __init__(self, model: Model) -> None:
        self.model = model.copy()
        self.changed: set[str] = set()

    def counterpart(self, layer: Layer) -> Layer | None:
        return layer

    def take(self, layer: Layer, constants: Mapping[str, Floats]) -> None:
        self.model = self.model.copy()
        self.model.weights.update(constants)
        self.changed.add(layer.node)


def walk(model: Model, twin: Altered, store: Store, x: Floats) -> Iterator[Turn]:
    layers = Layers(model)
    return in_turn(model, twin, Inputs(batches(x), store), list(layers), targets_of(model, layers))


def as_it_is(turn: Turn) -> Fit:
    offset = turn.now.offset(turn.twin.model)
    return Fit(turn.weight, offset if offset is not None else np.zeros(turn.weight.shape[:2]))


@settings(max_examples=25, deadline=None)
@given(SEEDS)
def test_a_walk_that_leaves_every_layer_as_it_is_changes_nothing(seed: int) -> None:
    rng = np.random.default_rng(seed)
    model, x = drawn(rng), samples(rng)
    twin = Altered(model)
    with Store(1 << 26) as store:
        for turn in walk(model, twin, store, x):
            assert not turn.differs
            fit, now, moments = turn.fit(), as_it_is(turn), turn.moments
            gap = fit.weight - now.weight
            lost = np.einsum("goc,gcd,god->go", gap, moments.hessian(centred=turn.centred), gap)
            assert (lost <= 1e-6 * moments.target_variance + 1e-9).all()
            twin.model.weights.update(turn.constants(now))
    assert to_bytes(twin.model) == to_bytes(model)


@settings(max_examples=40, deadline=None)
@given(SEEDS)
def test_every_turn_is_shown_what_the_networks_compute_as_they_stand(seed: int) -> None:
    """Some layers get other weights in their turns. Moments are compared with those of activations dumped whole."""
    rng = np.random.default_rng(seed)
    model, x = drawn(rng), samples(rng)
    truth = dumped(model, x)
    twin, altered = Altered(model), set[str]()
    with Store(1 << 26) as store:
        for turn in walk(model, twin, store, x):
            here = dumped(twin.model, x)
            read = (turn.layer.x, *turn.target.others)
            assert turn.differs == any(altered & ancestors(model, name) for name in read)
            assert turn.differs or all(np.array_equal(here[name], truth[name]) for name in read)
            wanted = truth[turn.target.tensor] - sum(here[name] for name in turn.target.others)
            assert_moments(turn, patches(here[turn.layer.x], turn.layer), flat(wanted))
            if rng.random() < 0.5:
                fit = as_it_is(turn)
                twin.take(turn.layer, turn.constants(Fit(fit.weight * rng.uniform(0.5, 1.5), fit.offset + 0.1)))
                altered.add(turn.layer.node)


def patches(x: Floats, layer: Layer) -> Floats:
    """Shapes: (samples, channels, length) -> (samples * length, positions * channels)."""
    assert layer.window is not None
    (side,) = layer.window.kernel
    wide = np.pad(x.astype(np.float64), ((0, 0), (0, 0), (side // 2, side // 2)))
    found = [wide[:, :, at : at + side].transpose(0, 2, 1).reshape(len(x), -1) for at in range(x.shape[2])]
    return np.stack(found, axis=1).reshape(len(x) * x.shape[2], -1)


def flat(y: Floats) -> Floats:
    return y.astype(np.float64).transpose(0, 2, 1).reshape(-1, y.shape[1])


def assert_moments(turn: Turn, u: Floats, t: Floats) -> None:
    moments = turn.moments
    assert moments.count == len(u)
    size, reach = np.abs(u).max() + 1, np.abs(t).max() + 1
    for found, expected, scale in (
        (moments.mean[0], u.mean(axis=0), size),
        (moments.target_mean[0], t.mean(axis=0), reach),
        (moments.second_moment[0], u.T @ u / len(u), size**2),
        (moments.hessian(centred=True)[0], np.cov(u.T, bias=True).reshape(u.shape[1], -1), size**2),
        (moments.cross[0], (t - t.mean(axis=0)).T @ (u - u.mean(axis=0)) / len(u), size * reach),
        (moments.target_variance[0], t.var(axis=0), reach**2),
    ):
        np.testing.assert_allclose(found, expected, atol=1e-4 * scale)


def ancestors(model: Model, name: str) -> set[str]:
    """A tensor and all that it is made of."""
    found = {name}
    for node in reversed(model.graph.node):
        if found & set(node.output):
            found |= set(node.input)
    return found


@settings(max_examples=40, deadline=None)
@given(SEEDS)
def test_activations_are_held_only_as_long_as_a_later_turn_starts_from_them(seed: int) -> None:
    rng = np.random.default_rng(seed)
    model, x = drawn(rng), samples(rng)
    layers = list(Layers(model))
    targets = targets_of(model, Layers(model))
    aims = [targets.of(layer) for layer in layers]
    before = [set[str](), set[str]()]
    with Store(1 << 26) as store:
        for k, turn in enumerate(walk(model, Altered(model), store, x)):
            ours = {name for layer, aim in zip(layers[k:], aims[k:], strict=True) for name in (layer.x, *aim.others)}
            caches = ((turn.ours, ours), (turn.theirs, {aim.tensor for aim in aims[k:]}))
            for (cache, wanted), last in zip(caches, before, strict=True):
                held = set(cache.held) - {"x"}
                assert held == {name for name in last if starts(model, name, wanted, last)}
            assert turn.moments.count
            assert {turn.layer.x, *turn.target.others} <= set(turn.ours.held)
            assert turn.target.tensor in turn.theirs.held
            before = [set(cache.held) - {"x"} for cache, _ in caches]
        used = store.used_bytes
        assert turn.ours.held == turn.theirs.held == ["x"]
    assert used == x.nbytes


def starts(model: Model, tensor: str, wanted: set[str], held: set[str]) -> bool:
    """Whether something wanted is the tensor, or is computed of it without going through another one that is held."""
    if tensor in wanted:
        return True
    made = {o for node in model.graph.node if tensor in node.input for o in node.output} - held - {"x"}
    return any(starts(model, name, wanted, held) for name in made)


@pytest.mark.parametrize("depth", [3, 9])
def test_a_chain_holds_one_tensor_of_each_network_between_turns_however_deep_it_is(depth: int) -> None:
    weights = ", ".join(f"float[{CHANNELS}, {CHANNELS}, 3] w{k}" for k in range(depth))
    nodes = "".join(f"a{k + 1} = Conv <pads = [1, 1]> (r{k}, w{k}) r{k + 1} = Relu(a{k + 1}) " for k in range(depth))
    text = nodes.replace("(r0,", "(x,") + f"y = Tanh(r{depth})"
    model, x = parsed(f"float[N, {CHANNELS}, 6] x", "float y", weights, text), samples(np.random.default_rng(0))
    with Store(1 << 26) as store:
        for k, turn in enumerate(walk(model, Altered(model), store, x)):
            assert turn.ours.held == ["x", f"r{k - 1}"][: max(1, k)]
            assert turn.theirs.held == ["x", f"a{k}"][: k + 1]
            assert turn.moments.count
            assert turn.ours.held == ["x", *[f"r{at}" for at in (k - 1, k) if at > 0]]


def test_what_a_sum_adds_is_held_until_the_layer_that_aims_at_the_sum() -> None:
    weights = ", ".join(f"float[{CHANNELS}, {CHANNELS}, 1] w{k}" for k in range(4))
    nodes = "r = Conv(x, w0) b = Conv(r, w1) c = Conv(b, w2) d = Conv(c, w3) s = Add(d, r) y = Tanh(s)"
    model, x = parsed(f"float[N, {CHANNELS}, 6] x", "float y", weights, nodes), samples(np.random.default_rng(0))
    held = []
    with Store(1 << 26) as store:
        for turn in walk(model, Altered(model), store, x):
            held.append(set(turn.ours.held))
            assert turn.moments.count
    assert held == [{"x"}, {"x"}, {"x", "r"}, {"x", "r", "b"}]


def test_layers_that_are_gone_have_no_turn() -> None:
    rng = np.random.default_rng(2)
    model, x = drawn(rng), samples(rng)
    gone = next(iter(Layers(model)))

    class Less(Altered):
        def counterpart(self, layer: Layer) -> Layer | None:
            return None if layer == gone else layer

    told: list[tuple[int, int | None]] = []
    layers = list(Layers(model))
    with Store(1 << 26) as store:
        turns = in_turn(
            model,
            Less(model),
            Inputs(batches(x), store),
            layers,
            targets_of(model, Layers(model)),
            lambda *t: told.append(t),
        )
        assert [turn.layer for turn in turns] == layers[1:]
    assert told == [(k + 1, len(layers)) for k in range(len(layers))]


@settings(max_examples=25, deadline=None)
@given(SEEDS)
def test_each_visit_finds_its_tensors_held_and_leaves_what_later_ones_start_from(seed: int) -> None:
    rng = np.random.default_rng(seed)
    model, x = drawn(rng), samples(rng)
    truth, after = dumped(model, x), ["y"]
    visits: Sequence[tuple[str, list[str]]] = [(name, [name]) for name in truth if name != "x" and rng.random() < 0.6]
    with Store(1 << 26) as store:
        cache = Cache(model, Inputs(batches(x), store))
        for k, name in enumerate(each(cache, visits, after)):
            assert name in cache.held
            held = set(cache.held) - {"x", name}
            wanted = {*after, *(one for one, _ in visits[k:])}
            assert held == {one for one in held if starts(model, one, wanted, held)}
            found = np.concatenate([batch[name] for batch in cache.batches([name])])
            np.testing.assert_allclose(found, truth[name], atol=1e-4)
