"""What is known of targets and of the processor."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest

from intaglio.graph.traits import Runtime
from intaglio.passes.quantize import Quantize
from intaglio.passes.quantize.placement.kernels_used import kernels_expected
from intaglio.passes.quantize.targets import TARGETS, adds_in_16_bits
from tests.passes.quantize.networks import NETWORKS


@pytest.mark.skipif(platform.machine().lower() not in ("x86_64", "amd64"), reason="other processors add in 32 bits")
@pytest.mark.parametrize(
    ("flags", "narrow"),
    [("fpu sse2 avx2", True), ("fpu avx2 avx_vnni", False), ("avx512f avx512_vnni", False)],
)
def test_processors_without_vnni_are_told(tmp_path: Path, flags: str, narrow: bool) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(f"processor\t: 0\nflags\t\t: {flags}\nbugs\t\t: none\n")
    assert adds_in_16_bits(cpuinfo) is narrow


def test_where_it_cannot_be_told_nothing_is_claimed(tmp_path: Path) -> None:
    assert adds_in_16_bits(tmp_path / "absent") is False


def test_every_target_says_what_it_is_for() -> None:
    assert all(TARGETS[name].about for name in TARGETS)
    assert {TARGETS[name].weight.narrow for name in TARGETS} == {True}


def test_kernels_are_counted_where_they_are_those_of_the_target() -> None:
    assert TARGETS["x86"].is_here
    assert TARGETS["arm"].is_here == (platform.machine().lower() in ("arm64", "aarch64"))
    assert not any(TARGETS[name].is_here for name in ("web", "openvino", "tensorrt", "generic"))
    network = NETWORKS["plain"]
    model = network.model()
    done = Quantize(target="x86").run(model, network.context(model))
    assert done.details["runtime"]["integer"]
    assert "predicted" not in done.details
    for name in ("arm", "openvino", "generic", "web"):
        done = Quantize(target=name).run(model, network.context(model))
        assert done.details.keys().isdisjoint({"runtime", "accelerated"})
        assert done.details["predicted"]["target"] == name


def test_what_is_predicted_of_another_machine_is_what_this_one_does() -> None:
    """Where the rules are those of a runtime that is here."""
    network = NETWORKS["plain"]
    model = network.model()
    done = Quantize(target="x86").run(model, network.context(model))
    expected = kernels_expected(done.model, Runtime.ORT)
    used = done.details["runtime"]["integer"]
    assert sum(expected.values()) == sum(used.values())
    assert {op.removeprefix("QLinear").removeprefix("Q") for op in used} == set(expected)
