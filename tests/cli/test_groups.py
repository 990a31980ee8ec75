"""``intaglio groups`` lists what can be pruned and says what keeps the rest in place."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from .conftest import Command, write_model

KEYS = {"name", "channels", "prunable", "exact", "frozen_by", "members", "params", "macs"}


def numbers(count: int) -> str:
    return ",".join(str(k / 7) for k in range(1, count + 1))


@pytest.fixture
def small_net(tmp_path: Path) -> Path:
    """Two layers: the hidden width is free, both ends are not."""
    path = write_model(
        tmp_path / "net.onnx",
        "float[N, 4] x",
        "float[N, 3] y",
        "h = Gemm(x, w1, b1)  r = Relu(h)  y = Gemm(r, w2)",
        f"float[4, 6] w1 = {{{numbers(24)}}}, float[6] b1 = {{{numbers(6)}}}, float[6, 3] w2 = {{{numbers(18)}}}",
    )
    onnx.checker.check_model(path)
    return path


def test_the_json_has_every_key_of_the_contract(intaglio: Command, small_net: Path) -> None:
    ran = intaglio("groups", small_net, "--json")
    assert ran.code == 0
    assert all(set(group) >= KEYS for group in ran.json["groups"])
    hidden = [g for g in ran.json["groups"] if g["prunable"]]
    assert len(hidden) == 1
    assert hidden[0]["channels"] == 6
    assert hidden[0]["exact"]
    assert hidden[0]["frozen_by"] is None
    assert {(m["tensor"], m["axis"]) for m in hidden[0]["members"]} == {("w1", 1), ("b1", 0), ("w2", 0)}
    assert hidden[0]["params"] == 4 + 1 + 3
    assert hidden[0]["macs"] == 4 + 3


def test_what_freezes_a_group_is_named_with_its_reason(intaglio: Command, small_net: Path) -> None:
    groups = intaglio("groups", small_net, "--json").json["groups"]
    reasons = {(m["tensor"], m["axis"]): g["frozen_by"] for g in groups if not g["prunable"] for m in g["members"]}
    assert reasons["w1", 0].startswith('graph input "x"')
    assert reasons["w2", 1].startswith('graph output "y"')


def test_only_frozen_groups_are_listed_on_request(intaglio: Command, small_net: Path) -> None:
    groups = intaglio("groups", small_net, "--frozen", "--json").json["groups"]
    assert groups
    assert not any(g["prunable"] for g in groups)


def test_the_table_names_groups_and_members(intaglio: Command, small_net: Path) -> None:
    ran = intaglio("groups", small_net, "--members")
    assert ran.code == 0
    assert "frozen by" in ran.out
    assert "w2 axis 0" in ran.out
    assert "1 prunable" in ran.out


def test_a_broken_file_is_one_clear_error(intaglio: Command, tmp_path: Path) -> None:
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"\x08\x07\x12garbage")
    ran = intaglio("groups", path)
    assert ran.code == 1
    assert ran.err.startswith("error: ")
    assert "Traceback" not in ran.err


def test_resnet20_has_its_residual_streams_and_inner_widths(intaglio: Command, shared_data: Path) -> None:
    groups = intaglio("groups", shared_data / "resnet20.onnx", "--json").json["groups"]
    widths = sorted(g["channels"] for g in groups if g["prunable"])
    # 9 inner widths; the stream of stage 1 runs on through zero-padded shortcuts, the new channels of stages 2 and 3
    # are groups of their own (16 and 32 of them).
    assert widths == sorted([16] * 3 + [32] * 3 + [64] * 3 + [16, 16, 32])
