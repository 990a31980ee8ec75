"""``intaglio factorize``: write layers as products of smaller ones, prove it, and show what it cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...passes.factorize.options import FactorizeOptions
from ...passes.options import MADE_UP
from .. import console
from ..before_after import amounts_table, emit, needs_data, samples_text
from ..parameters import takes
from ..run import Proof, RunApart

if TYPE_CHECKING:
    from ...passes.change import Change


@takes
def factorize(options: FactorizeOptions, run: RunApart, proof: Proof = None) -> None:
    """Split layers into low-rank factors until a target is met.

    Example: intaglio factorize model.onnx -o small.onnx --macs 0.6 --data calib.npz
    """
    from ...passes.factorize import Factorize

    if not (run.data or run.eval_data or options.dialect in MADE_UP):
        needs_data(run.preprocess, run.samples)
    report = run.report(Factorize(**dict(options)), proof=proof)
    emit(report, lambda result: _show(result, report.change))


def _show(result: dict[str, Any], change: Change) -> None:
    split = [one for one in result["layers"] if one["scheme"]]
    rows = [
        (
            r["name"],
            r["op"],
            r["scheme"],
            "x".join(map(str, r["rank"])),
            console.number(r["gain"]),
            console.number(r["speedup"]),
        )
        for r in split
    ]
    console.table("split", ("layer", "operator", "scheme", "rank", "cheaper", "faster"), rows)
    if whole := [(r["name"], r["op"], r["reason"]) for r in result["layers"] if not r["scheme"]]:
        console.line()
        console.table("whole", ("layer", "operator", "because"), whole)
    console.line()
    amounts_table(result)
    console.line(change.proved)
    if "samples" in result:
        fitted = f"fitted {result['fitted']} layers and refitted {result['refitted']} that stay whole"
        console.line(f"{fitted} on {samples_text(result)}, without labels")
    if change.latency:
        console.line(change.latency.sentence())
