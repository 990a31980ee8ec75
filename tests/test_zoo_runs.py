"""The zoo's networks are what they claim to be before anybody prunes them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from tests.zoo import build, entry, names, random_inputs, torch_outputs
from tests.zoo.inputs import Array

OTHER_SIZES = {"batch": 5, "sequence": 7, "height": 12, "width": 4}


def built(name: str, folder: Path) -> Path:
    """The network's file, by the one exporter that is its turn."""
    if entry(name).exporter != "onnx":
        pytest.importorskip("torch")
    return build(name, entry(name).exporter, folder)


def run(path: Path, inputs: dict[str, Array]) -> list[Array]:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return [np.asarray(value) for value in session.run(None, inputs)]


def assert_like_torch(name: str, inputs: dict[str, Array], outputs: list[Array]) -> None:
    wanted = torch_outputs(name, inputs)
    assert [value.shape for value in outputs] == [value.shape for value in wanted]
    for value, truth in zip(outputs, wanted, strict=True):
        scale = float(np.abs(truth).max()) + 1e-12
        difference = np.abs(value.astype(np.float64) - truth.astype(np.float64)).max()
        assert difference / scale < entry(name).tolerance


@pytest.mark.parametrize("name", names())
def test_network_runs_varies_and_matches_its_original(name: str, zoo_folder: Path) -> None:
    path, inputs = built(name, zoo_folder), random_inputs(name, seed=1)
    outputs, others = run(path, inputs), run(path, random_inputs(name, seed=2))
    assert all(np.isfinite(value).all() for value in outputs)
    assert not all(np.array_equal(value, other) for value, other in zip(outputs, others, strict=True))
    if entry(name).exporter != "onnx":
        assert_like_torch(name, inputs, outputs)


@pytest.mark.parametrize("name", [name for name in names() if entry(name).dynamic])
def test_dynamic_dimensions_may_differ_from_the_exported_ones(name: str, zoo_folder: Path) -> None:
    path = built(name, zoo_folder)
    inputs = random_inputs(name, seed=3, **{d: size for d, size in OTHER_SIZES.items() if d in entry(name).dynamic})
    outputs = run(path, inputs)
    if entry(name).exporter != "onnx":
        assert_like_torch(name, inputs, outputs)


def test_every_exporter_and_at_least_seventy_networks_are_in_use() -> None:
    assert {entry(name).exporter for name in names()} == {"dynamo18", "dynamo20", "legacy17", "raw17", "onnx"}
    assert len(names()) >= 70


def test_every_network_says_what_it_is_for() -> None:
    assert [name for name in names() if not entry(name).about] == []
