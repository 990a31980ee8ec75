"""Which nodes cannot be float16, found by running them: in float16, on what the original computes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

import numpy as np

from ....graph.index import index_of
from ....graph.layers import Layers
from ....graph.model import Model
from ....measure.data.source import DataSource
from ....measure.run.session import open_session, run
from ...calibration.activation_cache import part
from ...precision.result import LayerNote, Result
from ...rewrite.edit import Outcome
from ..prepare import prepare_model
from ..scheme import SCHEMES, Job
from .half import LARGEST, Candidates, Converted, candidates, convert, to_half
from .probe import Twins, not_run
from .types import FLOAT, HALF

_NODES = 64
"""Nodes looked at in one run."""
_BATCH = 4
_ROUNDS = 3

_SPEED = (
    "ONNX Runtime's CPU computes float16 in float32: the model takes half the space, and is 0.8 to 1.0 times as fast there "
    "(measured on six networks; fold BatchNormalization first, which it does not fuse in float16)"
)


@dataclass(frozen=True)
class Halved(Outcome):
    """``output_db`` is the signal to noise ratio of each output over all samples; empty without data.

    ONNX Runtime's CPU rounds little between nodes, where it computes in float32: hardware that does not may be off by more.
    """

    output_db: dict[str, float] = field(default_factory=dict)


def float16(
    model: Model,
    *,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    data: DataSource | None = None,
    samples: int = 16,
    keep_io: bool = True,
    least_db: float = 30.0,
) -> Halved:
    """Convert a model to float16. Graph inputs and outputs stay float32 with ``keep_io``.

    With data, a node stays float32 if its output overflows, or has less than ``least_db`` of signal to noise, when it
    alone is computed in float16; then what overflows in the converted model. Without data only constants tell. What
    ONNX Runtime cannot run in float16 stays float32 in any case.

    Raises:
        UsageError: a pattern matches nothing.
    """
    found = candidates(model, include=include, exclude=exclude, least_db=least_db)
    feeds = [] if data is None else [b.inputs for b in islice(data.batches(_BATCH), -(-samples // _BATCH))]
    kept = not_run(found)
    for start in range(0, len(model.graph.node), _NODES):
        places = [
            k
            for k in range(start, start + _NODES)
            if k not in kept and k in found.operands and found.operands[k].outputs
        ]
        if places and feeds:
            kept.update(_too_far(found, places, feeds, least_db))
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
    ends = {v.name for v in model.graph.output if found.dtypes.get(v.name) == FLOAT}
    told = _output_db(model, done.model, feeds, sorted(ends)) if done.changed and feeds else {}
    return Halved(done.model, done.done, done.skipped, notes, told)


@dataclass
class _Off:
    """How far a tensor is from what it should be, over all samples. Only what should be finite counts."""

    signal: float = 0.0
    noise: float = 0.0
    peak: float = 0.0
    overflows: bool = False

    def add(self, exact: np.ndarray, near: np.ndarray) -> None:
        finite = np.isfinite(exact)
        wanted, found = exact[finite].astype(np.float64), near[finite].astype(np.float64)
        self.peak = max(self.peak, float(np.abs(wanted).max(initial=0.0)))
        self.overflows |= not bool(np.isfinite(found).all())
        if not self.overflows:
            self.signal += float(np.square(wanted).sum())
            self.noise += float(np.square(wanted - found).sum())

    @property
    def decibels(self) -> float:
        if self.overflows:
            return -np.inf
        return 10 * float(np.log10(max(self.signal, 1e-300) / self.noise)) if self.noise else np.inf

    def reason(self, least_db: float) -> str | None:
        if self.overflows and self.peak > LARGEST:
            return f"its output reaches {self.peak:.3g}, float16 {LARGEST:.0f}"
        if self.overflows:
            return "what it reads or works with overflows in float16"
        return f"its output would be off by {self.decibels:.1f} dB" if self.decibels < least_db else None


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
    wrong = {}
    places = list(done.halves) if done.changed and feeds else []
    for start in range(0, len(places), _NODES):
        pairs = [(k, *names) for k in places[start : start + _NODES] for names in done.halves[k]]
        off = [_Off() for _ in pairs]
        before = _runs(model, [exact for _, exact, _ in pairs], feeds)
        after = _runs(done.model, [near for _, _, near in pairs], feeds)
        for exact, near in zip(before, after, strict=True):
            for state, (_, old, new) in zip(off, pairs, strict=True):
                state.add(exact[old], near[new])
        wrong.update(
            {
                k: "it overflows behind other nodes in float16"
                for s, (k, _, _) in zip(off, pairs, strict=True)
                if s.overflows
            }
        )
    return wrong


def _output_db(
    model: Model, changed: Model, feeds: Sequence[Mapping[str, np.ndarray]], names: Sequence[str]
) -> dict[str, float]:
    off = {name: _Off() for name in names}
    for exact, near in zip(_runs(model, names, feeds), _runs(changed, names, feeds), strict=True):
        for name, state in off.items():
            state.add(exact[name], near[name])
    return {name: state.decibels for name, state in off.items()}


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
    options, ready = job.options, prepare_model(job)
    found = float16(
        ready.model,
        include=options.include,
        exclude=(*options.exclude, *job.spared),
        data=job.context.data,
        keep_io=options.keep_io,
        least_db=options.min_sqnr,
    )
    return Result.of(found, ready.model, float_notes(ready.model, found, "float16")).noted(*ready.notes)


def float_notes(model: Model, outcome: Outcome, kind: str) -> list[LayerNote]:
    """Layers among what was converted."""
    nodes = index_of(model).names
    return [
        LayerNote(nodes[one.node], one.node, one.x, kind, kind)
        for one in Layers(model)
        if nodes[one.node] in outcome.done
    ]
