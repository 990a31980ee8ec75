"""``intaglio evaluate``: accuracy on labelled data, with a gate for pipelines."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from ...graph.errors import GateFailed, UsageError
from .. import console
from ..opened_model import open_model, open_source
from ..options import (
    Batch,
    Corruptions,
    Debug,
    Executor,
    Gates,
    GitHub,
    Html,
    Json,
    JUnit,
    Markdown,
    Metrics,
    ModelPath,
    Preprocess,
    Reference,
    Samples,
    Seed,
    Shapes,
    Threads,
    Values,
    Workers,
    option,
    parse_shapes,
    parse_values,
)
from ..run import Outlets, apart

if TYPE_CHECKING:
    from ...measure.accuracy import Evaluation
    from ...measure.data.source import DataSource
    from ...pipeline.gates import Gate


_Labelled = Annotated[
    str,
    option(
        "--data SOURCE",
        "Labelled data: an .npz named after the graph inputs plus labels, a folder with one subfolder per "
        "class, or package.module:callable.",
    ),
]


def evaluate(
    model: ModelPath,
    data: _Labelled,
    preprocess: Preprocess = None,
    metric: Metrics = None,
    output: Annotated[str | None, option("--output NAME", "The output to score, where there are several.")] = None,
    minimum: Annotated[
        list[str] | None, option("--min METRIC=VALUE", "Fail with exit code 3 below this, such as top1=0.9.")
    ] = None,
    gate: Gates = None,
    junit: JUnit = None,
    markdown: Markdown = None,
    html: Html = None,
    github: GitHub = None,
    samples: Samples = None,
    corruptions: Corruptions = False,
    reference: Reference = None,
    seed: Seed = 0,
    batch: Batch = 64,
    threads: Threads = 1,
    executor: Executor = "local",
    workers: Workers = 1,
    shape: Shapes = None,
    value: Values = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Measure a model's accuracy on labelled data.

    Example: intaglio evaluate model.onnx --data test.npz --preprocess imagenet
    """
    from ...measure.accuracy import evaluate_session
    from ...pipeline.gates import missed

    gates, limits = _gates(minimum), _limits(gate)
    outlets = Outlets(junit=junit, markdown=markdown, html=html, github=github)
    if reference and not corruptions:
        raise UsageError("--reference says nothing without --corruptions", fix="add it, or use intaglio compare A B")
    with outlets.telling(model):
        opened = open_model(model, shape, value)
        source = open_source(data, opened.model, preprocess, samples)
        assert source is not None
        rate = partial(evaluate_session, names=_names(metric, gates, limits), output=output, batch=batch)
        session = opened.session(threads=threads)
        given = {"preprocess": preprocess, "samples": samples}
        how = {"output": output, "batch": batch, "threads": threads, **given}
        shaped = {"shapes": parse_shapes(shape), "values": parse_values(value)}
        with (
            apart(executor, workers, lambda: _task(model, data, **how, **shaped)) as pieces,
            console.progress("evaluating") as tick,
        ):
            measured = rate(session, source, tick=tick, pieces=pieces)
        result = {"model": str(model), "data": data, "preprocess": preprocess or "none", **_told(measured, limits)}
        result["notes"] = [*source.notes]
        if corruptions:
            other = _reference(reference, rate, {"spec": data, **given}, shape, value) if reference else None
            result |= _worse((partial(rate, session), source, measured), other, reference, seed)
        outlets.tell(result)
    console.emit(result, partial(_show, result), failed=_missed(gates, measured) or missed(result["gates"]))


def _show(result: Mapping[str, Any]) -> None:
    from ...pipeline.formats.rows import scores

    rows = [(name, value, result["samples"]) for name, value in scores(result)]
    console.table(result["model"], ("metric", "value", "samples"), rows)
    _show_worse(result)


def _task(model: Path, data: str, **given: Any) -> Mapping[str, Any]:
    from ...pipeline.study.helping import evaluate_task

    return evaluate_task(model, data, **given)


def _told(measured: Evaluation, limits: Sequence[Gate]) -> dict[str, Any]:
    judged = [one.judged({"accuracy": {"after": measured.values}}) for one in limits]
    return {
        "samples": measured.samples,
        "metrics": measured.values,
        "better": {name: one.better for name, one in measured.worth.items()},
        "units": {name: one.unit for name, one in measured.worth.items()},
        "seconds": measured.seconds,
        "gates": judged,
        "passed": all(one["passed"] for one in judged),
    }


_Rated = tuple[Callable[..., "Evaluation"], "DataSource", "Evaluation"]
"""What measures a model on data, the data as they are, and what was measured there."""


def _reference(
    path: Path, rate: Callable[..., Evaluation], data: dict[str, Any], shape: list[str] | None, value: list[str] | None
) -> _Rated:
    from ...measure.data.source import open_data

    opened = open_model(path, shape, value)
    source, session = open_data(model=opened.model, **data), opened.session(threads=1)
    return partial(rate, session), source, rate(session, source)


def _worse(own: _Rated, other: _Rated | None, path: Path | None, seed: int) -> dict[str, Any]:
    """What is left on images made worse."""
    from ...measure.corruptions import beside, withstood
    from ...measure.data.corruption import find_pixels

    found, notes = [], list[str]()
    for rate, source, clean in filter(None, (own, other)):
        pixels, notes = find_pixels(source)
        with console.progress("on images made worse") as tick:
            found.append(withstood(rate, source, pixels, clean, seed=seed, tick=tick))
    console.notes(notes)
    told = beside(found[0], found[1] if other else None)
    return {"corruptions": {"reference": str(path) if path else None, **told}, "notes": [*own[1].notes, *notes]}


def _show_worse(result: Mapping[str, Any]) -> None:
    from ...pipeline.formats.rows import score

    if found := result.get("corruptions"):
        share = result["units"][found["metric"]] == "points"
        rows = [
            (kind, *(score(value, share=share) for value in values), f"{found['relative'][kind]:.1f} %")
            for kind, values in found["values"].items()
        ]
        columns = ("corruption", *(f"severity {n}" for n in range(1, 6)), "left")
        console.table(f"{found['metric']} on images made worse", columns, rows)
        of = f"what {found['reference']} has there" if found["reference"] else "what it has on images as they are"
        console.line(f"left of {of}, quadratic mean: {found['overall']:.1f} %")


def _names(metrics: list[str] | None, minimums: Iterable[str], limits: Sequence[Gate]) -> list[str]:
    """What is measured, first what a gate calls the accuracy; nothing for what is usual."""
    from ...pipeline.gates import metrics_of

    asked = metrics or ["top1"] * any(one.name == "accuracy" for one in limits)
    return list(dict.fromkeys([*asked, *(minimums if metrics else ()), *metrics_of(limits)]))


def _limits(gates: list[str] | None) -> Sequence[Gate]:
    """Raises UsageError where a gate is of anything but the accuracy of one model."""
    from ...pipeline.gates import read_gates

    limits = read_gates(gates or ())
    for one in limits:
        if one.relative or one.figure.needs != "labels" or one.name == "drop":
            fix = "give both models: intaglio compare A B --data SOURCE --gate LIMIT"
            raise UsageError(f"gate {one.text!r} is no limit of the accuracy of one model", fix=fix)
    return limits


def _gates(texts: list[str] | None) -> dict[str, float]:
    """``["top1=0.9"]`` as ``{"top1": 0.9}``; ``90%`` is understood."""
    gates = {}
    for text in texts or ():
        name, equals, value = text.rpartition("=")  # a name may have options
        try:
            number = float(value.removesuffix("%")) / (100 if value.endswith("%") else 1)
        except ValueError:
            equals = ""
        if not equals or not name or number != number:
            raise UsageError(f"cannot read --min {text!r}", fix="write it like --min top1=0.9 or --min top1=90%")
        gates[name] = _larger(name, text, number)
    return gates


def _larger(name: str, text: str, number: float) -> float:
    """Raises UsageError where smaller numbers of the metric are better."""
    from ...measure.accuracy import METRICS
    from ...measure.worth import Worth

    if name in METRICS and Worth.of(METRICS[name]()).smaller:
        fix = f'write --gate "{name} <= {number:g}"'
        raise UsageError(f"--min {text!r}: of {name} smaller numbers are better", fix=fix)
    return number


def _missed(gates: dict[str, float], measured: Evaluation) -> GateFailed | None:
    values = measured.values
    unknown = [name for name in gates if name not in values]
    if unknown:
        raise UsageError(
            f"--min names {unknown[0]!r}, which was not measured", fix=f"measured: {', '.join(values)}; see --metric"
        )

    low = [
        f"{name} is {_value(measured, name, values[name])}, below {_value(measured, name, gates[name])}"
        for name in gates
        if not values[name] >= gates[name]
    ]
    return GateFailed("; ".join(low)) if low else None


def _value(measured: Evaluation, name: str, value: float) -> str:
    from ...pipeline.formats.rows import score

    return score(value, share=measured.worth[name].share)
