"""What the commands that give a model fewer bits share: carrying out the request, and telling what it cost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from ..graph.bits import IN_BITS
from ..graph.errors import NothingChanged, UsageError
from . import console
from .before_after import accuracies, for_many_samples, latencies, open_source, slower

if TYPE_CHECKING:
    from ..graph.model import Model

_CLEAN_DB = 40.0
"""Layers above are not worth a word of advice."""


class Done(Protocol):
    """What a pass found and did."""

    @property
    def model(self) -> Model: ...
    @property
    def before(self) -> Any: ...
    @property
    def after(self) -> Any: ...
    @property
    def notes(self) -> list[str]: ...
    @property
    def spared(self) -> list[str]: ...
    @property
    def seconds(self) -> float: ...


D = TypeVar("D", bound=Done)
Measured = dict[str, dict[str, Any] | None]


@dataclass(frozen=True)
class Given:
    """What the user said of data.

    Raises:
        UsageError: a number of samples, and no data to take them from.
    """

    data: str | None
    eval_data: str | None
    preprocess: str | None
    samples: int | None

    def __post_init__(self) -> None:
        if self.samples is not None and self.data is None:
            raise UsageError("--samples says nothing without --data", fix="leave it out, or add data")


def recipe_of(name: str, seed: int, options: dict[str, Any]) -> dict[str, Any]:
    """What a file tells of how it was made."""
    return {"pass": name, "seed": seed, **{k: v for k, v in options.items() if v not in (None, ())}}


@dataclass(frozen=True)
class Request:
    """A model and the file that it was read from, where the result goes, what data there is.

    ``written`` is how the result is written where no runtime here could run it.
    """

    original: Model
    path: Path
    out: Path
    recipe: dict[str, Any]
    given: Given
    seed: int
    measure: bool
    force: bool
    written: Callable[[Model], Model] | None = None

    def carried_out(self, title: str, run: Callable[..., D], hint: Callable[[D], str]) -> tuple[D, Measured] | None:
        """Run the pass, measure and write; None where nothing changed and --force wrote the model as it is.

        Raises:
            NothingChanged: there is nothing to do, and --force was not given.
        """
        from ..graph.io.save import save
        from ..passes import Context

        original, close = for_many_samples(self.original, self.given.data, self.given.eval_data)
        labelled = open_source(self.given.eval_data, original, self.given.preprocess, None)
        source = open_source(self.given.data, original, self.given.preprocess, self.given.samples)
        evaluate = None if labelled is None else lambda candidate: _top1(candidate, labelled)
        try:
            with console.progress(title) as tick:
                context = Context(data=source, seed=self.seed, tick=tick)
                done = run(original, context, real=labelled, evaluate=evaluate)
        except NothingChanged as error:
            if not self.force:
                raise
            close(original)
            save(original, self.out, recipe=self.recipe)
            self._report_unchanged(error)
            return None
        accuracy = accuracies(original, done.model, labelled)
        for changed in (original, done.model):
            close(changed)
        times = latencies(original, done.model, self.seed) if self.measure else None
        if done.after["size_bytes"] >= done.before["size_bytes"]:
            done.notes.append("the file is not smaller than the original")
        done.notes.extend(slower(times, hint(done)))
        save(self.written(done.model) if self.written else done.model, self.out, recipe=self.recipe)
        return done, {"accuracy": accuracy, "latency_ms": times}

    def _report_unchanged(self, error: NothingChanged) -> None:
        told = f"{error.what}: {error.why}; {self.out} is the model as it was, as --force asks"
        notes = [*self.original.notes, told]
        result = {"model": str(self.path), "out": str(self.out), "changed": False, "notes": notes}
        console.emit(result, lambda: console.line(f"note: {told}"))


def _top1(model: Model, source: Any) -> float:
    from ..measure.accuracy import evaluate_model

    return evaluate_model(model, source, names=["top1"]).values["top1"]


def tell_noise(result: dict[str, Any]) -> None:
    """Of the outputs, and of the worst layers what may help."""
    for name, ratio in result["sqnr_db"].items():
        console.line(f"output {name}: signal to noise {decibels(ratio)}")
    for one in result["worst"]:
        if one["sqnr_db"] < _CLEAN_DB:
            console.line(f"noisy: {one['name']} at {decibels(one['sqnr_db'])}; {one['advice']}")


def tell_rest(result: dict[str, Any], done: Done, out: Path, *, spared: str) -> None:
    """What stays in float and why, notes, and where the file is."""
    for reason, names in _by_reason(result["skipped"]).items():
        shown = ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
        console.line(f"left {'as it is' if reason == IN_BITS else 'in float'}: {shown}: {reason}")
    if done.spared:
        console.line(f"{spared} {', '.join(done.spared)}, to stay within --max-drop")
    if "accuracy" not in result:
        console.line("accuracy not measured: give --eval-data to see what it cost")
    for note in done.notes:
        console.line(f"note: {note}")
    console.line(f"wrote {out} in {done.seconds:.1f} s")


def _by_reason(skipped: dict[str, str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, reason in skipped.items():
        found.setdefault(reason, []).append(name)
    return found


def decibels(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f} dB"
