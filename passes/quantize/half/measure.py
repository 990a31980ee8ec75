"""Which nodes cannot be float16, found by running them: in float16, on what the original computes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice

import numpy as np

from ....graph.model import Model
from ....measure.data.source import DataSource
from ....measure.run.session import open_session, run
from ...calibration.activation_cache import part
from ...precision.decibels import Noise
from ...precision.result import Result
from ...rewrite.edit import Outcome
from ..prepare import convert_prepared
from ..scheme import SCHEMES, Job
from .half import LARGEST, Candidates, Converted, candidates, convert, to_half
from .probe import Twins, not_run
from .types import HALF

_NODES = 64
"""Nodes looked at in one run."""
_BATCH, _BATCHES = 4, 4
"""Samples of a run, and runs."""
_ROUNDS = 3

_SPEED = (
    "ONNX Runtime's CPU computes float16 in float32: it is 0.8 to 1.0 times as fast there (measured on six networks; fold "
    "BatchNormalization first, which it does not fuse in float16)"
)


def float16(
    model: Model,
    *,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    data: DataSource | None = None,
    keep_io: bool = True,
    least_db: float = 30.0,
) -> Outcome:
    """Convert a model to float16. Graph inputs and outputs stay float32 with ``keep_io``.

    ONNX Runtime's CPU rounds little between nodes, where it computes in float32: hardware that does not may be off by more.

    With data, a node stays float32 if its output overflows, or has less than ``least_db`` of signal to noise, when it
    alone is computed in float16; then what overflows in the converted model. Without data only constants tell. What
    ONNX Runtime cannot run in float16 stays float32 in any case.

    Raises:
        UsageError: a pattern matches nothing.
    """
    found = candidates(model, include=include, exclude=exclude, least_db=least_db)
    feeds = [] if data is None else [b.inputs for b in islice(data.batches(_BATCH), _BATCHES)]
    kept = not_run(found)
    tried = [k for k, operands in found.operands.items() if k not in kept and operands.outputs]
    for start in range(0, len(tried) if feeds else 0, _NODES):
        kept.update(_too_far(found, tried[start : start + _NODES], feeds, least_db))
    done = convert(found, kept, keep_io=keep_io)
    for _ in range(_ROUNDS):
        wrong = _overflowing(model, done, feeds)
        if not wrong:
            break
        kept.update(wrong)
        done = convert(found, kept, keep_io=keep_io)
    notes = [*done.notes, *([] if feeds else ["no data was given: overflow of activations was not looked for"])]
    if done.changed:
        notes.append(_SPEED)
    return Outcome(done.model, done.done, done.skipped, notes)


@dataclass
class _Off(Noise):
    """How far a tensor is from what it should be, over all samples. Only what should be finite counts."""

    peak: float = 0.0

    def add(self, exact: np.ndarray, near: np.ndarray) -> None:
        finite = np.isfinite(exact)
        self.peak = max(self.peak, float(np.abs(exact[finite].astype(np.float64)).max(initial=0.0)))
        super().add(exact[finite], near[finite])

    def reason(self, least_db: float) -> str | None:
        if np.isfinite(self.noise):
            return f"its output would be off by {self.decibels:.1f} dB" if self.decibels < least_db else None
        if self.peak > LARGEST:
            return f"its output reaches {self.peak:.3g}, float16 {LARGEST:.0f}"
        return "what it reads or works with overflows in float16"


def _too_far(
    found: Candidates, places: Sequence[int], feeds: Sequence[Mapping[str, np.ndarray]], least_db: float
) -> dict[int, str]:
    """Nodes that do badly in float16 on what the original computes, and why."""
    twins = Twins(found, places)
    off = {name: _Off() for name in twins.outputs}
    session = open_session(twins.model, optimize=False)
    tensors = dict.fromkeys([*twins.inputs.values(), *twins.outputs])
    for values in _runs(found.model, list(tensors), feeds):
        inputs = {name: values[tensor] for name, tensor in twins.inputs.items()}
        for name, near in run(session, {n: to_half(x) if n in twins.halves else x for n, x in inputs.items()}).items():
            off[name].add(values[name], near)
    reasons: dict[int, str] = {}
    for name, k in twins.outputs.items():
        told = off[name].reason(least_db)
        if told is not None:
            reasons.setdefault(k, told)
    return reasons


def _overflowing(model: Model, done: Converted, feeds: Sequence[Mapping[str, np.ndarray]]) -> dict[int, str]:
    """Nodes of the converted model whose outputs overflow where the original's do not."""
    wrong: dict[int, str] = {}
    places = list(done.halves) if done.changed and feeds else []
    for start in range(0, len(places), _NODES):
        pairs = [(k, *names) for k in places[start : start + _NODES] for names in done.halves[k]]
        before = _runs(model, [exact for _, exact, _ in pairs], feeds)
        after = _runs(done.model, [near for _, _, near in pairs], feeds)
        for exact, near in zip(before, after, strict=True):
            for k, old, new in pairs:
                if not np.isfinite(near[new][np.isfinite(exact[old])]).all():
                    wrong[k] = "it overflows behind other nodes in float16"
    return wrong


def _runs(
    model: Model, names: Sequence[str], feeds: Sequence[Mapping[str, np.ndarray]]
) -> Iterator[Mapping[str, np.ndarray]]:
    """Some tensors of a model, node by node as it stands, for each of the inputs."""
    kinds = {v.name: v.type.tensor_type.elem_type for v in model.graph.input}
    small, sources = part(model, list(dict.fromkeys(names)), list(kinds))
    session = open_session(small, optimize=False)
    for feed in feeds:
        inputs = {n: feed[n].astype(np.float16) if kinds[n] == HALF else feed[n] for n in sources}
        yield run(session, inputs, list(dict.fromkeys(names)))


@SCHEMES.register("fp16")
def fp16(job: Job) -> Result:
    """Everything in float16 but what overflows or gets too inexact, found by running it on the data."""
    options = job.options
    found = partial(float16, data=job.context.data, keep_io=options.keep_io, least_db=options.min_sqnr)
    return convert_prepared(job, found, lambda one, done: one.name in done and not one.unfit, "float16", "float16")
