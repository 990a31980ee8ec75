"""Pieces of a run or an evaluation give the same bytes wherever they are done, and whatever becomes of workers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from intaglio import load
from intaglio.graph.errors import UsageError
from intaglio.graph.io.fit import USUAL
from intaglio.measure.accuracy import evaluate_session
from intaglio.measure.data.source import open_data
from intaglio.measure.executors import pieces, plainly
from intaglio.measure.executors.executor import EXECUTORS, Outcome, Task
from intaglio.measure.executors.pieces import HERE, Handed, Pieces
from intaglio.measure.run.session import open_session
from intaglio.passes.precision.grid import Grid, Quantized
from intaglio.pipeline.recipe.recipe import pass_of
from intaglio.pipeline.run import run
from intaglio.pipeline.study.helping import FUNCTION, evaluate_task, run_task, shared_out

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"
DIGITS = EXAMPLES / "digits.onnx"
LABELLED = str(EXAMPLES / "digits_test.npz")
CALIBRATION = str(EXAMPLES / "digits_calib.npz")
ASKED: dict[str, tuple[dict[str, Any], str | None]] = {
    "sensitivities": ({"pass": "quantize", "scheme": "mixed", "bits": 3.5}, CALIBRATION),
    "rounding": ({"pass": "quantize", "scheme": "w3"}, None),
    "ranks": ({"pass": "factorize", "keep": 0.7, "measure": False}, CALIBRATION),
    "densities": ({"pass": "sparsify", "density": 0.4, "layers": "measured"}, CALIBRATION),
    "signs": ({"pass": "binarize", "size": 0.3}, CALIBRATION),
}
HOW: dict[str, Any] = {
    "preprocess": None,
    "samples": 8,
    "metrics": (),
    "seed": 0,
    "memory": 1 << 29,
    "force": True,
    "fit": USUAL,
}


def task_of(what: str) -> dict[str, Any]:
    told, data = ASKED[what]
    return run_task(DIGITS, pass_of(told), data=data, eval_data=None, shapes=None, values=None, **HOW)


def made(what: str, out: Path, does: Pieces = HERE) -> bytes:
    told, data = ASKED[what]
    run(DIGITS, pass_of(told), data=data, out=out, measure=False, pieces=does, **HOW)
    return out.read_bytes()


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What each pass makes in one process that shares nothing out."""
    folder = tmp_path_factory.mktemp("alone")
    return {what: made(what, folder / f"{what}.onnx") for what in ASKED}


def quiet(caplog: pytest.LogCaptureFixture) -> bool:
    return not [one for one in caplog.messages if "workers could not help" in one]


@pytest.mark.parametrize(("what", "workers"), [*((what, 3) for what in ASKED), ("rounding", 1)])
def test_a_pass_gives_the_same_bytes_however_it_is_cut_up(
    what: str, workers: int, alone: dict[str, bytes], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with shared_out("local", workers, task_of(what)) as does:
        assert made(what, tmp_path / "out.onnx", does) == alone[what]
        assert isinstance(does, Handed)
        assert max(map(len, does.known)) > 3  # layers that workers did
    assert quiet(caplog)


def test_processes_give_the_same_bytes(
    alone: dict[str, bytes], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with shared_out("processes", 2, task_of("sensitivities")) as does:
        assert made("sensitivities", tmp_path / "out.onnx", does) == alone["sensitivities"]
    assert quiet(caplog)


class Unreliable:
    """Does some tasks, and loses the others."""

    def __init__(self, lost: int) -> None:
        self._local, self._lost = EXECUTORS["local"](1), lost

    def each(self, function: str, tasks: Sequence[Task]) -> Iterator[Outcome]:
        for place, one in enumerate(tasks):
            yield Outcome(lost="it died") if place == self._lost else next(self._local.each(function, [one]))

    def close(self) -> None:
        """There is nothing to end."""


@pytest.mark.parametrize("lost", [0, 1])
def test_what_workers_lose_is_done_here(
    lost: int, alone: dict[str, bytes], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    does = Handed(Unreliable(lost), 2, FUNCTION, task_of("rounding"))
    assert made("rounding", tmp_path / "out.onnx", does) == alone["rounding"]
    assert not quiet(caplog)


@pytest.mark.parametrize("most", [1 << 10, 1 << 26])
@pytest.mark.parametrize("workers", [1, 2, 5])
def test_an_evaluation_is_the_same_in_shards(
    workers: int, most: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(pieces, "BYTES", most)
    how = {"output": None, "batch": 7, "threads": 1, "preprocess": None, "samples": 100}
    model = load(DIGITS)
    source, session = open_data(LABELLED, model, samples=100), open_session(DIGITS)
    whole = evaluate_session(session, source, batch=7)
    with shared_out("local", workers, evaluate_task(DIGITS, LABELLED, shapes=None, values=None, **how)) as does:
        found = evaluate_session(session, source, batch=7, pieces=does)
    assert (found.samples, found.values) == (100, whole.values)
    assert all((found.scores[name] == whole.scores[name]).all() for name in whole.scores)
    assert quiet(caplog)


def test_workers_do_each_batch_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(Counted()) as executor:
        monkeypatch.setattr(pieces, "BYTES", 1)
        does = Handed(executor, 3, "", {})
        assert list(does.each([], lambda one: pytest.fail("done here"), 8, streamed=True)) == list(range(8))
        assert executor.asked == [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (5, 6), (6, 7), (7, 8)]
        executor.asked.clear()
        assert list(does.each([], lambda one: pytest.fail("done here"), 8)) == list(range(8))
        assert executor.asked == [(0, 3), (3, 6), (6, 8)]


class Counted:
    """Answers with the numbers of the pieces."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, int]] = []

    def each(self, function: str, tasks: Sequence[Task]) -> Iterator[Outcome]:
        for one in tasks:
            self.asked.append((one["first"], one["last"]))
            yield Outcome([plainly.text_of(k) for k in range(one["first"], one["last"])])

    def close(self) -> None:
        """There is nothing to end."""


@dataclass(frozen=True)
class Foreign:
    """A dataclass that is none of ours."""

    x: int = 1


def test_results_are_the_same_to_the_last_bit() -> None:
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=(2, 3)).astype(kind) for kind in ("f4", "f8", "f2", "i8", "u1", "?")]
    arrays += [np.array([np.nan, np.inf, -0.0]), np.zeros((0, 4)), rng.normal(size=(300, 300)).T]
    for one in arrays:
        again = plainly.read(plainly.text_of(one))
        assert (again.dtype, again.shape, again.tobytes()) == (one.dtype, one.shape, one.tobytes())
    whole = Quantized(Grid(3), np.arange(6, dtype=np.int8).reshape(1, 2, 3), rng.normal(size=(1, 2, 1)), None, 0)
    name, (again, told) = plainly.read(plainly.text_of(("gptq", (whole, {"a": [0.1, None, "x"]}))))
    assert (name, told, again.grid) == ("gptq", {"a": [0.1, None, "x"]}, whole.grid)
    assert again.floats().tobytes() == whole.floats().tobytes()


def test_no_class_is_made_that_is_none_of_ours() -> None:
    for name in ("subprocess:Popen", "intaglio.measure.executors.executor:done"):
        with pytest.raises(UsageError, match="is no dataclass of intaglio"):
            plainly.read(f'{{"class": "{name}", "of": {{"args": "true"}}}}')
    with pytest.raises(UsageError):
        plainly.read(plainly.text_of(Foreign()))
