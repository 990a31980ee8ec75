"""``intaglio import``: a model of any framework as an ONNX file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ...graph.errors import UsageError
from ...importers.base import IMPORTERS
from .. import console
from ..before_after import decibels
from ..kinds import tell_kinds
from ..options import Debug, Json, Seed, Shapes, Values, option, parse_shapes, parse_values
from ..parameters import options_behind, takes, with_behind
from ..run import Fits

if TYPE_CHECKING:
    Behind = Any
else:
    Behind = options_behind(IMPORTERS, "method")


@takes
def import_(
    *,
    source: Annotated[
        str | None,
        typer.Argument(
            metavar="SOURCE",
            help="A file, a folder, or package.module:factory or FILE.py:factory, which is run and gives a model.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[Path | None, option("--out -o", "ONNX file to write.", "output")] = None,
    by: Annotated[
        str | None, option("--from NAME", "The importer; by itself what the source looks like.", "method")
    ] = None,
    sources: Annotated[
        bool, option("--sources", "List importers, their options and what they need, and stop.", "method")
    ] = False,
    behind: Behind,
    fits: Fits,
    shape: Shapes = None,
    value: Values = None,
    seed: Seed = 0,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Read a model of any framework, compare it with that framework, and write ONNX.

    Other commands take such sources in the place of an ONNX file, too.

    Example: intaglio import package.module:network -o model.onnx --shape image:-1,3,32,32
    """
    if sources:
        tell_kinds(IMPORTERS, "sources")
        return
    from ...graph.io.fit import Fit, fitted
    from ...graph.io.save import check_target, file_bytes, save
    from ...pipeline.importing import read_source

    if source is None or out is None:
        raise UsageError("not all is said", fix="give SOURCE and -o MODEL.onnx")
    check_target(out)
    named = with_behind(by or "", behind) if by or any(vars(behind).values()) else None
    read = read_source(source, shapes=parse_shapes(shape), values=parse_values(value), by=named, seed=seed)
    model, needs = fitted(read.model, Fit.of(fits.opset, fits.ir, fits.runtime))
    save(model, out)
    notes = [*read.model.notes, *read.notes, *needs]
    result = {
        "source": source,
        "out": str(out),
        "importer": read.importer,
        "package": read.package,
        "nodes": len(model.graph.node),
        "size_bytes": file_bytes(model),
        "opset": model.opset,
        "outputs": {name: one.as_dict() for name, one in read.outputs.items()},
        "notes": notes,
    }
    console.notes(notes)
    console.emit(result, lambda: _show(result))


def _show(result: dict[str, Any]) -> None:
    rows = [(name, f"{one['max_abs']:.3g}", decibels(one["sqnr_db"])) for name, one in result["outputs"].items()]
    if rows:
        console.table(f"against {result['package'] or result['importer']}", ("output", "max diff", "SQNR"), rows)
    size = console.human(result["size_bytes"], "B")
    console.line(f"wrote {result['out']}: {result['nodes']} nodes, operator set {result['opset']}, {size}")
