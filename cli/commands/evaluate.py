"""``intaglio evaluate``: accuracy on labelled data, with a gate for pipelines."""

from __future__ import annotations

from functools import partial
from typing import Annotated

from ...graph.errors import GateFailed, UsageError
from .. import console
from ..opened_model import open_model, open_source
from ..options import Batch, Debug, Json, ModelPath, Preprocess, Samples, Shapes, Threads, Values, option


def evaluate(
    model: ModelPath,
    data: Annotated[
        str,
        option(
            "--data SOURCE",
            "Labelled data: an .npz named after the graph inputs plus labels, a folder with one subfolder per "
            "class, or package.module:callable.",
        ),
    ],
    preprocess: Preprocess = None,
    metric: Annotated[
        list[str] | None, option("--metric NAME", "What to measure; repeatable. By default top1 and top5.")
    ] = None,
    output: Annotated[str | None, option("--output NAME", "The output to score, where there are several.")] = None,
    minimum: Annotated[
        list[str] | None, option("--min METRIC=VALUE", "Fail with exit code 3 below this, such as top1=0.9.")
    ] = None,
    samples: Samples = None,
    batch: Batch = 64,
    threads: Threads = 1,
    shape: Shapes = None,
    value: Values = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Measure a model's accuracy on labelled data.

    Example: intaglio evaluate model.onnx --data test.npz --preprocess imagenet
    """
    from ...measure.accuracy import evaluate_session

    gates = _gates(minimum)
    opened = open_model(model, shape, value)
    source = open_source(data, opened.model, preprocess, samples)
    assert source is not None
    names = list(dict.fromkeys([*(metric or ()), *gates])) if metric else []
    with console.progress("evaluating") as tick:
        session = opened.session(threads=threads)
        measured = evaluate_session(session, source, names=names, output=output, batch=batch, tick=tick)
    result = {
        "model": str(model),
        "data": data,
        "preprocess": preprocess or "none",
        "samples": measured.samples,
        "metrics": measured.values,
        "seconds": measured.seconds,
        "notes": [*source.notes],
    }
    rows = [(name, _value(score), measured.samples) for name, score in measured.values.items()]
    told = partial(console.table, str(model), ("metric", "value", "samples"), rows)
    console.emit(result, told, failed=_missed(gates, measured.values))


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
        gates[name] = number
    return gates


def _missed(gates: dict[str, float], values: dict[str, float]) -> GateFailed | None:
    unknown = [name for name in gates if name not in values]
    if unknown:
        raise UsageError(
            f"--min names {unknown[0]!r}, which was not measured", fix=f"measured: {', '.join(values)}; see --metric"
        )
    low = [
        f"{name} is {_value(values[name])}, below {_value(gates[name])}"
        for name in gates
        if not values[name] >= gates[name]
    ]
    return GateFailed("; ".join(low)) if low else None


def _value(value: float) -> str:
    return console.percent(value) if 0 <= value <= 1 else f"{value:.5g}"
