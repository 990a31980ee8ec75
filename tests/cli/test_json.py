"""What every command prints with ``--json`` has the form that is published."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from intaglio import PruneChannels, Quantize, run
from intaglio.cli.commands import COMMANDS
from intaglio.cli.console import plain
from intaglio.graph.io.load import load
from intaglio.graph.io.save import save
from intaglio.graph.model import Model
from intaglio.pipeline.schema import ANSWERS, Answer, Kinds, Presets, form_of

from .conftest import Command

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
DIGITS, BITS = EXAMPLES / "digits.onnx", EXAMPLES / "binary_digits.onnx"
CALIB, TEST = ("--data", EXAMPLES / "digits_calib.npz"), EXAMPLES / "digits_test.npz"
OUT = ("-o", "out.onnx")
FULL = (*OUT, *CALIB, "--samples", 32, "--eval-data", TEST, "--gate", "sqnr >= 0dB")
RUNS: list[tuple[Any, ...]] = [
    ("inspect", DIGITS),
    ("inspect", BITS, "--bits"),
    ("groups", DIGITS),
    ("check", DIGITS),
    ("bench", DIGITS, BITS, "--runs", 2),
    ("compare", DIGITS, BITS, "--runs", 2),
    ("compare", DIGITS, DIGITS, "--runs", 2, "--data", TEST, "--gate", "drop <= 1"),
    ("bisect", DIGITS, BITS, "--data", TEST, "--samples", 4),
    ("evaluate", DIGITS, "--data", TEST),
    ("passes",),
    ("passes", "greedy"),
    ("passes", "edge-int8"),
    ("env",),
    ("prune", DIGITS, "--macs", 0.5, *FULL),
    ("prune", DIGITS, "--channels", 0.5, "--criterion", "lamp", "--repair", "refit", *FULL),
    ("prune", DIGITS, "--axis", "depth", "--macs", 0.9, *FULL, "--no-measure"),
    ("prune", DIGITS, "--latency", 0.9, *OUT, "--force"),
    ("factorize", DIGITS, "--macs", 0.7, *FULL, "--no-measure"),
    ("quantize", DIGITS, *FULL),
    ("quantize", DIGITS, *OUT, "--scheme", "mixed", "--bits", 3, *CALIB, "--no-measure"),
    ("quantize", DIGITS, *OUT, "--scheme", "w8", "--no-measure", "--gate", "size <= 1B"),
    ("quantize", BITS, *OUT, "--scheme", "w8", "--no-measure", "--force"),
    ("binarize", DIGITS, *OUT, *CALIB, "--samples", 32, "--no-measure"),
    ("binarize", BITS, *OUT, "--no-measure"),
    ("sparsify", DIGITS, *OUT, "--pattern", "2:4", *CALIB, "--samples", 16, "--no-measure"),
    ("compress", DIGITS, "-o", "out", "--recipe", "edge-int8", *CALIB, "--samples", 32, "--eval-data", TEST),
    ("compress", DIGITS, "-o", "out", "--recipe", "half-macs", *CALIB, "--samples", 32, "--no-measure"),
    ("compress", "--presets"),
    ("search", DIGITS, "-o", "out", "--space", "bits", "--trials", 3, *CALIB, "--samples", 8, "--write", 1),
    ("sweep", DIGITS, "-o", "out", "--methods", "l2,l1+refit", "--keep", "0.5", "--eval-data", TEST),
    ("simplify", DIGITS, *OUT, "--no-measure"),
    ("export", DIGITS, "--to", "onnx", *OUT, "--data", TEST, "--samples", 8, "--gate", "drop <= 1", "--seconds", 0),
    ("export", "--targets"),
    ("import", DIGITS, *OUT),
    ("import", "--sources"),
    ("split", DIGITS, "--at", "/Relu_4_output_0", "-o", "two", "--steps", 4),
    ("merge", DIGITS, "tuned.onnx", *OUT),
    ("stream", DIGITS, *OUT, "--hop", 2, "--axis", 2, "--hops", 4),
    ("train", DIGITS, *OUT, "--data", TEST, "--steps", 4, "--lr", 1e-4, "--no-measure"),
]
FAILING: list[tuple[Any, ...]] = [
    ("inspect", "nowhere.onnx"),
    ("quantize", DIGITS, *OUT, "--gate", "drop <= 1"),
    ("prune", DIGITS, *OUT),
    ("bench",),
]


def halved(model: Model) -> Model:
    """The same network in another state."""
    other = model.copy()
    for name, weight in model.weights.items():
        if weight.dtype.kind == "f":
            other.put(name, weight / 2)
    return other


@pytest.mark.parametrize("words", RUNS, ids=lambda words: " ".join(str(getattr(w, "name", w)) for w in words[:4]))
def test_answers_have_their_form(
    intaglio: Command, words: tuple[Any, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if "tuned.onnx" in words:
        save(halved(load(DIGITS)), Path("tuned.onnx"))
    ran = intaglio(*words, "--json")
    assert ran.code in (0, 3), ran.out
    assert issubclass(form_of(ran.json), (ANSWERS[words[0]], Presets, Kinds))
    form_of(ran.json).model_validate(ran.json, strict=True)


@pytest.mark.parametrize("words", FAILING, ids=lambda words: " ".join(str(getattr(w, "name", w)) for w in words[:2]))
def test_failures_have_their_form(intaglio: Command, words: tuple[Any, ...], tmp_path: Path) -> None:
    ran = intaglio(*words, "--json")
    assert ran.code in (1, 2)
    form_of(ran.json).model_validate(ran.json, strict=True)
    assert form_of(ran.json) not in ANSWERS.values()


def test_several_passes_have_a_form(tmp_path: Path) -> None:
    passes = [PruneChannels(target="macs", keep=0.5), Quantize(scheme="w8")]
    told = plain(run(DIGITS, passes, eval_data=str(TEST), samples=32, measure=False).as_dict())
    ANSWERS["run"].model_validate(told, strict=True)
    assert [step["pass"] for step in told["steps"]] == ["prune", "quantize"]


def test_every_command_has_a_form_and_is_run() -> None:
    assert set(COMMANDS) <= ANSWERS.keys()
    assert {words[0] for words in RUNS} == set(COMMANDS)


def test_the_form_is_closed() -> None:
    told = {"schema": "intaglio/1", "version": "1", "command": "x", "more": 1}
    with pytest.raises(ValueError, match="more"):
        Answer.model_validate(told)
