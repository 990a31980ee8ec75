"""``intaglio binarize``: weights in one or two bits, and what that cost."""

from __future__ import annotations

from typing import Any

from ...passes.binarize.options import BinarizeOptions
from .. import console
from ..before_after import amounts_table, decibels, efficiency_text, emit, needs_data, tell_noise, tell_skipped
from ..parameters import takes
from ..run import RunApart


@takes
def binarize(options: BinarizeOptions, run: RunApart) -> None:
    """Store weights in one or two bits, or lower a network that was trained binary to operators on bits.

    Example: intaglio binarize model.onnx -o bits.onnx --data images.npz
    """
    from ...passes.binarize import Binarize

    if not run.data:
        needs_data(None, run.samples)
    emit(run.report(Binarize(**dict(options))), _show)


def _show(result: dict[str, Any]) -> None:
    rows = [
        (
            one["name"],
            one["scheme"],
            console.number(one["bits"]),
            console.number(one["expected_error"], 3),
            console.number(one["weight_error"], 3),
            console.number(one["output_error"], 3),
            decibels(one["sqnr_db"]),
        )
        for one in result["layers"]
    ]
    if rows:
        heads = ("layer", "scheme", "bits", "expected", "weights", "output", "SQNR")
        console.table("layers: bits of each weight, squared errors, signal to noise", heads, rows)
        console.line()
    amounts_table(result)
    if (bits := result["bits"]) is not None:
        console.line(f"{result['scheme']}: {bits:.2f} bits for each weight of these layers, scales and maps included")
    console.line(efficiency_text(result["bibench"]))
    tell_noise(result)
    tell_skipped(result, label="left in float:")
