"""``intaglio quantize``: fewer bits for weights and activations, and what that cost."""

from __future__ import annotations

from typing import Any

from ...passes.options import MADE_UP
from ...passes.quantize.options import QuantizeOptions
from .. import console
from ..before_after import amounts_table, decibels, emit, needs_data, tell_noise, tell_skipped
from ..parameters import takes
from ..run import RunApart


@takes
def quantize(options: QuantizeOptions, run: RunApart) -> None:
    """Give weights, and activations, fewer bits in a form that runtimes accelerate.

    Example: intaglio quantize model.onnx -o int8.onnx --data images.npz
    """
    from ...passes.quantize import Quantize

    if not (run.data or options.dialect in MADE_UP):
        needs_data(None, run.samples)
    emit(run.report(Quantize(**dict(options))), _show)


def _show(result: dict[str, Any]) -> None:
    rows = [
        (one["name"], one["weights"], one["activations"], one["method"], decibels(one["sqnr_db"]))
        for one in result["layers"]
    ]
    if rows:
        console.table("layers", ("layer", "weights", "input", "rounding", "SQNR"), rows)
        console.line()
    amounts_table(result)
    tell_noise(result)
    used, expected = result.get("runtime", {}), result.get("predicted", {})
    if integer := used.get("integer") or expected.get("integer"):
        told = ", ".join(f"{count} {op}" for op, count in integer.items())
        console.line(
            f"by the rules of {expected['target']}, not tried here, in integers: {told}"
            if expected
            else f"ONNX Runtime computes in integers: {told}"
        )
    tell_skipped(result, label="more bits for")
