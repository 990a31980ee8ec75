"""``intaglio prune``: remove coupled channels, prove it, and show what it cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...passes.options import MADE_UP
from ...passes.prune.options import PruneOptions
from .. import console
from ..before_after import amounts_table, emit, needs_data, samples_text
from ..parameters import takes
from ..run import Proof, Run

if TYPE_CHECKING:
    from ...passes.change import Change


@takes
def prune(options: PruneOptions, run: Run, proof: Proof = None) -> None:
    """Remove the least important coupled channels until a target is met.

    Example: intaglio prune model.onnx -o small.onnx --macs 0.5
    """
    from ...passes.prune import PruneChannels

    if not (run.data or run.eval_data or options.dialect in MADE_UP):
        needs_data(run.preprocess, run.samples)
    report = run.report(PruneChannels(**dict(options)), proof=proof)
    emit(report, lambda result: _show(result, report.change))


def _show(result: dict[str, Any], change: Change) -> None:
    rows = [(g["name"], g["before"], g["after"], "" if g["exact"] else "inexact") for g in result.get("groups", ())]
    if rows:
        console.table("channels", ("group", "before", "after", ""), [row for row in rows if row[1] != row[2]])
    if gone := [b for b in result.get("branches", ()) if b["removed"]]:
        told = [(b["name"], console.human(b["macs"]), console.number(b["effect"])) for b in gone]
        console.table("branches that went", ("branch", "MACs", "effect alone"), told)
    console.line()
    amounts_table(result)
    console.line(change.proved)
    if repaired := result.get("repair", {}).get("refitted"):
        console.line(f"refitted {repaired} layers on {result['repair']['samples']:,} samples, without labels")
    if "dialect" in result:
        console.line(f"calibrated on {samples_text(result)}, without labels")
    if change.latency:
        console.line(change.latency.sentence())
