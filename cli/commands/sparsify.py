"""``intaglio sparsify``: most weights become zero, and what that cost."""

from __future__ import annotations

from typing import Any

from ...passes.sparsify.options import SparsifyOptions
from .. import console
from ..before_after import amounts_table, emit, needs_data, tell_noise, tell_skipped
from ..parameters import takes
from ..run import RunApart


@takes
def sparsify(options: SparsifyOptions, run: RunApart) -> None:
    """Make most weights zero, fit the others, and store only these: a smaller file, no faster run.

    Example: intaglio sparsify model.onnx -o sparse.onnx --density 0.2 --data images.npz
    """
    from ...passes.sparsify import Sparsify

    if not run.data:
        needs_data(None, run.samples)
    emit(run.report(Sparsify(**dict(options))), _show)


def _show(result: dict[str, Any]) -> None:
    rows = [
        (
            one["name"],
            one["method"],
            f"{one['kept']:,}",
            console.percent(one["density"], 1),
            f"{one['size_bytes']:,}",
            console.number(one["output_error"], 3),
        )
        for one in result["layers"]
    ]
    if rows:
        console.table("layers", ("layer", "method", "stay", "density", "bytes", "error"), rows)
        console.line()
    amounts_table(result)
    console.line(f"{result['density']:.2%} of the weights of these layers stay")
    tell_noise(result)
    tell_skipped(result, label="dense:")
