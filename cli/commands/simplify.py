"""``intaglio simplify``: the same outputs from fewer nodes and no more bytes."""

from __future__ import annotations

from typing import Any

from ...passes.simplify.options import SimplifyOptions
from .. import console
from ..before_after import amounts_table, emit
from ..parameters import takes
from ..run import Run


@takes
def simplify(options: SimplifyOptions, run: Run) -> None:
    """Clean a graph without changing what it computes, and compare the outputs.

    Example: intaglio simplify model.onnx -o clean.onnx
    """
    from ...passes.simplify import Simplify

    report = run.report(Simplify(**dict(options)))
    emit(report, lambda result: _show(result, report.change.proved))


def _show(result: dict[str, Any], proved: str) -> None:
    if result["done"]:
        console.table("done", ("step", "changes"), [(step, str(n)) for step, n in result["done"].items()])
        console.line()
    amounts_table(result)
    nodes = result["nodes"]
    console.line(f"{nodes['before']} nodes as read, {nodes['after']} now; {proved}")
