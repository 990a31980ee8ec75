"""Runs that are ended: what layers became is kept, and the next run goes on behind the last to the same bytes."""

from __future__ import annotations

import itertools
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from subprocess import DEVNULL, Popen, run

import numpy as np
import pytest

from intaglio.graph.errors import UsageError
from intaglio.graph.io.load import load
from intaglio.graph.io.save import to_bytes
from intaglio.graph.layers import Layers
from intaglio.graph.model import Model
from intaglio.measure.data.source import DataSource, open_data
from intaglio.passes.base import Context, Pass
from intaglio.passes.binarize import Binarize
from intaglio.passes.binarize.algorithms.binarizer import BINARIZERS, BitRule
from intaglio.passes.calibration import walk
from intaglio.passes.calibration.journal import Journal
from intaglio.passes.factorize import Factorize
from intaglio.passes.precision.grid import Grid
from intaglio.passes.prune import PruneChannels
from intaglio.passes.quantize import Quantize
from intaglio.passes.quantize.rounding.rounding import Spec
from intaglio.passes.sparsify import Sparsify
from intaglio.pipeline.run import run as run_passes

from ..prune.experts.test_experts import WIDTH, mixture

EXAMPLES = Path(__file__).parents[3] / "examples"
MODEL, DATA = EXAMPLES / "digits.onnx", EXAMPLES / "digits_calib.npz"
VIT = EXAMPLES / "vit_digits.onnx"

PASSES: dict[str, Pass] = {
    "w4": Quantize(scheme="w4", method="gptq"),
    "int8": Quantize(scheme="int8"),
    "pb": Binarize(scheme="pb"),
    "sparse": Sparsify(density=0.5),
}


class Ended(Exception):
    """What a killed process does."""


@pytest.fixture
def digits() -> tuple[Model, DataSource]:
    model = load(MODEL)
    return model, open_data(str(DATA), model, samples=32)


@pytest.mark.parametrize("name", list(PASSES))
def test_a_run_that_was_ended_after_any_layer_goes_on_to_the_same_bytes(
    name: str, digits: tuple[Model, DataSource], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, data = digits
    whole = to_bytes(PASSES[name].run(model, Context(data)).model)
    solved: list[str] = []
    plain = walk._Rounding._solved

    def counted(self, turn):  # type: ignore[no-untyped-def]
        solved.append(turn.layer.name)
        if len(solved) in ends:
            raise Ended
        return plain(self, turn)

    monkeypatch.setattr(walk._Rounding, "_solved", counted)
    ends = {2, 4}
    context = Context(data, resume=tmp_path / "work")
    for _ in ends:
        with pytest.raises(Ended):
            PASSES[name].run(model, context)
    assert to_bytes(PASSES[name].run(model, context).model) == whole
    kept = Counter(path.name.partition("-")[0] for path in (tmp_path / "work").iterdir())
    assert len(solved) - len(ends) in kept.values()
    assert [n for n, _ in itertools.groupby(solved)] == list(
        dict.fromkeys(solved)
    )  # none is solved again but those ended


KILLED = {
    "quantize": ["--scheme", "w4"],
    "prune": ["--params", "0.7"],
    "factorize": ["--params", "0.6", "--no-measure"],
}


@pytest.mark.parametrize("command", list(KILLED))
def test_a_process_that_is_killed_goes_on_to_the_same_bytes(command: str, tmp_path: Path) -> None:
    words = [sys.executable, "-m", "intaglio", command, str(EXAMPLES / "language.onnx"), *KILLED[command]]
    words += ["--data", str(EXAMPLES / "language_calib.npz"), "--samples", "8"]
    words += ["--no-measure"] if "--no-measure" not in words else []
    work, out, plain = tmp_path / "work", tmp_path / "o.onnx", tmp_path / "plain.onnx"
    child = Popen([*words, "-o", str(out), "--resume", str(work)], stdout=DEVNULL)
    kept: list[Path] = []
    while len(kept) < 3 and child.poll() is None:
        time.sleep(0.001)
        kept = list(work.glob("*-*.npz")) if work.exists() else []
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    assert not out.exists()
    times = {path: path.stat().st_mtime_ns for path in kept}
    for words_ in ([*words, "-o", str(out), "--resume", str(work)], [*words, "-o", str(plain)]):
        assert run(words_, stdout=DEVNULL, check=False).returncode == 0
    assert out.read_bytes() == plain.read_bytes()
    assert {path: path.stat().st_mtime_ns for path in kept} == times


def digits_samples() -> dict[str, np.ndarray]:
    with np.load(DATA) as file:
        return {name: file[name][:32] for name in file.files}


def tokens() -> dict[str, np.ndarray]:
    return {"x": np.random.default_rng(0).standard_normal((200, WIDTH)).astype(np.float32)}


@dataclass(frozen=True)
class Walk:
    """A pass over a file, or a mixture of experts, on samples or none."""

    step: Pass
    file: Path | None = MODEL
    samples: Callable[[], dict[str, np.ndarray]] | None = digits_samples


WALKS = {
    "prune": Walk(PruneChannels(target="params", keep=0.6)),
    "prune each": Walk(PruneChannels(target="channels", keep=0.5)),
    "refit": Walk(PruneChannels(target="params", keep=0.6, criterion="l2", repair="refit")),
    "factorize": Walk(Factorize(target="params", keep=0.5, measure=False)),
    "depth": Walk(PruneChannels(axis="depth", target="params", keep=0.7), VIT),
    "depth, blind": Walk(PruneChannels(axis="depth", keep=0.7), VIT, None),
    "experts": Walk(PruneChannels(axis="experts", target="params", keep=0.7), None, tokens),
    "w4, blind": Walk(Quantize(scheme="w4"), samples=None),
    "w2, blind": Walk(Quantize(scheme="w2"), samples=None),
    "planes, blind": Walk(Binarize(scheme="planes"), samples=None),
    "factorize, blind": Walk(Factorize(target="params", keep=0.5, measure=False), samples=None),
    "sparse, blind": Walk(Sparsify(density=0.5), samples=None),
}


@pytest.mark.parametrize("name", list(WALKS))
def test_pruning_and_factors_go_on_wherever_they_were_ended(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each run keeps two things more and is ended, until one comes through."""
    step, file, samples = WALKS[name].step, WALKS[name].file, WALKS[name].samples
    model = mixture() if file is None else load(file)
    if samples is not None:
        np.savez(tmp_path / "data.npz", **samples())  # type: ignore[arg-type]
    data = None if samples is None else open_data(str(tmp_path / "data.npz"), model)
    whole = to_bytes(step.run(model, Context(data)).model)
    keep, left = Journal.keep, [0]

    def few(self: Journal, place: int | str, value: object) -> None:
        if not left[0]:
            raise Ended
        left[0] -= 1
        keep(self, place, value)

    monkeypatch.setattr(Journal, "keep", few)
    context, ended = Context(data, resume=tmp_path / "work"), 0
    while True:
        left[0] = 2
        try:
            made = step.run(model, context)
            break
        except Ended:
            ended += 1
            assert len(list((tmp_path / "work").iterdir())) == 2 * ended
    assert to_bytes(made.model) == whole
    assert ended >= 1
    left[0] = 0  # nothing is worked out again
    assert to_bytes(step.run(model, context).model) == whole


def test_what_is_damaged_is_done_again(digits: tuple[Model, DataSource], tmp_path: Path) -> None:
    model, data = digits
    context = Context(data, resume=tmp_path)
    whole = to_bytes(PASSES["w4"].run(model, context).model)
    for path, left in zip(sorted(tmp_path.iterdir()), (0, 100, 1000), strict=False):
        path.write_bytes(path.read_bytes()[:left])
    assert to_bytes(PASSES["w4"].run(model, context).model) == whole


def test_other_models_data_and_options_have_files_of_their_own(
    digits: tuple[Model, DataSource], tmp_path: Path
) -> None:
    model, data = digits
    changed = model.copy()
    first = next(iter(Layers(model))).weight
    changed.weights[first] = 1.01 * model.weights[first]
    runs = [
        (model, data, "gptq"),
        (model, data, "nearest"),
        (model, open_data(str(DATA), model, samples=16), "gptq"),
        (changed, data, "gptq"),
    ]
    for k, (one, source, method) in enumerate(runs):
        Quantize(scheme="w4", method=method).run(one, Context(source, resume=tmp_path))
        assert len({path.name.partition("-")[0] for path in tmp_path.iterdir()}) == k + 1


@pytest.mark.parametrize("name", [*BINARIZERS.builtin, "grid"])
def test_what_is_kept_comes_back_whole(name: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    wanted, hessian = rng.standard_normal((1, 8, 64)), np.eye(64)[None] + 0.1
    rule = Spec(Grid(3, signed=False), ("mse",), 16, False) if name == "grid" else BitRule(name, 32, 0.1)
    if name != "grid" and BINARIZERS[name].block is None:
        rule = BitRule(name)
    method, found = rule.solve(wanted, hessian)
    journal = Journal(tmp_path, "k")
    journal.keep(0, (method, found))
    again = journal.read(0)
    assert again[0] == method
    assert type(again[1]) is type(found)
    np.testing.assert_array_equal(again[1].floats(), found.floats())
    assert journal.read(1) is None


def test_where_nothing_is_kept_the_option_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="keeps nothing to go on from"):
        run_passes(MODEL, PruneChannels(keep=0.5, criterion="l2"), data=str(DATA), resume=tmp_path)
    with pytest.raises(UsageError, match="keeps nothing to go on from"):
        run_passes(MODEL, Quantize(scheme="fp16"), data=str(DATA), resume=tmp_path)
    with pytest.raises(UsageError, match="without data"):
        run_passes(MODEL, PruneChannels(keep=0.5, repair="refit"), resume=tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="cannot keep what is done"):
        run_passes(MODEL, Quantize(scheme="w4"), data=str(DATA), measure=False, resume=tmp_path / "file")
