"""``intaglio bisect``: which pass, and which layers, make a result bad."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ...graph.errors import UsageError
from .. import console
from ..before_after import decibels
from ..opened_model import open_source
from ..options import (
    Debug,
    GitHub,
    Html,
    Json,
    JUnit,
    Markdown,
    Metrics,
    Preprocess,
    Shapes,
    Values,
    option,
    read_model,
)
from ..run import Outlets

if TYPE_CHECKING:
    from ...graph.model import Model
    from ...measure.data.source import DataSource
    from ...pipeline.bisect import Good

_WORTH = ("SQNR", "accuracy")
_SAMPLES, _UNLABELLED = 256, 64
_Samples = Annotated[
    int | None, option("--samples N", "Use only the first N samples.", min=1, max=256, show_default="64, labelled 256")
]
_MaxDrop = Annotated[
    float | None,
    option(
        "--max-drop POINTS", "Results that lose no more accuracy are good.", min=0.0, show_default="1.0 with labels"
    ),
]
_Good = Annotated[
    float | None,
    option(
        "--sqnr DB",
        "Outputs with this signal to noise are good, whatever labels say.",
        show_default="20 without labels",
    ),
]


def bisect(
    a: Annotated[
        Path, typer.Argument(metavar="A", help="The original, or a folder that compress wrote.", show_default=False)
    ],
    data: Annotated[
        str, typer.Option("--data", metavar="SOURCE", help="Real inputs, as compare takes them.", show_default=False)
    ],
    b: Annotated[Path | None, typer.Argument(metavar="[B]", help="What was made of it.", show_default=False)] = None,
    preprocess: Preprocess = None,
    metric: Metrics = None,
    samples: _Samples = None,
    max_drop: _MaxDrop = None,
    good: _Good = None,
    top: Annotated[int, typer.Option("--top", min=1, metavar="N", help="How many layers to put back.")] = 10,
    shape: Shapes = None,
    value: Values = None,
    junit: JUnit = None,
    markdown: Markdown = None,
    html: Html = None,
    github: GitHub = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Find which pass, then which layers, are responsible when a result is bad.

    Each layer of the result is run by itself on what the original gives it, which tells the noise that it adds. The worst
    are put back as they were, one by one and together, until the outputs are good: by accuracy where the data have labels,
    by noise elsewhere.

    Example: intaglio bisect model.onnx small.onnx --data photos/ --preprocess imagenet
    """
    from ...pipeline.bisect import blame

    outlets = Outlets(junit=junit, markdown=markdown, html=html, github=github)
    with outlets.telling(a):
        path, steps = (a, [b]) if b is not None else _steps(a)
        original = read_model(path, shape, value)
        source = _opened(data, original, preprocess, samples)
        limit = _limit(source, max_drop, good, metric or ())
        passes, place = _passes(original, steps, source, limit) if b is None else ([], 0)
        a, b = (steps[place - 1] if place else path), steps[place]
        before, after = read_model(a, shape, value), read_model(b, shape, value)
        with console.progress("looking at layers"):
            found = blame(before, after, source, good=limit, top=top)
        result = {
            "model": str(a),
            "out": str(b),
            "passes": passes,
            "culprit": passes[place]["pass"] if passes else None,
            **found.as_dict(),
            "good_db": limit.sqnr_db if limit.drop is None else None,
            "max_drop": limit.drop,
        }
        outlets.tell(result)
    console.emit(result, lambda: _show(result))


def _steps(a: Path) -> tuple[Path, list[Path]]:
    """The model, and what each pass made of it."""
    from ...pipeline.bisect import steps_of

    if not a.is_dir():
        raise UsageError("only one model is named", fix="give A and B, or a folder that compress wrote")
    return steps_of(a)


def _passes(original: Model, steps: list[Path], source: DataSource, limit: Good) -> tuple[list[dict[str, Any]], int]:
    """What each pass left, and the place of the worst."""
    from ...pipeline.bisect import culprit

    with console.progress("looking at passes"):
        left, place = culprit(original, steps, source, rated=None if limit.drop is None else limit.metrics)
    return [one.as_dict() for one in left], place


def _opened(data: str, model: Model, preprocess: str | None, samples: int | None) -> DataSource:
    source = open_source(data, model, preprocess, samples or _SAMPLES)
    assert source is not None
    return source if samples or source.labelled else replace(source, limit=_UNLABELLED)


def _limit(source: DataSource, max_drop: float | None, good: float | None, metrics: Sequence[str]) -> Good:
    """Which results count as good."""
    from ...pipeline.bisect import Good

    if max_drop is not None and good is not None:
        raise UsageError("--max-drop and --sqnr exclude each other", fix="give one of them")
    if max_drop is not None and not source.labelled:
        raise UsageError("--max-drop needs labelled data", fix="leave it out, or give data with labels")
    if good is not None or not source.labelled:
        return Good(20.0 if good is None else good)
    return Good(drop=1.0 if max_drop is None else max_drop, metrics=metrics)


def _show(result: dict[str, Any]) -> None:
    from ...pipeline.formats.rows import blamed, worth

    rated = result["accuracy"] is not None
    if result["passes"]:
        rows = [(one["pass"], *worth(one["sqnr_db"], one["accuracy"])[: 1 + rated]) for one in result["passes"]]
        console.table("outputs after each pass", ("pass", *_WORTH[: 1 + rated]), rows)
        lost = rated and (result["accuracy"]["before"] != result["accuracy"]["after"])
        console.line(f"most {'accuracy is lost by' if lost else 'noise comes from'} {result['culprit']}")
        console.line()
    columns = ("layer", "nodes", "adds", "reaches it", *(f"{one} without" for one in _WORTH[: 1 + rated]))
    rows = [
        (
            one["tensor"],
            ", ".join(one["nodes"][-3:]),
            *(decibels(one[key]) for key in ("own_sqnr_db", "sqnr_db")),
            *worth(one["restored_sqnr_db"], one["restored_accuracy"])[: 1 + rated],
        )
        for one in result["layers"]
    ]
    if rows:
        console.table(f"{result['model']} and {result['out']}: the worst layers", columns, rows)
    shared = f"{console.count(result['shared_tensors'], 'tensor')} that both models have were compared"
    console.line(f"{shared}, on {console.count(result['samples'], 'sample')}")
    console.line(f"outputs: {decibels(result['output_sqnr_db'])}")
    if rated:
        old, new = (next(iter(result["accuracy"][side].items())) for side in ("before", "after"))
        console.line(f"{old[0]}: {console.percent(old[1])}, now {console.percent(new[1])}")
    console.line(blamed(result))
