"""Make a model of fewer bits, run it, measure its noise; keep layers in higher precision until accuracy holds."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import numpy as np

from ...graph.errors import BadModel, NothingChanged, ProofFailed, UsageError
from ...graph.index import index_of
from ...graph.layers import Layers
from ...graph.model import Model
from ...measure.data.source import DataSource
from ...measure.run.inputs import runnable_inputs, sizes_of
from ...measure.run.session import open_session, run
from ..base import Context
from ..by_parts import BY_PARTS, is_large
from ..change import WORTH, Change, saves_nothing
from ..live import MET, Live
from ..proof import at_other_sizes
from .higher_precision import Make, keep_higher_precision
from .noise import find_worst, measure, outputs_noise
from .result import Result


def attempt_within_limit(
    live: Live,
    make: Make,
    context: Context,
    *,
    max_drop: float | None,
    verify: bool = True,
    done: str = "quantized",
    advice: str = "",
    rounded: bool = True,
    optimize: bool = True,
    least: float = WORTH,
) -> tuple[Result, Change]:
    """What ``make`` gives, with no more layers in higher precision than ``max_drop`` (points of accuracy) asks for.

    ``rounded`` says whether activations may be rounded, too: then they may be what to mend. Without ``optimize`` the
    result is run as it stands: what ONNX Runtime makes of a model for another runtime says nothing of that one. One that
    does not save the fraction ``least`` of the file is advised against; below 0 it may be larger.

    Raises:
        UsageError: ``max_drop`` without a way to evaluate.
        NothingChanged: no layer could be changed, or none within ``max_drop``.
        ProofFailed: the result does not run, or gives no numbers.
    """
    evaluate, data = context.accuracy(), context.inputs
    if max_drop is not None and evaluate is None:
        raise UsageError("--max-drop needs labelled data", fix="add --eval-data, or leave it out")
    model, result = live.model, make(frozenset())
    if not result.changed and MET not in result.notes:
        raise _nothing(result, done)
    if verify:
        _check(model, result, context, done, optimize)
    noise = _noise(result, data, context.memory, optimize)
    higher: list[str] = []
    if max_drop is not None and evaluate is not None:
        order = sorted(result.layers, key=lambda one: noise.get(one.tensor, np.inf))
        result, higher = keep_higher_precision(model, make, result, [one.name for one in order], evaluate, max_drop)
        if higher and not result.changed:
            raise NothingChanged(
                f"accuracy stays within {max_drop:g} {evaluate.worth.unit} only with nothing {done}",
                fix=f"allow a larger --max-drop, or {advice}",
            )
        noise = _noise(result, data, context.memory, optimize)
        if verify and higher:
            _check(model, result, context, done, optimize)
    details = {
        "nodes": dict(result.done),
        "skipped": {**Layers(result.reference).left(result.done), **result.skipped},
        "sqnr_db": (result.noise or outputs_noise(model, result.model, data, context.memory, optimize))
        if data is not None and verify
        else {},
        "worst": find_worst(result.layers, noise, rounded=rounded),
        "higher_precision": higher,
        **result.details,
    }
    layers = [{**one.as_dict(), "sqnr_db": noise.get(one.tensor)} for one in result.layers]
    notes = [*live.notes, *result.notes, *([BY_PARTS] if verify and is_large(model, context.memory) else [])]
    saves = result.changed and least >= 0
    refusal = saves_nothing(model, result.model, done, result.skipped.values(), least=least) if saves else None
    return result, Change(live.given, result.model, layers, details=details, notes=notes, refusal=refusal)


def _check(model: Model, result: Result, context: Context, done: str, optimize: bool) -> None:
    if is_large(model, context.memory):
        from .check import check_by_parts

        check_by_parts(model, result, context.inputs, context.memory, done, optimize=optimize)
    else:
        check(model, result.model, context.inputs, done, optimize)


def _noise(result: Result, data: DataSource | None, memory: int, optimize: bool) -> dict[str, float]:
    if data is None:
        return {}
    names = [n for one in result.layers for n in (one.tensor, one.reads)]
    return measure(result.reference, result.model, names, data, memory, optimize)


def _nothing(result: Result, done: str) -> NothingChanged:
    layers = Layers(result.reference)
    found = [one for one in layers.unused if one.kind == "integer"]
    if found and not layers.weighted:
        return NothingChanged(
            f"nothing was {done}: the model is quantized already",
            why=layers.tell({one.name: one.reason for one in found}),
            fix="start from the model in float32 that it was made of",
        )
    return NothingChanged(
        f"nothing was {done}",
        why=layers.tell({**layers.left(result.done), **result.skipped}),
        fix="see what the model is made of with: intaglio inspect MODEL; check --include and --exclude",
    )


def check(original: Model, result: Model, data: DataSource | None, done: str, optimize: bool = True) -> None:
    """The result must run, and must give finite numbers where the original does. Raises ProofFailed."""
    batch = next(iter(data.batches(4)), None) if data is not None else None
    feed = batch.inputs if batch is not None else runnable_inputs(original)
    exact = run(open_session(original), feed)
    try:
        session = open_session(result, optimize=optimize)
        near = run(session, feed)
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
    _check_other_sizes(original, session, feed, done)


def _check_other_sizes(original: Model, session: Any, feed: Mapping[str, np.ndarray], done: str) -> None:
    """It must run at whatever sizes of free dimensions the original does. Shapes that hang on values are left out."""
    for other in at_other_sizes(original, feed, 0):
        known: Mapping[str, tuple[int, ...]] = {}
        with suppress(BadModel):
            known = index_of(original).shapes_at(sizes_of(other, original)).dims
        try:
            found = {name: np.shape(value) for name, value in run(session, other).items() if name in known}
            why = next((f"output {n!r} has shape {s}, not {known[n]}" for n, s in found.items() if s != known[n]), "")
        except BadModel as error:
            why = error.why or error.what
        if why:
            raise ProofFailed(
                f"the {done} model does not run as the original does on "
                + ", ".join(f"{name} {value.shape}" for name, value in other.items()),
                why=why,
                fix="pin the sizes that are used with --shape, or --exclude what it names",
            )
