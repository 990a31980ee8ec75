"""``intaglio train``: other weights for the same graph, learned from labels or from the original."""

from __future__ import annotations

import os
from typing import Any

from ...passes.train.options import TrainOptions
from .. import console
from ..before_after import amounts_table, emit
from ..parameters import takes
from ..run import Run


@takes
def train(options: TrainOptions, run: Run) -> None:
    """Train the weights of a model, with labels or toward the original.

    Example: intaglio train small.onnx -o trained.onnx --teacher model.onnx --data images.npz --minutes 5
    """
    from ...passes.train import Train

    if "MASTER_ADDR" in os.environ and os.environ.get("RANK", "0") != "0":  # torchrun: the first process writes
        run.unwritten(Train(**dict(options)))
        return
    report = run.report(Train(**dict(options)))
    emit(report, lambda result: _show(result))


def _show(result: dict[str, Any]) -> None:
    told = result["training"]
    whose = "labels" if told["labels"] else f"outputs of {told['teacher']}"
    rows = [(str(r["step"]), console.number(r["loss"]), console.number(r.get("held_back"))) for r in told["history"]]
    console.table("training", ("step", "loss", "on samples held back"), rows)
    console.line()
    amounts_table(result)
    console.line(
        f"trained {len(result['weights'])} weights in {told['steps']:,} steps on {told['samples']:,} samples toward {whose} "
        f"({', '.join(told['losses'])}): on {told['held_back']:,} samples held back the loss went from "
        f"{told['held_back_before']:.4g} to {told['held_back_after']:.4g}, at step {told['best_step']:,}"
    )
