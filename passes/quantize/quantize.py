"""Quantization: fewer bits for weights and activations, in a form that a runtime accelerates, and what it cost."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import Field, field_validator, model_validator

from ...graph.cost import cost
from ...graph.errors import BadModel, NothingChanged, ProofFailed, UsageError
from ...graph.model import Model
from ...graph.save import file_bytes
from ...measure.data import DataSource
from ...measure.inputs import runnable_inputs
from ...measure.session import open_session, run
from ..base import PASSES, Context, Pass, PassReport, name_in
from .activations import AUTO
from .allocate import ALLOCATORS
from .kernels_used import Used, kernels_used
from .noise import Worst, measure, outputs_noise, worst
from .ranges import RANGES
from .rounding import ROUNDERS
from .scheme import Job, LayerNote, Result, scheme_named
from .spare import spare
from .targets import TARGETS

Evaluate = Callable[[Model], float]
"""Accuracy of a model, as a fraction."""


@dataclass(frozen=True)
class QuantizedModel:
    """What a run of the pass found and did."""

    model: Model
    result: Result
    before: Mapping[str, float]
    after: Mapping[str, float]
    sqnr: Mapping[str, float]
    outputs: Mapping[str, float]
    worst: list[Worst]
    used: Used
    notes: list[str]
    seconds: float
    spared: list[str] = field(default_factory=list)


@PASSES.register("quantize")
class Quantize(Pass):
    """Round weights, and with some schemes activations, to few bits.

    ``scheme`` says what becomes of what, ``target`` which runtime the integers are for, ``ranges`` how activations'
    ranges are found, ``method`` how weights are rounded. ``group_size`` weights share a scale where a scheme has that
    choice (0: a whole row). ``bits`` is an average over all weights, ``size`` the fraction of the file's bytes to keep:
    both let ``allocator`` give each layer its own number of bits. ``max_drop`` bounds the loss of accuracy, in points:
    layers that hurt most keep more bits. ``smooth`` is SmoothQuant's exponent, None for none; ``equalize`` levels
    weights of consecutive layers first. ``min_sqnr`` (dB) is what ``fp16`` and ``bf16`` keep nodes in float32 for.
    ``input_ranges`` are those of graph inputs, for ``int8`` without data.
    """

    name: ClassVar[str] = "quantize"
    scheme: str = "int8"
    target: Annotated[str, name_in(TARGETS)] = "x86"
    ranges: Annotated[str, name_in(RANGES, AUTO)] = AUTO
    method: Annotated[str, name_in(ROUNDERS)] = "auto"
    group_size: int | None = Field(default=None, ge=0)
    bits: float | None = Field(default=None, ge=2, le=8)
    size: float | None = Field(default=None, gt=0, le=1)
    allocator: Annotated[str, name_in(ALLOCATORS)] = "dp"
    max_drop: float | None = Field(default=None, ge=0)
    smooth: float | None = Field(default=None, ge=0, le=1)
    equalize: bool = False
    keep_io: bool = True
    min_sqnr: float = 30.0
    input_ranges: tuple[tuple[str, float, float], ...] = ()
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    verify: bool = True

    @field_validator("scheme")
    @classmethod
    def _scheme(cls, name: str) -> str:
        scheme_named(name)
        return name

    @model_validator(mode="after")
    def _one_budget(self) -> Quantize:
        if self.bits is not None and self.size is not None:
            raise UsageError("bits and size exclude each other", fix="give one of --bits, --size")
        return self

    def run(self, model: Model, context: Context | None = None) -> PassReport:
        """Quantize a copy. Raises NothingChanged, ProofFailed, UsageError, BadData, BadModel."""
        done = self.quantize(model, context or Context())
        return PassReport(done.model, True, describe(done))

    def quantize(
        self, model: Model, context: Context, *, real: DataSource | None = None, evaluate: Evaluate | None = None
    ) -> QuantizedModel:
        """The same with everything that was found on the way.

        ``real`` are inputs to measure noise on where there is no calibration data; ``evaluate`` is for ``max_drop``.
        """
        start = time.perf_counter()
        if self.max_drop is not None and evaluate is None:
            raise UsageError("--max-drop needs labelled data", fix="add --eval-data, or leave it out")
        scheme = scheme_named(self.scheme)
        job = Job(model, self, context)
        result = scheme(job)
        if not result.outcome.changed:
            raise _nothing(result)
        spared: list[str] = []
        data = context.data or real
        if self.verify:
            _check(model, result.outcome.model, data)
        noise = _noise(result, data)
        if self.max_drop is not None and evaluate is not None:
            order = sorted(result.layers, key=lambda one: noise.get(one.tensor, np.inf))
            result, spared = spare(job, scheme, result, [one.name for one in order], evaluate, self.max_drop)
            if not result.outcome.changed:
                raise NothingChanged(
                    f"accuracy stays within {self.max_drop:g} points only with nothing quantized",
                    fix="allow a larger --max-drop, or choose a --scheme with more bits",
                )
            noise = _noise(result, data)
        used = kernels_used(result.outcome.model) if self.verify else Used()
        outputs = outputs_noise(model, result.outcome.model, data) if data is not None and self.verify else {}
        if self.verify and spared:
            _check(model, result.outcome.model, data)
        return QuantizedModel(
            model=result.outcome.model,
            result=result,
            before=_amounts(model),
            after=_amounts(result.outcome.model),
            sqnr={one.name: noise[one.tensor] for one in result.layers if one.tensor in noise},
            outputs=outputs,
            worst=worst(result.layers, noise),
            used=used,
            notes=list(result.outcome.notes),
            seconds=time.perf_counter() - start,
            spared=spared,
        )


def describe(done: QuantizedModel) -> dict[str, Any]:
    """The result as plain data: what ``intaglio quantize --json`` prints."""
    result = done.result
    return {
        "before": dict(done.before),
        "after": dict(done.after),
        "kept": {k: done.after.get(k, 0) / done.before[k] if done.before[k] else 1.0 for k in done.before},
        "layers": [{**_layer(one), "sqnr_db": done.sqnr.get(one.name)} for one in result.layers],
        "nodes": dict(result.outcome.done),
        "skipped": dict(result.outcome.skipped),
        "sqnr_db": dict(done.outputs),
        "worst": [{"name": w.name, "sqnr_db": w.sqnr_db, "cause": w.cause, "advice": w.advice} for w in done.worst],
        "runtime": done.used.as_dict(),
        "accelerated": result.accelerated,
        "spared": done.spared,
        **result.details,
        "notes": done.notes,
        "seconds": done.seconds,
    }


def _layer(one: LayerNote) -> dict[str, Any]:
    return {
        "name": one.name,
        "weights": one.weights,
        "activations": one.activations,
        "method": one.method,
        "weight_error": one.error,
    }


def _amounts(model: Model) -> dict[str, float]:
    counted = cost(model)
    bits = {"bops": counted.bops} if counted.bops else {}
    return {"macs": counted.macs, "params": counted.params, "size_bytes": file_bytes(model), **bits}


def _noise(result: Result, data: DataSource | None) -> dict[str, float]:
    if data is None:
        return {}
    names = [n for one in result.layers for n in (one.tensor, one.reads)]
    return measure(result.reference, result.outcome.model, names, data)


def _nothing(result: Result) -> NothingChanged:
    reasons = sorted(set(result.outcome.skipped.values()))
    return NothingChanged(
        "nothing was quantized",
        why="; ".join(reasons[:4]) or "the model has no layers with constant weights",
        fix="see what the model is made of with: intaglio inspect MODEL; check --include and --exclude",
    )


def _check(original: Model, result: Model, data: DataSource | None) -> None:
    """The result must run, and must give finite numbers where the original does."""
    batch = next(iter(data.batches(4)), None) if data is not None else None
    feed = batch.inputs if batch is not None else runnable_inputs(original)
    exact = run(open_session(original), feed)
    try:
        near = run(open_session(result), feed)
    except BadModel as error:
        raise ProofFailed(
            "ONNX Runtime does not run the quantized model, while it runs the original",
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
                f"output {name!r} of the quantized model is not finite",
                why="numbers overflow in the smaller type",
                fix="keep the layers that overflow in float with --exclude",
            )
