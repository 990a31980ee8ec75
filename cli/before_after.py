"""What commands that change a model share: their data, and what the change cost, before and after side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ..graph.errors import UsageError
from . import console

if TYPE_CHECKING:
    from ..graph.model import Model
    from ..passes.budget.latency_target import LatencyReport
    from ..pipeline.report import Report


_AMOUNTS = (
    ("MACs", "macs", ""),
    ("MACs of bits", "bops", ""),
    ("parameters", "params", ""),
    ("file", "size_bytes", "B"),
)


def one_target(**given: float | None) -> tuple[str, float]:
    """The one target that was given and its fraction. Raises UsageError for none, several, or nothing kept."""
    chosen = {name: value for name, value in given.items() if value is not None}
    names = ", ".join(f"--{name}" for name in given)
    if not chosen:
        raise UsageError("no target was given", fix=f"say what to keep with one of {names}, such as --macs 0.5")
    if len(chosen) > 1:
        raise UsageError(f"{' and '.join('--' + n for n in chosen)} exclude each other", fix=f"give one of {names}")
    ((name, value),) = chosen.items()
    if value <= 0:
        raise UsageError(f"--{name} {value:g} keeps nothing", fix="give a fraction above 0 and up to 1")
    return name, value


def choice(option: str, value: str, allowed: tuple[str, ...]) -> str:
    if value not in allowed:
        raise UsageError(f"{option} {value!r} is not known", fix=f"choose one of {', '.join(allowed)}")
    return value


def for_many_samples(model: Model, *data: str | None) -> tuple[Model, Callable[[Model], None]]:
    """The model to work with where there are data, taking many samples a run if it can; and what undoes that in place."""
    from ..measure.run.batch import opening

    if not any(data):
        return model, lambda _: None
    return opening(model)


def open_source(spec: str | None, model: Model, preprocess: str | None, samples: int | None) -> Any:
    """Data for the model, or None; what was taken for what is told."""
    from ..measure.data.source import open_data

    if spec is None:
        return None
    source = open_data(spec, model, preprocess=preprocess, samples=samples)
    console.notes(source.notes)
    return source


def calibration_of(
    data: str | None, dialect: str | None, model: Model, preprocess: str | None, samples: int | None, seed: int
) -> Any:
    """What the user gave, or noise if that was asked for; nothing is made up unasked."""
    if dialect != "noise":
        return open_source(data, model, preprocess, samples)
    from ..passes.calibration.noise import noise_source

    if data is not None:
        raise UsageError("--dialect noise runs without data", fix="leave out --data, or name the dialect id or ood")
    return noise_source(model, samples=samples or 512, preprocess=preprocess, seed=seed)


def accuracies(before: Model, after: Model, source: Any) -> dict[str, dict[str, float]] | None:
    """Every metric of both models; None without labelled data."""
    from ..measure.accuracy import evaluate_model

    if source is None:
        return None
    with console.progress("evaluating") as tick:
        old = evaluate_model(before, source, tick=tick).values
        new = evaluate_model(after, source, tick=tick).values
    return {"before": old, "after": new}


def latencies(before: Model, after: Model, seed: int, known: LatencyReport | None = None) -> dict[str, Any]:
    """Both models on the same made-up inputs, one thread, run in turn; ``known`` is what was measured already."""
    from ..measure.run.latency import time_pair

    if known:
        found = {"before": known.before_ms, "after": known.after_ms, "speedup": 1 / known.kept}
        return {**found, "verdict": known.verdict, "threads": known.threads, "machine": known.machine}
    with console.progress("timing"):
        timing = time_pair(before, after, seed=seed)
    old, new = timing.latencies
    found = {"before": old.median_ms, "after": new.median_ms, "speedup": timing.speedup(1)}
    return {**found, "verdict": timing.verdict(1), "threads": 1, "machine": timing.machine}


def slower(times: dict[str, Any] | None, hint: str) -> list[str]:
    """A sentence for a result that takes longer than the original, and what may help."""
    if not times or times["verdict"] != "slower":
        return []
    return [f"the result is slower: {times['after']:.3g} ms against {times['before']:.3g} ms; {hint}"]


def efficiency_text(figures: Mapping[str, float]) -> str:
    """BiBench's figures in one line; ``figures`` as ``measure.efficiency`` gives them."""
    return (
        f"BiBench: theoretical speed-up {figures['speedup']:.2f} x, weights {figures['storage']:.2f} x smaller, "
        f"overall {figures['overall']:.2f}"
    )


def amount_rows(result: dict[str, Any]) -> Iterator[tuple[str, str, str, str]]:
    """Rows of a table: what was measured of both models, and what is left of it."""
    before, after = result["before"], result["after"]
    for label, key, unit in _AMOUNTS:
        if key in before or key in after:
            old, new = before.get(key, 0), after.get(key, 0)
            kept = console.percent(new / old if old else None if new else 1.0, 1)
            yield label, console.human(old, unit), console.human(new, unit), kept
    if latency := result.get("latency_ms"):
        ratio = 1 / latency["speedup"]
        yield "latency", f"{latency['before']:.3g} ms", f"{latency['after']:.3g} ms", console.percent(ratio, 1)
    for name, old in result.get("accuracy", {}).get("before", {}).items():
        new = result["accuracy"]["after"][name]
        yield name, console.percent(old), console.percent(new), f"{100 * (new - old):+.2f} points"


def emit(report: Report, show: Callable[[dict[str, Any]], None]) -> None:
    """Print a report: as JSON, or through ``show`` and what all reports end with."""
    result = report.as_dict()

    def told() -> None:
        if not report.change.changed:
            for note in report.notes:
                console.line(f"note: {note}")
            return
        show(result)
        if "accuracy" not in result:
            console.line("accuracy not measured: give --eval-data to see what it cost")
        for note in report.notes:
            console.line(f"note: {note}")
        console.line(f"wrote {report.out} in {report.change.seconds:.1f} s")

    console.emit(result, told)


def amounts_table(result: dict[str, Any]) -> None:
    """Both models side by side."""
    console.table(result["out"], ("", "before", "after", "kept"), list(amount_rows(result)))
    console.line()
