"""``intaglio bisect``: which pass, and which layers, make a result bad."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ...graph.errors import UsageError
from .. import console
from ..opened_model import open_source
from ..options import Debug, Json, Preprocess, Shapes, Values, read_model


def bisect(
    a: Annotated[
        Path, typer.Argument(metavar="A", help="The original, or a folder that compress wrote.", show_default=False)
    ],
    data: Annotated[
        str, typer.Option("--data", metavar="SOURCE", help="Real inputs, as compare takes them.", show_default=False)
    ],
    b: Annotated[Path | None, typer.Argument(metavar="[B]", help="What was made of it.", show_default=False)] = None,
    preprocess: Preprocess = None,
    samples: Annotated[
        int, typer.Option("--samples", min=1, max=256, metavar="N", help="Use only the first N samples.")
    ] = 64,
    good: Annotated[
        float, typer.Option("--sqnr", metavar="DB", help="Outputs with this signal to noise count as good.")
    ] = 20.0,
    top: Annotated[int, typer.Option("--top", min=1, metavar="N", help="How many layers to put back.")] = 10,
    shape: Shapes = None,
    value: Values = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Find which pass, then which layers, are responsible when a result is bad.

    Each layer of the result is run by itself on what the original gives it, which tells the noise that it adds. The worst
    are put back as they were, one by one and together, until the outputs are good.

    Example: intaglio bisect model.onnx small.onnx --data photos/ --preprocess imagenet
    """
    from ...pipeline.bisect import blame, culprit, steps_of

    passes: list[dict[str, Any]] = []
    guilty = None
    if b is None:
        if not a.is_dir():
            raise UsageError("only one model is named", fix="give A and B, or a folder that compress wrote")
        path, steps = steps_of(a)
        original = read_model(path, shape, value)
        left, place = culprit(original, steps, _opened(data, original, preprocess, samples))
        passes, guilty = [one.as_dict() for one in left], left[place].name
        a, b = (left[place - 1].path if place else path), left[place].path
    before, after = read_model(a, shape, value), read_model(b, shape, value)
    with console.progress("looking at layers"):
        found = blame(before, after, _opened(data, before, preprocess, samples), good=good, top=top)
    result = {"model": str(a), "out": str(b), "passes": passes, "culprit": guilty, **found.as_dict(), "good_db": good}
    console.emit(result, lambda: _show(result))


def _opened(data: str, model: Any, preprocess: str | None, samples: int) -> Any:
    return open_source(data, model, preprocess, samples)


def _show(result: dict[str, Any]) -> None:
    if result["passes"]:
        rows = [(one["pass"], console.number(one["sqnr_db"], 1, " dB")) for one in result["passes"]]
        console.table("outputs after each pass, against the original's", ("pass", "SQNR"), rows)
        console.line(f"most noise comes from {result['culprit']}")
        console.line()
    columns = ("layer", "nodes", "adds", "reaches it", "outputs without")
    keys = ("own_sqnr_db", "sqnr_db", "restored_sqnr_db")
    rows = [
        (one["tensor"], ", ".join(one["nodes"][-3:]), *(console.number(one[key], 1, " dB") for key in keys))
        for one in result["layers"]
    ]
    if rows:
        console.table(f"{result['model']} and {result['out']}: the worst layers", columns, rows)
    shared = f"{console.count(result['shared_tensors'], 'tensor')} that both models have were compared"
    console.line(f"{shared}, on {console.count(result['samples'], 'sample')}")
    console.line(f"outputs: {console.number(result['output_sqnr_db'], 1, ' dB')}")
    console.line(_verdict(result))


def _verdict(result: dict[str, Any]) -> str:
    responsible, good = result["responsible"], f"{result['good_db']:g} dB"
    if responsible is None:
        why = "all lose something, or were fitted to what reaches them and fit nothing else"
        return f"no few layers are responsible ({why}): with all of these put back the outputs stay below {good}"
    if not responsible:
        return f"the outputs are good: above {good}"
    several = "these together are" if len(responsible) > 1 else "this one is"
    return f"{several} responsible, without which the outputs are above {good}: {', '.join(responsible)}"
