"""``intaglio merge``: models that were trained from one base, in one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ....graph.errors import UsageError
from ... import console
from ...options import Debug, Json, ModelPath, Out, option, read_model


def merge(
    *,
    model: ModelPath,
    tuned: Annotated[
        list[Path],
        typer.Argument(
            metavar="TUNED...", help="The same network, trained further: one file or more.", show_default=False
        ),
    ],
    out: Out,
    pattern: Annotated[
        str, option("--pattern N:M", "Of every M changes in a row of memory the N largest count.", "method")
    ] = "64:256",
    scale: Annotated[
        list[float] | None,
        option("--scale X", "What a model's changes are multiplied with, one for each. Repeatable.", "method"),
    ] = None,
    apart: Annotated[
        bool,
        option("--apart/--together", "A number that one model changes no later one changes, or all add up.", "method"),
    ] = True,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Merge models that were trained from one: sparse changes of each, side by side.

    Example: intaglio merge base.onnx birds.onnx cars.onnx -o both.onnx --pattern 64:256
    """
    from ....pipeline.ends.merging import merge as write

    n, _, m = pattern.partition(":")
    if not (n.isdecimal() and m.isdecimal()):
        raise UsageError(f"pattern {pattern!r} is none", fix="write n:m, such as 64:256")
    read = read_model(model, None, None)
    result = {"model": str(model), **write(read, tuned, out, int(n), int(m), scales=scale or (), apart=apart)}
    console.notes(result["notes"])
    console.emit(result, lambda: _show(result))


def _show(result: dict[str, Any]) -> None:
    rows = [(one["model"], f"{one['scale']:g}", f"{one['changed']:,}", f"{one['kept']:,}") for one in result["models"]]
    console.table(result["out"], ("model", "scale", "differ from the base", "taken"), rows)
    console.line(f"wrote {result['out']}")
