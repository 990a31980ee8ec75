"""The bundled binary network is what its script makes; packed, it predicts what PyTorch does."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest

from intaglio.graph.io.load import load
from intaglio.measure.run.session import open_session, run
from intaglio.passes.binarize.trained.lower import lower
from intaglio.passes.binarize.trained.recognize import recognize

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
MODEL = EXAMPLES / "binary_digits.onnx"


def accuracy(model: Path) -> float:
    with np.load(EXAMPLES / "digits_test.npz", allow_pickle=False) as test:
        logits = run(open_session(model), {"image": test["image"]})["logits"]
        return float((logits.argmax(1) == test["labels"]).mean())


def script(*arguments: str | Path) -> None:
    command = [sys.executable, str(EXAMPLES / "train_binary_digits.py"), *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr


def test_it_recognizes_digits_and_is_small() -> None:
    assert accuracy(MODEL) >= 0.98
    assert MODEL.stat().st_size < 600_000


def test_four_layers_are_made_of_signs() -> None:
    found = recognize(load(MODEL))
    assert [layer.bits is not None for layer in found.layers.values()] == [True] * 4
    assert all(layer.signs.signs.size >= 64 * 64 * 9 for layer in found.layers.values())


def test_the_float_twin_has_the_same_layers(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("sklearn")
    script("--float-twin", tmp_path / "twin.onnx")
    ours, twin = (Counter(n.op_type for n in onnx.load(p).graph.node) for p in (MODEL, tmp_path / "twin.onnx"))
    for kind in ("Conv", "BatchNormalization", "PRelu", "Gemm", "Concat"):
        assert ours[kind] == twin[kind]
    assert not recognize(load(tmp_path / "twin.onnx")).layers


@pytest.mark.slow
def test_a_freshly_trained_network_is_packed_to_what_pytorch_predicts(tmp_path: Path) -> None:
    """One pass over a few images: training takes minutes, the graph does not depend on it."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("sklearn")
    sys.path.insert(0, str(EXAMPLES))
    try:
        import train_binary_digits as example
        from train_digits import split
    finally:
        sys.path.remove(str(EXAMPLES))
    images, labels, test, _ = split()
    network = example.train(torch.from_numpy(images[:128]), torch.from_numpy(labels[:128]), 1)
    example.export(network, tmp_path / "fresh.onnx")
    ours, theirs = onnx.load(MODEL).graph.node, onnx.load(tmp_path / "fresh.onnx").graph.node
    assert [n.SerializeToString() for n in ours] == [n.SerializeToString() for n in theirs]
    packed = lower(recognize(load(tmp_path / "fresh.onnx"))).model
    logits = run(open_session(packed), {"image": test})["logits"]
    with torch.no_grad():
        expected = network(torch.from_numpy(test)).numpy()
    np.testing.assert_array_equal(logits.argmax(1), expected.argmax(1))
