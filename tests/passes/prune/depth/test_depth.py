"""Whole branches of residual sums go: the right ones, with what stays made up for them, and nothing else changed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from intaglio import PruneChannels, load, run
from intaglio.graph.errors import NothingChanged, TargetUnreachable, UsageError
from intaglio.graph.io.load import from_proto
from intaglio.graph.model import Model
from intaglio.measure.run.session import open_session
from intaglio.measure.run.session import run as once
from intaglio.passes.prune.depth.branches import branches, dropped, zeroed

EXAMPLES = Path(__file__).resolve().parents[4] / "examples"


def net(blocks: list[float], *, relu: bool = True, projected: bool = False, seed: int = 0) -> Model:
    """x + b(x) for each block, whose weights are so large, or P x + b(x); the first layer makes 6 channels of 3."""
    rng, nodes, weights = np.random.default_rng(seed), [], {}

    def conv(x: str, name: str, made: int, given: int, size: float = 1.0) -> str:
        weight = rng.standard_normal((made, given, 1, 1)) * size / np.sqrt(given)
        weights[f"{name}/w"] = weight.astype(np.float32)
        weights[f"{name}/b"] = np.zeros(made, np.float32)
        nodes.append(helper.make_node("Conv", [x, f"{name}/w", f"{name}/b"], [name], f"/{name}/conv"))
        return name

    x = conv("x", "stem", 6, 3)
    for k, size in enumerate(blocks):
        y = conv(x, f"a{k}", 6, 6, size)
        if relu:
            nodes.append(helper.make_node("Relu", [y], [f"r{k}"], f"/r{k}"))
            y = conv(f"r{k}", f"c{k}", 6, 6, size)
        beside = conv(x, f"p{k}", 6, 6) if projected else x
        nodes.append(helper.make_node("Add", [y, beside], [f"s{k}"], f"/s{k}"))
        x = f"s{k}"
    conv(x, "head", 2, 6)
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["N", c, 4, 4]) for n, c in (("x", 3), ("head", 2))]
    stored = [onnx.numpy_helper.from_array(value, name) for name, value in weights.items()]
    graph = helper.make_graph(nodes, "net", ends[:1], ends[1:], stored)
    return from_proto(helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)]))


def inputs(tmp_path: Path, count: int = 64) -> str:
    path = tmp_path / "x.npz"
    np.savez(path, x=np.random.default_rng(1).standard_normal((count, 3, 4, 4)).astype(np.float32))
    return str(path)


def removed(report: Any) -> list[str]:
    return [one["name"] for one in report.as_dict()["branches"] if one["removed"]]


def test_branches_are_what_goes_with_an_operand_of_a_sum() -> None:
    found = branches(net([1.0, 1.0]))
    assert [(one.total, one.stays, sorted(one.nodes)) for one in found] == [
        ("s0", "stem", ["a0", "c0", "r0"]),
        ("s1", "s0", ["a1", "c1", "r1"]),
    ]
    assert {one.params for one in found} == {2 * 42}


def test_attention_and_its_feed_forward_are_branches_of_a_transformer() -> None:
    found = branches(load(EXAMPLES / "vit_digits.onnx"))
    assert len(found) >= 4
    assert len({one.name for one in found}) == len(found)


@pytest.mark.parametrize("gone", [[0], [1], [0, 1]])
def test_a_model_without_branches_is_the_one_with_them_zeroed(gone: list[int]) -> None:
    model = net([1.0, 1.0])
    found = [branches(model)[k] for k in gone]
    x = {"x": np.random.default_rng(0).standard_normal((2, 3, 4, 4)).astype(np.float32)}
    a, b = (once(open_session(make(model, found)), x)["head"] for make in (dropped, zeroed))
    np.testing.assert_array_equal(a, b)


def test_the_branch_that_does_least_goes_first() -> None:
    report = run(net([1.0, 0.05, 1.0]), PruneChannels(axis="depth", keep=0.75), measure=False)
    assert len(removed(report)) == 1
    assert min(report.as_dict()["branches"], key=lambda one: one["effect"])["removed"]
    assert report.as_dict()["kept"]["macs"] <= 0.75
    assert any("made-up inputs" in note for note in report.notes)


def test_the_layer_in_front_makes_up_for_a_branch_that_is_linear(tmp_path: Path) -> None:
    """x + A x after x = W u is (W + A W) u: nothing is lost once W is refitted."""
    model = net([1.0, 0.8], relu=False)
    options: dict[str, Any] = {"axis": "depth", "keep": 0.8, "target": "macs"}
    report = run(model, PruneChannels(**options), data=inputs(tmp_path, 512), measure=False)
    x = {"x": np.random.default_rng(5).standard_normal((8, 3, 4, 4)).astype(np.float32)}
    a, b = (once(open_session(one), x)["head"] for one in (model, report.change.model))
    bare = run(model, PruneChannels(**options, repair="none"), data=inputs(tmp_path, 512), measure=False)
    worse = once(open_session(bare.change.model), x)["head"]
    assert removed(report) == removed(bare)
    assert np.square(a - b).mean() < 1e-3 * np.square(a - worse).mean()


def test_a_projection_makes_up_for_the_branch_beside_it(tmp_path: Path) -> None:
    """P x + A x is (P + A) x; a rectified branch cannot be made up for, and is left out all the same."""
    x = {"x": np.random.default_rng(5).standard_normal((8, 3, 4, 4)).astype(np.float32)}
    lost = []
    for relu, keep in ((False, 0.7), (True, 0.5)):
        model = net([1.0, 0.8], relu=relu, projected=True)
        report = run(model, PruneChannels(axis="depth", keep=keep), data=inputs(tmp_path, 512), measure=False)
        assert len(removed(report)) == 2
        a, b = (once(open_session(one), x)["head"] for one in (model, report.change.model))
        lost.append(np.square(a - b).mean() / np.square(a).mean())
    assert lost[0] < 1e-6 < lost[1]


def test_what_is_left_out_stays() -> None:
    model = net([1.0, 0.05, 1.0])
    report = run(model, PruneChannels(axis="depth", keep=0.75, exclude=("/a1/conv",)), measure=False)
    assert removed(report)
    assert all("a1" not in name for name in removed(report))


def test_too_much_nothing_and_the_wrong_options_are_told() -> None:
    with pytest.raises(TargetUnreachable, match="more than the branches"):
        run(net([1.0]), PruneChannels(axis="depth", keep=0.1), measure=False)
    with pytest.raises(NothingChanged, match="no branch"):
        run(net([]), PruneChannels(axis="depth", keep=0.5), measure=False)
    with pytest.raises(UsageError, match="channels"):
        run(net([1.0]), PruneChannels(axis="depth", target="channels", keep=0.5), measure=False)
    with pytest.raises(UsageError, match="criterion"):
        run(net([1.0]), PruneChannels(axis="depth", keep=0.8, criterion="l1"), measure=False)


def test_a_real_network_loses_less_once_refitted() -> None:
    said: dict[str, Any] = {
        "data": str(EXAMPLES / "digits_calib.npz"),
        "eval_data": str(EXAMPLES / "digits_test.npz"),
        "measure": False,
    }
    model = load(EXAMPLES / "vit_digits.onnx")
    drops = [
        run(model, PruneChannels(axis="depth", keep=0.8, repair=repair), **said).as_dict()["accuracy"]["after"]["top1"]
        for repair in ("none", None)
    ]
    assert drops[1] > drops[0]
