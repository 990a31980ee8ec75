"""``intaglio sparsify`` on a bundled model, what it stores, and what later commands keep of it."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar

import numpy as np
import onnx
import pytest

from intaglio.cli.main import main
from intaglio.graph.io.load import load
from intaglio.graph.model import Model
from intaglio.measure.run.session import open_session, run
from intaglio.passes import Change, Context, Pass
from intaglio.passes.masks import masks
from intaglio.pipeline.run import run as run_passes

from .conftest import Command, refused

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
DIGITS, CALIB, TEST = EXAMPLES / "digits.onnx", EXAMPLES / "digits_calib.npz", EXAMPLES / "digits_test.npz"
QUIET = ("--no-measure", "--json")
DATA = ("--data", CALIB, "--samples", 32)


def values(path: Path) -> dict[str, np.ndarray]:
    """What weights with a mask are when the file is run, however they are stored."""
    model = load(path)
    named = masks(model)
    made = [name for name in named if name not in model.weights]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in made)
    image = np.load(TEST)["image"][:1].astype(np.float32)
    found = run(open_session(model), {model.graph.input[0].name: image}, made) if made else {}
    return {**{name: model.weights[name] for name in named if name in model.weights}, **found}


@pytest.fixture(scope="module")
def sparse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Digits, three in ten weights left, zeros as they are."""
    out = tmp_path_factory.mktemp("sparse") / "sparse.onnx"
    words = ("sparsify", DIGITS, "-o", out, "--density", 0.3, "--form", "dense", "--method", "wanda", *DATA, *QUIET)
    assert main([str(word) for word in words]) == 0
    return out


def test_a_fifth_of_the_weights_is_nearly_as_accurate(intaglio: Command, tmp_path: Path) -> None:
    out = tmp_path / "s.onnx"
    ran = intaglio("sparsify", DIGITS, "-o", out, "--density", 0.2, *DATA, "--eval-data", TEST, *QUIET)
    assert ran.code == 0, ran.err
    result = ran.json
    assert result["accuracy"]["after"]["top1"] >= result["accuracy"]["before"]["top1"] - 0.02
    assert result["density"] == pytest.approx(0.2, rel=1e-3)
    assert sum(one["kept"] for one in result["layers"]) == sum(int((v != 0).sum()) for v in values(out).values())
    assert result["kept"]["size_bytes"] < 0.32
    assert result["after"]["size_bytes"] <= out.stat().st_size
    assert any("no faster" in note for note in result["notes"])


def test_two_of_four_input_channels_stay_as_tensor_cores_want_them(intaglio: Command, tmp_path: Path) -> None:
    out = tmp_path / "s.onnx"
    ran = intaglio("sparsify", DIGITS, "-o", out, "--pattern", "2:4", "--form", "dense", *QUIET)
    assert ran.code == 0, ran.err
    model = load(out)
    seen = 0
    for name, pattern in masks(model).items():
        weight = model.weights[name]
        rows = np.moveaxis(weight, 1, -1) if weight.ndim == 4 else weight  # (outputs, kernel, inputs); Gemm with transB
        assert pattern == "2:4"
        assert ((rows.reshape(-1, 4) != 0).sum(axis=1) == 2).all()
        seen += 1
    assert seen >= 6
    assert "/stem/stem.0/Conv" in ran.json["skipped"]


@pytest.mark.parametrize(("size", "more"), [(0.25, ()), (0.12, ("--codebook", 16))])
def test_a_size_is_met_and_hardly_undercut(
    intaglio: Command, tmp_path: Path, size: float, more: tuple[object, ...]
) -> None:
    out = tmp_path / "s.onnx"
    ran = intaglio("sparsify", DIGITS, "-o", out, "--size", size, *more, *QUIET)
    assert ran.code == 0, ran.err
    assert 0.9 * size < ran.json["kept"]["size_bytes"] <= size


def test_a_size_that_nothing_can_have_is_refused(intaglio: Command, tmp_path: Path) -> None:
    ran = intaglio("sparsify", DIGITS, "-o", tmp_path / "s.onnx", "--size", 0.01, *QUIET)
    refused(ran, tmp_path, 1, "lowest reachable")


def test_weights_share_values_and_take_four_bits(intaglio: Command, tmp_path: Path) -> None:
    out = tmp_path / "s.onnx"
    ran = intaglio(
        "sparsify", DIGITS, "-o", out, "--density", 0.3, "--codebook", 16, *DATA, "--eval-data", TEST, *QUIET
    )
    assert ran.code == 0, ran.err
    assert all(len(np.unique(value)) <= 16 for value in values(out).values())
    assert ran.json["kept"]["size_bytes"] < 0.15
    assert ran.json["accuracy"]["after"]["top1"] > 0.97


def test_deep_compression_makes_a_file_of_a_fifteenth(intaglio: Command, tmp_path: Path) -> None:
    ran = intaglio("compress", DIGITS, "-o", tmp_path / "out", "--recipe", "deep-compression", *DATA, *QUIET)
    assert ran.code == 0, ran.out
    assert (tmp_path / "out" / "model.xz").stat().st_size < DIGITS.stat().st_size / 15


def test_later_passes_keep_the_zeros(intaglio: Command, tmp_path: Path, sparse: Path) -> None:
    before, out = values(sparse), tmp_path / "later.onnx"
    for words in (
        ("quantize", "--scheme", "w8"),
        ("quantize", "--scheme", "w4", *DATA),
        ("quantize", "--scheme", "w4", "--method", "adaround", "--include", "re:head", *DATA),
        ("quantize", *DATA),
        ("simplify",),
        ("prune", "--channels", 0.75, *DATA),
    ):
        ran = intaglio(words[0], sparse, "-o", out, *words[1:], *QUIET, "--force")
        assert ran.code == 0, ran.out
        after = values(out)
        assert after.keys() == before.keys()
        for name, value in before.items():
            if words[0] == "prune":  # which keeps channels that have more
                assert (after[name] != 0).mean() < (value != 0).mean() + 0.25, name
            else:
                assert not after[name][value == 0].any(), (words, name)


@pytest.mark.skipif(find_spec("torch") is None, reason="torch is not installed")
@pytest.mark.parametrize("scheme", ["", "w8"])
def test_training_keeps_the_zeros(intaglio: Command, tmp_path: Path, sparse: Path, scheme: str) -> None:
    before, model = values(sparse), sparse
    if scheme:
        model = tmp_path / "q.onnx"
        assert intaglio("quantize", sparse, "-o", model, "--scheme", scheme, *QUIET).code == 0
    out = tmp_path / "trained.onnx"
    ran = intaglio("train", model, "-o", out, "--teacher", DIGITS, "--data", TEST, "--steps", 4, "--lr", 1e-5, *QUIET)
    assert ran.code == 0, ran.out
    after = values(out)
    assert after.keys() == before.keys()
    assert all(not after[name][value == 0].any() for name, value in before.items())
    assert any(not np.array_equal(after[name], value) for name, value in values(model).items())


def test_what_is_packed_is_seen_by_later_passes(intaglio: Command, tmp_path: Path, sparse: Path) -> None:
    packed, again = tmp_path / "packed.onnx", tmp_path / "w8.onnx"
    ran = intaglio("sparsify", sparse, "-o", packed, *QUIET)
    assert ran.code == 0, ran.out
    assert all(np.array_equal(value, values(sparse)[name]) for name, value in values(packed).items())
    assert packed.stat().st_size < 0.5 * sparse.stat().st_size
    ran = intaglio("quantize", packed, "-o", again, "--scheme", "w8", *QUIET)
    assert ran.code == 0, ran.out
    assert len(ran.json["nodes"]) >= len(masks(load(sparse))) - 1  # one has but a table of values, as integers have
    assert all(not value[values(sparse)[name] == 0].any() for name, value in values(again).items())


def test_integers_with_zeros_are_packed_and_stay_what_they_are(intaglio: Command, tmp_path: Path, sparse: Path) -> None:
    w8, small = tmp_path / "w8.onnx", tmp_path / "small.onnx"
    assert intaglio("quantize", sparse, "-o", w8, "--scheme", "w8", *QUIET).code == 0
    assert intaglio("sparsify", w8, "-o", small, *QUIET).code == 0
    assert small.stat().st_size < 0.7 * w8.stat().st_size
    image = np.load(TEST)["image"][:8].astype(np.float32)
    (a,), (b,) = (run(open_session(load(path)), {"image": image}).values() for path in (w8, small))
    assert np.array_equal(a, b)


class Fill(Pass):
    """Makes zeros of one weight something else."""

    name: ClassVar[str] = "fill"
    doing: ClassVar[str] = "filling"

    def run(self, model: Model, context: Context | None = None) -> Change:
        changed = model.copy()
        changed.put("wide.0.weight", model.weights["wide.0.weight"] + np.float32(0.001))
        return Change(model, changed)


def test_a_pass_that_fills_zeros_says_so(tmp_path: Path, sparse: Path) -> None:
    report = run_passes(sparse, Fill(), out=tmp_path / "filled.onnx", measure=False)
    assert any("fill did not keep the zeros of 1 weights, such as 'wide.0.weight'" in note for note in report.notes)
    assert masks(load(sparse)).keys() - masks(load(tmp_path / "filled.onnx")).keys() == {"wide.0.weight"}


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--density", 0.2, "--size", 0.2), "exclude each other"),
        (("--density", 0.3, "--pattern", "2:4"), "density of its own"),
        (("--pattern", "4:2"), "keeps nothing, or all"),
        (("--density", 0.2, "--method", "obs"), "needs calibration data"),
        (("--density", 0.2, "--layers", "measured"), "looks at outputs"),
        (("--method", "nettrim", "--layers", "global", "--density", 0.2, *DATA), "density of its own"),
        ((), "no weight has so many zeros"),
    ],
)
def test_what_cannot_be_done_is_told(intaglio: Command, tmp_path: Path, words: tuple[object, ...], told: str) -> None:
    ran = intaglio("sparsify", DIGITS, "-o", tmp_path / "s.onnx", *words, *QUIET)
    assert ran.code != 0
    assert told in json.dumps(ran.json["error"])
    assert list(tmp_path.iterdir()) == []
