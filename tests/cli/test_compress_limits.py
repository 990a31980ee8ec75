"""``intaglio compress`` without a recipe: limits kept in the file that is written, whatever data there are."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from .conftest import Command

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
MODEL, CALIBRATION, TEST = (EXAMPLES / name for name in ("digits.onnx", "digits_calib.npz", "digits_test.npz"))
BYTES = MODEL.stat().st_size
FEW = ("--data", CALIBRATION, "--samples", "48", "--no-measure")


@pytest.fixture
def samples(tmp_path: Path) -> Path:
    """Few unlabelled and labelled samples."""
    with np.load(TEST) as stored:
        np.savez(tmp_path / "few.npz", image=stored["image"][:200], labels=stored["labels"][:200])
    return tmp_path / "few.npz"


@pytest.mark.parametrize("data", [(), FEW, (*FEW, "--eval-data", "labelled")], ids=["none", "unlabelled", "labelled"])
def test_a_limit_of_bytes_holds_in_the_file(
    intaglio: Command, tmp_path: Path, samples: Path, data: tuple[object, ...]
) -> None:
    given = [samples if word == "labelled" else word for word in data]
    out = tmp_path / "out"
    ran = intaglio("compress", MODEL, "-o", out, "--size", "45KB", *given, "--json")
    assert ran.code == 0, ran.err
    assert (out / "model.onnx").stat().st_size <= 45_000
    points = ran.json["points"]
    (chosen,) = (one for one in points if one["chosen"])
    assert chosen["meets"]
    assert (chosen["accuracy"] is not None) == (len(given) > len(FEW))
    assert any("without calibration data" in note for note in ran.json["notes"]) == (not data)
    told = json.loads((out / "report.json").read_text())
    assert [one["name"] for one in told["points"]] == [one["name"] for one in points]
    assert told["chosen_layers"]


def test_what_was_tried_is_listed_and_the_recipe_gives_the_bytes_again(intaglio: Command, tmp_path: Path) -> None:
    first, again = tmp_path / "first", tmp_path / "again"
    ran = intaglio("compress", MODEL, "-o", first, "--size", "0.12", *FEW)
    assert ran.code == 0, ran.err
    tried = ran.out.partition("\n\n")[0].splitlines()
    assert tried[0] == "tried"
    assert sum("chosen" in line for line in tried) == 1
    ran = intaglio("compress", MODEL, "-o", again, "--recipe", first / "recipe.yaml", "--no-measure")
    assert ran.code == 0, ran.err
    small = (first / "model.onnx").read_bytes()
    assert len(small) <= 0.12 * BYTES
    assert small == (again / "model.onnx").read_bytes()


def test_limits_that_cannot_be_kept_are_a_missed_gate_that_says_what_can(intaglio: Command, tmp_path: Path) -> None:
    ran = intaglio("compress", MODEL, "-o", tmp_path / "out", "--size", "0.02", "--no-measure")
    assert ran.code == 3
    assert "misses size" in ran.err
    assert "the least that any of them reached is --size 0." in ran.err
    assert not (tmp_path / "out" / "model.onnx").exists()


def test_a_model_that_is_within_the_limits_is_left(intaglio: Command, tmp_path: Path) -> None:
    ran = intaglio("compress", MODEL, "-o", tmp_path / "out", "--macs", "1", "--no-measure")
    assert ran.code == 4
    assert "keeps the limits" in ran.err


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--size", "2"), "--size 2 is no limit"),
        (("--size", "ten"), "--size ten is no limit"),
        (("--max-drop", "1", *FEW), "needs labelled data"),
        (("--latency", "0.5", "--target", "tensorrt", *FEW), "--target tensorrt"),
    ],
)
def test_limits_that_mean_nothing_are_told(
    intaglio: Command, tmp_path: Path, options: tuple[object, ...], told: str
) -> None:
    ran = intaglio("compress", MODEL, "-o", tmp_path / "out", *options)
    assert ran.code == 2
    assert told in ran.err
    assert not (tmp_path / "out").exists() or not (tmp_path / "out" / "model.onnx").exists()
