"""The zoo's networks are what they claim to be before anybody prunes them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from tests.zoo import build, entry, names, random_inputs, torch_outputs
from tests.zoo.inputs import Array


def exporter_of(name: str) -> str:
    """One of the network's exporters, so that all of them get their share."""
    exporters = entry(name).exporters
    return exporters[names().index(name) % len(exporters)]


@pytest.fixture(scope="session")
def zoo_folder(pytestconfig: pytest.Config) -> Path:
    """Exported files outlive the run: their names change with whatever decides their content."""
    return Path(pytestconfig.cache.mkdir("zoo")) if pytestconfig.cache else Path(".zoo")


def run(path: Path, inputs: dict[str, Array]) -> list[Array]:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return [np.asarray(value) for value in session.run(None, inputs)]


def relative_error(got: Array, wanted: Array) -> float:
    scale = float(np.abs(wanted).max()) + 1e-12
    return float(np.abs(got.astype(np.float64) - wanted.astype(np.float64)).max()) / scale


@pytest.mark.parametrize("name", names())
def test_network_runs_varies_and_matches_its_original(name: str, zoo_folder: Path) -> None:
    found, exporter = entry(name), exporter_of(name)
    if exporter != "onnx":
        pytest.importorskip("torch")
    path, inputs = build(name, exporter, zoo_folder), random_inputs(name, seed=1)
    outputs = run(path, inputs)
    other = run(path, random_inputs(name, seed=2))
    assert all(np.isfinite(value).all() for value in outputs)
    assert any(value.shape != b.shape or not np.array_equal(value, b) for value, b in zip(outputs, other, strict=True))
    if exporter != "onnx":
        wanted = torch_outputs(name, inputs)
        assert [value.shape for value in outputs] == [value.shape for value in wanted]
        assert max(map(relative_error, outputs, wanted)) < found.tolerance


@pytest.mark.parametrize("name", [name for name in names() if "batch" in entry(name).dynamic][::3])
def test_dynamic_batch_may_differ_from_the_exported_one(name: str, zoo_folder: Path) -> None:
    if exporter_of(name) != "onnx":
        pytest.importorskip("torch")
    path = build(name, exporter_of(name), zoo_folder)
    for batch in (1, 5):
        assert run(path, random_inputs(name, batch=batch))[0].shape[0] == batch


def test_every_exporter_and_at_least_seventy_networks_are_in_use() -> None:
    used = {exporter_of(name) for name in names()}
    assert used == {"dynamo18", "dynamo20", "legacy17", "raw17", "onnx"}
    assert len(names()) >= 70


def test_every_network_says_what_it_is_for() -> None:
    assert [name for name in names() if not entry(name).about] == []
