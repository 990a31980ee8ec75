"""Experts that data seldom use go: the right ones, with their scores, and nothing else changes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

from intaglio import PruneChannels, run
from intaglio.graph.errors import NothingChanged, TargetUnreachable, UsageError
from intaglio.graph.index import index_of
from intaglio.graph.io.load import from_proto
from intaglio.graph.model import Model
from intaglio.measure.run.session import open_session
from intaglio.measure.run.session import run as once
from intaglio.passes.prune.experts.routers import masked, routers, without

WIDTH, HIDDEN, EXPERTS, TAKEN = 6, 5, 4, 2


def mixture(
    seed: int = 0, *, layers: int = 2, bias: bool = False, shaped: bool = False, nd: bool = False, tell: str = ""
) -> Model:
    """x plus the weighed sum of the experts that each token takes, a few times; ``tell`` is a tensor that is an output."""
    rng, nodes, weights = np.random.default_rng(seed), [], {}

    def add(op: str, inputs: list[str], *outputs: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(op, inputs, [*outputs], outputs[0], **attributes))
        return outputs[0]

    def constant(name: str, value: object) -> str:
        weights[name] = np.asarray(value)
        return name

    x = "x"
    for k in range(layers):
        size = (WIDTH, EXPERTS)
        scores = add("MatMul", [x, constant(f"r{k}", rng.standard_normal(size).astype(np.float32))], f"scores{k}")
        if bias:
            scores = add("Add", [scores, constant(f"rb{k}", rng.standard_normal(EXPERTS).astype(np.float32))], f"rs{k}")
        if shaped:
            scores = add("Reshape", [scores, constant(f"shape{k}", [-1, EXPERTS])], f"flat{k}")
        chance = add("Softmax", [scores], f"chance{k}", axis=-1)
        add("TopK", [chance, constant(f"k{k}", [TAKEN])], f"much{k}", f"which{k}", axis=-1)
        each = add("Reshape", [f"which{k}", constant(f"all{k}", [-1])], f"each{k}")
        stack = constant(f"stack{k}", rng.standard_normal((EXPERTS, HIDDEN, WIDTH)).astype(np.float32))
        down = constant(f"down{k}", rng.standard_normal((EXPERTS, WIDTH, HIDDEN)).astype(np.float32))
        look = "Gather"
        if nd:
            look, each = "GatherND", add("Unsqueeze", [each, constant(f"end{k}", [-1])], f"numbers{k}")
        wide = add("Unsqueeze", [x, constant(f"one{k}", [1])], f"wide{k}")
        many = add(
            "Reshape",
            [add("Tile", [wide, constant(f"t{k}", [1, TAKEN, 1])], f"tile{k}"), constant(f"c{k}", [-1, WIDTH, 1])],
            f"many{k}",
        )
        inner = add("Relu", [add("MatMul", [add(look, [stack, each], f"g{k}"), many], f"up{k}")], f"relu{k}")
        made = add("MatMul", [add(look, [down, each], f"h{k}"), inner], f"made{k}")
        back = add("Reshape", [made, constant(f"back{k}", [-1, TAKEN, WIDTH])], f"back{k}/y")
        weighed = add("Mul", [back, add("Unsqueeze", [f"much{k}", constant(f"last{k}", [-1])], f"m{k}")], f"weighed{k}")
        x = add("Add", [x, add("ReduceSum", [weighed, constant(f"axis{k}", [1])], f"sum{k}", keepdims=0)], f"y{k}")
    ends = [helper.make_tensor_value_info(name, 1, ["N", WIDTH]) for name in ("x", x)]
    told = [helper.make_empty_tensor_value_info(tell)] if tell else []
    stored = [onnx.numpy_helper.from_array(value, name) for name, value in weights.items()]
    graph = helper.make_graph(nodes, "moe", ends[:1], [*ends[1:], *told], stored)
    return from_proto(helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)]))


def by_hand(model: Model, x: np.ndarray, stay: list[list[int]]) -> np.ndarray:
    """The network without ONNX, where each layer has some experts alone."""
    w = model.weights
    for k, kept in enumerate(stay):
        scores = (x @ w[f"r{k}"] + w.get(f"rb{k}", np.zeros(EXPERTS)))[:, kept]
        chance = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
        best = np.argsort(-chance, axis=1, kind="stable")[:, :TAKEN]
        y = x.copy()
        for row, (token, taken) in enumerate(zip(x, best, strict=True)):
            for expert in taken:
                inner = np.maximum(w[f"stack{k}"][kept[expert]] @ token, 0)
                y[row] += chance[row, expert] * (w[f"down{k}"][kept[expert]] @ inner)
        x = y
    return x


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 99),
    stay=st.lists(st.sets(st.integers(0, EXPERTS - 1), min_size=TAKEN), min_size=1, max_size=2),
    bias=st.booleans(),
    shaped=st.booleans(),
    nd=st.booleans(),
)
def test_what_stays_computes_what_the_masked_original_does(
    seed: int, stay: list[set[int]], bias: bool, shaped: bool, nd: bool
) -> None:
    model = mixture(seed, layers=len(stay), bias=bias, shaped=shaped, nd=nd)
    found, refused = routers(model)
    assert (len(found), refused) == (len(stay), {})
    kept = {one.name: np.array(sorted(some)) for one, some in zip(found, stay, strict=True)}
    small, before = without(model, kept, found), masked(model, kept, found)
    x = np.random.default_rng(seed).standard_normal((7, WIDTH)).astype(np.float32)
    (made,), (exact,) = (once(open_session(one), {"x": x}).values() for one in (small, before))
    np.testing.assert_allclose(made, exact, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(made, by_hand(model, x, [sorted(some) for some in stay]), rtol=1e-4, atol=1e-4)
    for k, some in enumerate(stay):
        assert [small.weights[f"{name}{k}"].shape[axis] for name, axis in (("r", 1), ("stack", 0), ("down", 0))] == [
            len(some)
        ] * 3


def data(tmp_path: Path) -> str:
    path = tmp_path / "x.npz"
    np.savez(path, x=np.random.default_rng(1).standard_normal((50, WIDTH)).astype(np.float32))
    return str(path)


def test_those_go_that_data_take_least(tmp_path: Path) -> None:
    model = mixture(layers=1)
    report = run(model, PruneChannels(axis="experts", target="channels", keep=0.5), data=data(tmp_path), measure=False)
    x = np.load(data(tmp_path))["x"]
    times = np.bincount(np.argsort(-(x @ model.weights["r0"]), axis=1)[:, :TAKEN].reshape(-1), minlength=EXPERTS)
    (told,) = report.as_dict()["experts"].values()
    assert told["times"] == times.tolist()
    assert told["kept"] == sorted(np.argsort(-times, kind="stable")[:2].tolist())
    assert told["used"] == pytest.approx(np.sort(times)[-2:].sum() / times.sum())
    assert report.as_dict()["verified"]["passed"]


def test_a_limit_on_parameters_is_met_and_no_router_is_left_with_too_few(tmp_path: Path) -> None:
    report = run(
        mixture(), PruneChannels(axis="experts", target="params", keep=0.7), data=data(tmp_path), measure=False
    )
    assert report.as_dict()["kept"]["params"] <= 0.7
    assert all(one["after"] >= TAKEN for one in report.as_dict()["groups"])
    with pytest.raises(TargetUnreachable, match="without any expert but those that a token takes"):
        run(mixture(), PruneChannels(axis="experts", target="params", keep=0.2), data=data(tmp_path), measure=False)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": "macs"}, "cannot keep a fraction of macs"),
        ({"target": "channels", "criterion": "l1"}, "how often data take"),
    ],
)
def test_what_speaks_of_channels_is_refused(options: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        run(mixture(), PruneChannels(axis="experts", keep=0.5, **options), data=data(tmp_path), measure=False)
    assert message in str(caught.value)


def test_without_data_nobody_knows_which_are_used() -> None:
    with pytest.raises(UsageError, match="only data can tell"):
        run(mixture(), PruneChannels(axis="experts", target="channels", keep=0.5), measure=False)


@pytest.mark.parametrize(
    ("tell", "why"), [("chance0", "is an output"), ("which0", "which experts were taken is an output")]
)
def test_experts_stay_where_others_see_their_numbers(tell: str, why: str, tmp_path: Path) -> None:
    with pytest.raises(NothingChanged) as caught:
        run(
            mixture(layers=1, tell=tell),
            PruneChannels(axis="experts", target="channels", keep=0.5),
            data=data(tmp_path),
            measure=False,
        )
    assert why in str(caught.value.why)


def test_a_vector_of_all_tokens_takes_no_list_of_lengths() -> None:
    """It would be one of a hundred million entries."""
    nodes = [
        helper.make_node("Reshape", ["x", "all"], ["flat"]),
        helper.make_node("Unsqueeze", ["flat", "last"], ["tall"]),
        helper.make_node("Mul", ["tall", "tall"], ["y"]),
    ]
    ends = [helper.make_tensor_value_info("x", 1, ["B", "T"]), helper.make_empty_tensor_value_info("y")]
    stored = [onnx.numpy_helper.from_array(np.array([-1]), name) for name in ("all", "last")]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], stored)
    model = from_proto(helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)]))
    assert index_of(model).shapes_at(9973).dims["y"] == (9973**2, 1)
