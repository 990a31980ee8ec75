"""The streamed model beside the model as it was, hop after hop on one signal."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, repeat
from statistics import median
from typing import Any

import numpy as np

from ...graph.model import Model
from ...measure.difference import Difference
from ...measure.run.inputs import runnable_inputs
from ...measure.run.session import open_session, run
from ..base import Context
from .build import Built
from .frames import Frames

_SECONDS, _LEAST = 30.0, 10
"""After so much time no more hops are compared than these."""
Feeds = dict[str, np.ndarray]


@dataclass(frozen=True)
class Both:
    """What is compared: ``original`` takes ``window`` samples, or any number of them where that is the whole signal.

    ``delays`` are by output, in samples; ``frames`` are of the inputs and outputs that are streams.
    """

    original: Model
    built: Built
    hop: int
    window: int
    whole: bool
    frames: Mapping[str, Frames]
    delays: Mapping[str, int]
    carries: bool


@dataclass
class Compared:
    """``outputs`` by name; ``ms`` are medians of one run of each."""

    outputs: dict[str, Difference] = field(default_factory=dict)
    hops: int = 0
    ms: dict[str, float] = field(default_factory=dict)


def compare(both: Both, context: Context, hops: int) -> Compared:
    """Run both on real samples one after the other, or on made-up ones, once states hold nothing but signal."""
    late = max([0, *both.delays.values()])
    early = max([0, *(-d for d in both.delays.values())])
    warm = -(-(2 * both.window + late) // both.hop)
    signal, rest = _signal(both, context, (warm + hops) * both.hop + early)
    found, times = Compared(), (list[float](), list[float]())
    theirs = _reference(both, signal, rest, times[0])
    started = time.perf_counter()
    for k, ours in enumerate(_run(both, signal, rest, warm + hops, times[1])):
        if k < warm:
            continue
        for name, one in theirs(k + 1, ours).items():
            a, b = one
            if a.size:
                found.outputs.setdefault(name, Difference()).add(a, b)
        found.hops += 1
        if found.hops >= _LEAST and time.perf_counter() - started > _SECONDS:
            break
    found.ms = {name: 1e3 * median(taken) for name, taken in zip(("window", "hop"), times, strict=True) if taken}
    return found


def _run(both: Both, signal: Feeds, rest: Feeds, hops: int, times: list[float]) -> Iterator[Feeds]:
    """Outputs of the streamed model for one hop after the other."""
    session, states = open_session(both.built.model), {one.name: one.zeros() for one in both.built.states}
    for k in range(hops):
        feeds = {name: _part(both, name, value, k * both.hop, (k + 1) * both.hop) for name, value in signal.items()}
        started = time.perf_counter()
        made = run(session, {**rest, **feeds, **states})
        times.append(time.perf_counter() - started)
        states = {one.name: made[one.next] for one in both.built.states}
        yield made


def _part(both: Both, name: str, value: np.ndarray, begin: int, end: int) -> np.ndarray:
    return np.take(value, range(begin, end), axis=both.frames[name].axis)


def _reference(both: Both, signal: Feeds, rest: Feeds, times: list[float]) -> Any:
    """What tells, for so many hops and what was streamed, pairs of what the original makes and what was streamed."""
    session = open_session(both.original)
    if both.whole:
        started = time.perf_counter()
        everything = run(session, {**rest, **signal, **_own(both)})
        length = next(np.shape(value)[both.frames[name].axis] for name, value in signal.items())
        times.append((time.perf_counter() - started) * both.hop / length)
        return lambda count, ours: dict(_of_whole(both, everything, ours, count * both.hop))
    own = _own(both)

    def theirs(count: int, ours: Feeds) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        nonlocal own
        pairs: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        for delay in sorted({*both.delays.values()}):
            end = count * both.hop - delay
            feeds = {name: _part(both, name, value, end - both.window, end) for name, value in signal.items()}
            started = time.perf_counter()
            made = run(session, {**rest, **feeds, **own})
            times.append(time.perf_counter() - started)
            pairs |= dict(_of_window(both, made, ours, [n for n, d in both.delays.items() if d == delay]))
        if both.carries:
            own = {one.name: made[one.next] for one in both.built.states if one.name in own}
        return pairs

    return theirs


def _own(both: Both) -> Feeds:
    """States that the original has itself."""
    given = {v.name for v in both.original.graph.input}
    return {one.name: one.zeros() for one in both.built.states if one.name in given}


def _of_window(
    both: Both, theirs: Feeds, ours: Feeds, names: Sequence[str]
) -> Iterator[tuple[str, tuple[np.ndarray, np.ndarray]]]:
    for name in names:
        a, b, one = theirs[name], ours[name], both.frames.get(name)
        if one:
            n = min(a.shape[one.axis], b.shape[one.axis])
            a, b = (np.take(v, range(v.shape[one.axis] - n, v.shape[one.axis]), axis=one.axis) for v in (a, b))
        yield name, (a, b)


def _of_whole(both: Both, theirs: Feeds, ours: Feeds, end: int) -> Iterator[tuple[str, tuple[np.ndarray, np.ndarray]]]:
    for name, delay in both.delays.items():
        one = both.frames[name]
        new, length = ours[name].shape[one.axis], theirs[name].shape[one.axis]
        first = (end - delay - both.window) // one.rate + one.length - new
        places = [k for k in range(new) if 0 <= first + k < length]
        a = np.take(theirs[name], [first + k for k in places], axis=one.axis)
        yield name, (a, np.take(ours[name], places, axis=one.axis))


def _signal(both: Both, context: Context, length: int) -> tuple[Feeds, Feeds]:
    """Inputs along time, as long as needed, and the other inputs."""
    axes = {v.name: both.frames[v.name].axis for v in both.original.graph.input if v.name in both.frames}
    states, parts = {one.name for one in both.built.states}, {name: list[np.ndarray]() for name in axes}
    rest: Feeds = {}
    for inputs in _samples(both, context):
        rest = rest or {name: value for name, value in inputs.items() if name not in axes and name not in states}
        for name, value in inputs.items():
            if name in axes:
                parts[name].append(value)
        if all(sum(v.shape[axes[name]] for v in found) >= length for name, found in parts.items()):
            break
    joined = {name: np.concatenate(found, axis=axes[name]) for name, found in parts.items()}
    return {name: np.take(value, range(length), axis=axes[name]) for name, value in joined.items()}, rest


def _samples(both: Both, context: Context) -> Iterator[Mapping[str, np.ndarray]]:
    if context.inputs is not None:
        source = context.inputs
        first = (batch.inputs for batch in source.batches(1))
        yield from chain(first, (batch.inputs for _ in repeat(None) for batch in source.batches(1)))
    sized = both.original.copy()
    seed = context.seed
    while True:
        yield runnable_inputs(sized, seed=seed, batches=(1,))
        seed += 1
