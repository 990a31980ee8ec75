"""Proof by running: a result and the model that it must equal, tensor by tensor on the same inputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ..graph.errors import BadModel, IntaglioError, ProofFailed
from ..graph.index import index_of
from ..graph.io.spill import slices_of, spilled
from ..graph.model import Model
from ..graph.nodes import reads
from ..graph.readings import readings
from ..graph.shapes import symbols
from ..graph.traits import Role, Trait, has_any, operator
from ..measure.data.source import DataSource
from ..measure.run.inputs import (
    elements,
    most_seconds,
    probe,
    quick_sizes,
    random_inputs,
    runnable_inputs,
    sizes_of,
    tried_inputs,
)
from ..measure.run.session import open_session, read_by, run
from .base import MEMORY
from .by_parts import is_large, side_by_side
from .calibration.activation_cache import part
from .calibration.runner import inferred_bytes

Feed = Mapping[str, np.ndarray]
_TOLERANCE = {"float16": 2e-2, "bfloat16": 1e-1, "float32": 1e-4, "float64": 1e-9}
"""Largest difference allowed, relative to the largest value in the tensor: sums run in another order."""
_LAST_PLACE = {"float16": 2.0**-10, "bfloat16": 2.0**-7, "float32": 2.0**-23, "float64": 2.0**-52}
_FLOOR = 1e-6
_DRAWS = 3
_SIZES = 12
"""How many other sizes of free dimensions a proof tries."""
_SHARE = 8
"""The tensors of one model that are compared at once take so much of the memory: runtimes hold them twice for a moment."""
_ELEMENTS = 1 << 16
"""Elements of made-up inputs that are always worth a run."""
_SETS_SHAPES = frozenset({Role.SHAPE, Role.COUNTS, Role.AXES, Role.EXTENTS})
_COMPUTES = (
    Trait.LAYER
    | Trait.CONVOLVES
    | Trait.MULTIPLIES
    | Trait.RECURRENT
    | Trait.NORMALIZES
    | Trait.POOLS
    | Trait.SHAPE_ONLY
)
_AMPLIFIED = 4.0
"""Where the network amplifies rounding (a variance of nearly nothing, a value about to be rounded up or down), a
difference passes up to so many times what changing every weight and input by a few last places makes."""


@dataclass(frozen=True)
class Proof:
    """``exact``: the result computes what its reference computes, and nothing inexact was done to it.

    ``passed``: the same, with normalizations and means taken over what stays where something inexact went.
    Differences are over all tensors that were compared, relative ones to the largest value of the tensor; ``noisy``
    counts tensors left out there because rounding alone moves their values as far.
    """

    exact: bool
    passed: bool
    max_abs_diff: float
    max_rel_diff: float
    tensors: int
    worst: str
    inputs: str
    noisy: int = 0

    def as_dict(self) -> dict[str, object]:
        return asdict(self)

    def told(self) -> str:
        """What was compared, and how near it is."""
        tensors = f"{self.tensors} tensor{'' if self.tensors == 1 else 's'}"
        return f"{tensors} ({self.inputs} inputs, largest relative difference {self.max_rel_diff:.1e})"


@dataclass(frozen=True)
class Claim:
    """What is to be proved, for the error where it is not true: what was done, to which parts, what must be equal."""

    done: str
    part: str
    equal: str

    def failed(self, result: Model, name: str, text: str) -> ProofFailed:
        node = next(n for n in result.graph.node if name in n.output)
        return ProofFailed(
            f'the {self.done} model is wrong from {node.op_type} "{node.name or name}" on: {text} in tensor {name!r}',
            why=f"it does not equal {self.equal}, so nothing is written",
            fix=f"leave the {self.part} out with --exclude, and report the model: this is a fault in intaglio",
        )


def real_inputs(data: DataSource | None, count: int = 4) -> list[Feed]:
    """A few real inputs, none where there is no data."""
    first = None if data is None else next(iter(data.batches(count)), None)
    return [] if first is None else [first.inputs]


def proof_inputs(model: Model, real: Sequence[Feed], seed: int) -> tuple[list[Feed], str]:
    """Made-up inputs, at several sizes of free dimensions, and ``real`` ones, and what they are called.

    Raises:
        BadModel: the model runs on neither.
    """
    try:
        made_up = runnable_inputs(model, seed=seed)
    except IntaglioError:
        if not real:
            raise
        return list(real), "real"
    return [made_up, *at_other_sizes(model, made_up, seed), *real], "made-up and real" if real else "made-up"


def prove_on_inputs(
    model: Model,
    real: Sequence[Feed],
    seed: int,
    memory: int,
    prove: Callable[[tuple[Sequence[Feed], str]], Proof],
) -> Proof:
    """The proof on inputs of a model; of a large one on the real ones alone, or the first made-up one on which it runs."""
    if not is_large(model, memory):
        return prove(proof_inputs(model, real, seed))
    if real:
        return prove((real, "real"))
    return tried_inputs(model, lambda feed: prove(([feed], "made-up")), seed=seed)


def at_other_sizes(model: Model, feed: Feed, seed: int) -> Iterator[Feed]:
    """Made-up inputs of other sizes that the model takes: 1, 2, larger ones, and both sides of what sizes decide."""
    names = symbols(model)
    if not names:
        return
    of = sizes_of(feed, model)
    base = {name: of(name) for name in names}
    limit = max(_ELEMENTS, 2 * sum(value.size for value in feed.values()))
    session, told, seconds = open_session(model), 0, most_seconds(model)
    for sizes in quick_sizes(model, _other_sizes(model, base)):
        if told == _SIZES or elements(model, sizes) > limit:
            continue
        other = random_inputs(model, seed=seed, dims=sizes)
        try:
            probe(model, other, session)
            made = run(session, other, seconds=seconds)
        except IntaglioError:
            continue
        known = _shapes(model, other)
        if any(np.shape(value) != known.get(name, np.shape(value)) for name, value in made.items()):
            continue  # sizes that contradict each other, such as a mask shorter than a cache
        told += 1
        yield other


def _shapes(model: Model, feed: Feed) -> Mapping[str, tuple[int, ...]]:
    with suppress(BadModel):
        return index_of(model).shapes_at(sizes_of(feed, model)).dims
    return {}


def _other_sizes(model: Model, base: Mapping[str, int]) -> list[dict[str, int]]:
    larger = {name: size + 1 if size < 4 else 2 * size for name, size in base.items()}
    found = [dict.fromkeys(base, 1), dict.fromkeys(base, 2), larger, *({**base, name: 1} for name in base)]
    found += [{**base, name: size} for name, size in readings(model).turns]
    return [sizes for k, sizes in enumerate(found) if sizes != base and sizes not in found[:k]]


def prove_equal(
    reference: Model,
    result: Model,
    names: Sequence[str],
    inputs: tuple[Sequence[Feed], str],
    claim: Claim,
    *,
    memory: int = MEMORY,
    cut: Callable[[str, np.ndarray], np.ndarray] = lambda name, value: value,
    exact: bool = True,
) -> Proof:
    """Run both and compare the named tensors, as many at a time as ``memory`` holds.

    ``cut`` is what must be left of a tensor of the reference, caches that it takes among them; ``exact`` is noted.

    Raises:
        ProofFailed: they differ; names the first operator at which they do.
        BadModel: one of them does not run.
    """
    widest, relative, worst = 0.0, 0.0, ""
    noisy: set[str] = set()
    feeds, told = inputs
    runs = _by_parts if is_large(reference, memory) else _as_wholes
    pairs = [(feed, {name: cut(name, value) for name, value in feed.items()}) for feed in feeds]
    for a, b, noise in runs(reference, result, names, pairs, memory):
        for name in a:
            if _is_compared(a[name]):
                expected, found = cut(name, a[name]), b[name]
                if expected.shape != found.shape:
                    raise claim.failed(result, name, f"shape {found.shape}, expected {expected.shape}")
                gap, scale = largest_gap(expected, found), _scale(expected)
                if gap > _allowed(expected, scale) and gap > _AMPLIFIED * noise.of(name):
                    raise claim.failed(result, name, f"a difference of {gap:.3g} where values reach {scale:.3g}")
                widest = max(widest, gap)
                if gap > _allowed(expected, scale):
                    noisy.add(name)
                elif gap / scale > relative:
                    relative, worst = gap / scale, name
        del a, b, noise  # before the next ones are made
    return Proof(exact, True, widest, relative, len(names), worst, told, len(noisy))


_Runs = Iterator[tuple[Mapping[str, Any], Mapping[str, Any], "_Noise"]]
"""Some of the tensors, by the names of the first model, as both models make them."""


def _as_wholes(
    reference: Model, result: Model, names: Sequence[str], feeds: Sequence[tuple[Feed, Feed]], memory: int
) -> _Runs:
    for chunk in _chunks(reference, names, [feed for feed, _ in feeds], memory // _SHARE):
        parts = [m if len(chunk) == len(names) else part(m, chunk, list(feeds[0][0]))[0] for m in (reference, result)]
        theirs, ours = (open_session(m, outputs=chunk, optimize=False, lean=True) for m in parts)
        for feed, cut in feeds:
            a = run(theirs, read_by(theirs, feed))
            yield a, run(ours, read_by(ours, cut)), _Noise(parts[0], feed, a)
            del a
        del theirs, ours


def _by_parts(
    reference: Model, result: Model, names: Sequence[str], feeds: Sequence[tuple[Feed, Feed]], memory: int
) -> _Runs:
    for both in side_by_side(reference, result, names, feeds, memory, optimize=False):
        yield both.theirs, both.ours, _Noise(both.part, both.start, both.theirs)


def _chunks(model: Model, names: Sequence[str], feeds: Sequence[Feed], limit: int) -> list[list[str]]:
    """Names in their order, cut where they would take more bytes on the largest of the inputs."""
    largest = max(feeds, key=lambda feed: sum(value.nbytes for value in feed.values() if value.dtype != object))
    sizes = inferred_bytes(model, names, largest)
    unknown = max(sizes.values(), default=0)
    chunks: list[list[str]] = [[]]
    held = 0
    for name in names:
        size = sizes.get(name, unknown)
        if chunks[-1] and held + size > limit:
            chunks.append([])
            held = 0
        chunks[-1].append(name)
        held += size
    return chunks


def largest_gap(a: np.ndarray, b: np.ndarray) -> float:
    """Largest difference; infinite where only one is a number, or the shapes differ."""
    if a.shape != b.shape:
        return float("inf")
    return max((_gap(x, y) for x, y in zip(slices_of(a), slices_of(b), strict=True)), default=0.0)


def _gap(a: np.ndarray, b: np.ndarray) -> float:
    x, y = a.astype(np.float64), b.astype(np.float64)
    with np.errstate(invalid="ignore"):
        gap = np.where((x == y) | (np.isnan(x) & np.isnan(y)), 0.0, np.abs(x - y))
    return float("inf") if np.isnan(gap).any() else float(gap.max(initial=0.0))


def _is_compared(value: object) -> bool:
    return isinstance(value, np.ndarray) and (value.dtype.kind in "fiub" or str(value.dtype) in _TOLERANCE)


def _scale(value: np.ndarray) -> float:
    sizes = (np.abs(row.astype(np.float64)) for row in slices_of(value))
    return max((float(size[np.isfinite(size)].max(initial=0.0)) for size in sizes), default=0.0) + _FLOOR


def _allowed(expected: np.ndarray, scale: float) -> float:
    """One step of integers of 8 bits, which stand for floats; no difference of others."""
    if expected.dtype.kind in "iub":
        return 1.0 if expected.dtype.itemsize == 1 and expected.dtype.kind != "b" else 0.0
    return scale * _TOLERANCE[str(expected.dtype)]


class _Noise:
    """How far rounding alone moves each tensor of a run; measured when first asked for."""

    def __init__(self, model: Model, feed: Feed, values: Mapping[str, np.ndarray]) -> None:
        self.model, self.feed, self.values = model, feed, values

    def of(self, name: str) -> float:
        return self._measured[name]

    @cached_property
    def _measured(self) -> dict[str, float]:
        names = [name for name, value in self.values.items() if _is_compared(value)]
        found = dict.fromkeys(names, 0.0)
        fixed = setting_shapes(self.model)
        for seed in range(_DRAWS):
            rng = np.random.default_rng(seed)
            moved = self.model.copy()
            moved.weights = {name: w if name in fixed else _moved(w, rng) for name, w in moved.weights.items()}
            feed = {name: value if name in fixed else _moved(value, rng) for name, value in self.feed.items()}
            session = open_session(moved, outputs=names, optimize=False, lean=True)
            values = run(session, read_by(session, feed), names)
            for name in names:
                if self.values[name].shape == values[name].shape:
                    found[name] = max(found[name], largest_gap(self.values[name], values[name]))
        return found


def setting_shapes(model: Model) -> set[str]:
    """Tensors that lengths follow from, such as the scales of a Resize, and what small arithmetic makes them of."""
    index = index_of(model)
    todo = [
        name
        for node in index.nodes
        for i, role in operator(node).roles.items()
        if role in _SETS_SHAPES and i < len(node.input) and (name := node.input[i])
    ]
    found = set(todo)
    while todo:
        node = index.makers.get(todo.pop())
        if node is not None and not has_any(node, _COMPUTES):
            fresh = [name for name in reads(node) if name not in found]
            found.update(fresh)
            todo.extend(fresh)
    return found


def _moved(value: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Floats, each changed by a few last places."""
    last = _LAST_PLACE.get(str(value.dtype))
    if last is None:
        return value
    moved = np.empty_like(value, order="C").reshape(-1)
    for target, some in zip(slices_of(moved), slices_of(value), strict=True):
        target[...] = some * (1 + 4 * last * rng.standard_normal(some.shape))
    return spilled(moved.reshape(value.shape))
