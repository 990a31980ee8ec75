"""Models with operators on bits go through every command: what is float is worked on, what is bits is left alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from intaglio.graph.bits import DOMAIN
from tests.packed import binary_cnn, one_bit_cnn

from .conftest import Command


@pytest.fixture
def binary(tmp_path: Path) -> Path:
    onnx.save(binary_cnn(width=16), tmp_path / "binary.onnx")
    return tmp_path / "binary.onnx"


@pytest.fixture
def one_bit(tmp_path: Path) -> Path:
    onnx.save(one_bit_cnn(width=16), tmp_path / "one_bit.onnx")
    return tmp_path / "one_bit.onnx"


@pytest.fixture
def samples(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((64, 3, 8, 8)).astype(np.float32)
    np.savez(tmp_path / "some.npz", x=x, labels=rng.integers(0, 10, 64))
    return tmp_path / "some.npz"


def bits_of(path: Path) -> list[tuple[bytes, list[bytes]]]:
    """Every node on bits, and the weights it reads that are bits."""
    proto = onnx.load(path)
    held = {t.name: t.raw_data for t in proto.graph.initializer if t.data_type == onnx.TensorProto.UINT8}
    found = []
    for node in proto.graph.node:
        if node.domain == DOMAIN:
            attributes = b"".join(a.SerializeToString() for a in sorted(node.attribute, key=lambda a: a.name))
            found.append((node.op_type.encode() + attributes, [held[i] for i in node.input if i in held]))
    return found


def test_inspect_counts_operations_on_bits_apart(intaglio: Command, binary: Path) -> None:
    found = intaglio("inspect", binary, "--json").json
    assert found["bops"] == sum(n["bops"] for n in found["layers"]) > 0
    assert found["equivalent_macs"] == found["macs"] + found["bops"] / 64
    assert 0 < found["bit_params"] < found["params"]
    told = intaglio("inspect", binary).out
    assert "MACs of bits" in told
    assert "of them kept as bits" in told


def test_weights_in_bits_alone_make_no_operations_on_bits(intaglio: Command, one_bit: Path) -> None:
    found = intaglio("inspect", one_bit, "--json").json
    assert "bops" not in found
    assert found["bit_params"] == 16 * 16 * 9 + 160
    assert "MACs of bits" not in intaglio("inspect", one_bit).out


def test_compare_shows_operations_on_bits_and_what_they_save(intaglio: Command, binary: Path, one_bit: Path) -> None:
    found = intaglio("compare", one_bit, binary, "--runs", 1, "--json").json
    assert found["before"]["bops"] == 0
    kept = found["kept"]["equivalent_macs"]
    assert kept == found["after"]["equivalent_macs"] / found["before"]["macs"]
    assert found["bibench"]["speedup"] == pytest.approx(1 / kept)
    told = intaglio("compare", one_bit, binary, "--runs", 1).out
    assert "MACs of bits" in told
    assert "BiBench" in told


def test_nothing_is_said_of_bits_where_there_are_none(intaglio: Command, classifier: Path) -> None:
    for command in (("inspect", classifier), ("compare", classifier, classifier, "--runs", 1)):
        found, told = intaglio(*command, "--json"), intaglio(*command).out
        assert "bops" not in found.out
        assert "of bits" not in told
        assert "BiBench" not in told


@pytest.mark.parametrize("network", ["binary", "one_bit"])
def test_measuring_commands_run_them(
    network: str, intaglio: Command, samples: Path, request: pytest.FixtureRequest
) -> None:
    path = request.getfixturevalue(network)
    for command in (
        ("check", path),
        ("bench", path, "--runs", 1),
        ("evaluate", path, "--data", samples),
        ("compare", path, path, "--data", samples, "--runs", 1),
    ):
        ran = intaglio(*command, "--json")
        assert ran.code == 0, ran.out + ran.err


def test_groups_say_which_operator_keeps_channels_in_bytes(intaglio: Command, binary: Path) -> None:
    groups = {g["name"]: g for g in intaglio("groups", binary, "--json").json["groups"]}
    frozen = {name: g["frozen_by"] for name, g in groups.items() if not g["prunable"]}
    assert any("BitPack" in why and "eight channels in a byte" in why for why in frozen.values()), frozen
    assert [name for name, g in groups.items() if g["prunable"]] == ["bconv2"]  # what comes out of it is floats


CHANGES: dict[str, tuple[str, tuple[object, ...]]] = {
    "prune": ("binary", ("prune", "--params", 0.9)),
    "prune, calibrated": ("binary", ("prune", "--params", 0.9, "--data")),
    "int8": ("binary", ("quantize", "--data")),
    "4-bit weights": ("binary", ("quantize", "--scheme", "w4", "--data")),
    "float16": ("binary", ("quantize", "--scheme", "fp16", "--data")),
    "int8 around decoded weights": ("one_bit", ("quantize", "--data")),
    "factorize": ("binary", ("factorize", "--macs", 0.9, "--no-measure", "--min-gain", 1.01, "--align", 1, "--data")),
}


@pytest.mark.parametrize("case", CHANGES)
def test_passes_for_floats_leave_bits_alone(
    case: str, intaglio: Command, samples: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    network, (command, *options) = CHANGES[case]
    path, out = request.getfixturevalue(network), tmp_path / "out.onnx"
    data = [samples] if options[-1] == "--data" else []
    ran = intaglio(command, path, "-o", out, *options, *data, "--json")
    assert ran.code == 0, ran.out + ran.err
    before, after = bits_of(path), bits_of(out)
    assert [op for op, _ in before] == [op for op, _ in after]
    changed = [k for k, (old, new) in enumerate(zip(before, after, strict=True)) if old != new]
    assert changed == ([5] if command == "prune" else [])  # the convolution whose result is floats has fewer filters
    assert len(onnx.load(out).functions) == len(onnx.load(path).functions)
    found = ran.json
    if network == "binary":
        assert found["after"]["bops"] <= found["before"]["bops"]
        assert found["after"]["bops"] == intaglio("inspect", out, "--json").json["bops"]
    assert intaglio("check", out).code == 0


def test_what_works_on_bits_is_not_said_to_be_left_in_float(
    intaglio: Command, binary: Path, samples: Path, tmp_path: Path
) -> None:
    told = intaglio("quantize", binary, "-o", tmp_path / "out.onnx", "--data", samples).out
    assert "left as it is: bconv1, bconv2, bgemm1, matmul1bit1: works on bits" in told


@pytest.mark.parametrize("make", [binary_cnn, one_bit_cnn])
def test_a_batch_of_fixed_size_works_as_well(
    make: Callable[..., onnx.ModelProto], intaglio: Command, tmp_path: Path
) -> None:
    path = tmp_path / "fixed.onnx"
    onnx.save(make(batch=1), path)
    assert intaglio("check", path).code == 0
    assert intaglio("groups", path, "--json").code == 0


def test_inspect_tells_what_an_order_of_filters_saves_beside_random_signs(
    intaglio: Command, binary: Path, classifier: Path
) -> None:
    found = intaglio("inspect", binary, "--bits", "--json").json["bit_orders"]
    assert [o["name"] for o in found] == ["bconv1", "bconvbits1", "bconv2", "bgemm1", "matmul1bit1"]
    assert all(o["saved"] == o["operations"] / o["tree"] for o in found)
    told = intaglio("inspect", binary, "--bits").out
    assert "random signs" in told
    assert "no time is promised" in told
    assert "no layer has weights that are signs" in intaglio("inspect", classifier, "--bits").out
