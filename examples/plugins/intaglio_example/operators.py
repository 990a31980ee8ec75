"""A command: ``intaglio operators MODEL`` counts a model's operators."""

from __future__ import annotations

from collections import Counter
from typing import Annotated

import typer

from intaglio.cli import console
from intaglio.cli.options import Debug, Json, ModelPath
from intaglio.graph.errors import Exit


def operators(
    model: ModelPath,
    least: Annotated[int, typer.Option(min=1, help="Only operators that there are so many of.")] = 1,
    json: Json = False,
    debug: Debug = False,
) -> Exit:
    """Count the operators of a model.

    Example: intaglio operators model.onnx
    """
    from intaglio import load

    counts = Counter(node.op_type for node in load(model).graph.node)
    found = {op: count for op, count in counts.most_common() if count >= least}
    console.emit({"operators": found}, lambda: console.table("", ("operator", "nodes"), list(found.items())))
    return Exit.DONE if found else Exit.NOTHING_CHANGED
