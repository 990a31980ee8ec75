"""``intaglio compare`` tells what is smaller, faster and different, and what is not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from .conftest import Command, write_model


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """Another input name, twice the work, and one class wrong."""
    return write_model(
        tmp_path / "other.onnx",
        "float[N,3] image",
        "float[N,3] scores",
        "h = MatMul(image, w) y = MatMul(h, v) scores = Mul(y, two)",
        "float two = {2.0}, float[3,3] w = {1,0,0, 0,1,0, 0,0,1}, float[3,3] v = {1,0,0, 0,0,1, 0,1,0}",
    )


def test_a_model_and_itself_are_identical(intaglio: Command, classifier: Path, labelled: Path) -> None:
    ran = intaglio("compare", classifier, classifier, "--data", labelled, "--runs", 10, "--json")
    output = ran.json["outputs"]["y"]
    assert ran.code == 0
    assert (output["identical"], output["max_abs"], output["sqnr_db"], output["top1_agreement"]) == (True, 0, None, 1)
    assert ran.json["kept"] == {"size_bytes": 1, "params": 1, "macs": ran.json["kept"]["macs"]}
    assert ran.json["samples"] == 8


def test_differences_are_those_of_the_outputs(intaglio: Command, classifier: Path, other: Path, labelled: Path) -> None:
    ran = intaglio("compare", classifier, other, "--data", labelled, "--runs", 10, "--json")
    output = ran.json["outputs"]["y"]
    with np.load(labelled) as stored:
        x = stored["x"]
    a, b = 2 * x, 2 * x[:, [0, 2, 1]]
    assert output["max_abs"] == np.abs(a - b).max()
    assert output["mean_abs"] == pytest.approx(np.abs(a - b).mean())
    assert output["sqnr_db"] == pytest.approx(10 * np.log10((a**2).sum() / ((a - b) ** 2).sum()))
    assert output["top1_agreement"] == (a.argmax(1) == b.argmax(1)).mean()


def test_what_grew_is_said_plainly(intaglio: Command, classifier: Path, other: Path) -> None:
    ran = intaglio("compare", classifier, other, "--runs", 10)
    assert "warning: B has more parameters" in ran.out
    assert "random" in ran.out
    assert "note: no --data" in ran.err
    backwards = intaglio("compare", other, classifier, "--runs", 10, "--json").json
    assert not [w for w in backwards["warnings"] if "more" in w]


def test_real_models_that_should_agree_do(intaglio: Command, shared_data: Path) -> None:
    args = ("--data", shared_data / "cifar10_test_first2000.npz", "--preprocess", "cifar10", "--samples", 200)
    ran = intaglio(
        "compare", shared_data / "resnet20-bn.onnx", shared_data / "resnet20.onnx", *args, "--runs", 10, "--json"
    )
    output = ran.json["outputs"]["logits"]
    assert output["top1_agreement"] == 1
    assert output["sqnr_db"] > 90


def test_what_a_model_forgets_is_told_by_class(intaglio: Command, classifier: Path, tmp_path: Path) -> None:
    blind = write_model(
        tmp_path / "blind.onnx", "float[N,3] x", "float[N,3] y", "y = Mul(x, w)", "float[3] w = {1,0,1}"
    )
    labels = np.arange(60) % 3
    np.savez(tmp_path / "all.npz", x=np.eye(3, dtype=np.float32)[labels], labels=labels)
    args = ("compare", classifier, blind, "--data", tmp_path / "all.npz", "--robust", "--runs", 2)
    found = intaglio(*args, "--json").json["robust"]
    assert [(one["label"], one["lost"], one["clear"]) for one in found["classes"]] == [
        (1, 20, True),
        (0, 0, False),
        (2, 0, False),
    ]
    assert found["lost_samples"] == list(range(1, 60, 3))
    assert (found["before"], found["after"]["margin"]) == ({"right": 1, "margin": 2}, 2 / 3)
    assert "clearly worse" in intaglio(*args).out
    ran = intaglio("compare", classifier, blind, "--robust")
    assert (ran.code, "--robust needs labelled data" in ran.err) == (2, True)


def test_models_of_different_kinds_are_refused(intaglio: Command, classifier: Path, tmp_path: Path) -> None:
    two = write_model(tmp_path / "two.onnx", "float[N,3] x, float[N,3] z", "float[N,3] y", "y = Add(x, z)")
    wide = write_model(tmp_path / "wide.onnx", "float[N,3] x", "float[N,6] y", "y = Concat <axis = 1> (x, x)")
    assert "1 input" in intaglio("compare", classifier, two).err
    assert "cannot be compared" in intaglio("compare", classifier, wide).err
    assert intaglio("compare", classifier, wide).code == 1
