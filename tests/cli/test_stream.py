"""``intaglio stream`` writes a file that other commands take, and keeps back what strays too far."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from intaglio.graph.io.save import save

from ..passes.stream.nets import Net
from .conftest import Command, refused


@pytest.fixture
def padded(tmp_path: Path) -> Path:
    """Two convolutions along time, the second padded, and a mean over all of it."""
    net = Net(np.random.default_rng(0))
    x = net.add("Relu", [net.add("Conv", ["x", net.draw(8, 4, 5), net.draw(8)])])
    x = net.add("Relu", [net.add("Conv", [x, net.draw(8, 8, 3), net.draw(8)], pads=[1, 1])])
    x = net.add("Flatten", [net.add("GlobalAveragePool", [x])])
    x = net.add("Gemm", [x, net.draw(3, 8), net.draw(3)], transB=1)
    save(net.model({"x": [1, 4, 64]}, {x: 2}), tmp_path / "net.onnx")
    return tmp_path / "net.onnx"


def test_a_stream_is_told_and_goes_on_to_other_commands(intaglio: Command, padded: Path, tmp_path: Path) -> None:
    stream, small, folder = (tmp_path / name for name in ("stream.onnx", "small.onnx", "c"))
    told = intaglio("stream", padded, "-o", stream, "--axis", "x:2", "--hop", 4, "--hops", 20, "--json").json
    assert told["kept"]["macs"] < 0.1
    assert len(told["states"]) == 3
    assert told["padded"]
    assert any("takes the place of padding" in note for note in told["notes"])
    assert intaglio("quantize", stream, "-o", small, "--scheme", "w8", "--no-measure", "--force", "--json").code == 0
    assert intaglio("export", stream, "--to", "onnx", "-o", folder, "--seconds", 0, "--json").code == 0
    shown = intaglio("stream", padded, "-o", stream, "--hop", 4, "--hops", 10).out
    assert "samples late" in shown
    assert "3 states of" in shown


def test_what_misses_a_gate_lies_aside(intaglio: Command, padded: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    gate = ("--gate", "sqnr >= 90dB")
    ran = intaglio("stream", padded, "-o", out / "s.onnx", "--hop", 4, "--hops", 10, *gate, "--json")
    assert ran.code == 3
    assert [file.name for file in out.iterdir()] == ["s.gate-failed.onnx"]
    assert intaglio("stream", padded, "-o", out / "t.onnx", "--hop", 4, "--hops", 10, "--exact", *gate).code == 0


def test_a_hop_that_does_not_fit_writes_nothing(intaglio: Command, tmp_path: Path) -> None:
    net, out = Net(np.random.default_rng(0)), tmp_path / "out"
    out.mkdir()
    x = net.add("Conv", ["x", net.draw(2, 1, 3)], strides=[4])
    save(net.model({"x": [1, 1, 64]}, {x: 3}), tmp_path / "net.onnx")
    ran = intaglio("stream", tmp_path / "net.onnx", "-o", out / "s.onnx", "--hop", 6, "--json")
    refused(ran, out, 2, "a hop of 6 does not fit")
