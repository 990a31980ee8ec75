"""Running a model part by part: values are those of a plain run, and no more is held than what is still needed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from intaglio.graph.model import Model
from intaglio.passes.calibration.activation_cache import ActivationCache, Inputs, Store, part
from tests.passes.parsed import data_for, parsed, run_plainly

BRANCHED = parsed(
    "float[N, 3, 6, 6] image, float[N, 4] extra",
    "float[N, 5] y, float[N, 4] z",
    "float[4, 3, 3, 3] w1, float[4, 4, 1, 1] w2, float[4, 4] w3, float[8, 5] w4, float[5] b4, int64[2] parts = {2, 2}",
    """
    a = Conv <pads = [1, 1, 1, 1]> (image, w1)
    r = Relu(a)
    c = Conv(r, w2)
    s = Add(c, r)
    left, right = Split <axis = 1> (s, parts)
    turned = Concat <axis = 1> (right, left)
    p = GlobalAveragePool(turned)
    f = Flatten(p)
    m = MatMul(extra, w3)
    z = Tanh(m)
    j = Concat <axis = 1> (f, z)
    y = Gemm(j, w4, b4)
    """,
)
TENSORS = ["a", "r", "c", "s", "left", "right", "turned", "p", "f", "m", "z", "j", "y"]


def feeds(samples: int, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    shapes = {"image": (samples, 3, 6, 6), "extra": (samples, 4)}
    return {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


def batched(arrays: dict[str, np.ndarray], sizes: Sequence[int]) -> list[dict[str, np.ndarray]]:
    cuts = np.cumsum(sizes)[:-1]
    pieces = {name: np.split(a, cuts) for name, a in arrays.items()}
    return [{name: pieces[name][k] for name in arrays} for k in range(len(sizes))]


ARRAYS = feeds(7)
SIZES = [3, 3, 1]
TRUTH = run_plainly(BRANCHED, ARRAYS, TENSORS) | ARRAYS


def assert_true(cache: ActivationCache, names: Sequence[str]) -> None:
    batches = list(cache.batches(names))
    assert [len(b[names[0]]) for b in batches] == SIZES
    for name in names:
        np.testing.assert_allclose(np.concatenate([b[name] for b in batches]), TRUTH[name], atol=1e-5, err_msg=name)


def frontier(model: Model, wanted: Iterable[str], held: Iterable[str]) -> set[str]:
    """Held tensors at which a walk back from the wanted ones ends."""
    makers = {o: n for n in model.graph.node for o in n.output}
    held, found, seen, walk = set(held), set(), set(), list(wanted)
    while walk:
        name = walk.pop()
        if name in held:
            found.add(name)
        elif name in makers and name not in seen:
            seen.add(name)
            walk += makers[name].input
    return found


ACTIONS = st.tuples(
    st.sampled_from(["hold", "read", "retain", "drop"]),
    st.lists(st.sampled_from(TENSORS), min_size=1, max_size=3, unique=True),
)


@settings(max_examples=30, deadline=None)
@given(st.lists(ACTIONS, min_size=1, max_size=6), st.sampled_from([0, 2000, 1 << 20]))
def test_values_are_those_of_a_plain_run_whatever_is_held(
    actions: list[tuple[str, list[str]]], budget_bytes: int
) -> None:
    with Store(budget_bytes) as store:
        cache = ActivationCache(BRANCHED, Inputs(batched(ARRAYS, SIZES), store))
        for action, names in actions:
            before = set(cache.held)
            if action == "hold":
                cache.hold(names)
                assert set(cache.held) == before | set(names)
            elif action == "read":
                assert_true(cache, names)
                assert set(cache.held) == before
            elif action == "retain":
                cache.retain(names)
                assert set(cache.held) == frontier(BRANCHED, names, before) | set(ARRAYS)
            else:
                cache.drop(names)
                assert set(cache.held) == before - set(names)
        assert_true(cache, TENSORS)
        assert store.used_bytes <= budget_bytes


def test_parts_start_from_what_is_held_and_repeat_nothing() -> None:
    small, sources = part(BRANCHED, ["y"], ["image", "extra", "s", "z"])
    assert sources == ["s", "z"]
    ran = [n.op_type for n in small.graph.node]
    assert ran == ["Split", "Concat", "GlobalAveragePool", "Flatten", "Concat", "Gemm"]
    assert set(small.weights) == {"parts", "w4", "b4"}


def test_one_output_of_a_node_may_be_held_and_changed_while_another_is_computed() -> None:
    """The held value counts, also where the node that made it must run again for another output."""
    with Store(1 << 20) as store:
        cache = ActivationCache(BRANCHED, Inputs(batched(ARRAYS, SIZES), store))
        cache.hold(["left"])
        cache.replace("left", lambda value: value + 1)
        found = np.concatenate([b["turned"] for b in cache.batches(["turned"])])
    np.testing.assert_allclose(found, np.concatenate([TRUTH["right"], TRUTH["left"] + 1], axis=1), atol=1e-5)


def test_a_walk_through_the_network_never_holds_more_than_a_cut_through_it() -> None:
    with Store(1 << 20) as store:
        cache = ActivationCache(BRANCHED, Inputs(batched(ARRAYS, SIZES), store))
        walk, most = ["r", "s", "turned", "f", "j"], 0
        for k, name in enumerate(walk):
            cache.hold([name])
            most = max(most, len(cache.held) - len(ARRAYS))
            assert_true(cache, [name])
            cache.retain(walk[k + 1 :])
        assert most == 2
        assert set(cache.held) == set(ARRAYS)
        assert store.used_bytes == sum(a.nbytes for a in ARRAYS.values())


def test_a_model_may_be_replaced_while_what_is_held_stays() -> None:
    other = BRANCHED.copy()
    other.weights["w1"] = other.weights["w1"] * 2
    other.weights["w4"] = other.weights["w4"] * 3
    with Store(1 << 20) as store:
        cache = ActivationCache(BRANCHED, Inputs(batched(ARRAYS, SIZES), store))
        cache.hold(["j"])
        cache.model = other
        assert_true(cache, ["j"])
        expected = 3 * (TRUTH["y"] - BRANCHED.weights["b4"]) + BRANCHED.weights["b4"]
        np.testing.assert_allclose(np.concatenate([b["y"] for b in cache.batches(["y"])]), expected, atol=1e-5)
        once = np.concatenate([b["a"] for b in cache.batches(["a"], BRANCHED)])
        np.testing.assert_allclose(once, TRUTH["a"], atol=1e-5)
        np.testing.assert_allclose(np.concatenate([b["a"] for b in cache.batches(["a"])]), 2 * TRUTH["a"], atol=1e-5)


def test_two_streams_over_the_same_inputs_do_not_disturb_each_other() -> None:
    with Store(1500) as store:
        inputs = Inputs(batched(ARRAYS, SIZES), store)
        one, two = ActivationCache(BRANCHED, inputs), ActivationCache(BRANCHED, inputs)
        one.hold(["r", "z"])
        two.hold(["r"])
        one.replace("r", lambda value: value * 0)
        assert_true(two, ["r", "y"])
        one.drop(["r", "z"])
        one.retain([])
        assert_true(two, ["s", "y"])
        for k, reading in enumerate(zip(one.batches(["r"]), two.batches(["y"]), strict=True)):
            rows = slice(3 * k, 3 * k + SIZES[k])
            np.testing.assert_allclose(reading[0]["r"], TRUTH["r"][rows], atol=1e-5)
            np.testing.assert_allclose(reading[1]["y"], TRUTH["y"][rows], atol=1e-5)
        two.retain([])
        assert_true(one, TENSORS)


def test_fewer_samples_are_whole_batches_from_the_beginning() -> None:
    with Store(0) as store:
        inputs = Inputs(batched(ARRAYS, SIZES), store)
        for wanted, samples in ((1, 3), (3, 3), (4, 6), (7, 7), (100, 7)):
            fewer = inputs.first(wanted)
            cache = ActivationCache(BRANCHED, fewer)
            found = np.concatenate([b["y"] for b in cache.batches(["y"])])
            assert fewer.samples == cache.samples == len(found) == samples
            np.testing.assert_allclose(found, TRUTH["y"][:samples], atol=1e-5)
        assert inputs.samples == 7


def test_keys_tell_samples_apart_by_what_is_in_them() -> None:
    with Store(1 << 20) as store:
        whole = np.concatenate(Inputs(batched(ARRAYS, SIZES), store).keys)
        order = np.array([4, 1, 6, 0, 2, 5, 3])
        shuffled = Inputs(batched({n: a[order] for n, a in ARRAYS.items()}, [1, 5, 1]), store)
    np.testing.assert_array_equal(np.concatenate(shuffled.keys), whole[order])
    assert len(set(whole.tolist())) == 7


@pytest.mark.parametrize("fixed", [False, True])
def test_data_sources_feed_models_with_two_inputs_and_with_a_fixed_batch(fixed: bool) -> None:
    model = BRANCHED.copy()
    for value in model.graph.input if fixed else ():
        value.type.tensor_type.shape.dim[0].dim_value = 2
    arrays = {name: a[:6] for name, a in ARRAYS.items()}
    batches = list(data_for(model, **arrays).batches(4))
    with Store(1 << 20) as store:
        inputs = Inputs([b.inputs for b in batches], store)
        cache = ActivationCache(model, inputs)
        cache.hold(["s"])
        found = np.concatenate([b["y"] for b in cache.batches(["y"])])
        assert cache.samples == 6
        assert cache.batch_count == (3 if fixed else 2)
        assert set(cache.inputs) == {"image", "extra"}
    np.testing.assert_allclose(found, TRUTH["y"][:6], atol=1e-5)


@pytest.mark.parametrize(("kind", "code"), [("int64", 7), ("bool", 9), ("float16", 10), ("double", 11)])
def test_held_tensors_keep_their_types(kind: str, code: int) -> None:
    cast = f"h = MatMul(x, w) c = Cast <to = {code}> (h) y = Cast <to = 1> (c)"
    model = parsed("float[N, 4] x", "float[N, 4] y", "float[4, 4] w", cast)
    x = np.random.default_rng(0).standard_normal((5, 4)).astype(np.float32) * 3
    with Store(1 << 20) as store:
        cache = ActivationCache(model, Inputs([{"x": x}], store))
        cache.hold(["c"])
        (batch,) = cache.batches(["c", "y"])
    assert batch["c"].dtype == np.dtype(kind)
    np.testing.assert_array_equal(batch["y"], run_plainly(model, {"x": x}, ["y"])["y"])


def files(folder: Path) -> list[Path]:
    return [p for p in folder.rglob("*") if p.is_file()]


@pytest.mark.parametrize("dtype", ["float32", "float16", "int64", "bool"])
def test_what_does_not_fit_into_memory_comes_back_from_files_the_same(tmp_path: Path, dtype: str) -> None:
    values = [np.random.default_rng(k).integers(0, 9, (4, k + 1)).astype(dtype) for k in range(6)]
    with Store(3 * values[0].nbytes, tmp_path) as store:
        tickets = [store.put(v) for v in values]
        assert store.used_bytes <= store.budget_bytes
        assert len(files(tmp_path)) == 4
        for ticket, value in zip(tickets, values, strict=True):
            np.testing.assert_array_equal(store.get(ticket), value)
            assert store.get(ticket).dtype == value.dtype
        for ticket in tickets[::-1]:
            store.drop(ticket)
        assert not files(tmp_path)
        assert store.used_bytes == 0
    assert not list(tmp_path.iterdir())


def test_what_is_dropped_makes_room_in_memory_again(tmp_path: Path) -> None:
    value = np.zeros(100)
    with Store(value.nbytes, tmp_path) as store:
        first = store.put(value)
        store.drop(first)
        store.put(value)
        assert not files(tmp_path)


def test_no_files_are_left_whatever_happens(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), Store(100, tmp_path) as store:  # noqa: PT012
        cache = ActivationCache(BRANCHED, Inputs(batched(ARRAYS, SIZES), store))
        cache.hold(["a", "y"])
        assert len(files(tmp_path)) > 6
        for _ in cache.batches(["r"]):
            raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())


def test_a_walk_leaves_no_more_files_than_it_holds(tmp_path: Path) -> None:
    with Store(0, tmp_path) as store:
        cache = ActivationCache(BRANCHED, Inputs(batched(ARRAYS, SIZES), store))
        for name in TENSORS:
            cache.hold([name])
            assert len(files(tmp_path)) == len(SIZES) * len(cache.held)
            cache.retain(["y"])
        assert len(files(tmp_path)) == len(SIZES) * 3
