"""Make a model of fewer bits, see that it runs, measure its noise, and spare layers until accuracy stays within a limit."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...graph.cost import cost
from ...graph.errors import BadModel, NothingChanged, ProofFailed, UsageError
from ...graph.io.save import file_bytes
from ...graph.model import Model
from ...measure.data.source import DataSource
from ...measure.run.inputs import runnable_inputs
from ...measure.run.session import open_session, run
from .higher_precision import Make, spare
from .noise import Worst, measure, outputs_noise, worst
from .result import Result

Evaluate = Callable[[Model], float]
"""Accuracy of a model, as a fraction."""


@dataclass(frozen=True)
class Changed:
    """What a run of a pass found and did. ``spared`` are names of layers.

    ``sqnr`` is signal to noise of layers by their names, ``outputs`` that of outputs. Units: decibels, seconds.
    """

    model: Model
    result: Result
    before: Mapping[str, float]
    after: Mapping[str, float]
    sqnr: Mapping[str, float]
    outputs: Mapping[str, float]
    worst: list[Worst]
    notes: list[str]
    seconds: float
    spared: list[str]

    def described(self) -> dict[str, Any]:
        """What reports of all passes tell, as plain data."""
        before, after, outcome = self.before, self.after, self.result.outcome
        return {
            "before": dict(before),
            "after": dict(after),
            "kept": {k: after.get(k, 0) / before[k] if before[k] else 1.0 for k in before},
            "nodes": dict(outcome.done),
            "skipped": dict(outcome.skipped),
            "sqnr_db": dict(self.outputs),
            "worst": [{"name": w.name, "sqnr_db": w.sqnr_db, "cause": w.cause, "advice": w.advice} for w in self.worst],
            "spared": self.spared,
            **self.result.details,
            "notes": self.notes,
            "seconds": self.seconds,
        }


def attempted(
    model: Model,
    make: Make,
    *,
    data: DataSource | None,
    evaluate: Evaluate | None,
    max_drop: float | None,
    verify: bool = True,
    done: str = "quantized",
    advice: str = "",
    rounded: bool = True,
) -> Changed:
    """What ``make`` gives, with no more layers spared than ``max_drop`` (points of accuracy) asks for.

    ``rounded`` says whether activations may be rounded, too: then they may be what to mend.

    Raises:
        UsageError: ``max_drop`` without a way to evaluate.
        NothingChanged: no layer could be changed, or none within ``max_drop``.
        ProofFailed: the result does not run, or gives no numbers.
    """
    start = time.perf_counter()
    if max_drop is not None and evaluate is None:
        raise UsageError("--max-drop needs labelled data", fix="add --eval-data, or leave it out")
    result = make(frozenset())
    if not result.outcome.changed:
        raise _nothing(result, done)
    if verify:
        check(model, result.outcome.model, data, done)
    noise = _noise(result, data)
    spared: list[str] = []
    if max_drop is not None and evaluate is not None:
        order = sorted(result.layers, key=lambda one: noise.get(one.tensor, np.inf))
        result, spared = spare(model, make, result, [one.name for one in order], evaluate, max_drop)
        if not result.outcome.changed:
            raise NothingChanged(
                f"accuracy stays within {max_drop:g} points only with nothing {done}",
                fix=f"allow a larger --max-drop, or {advice}",
            )
        noise = _noise(result, data)
        if verify and spared:
            check(model, result.outcome.model, data, done)
    outputs = outputs_noise(model, result.outcome.model, data) if data is not None and verify else {}
    return Changed(
        result.outcome.model,
        result,
        amounts(model),
        amounts(result.outcome.model),
        {one.name: noise[one.tensor] for one in result.layers if one.tensor in noise},
        outputs,
        worst(result.layers, noise, rounded=rounded),
        list(result.outcome.notes),
        time.perf_counter() - start,
        spared,
    )


def amounts(model: Model) -> dict[str, float]:
    """What a model costs, before and after."""
    counted = cost(model)
    bits = {"bops": counted.bops} if counted.bops else {}
    return {"macs": counted.macs, "params": counted.params, "size_bytes": file_bytes(model), **bits}


def _noise(result: Result, data: DataSource | None) -> dict[str, float]:
    if data is None:
        return {}
    names = [n for one in result.layers for n in (one.tensor, one.reads)]
    return measure(result.reference, result.outcome.model, names, data)


def _nothing(result: Result, done: str) -> NothingChanged:
    reasons = sorted(set(result.outcome.skipped.values()))
    return NothingChanged(
        f"nothing was {done}",
        why="; ".join(reasons[:4]) or "the model has no layers with constant weights",
        fix="see what the model is made of with: intaglio inspect MODEL; check --include and --exclude",
    )


def check(original: Model, result: Model, data: DataSource | None, done: str) -> None:
    """The result must run, and must give finite numbers where the original does. Raises ProofFailed."""
    batch = next(iter(data.batches(4)), None) if data is not None else None
    feed = batch.inputs if batch is not None else runnable_inputs(original)
    exact = run(open_session(original), feed)
    try:
        near = run(open_session(result), feed)
    except BadModel as error:
        raise ProofFailed(
            f"ONNX Runtime does not run the {done} model, while it runs the original",
            why=error.why or error.what,
            fix="leave what it names in float, and what is next to it: --exclude NODE_OR_OPERATOR",
        ) from error
    for name, value in exact.items():
        if not isinstance(value, np.ndarray) or value.dtype.kind != "f":
            continue
        if near[name].shape != value.shape:
            raise ProofFailed(f"output {name!r} has shape {near[name].shape}, the original's has {value.shape}")
        if np.isfinite(value).all() and not np.isfinite(near[name].astype(np.float64)).all():
            raise ProofFailed(
                f"output {name!r} of the {done} model is not finite",
                why="numbers overflow in the smaller type",
                fix="keep the layers that overflow in float with --exclude",
            )
