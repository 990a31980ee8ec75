"""Inputs made up for checks that need no real data: seeded, and such that the model really runs on them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import onnx

from ...graph.apart import apart
from ...graph.cost import cost
from ...graph.coupling.caches import caches
from ...graph.errors import BadModel
from ...graph.index import CAPTURE, Index, index_of
from ...graph.model import Model
from ...graph.nodes import all_nodes, attribute, is_standard
from ...graph.shapes import free_dims
from ...graph.traits import Role, Trait, has, operator
from .session import TooSlow, open_session, run
from .tensor_specs import TensorSpec, input_specs

T = TypeVar("T")
FREE_SIZES = (8, 16, 32, 64, 224, 4, 2, 1, 128, 256, 512, 1024, 4096, 16384)
"""What symbolic dimensions other than the batch are tried with, in this order."""
_SMALL_INTS = 4
_MOST_MACS = 1e11
"""Multiply-accumulates of all tries behind the first: what fails at small sizes may fail at all, and large ones take long."""
_SECONDS, _SAME_SECONDS = 20, 5
"""Of a run where it may never end, and of all tries behind the first together: fewer where loops may turn often and all
fail for the same reason, which sizes then do not change."""
_MOST_TURNS = 1 << 14
"""Of a Loop, at sizes that are made up: each costs some microseconds, and a check runs a model a dozen times."""
_LARGEST_INPUT = 1 << 26
"""Elements of an input above which a guess at its symbolic dimensions is not worth trying."""
_LARGEST_TENSOR = 1 << 31
"""Elements of a tensor above which a model is not run on made-up inputs: attributes and constants may ask for any number."""
# In place of a limit: the operand is a shape or a count, and ones are always valid; for Reshape the last is -1.
_ONES, _RESHAPE = -1, -2
_LIMITS: dict[Role | None, int] = {Role.SHAPE: _ONES, Role.COUNTS: _ONES, Role.AXES: 1}  # of axes: the first


def random_inputs(
    model: Model, *, seed: int = 0, dims: Mapping[str, int] | None = None, gentle: bool = False
) -> dict[str, np.ndarray]:
    """Inputs of the right shape and type: normal floats, bools, small integers (valid indices where they index).

    ``dims`` gives symbolic dimensions numbers, by the names that ``graph.shapes.symbols`` uses; the others are 2 on
    a first axis and 8 elsewhere. ``gentle`` keeps floats in 0.25..1 and integers that index nothing above 0, for
    models that take ratios, scales or divisors.
    """
    ports = input_specs(model)
    sizes = {**_default_sizes(ports), **(dims or {})}
    shapes = {p.name: tuple(d if isinstance(d, int) else sizes[d] for d in p.shape or ()) for p in ports}
    limits = _integer_limits(model, ports, sizes)
    rng = np.random.default_rng(seed)
    make = _gentle_values if gentle else _values
    return {p.name: make(p, shapes[p.name], limits.get(p.name), rng) for p in ports}


def runnable_inputs(model: Model, *, seed: int = 0, batches: Sequence[int] = (2, 1)) -> dict[str, np.ndarray]:
    """Random inputs with which the model has run, sizes for symbolic dimensions found by trying.

    ``batches`` are tried in this order for symbolic first axes.

    Raises:
        BadModel: none of the sizes works; says what ONNX Runtime answered to the first.
    """
    session, seconds = open_session(model), most_seconds(model)
    began = math.inf

    def runs(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        nonlocal began
        probe(model, inputs, session)
        left = seconds if began == math.inf else max(1.0, began + _SECONDS - time.monotonic())
        try:
            run(session, inputs, seconds=left)
        except BadModel:
            began = min(began, time.monotonic())
            raise
        return inputs

    return tried_inputs(model, runs, seed=seed, batches=batches, seconds=_SECONDS)


def tried_inputs(
    model: Model,
    runs: Callable[[dict[str, np.ndarray]], T],
    *,
    seed: int = 0,
    batches: Sequence[int] = (2, 1),
    seconds: float = math.inf,
) -> T:
    """What comes of running a model on the first of such inputs on which ``runs`` raises no BadModel.

    ``seconds`` are those of all tries behind the first together.
    """
    ports = input_specs(model)
    tried = list(_candidates(ports, batches))
    tried[1:1] = _with_caches(ports, caches(model), max(batches))
    candidates = [dims for dims in tried if _affordable(ports, dims)]
    first_error: BadModel | None = None
    work, made, slow, began, same = 0.0, 0, math.inf, math.inf, most_seconds(model) is not None
    for gentle in (False, True):
        for dims in quick_sizes(model, candidates):
            count = elements(model, dims)
            if count >= slow:
                continue
            made += count
            if first_error and ((work := work + _macs(model, ports, dims)) > _MOST_MACS or made > _LARGEST_INPUT):
                break
            if time.monotonic() - began > (min(seconds, _SAME_SECONDS) if same else seconds):
                break
            try:
                _require_short(model, dims)
                return runs(random_inputs(model, seed=seed, dims=dims, gentle=gentle))
            except BadModel as error:
                if first_error is None:
                    first_error, began = error, time.monotonic()
                same = same and error.why == first_error.why
                slow = count if isinstance(error, TooSlow) else slow
    free = " ".join(port.pinned() for port in ports if port.is_open)
    raise BadModel(
        "the model does not run on any made-up input",
        why=first_error.why if first_error else "its inputs are too large",
        fix=f"give --data{f', or pin the input shapes: {free}' if free else ''}",
    )


def most_seconds(model: Model) -> float | None:
    """How long a run on made-up inputs may take: where there are loops they may turn as often as numbers in them say."""
    return _SECONDS if any(has(node, Trait.BODIES) for node in all_nodes(model.graph)) else None


def quick_sizes(model: Model, candidates: Sequence[Mapping[str, int]]) -> list[Mapping[str, int]]:
    """Those sizes at which no Loop turns very often because of them; if there are none, those at which they do least."""
    if not any(node.op_type == "Loop" for node in model.graph.node):
        return list(candidates)
    turns = [_turns(model, sizes) for sizes in candidates]
    most = max(_MOST_TURNS, min(turns, default=0))
    return [sizes for sizes, count in zip(candidates, turns, strict=True) if count <= most]


def _turns(model: Model, sizes: Mapping[str, int]) -> float:
    """Of all Loops together, as far as they follow from the sizes, be they too many to be computed."""
    loops = [node for node in model.graph.node if node.op_type == "Loop" and is_standard(node)]
    small, here = _counts(model, loops, {}), _counts(model, loops, sizes)
    return sum(math.inf if count < 0 else count for least, count in zip(small, here, strict=True) if count != least)


def _counts(model: Model, loops: Sequence[onnx.NodeProto], sizes: Mapping[str, int]) -> list[int]:
    """How often each turns; -1 where that does not follow from sizes, those not given being 1."""
    try:
        values = index_of(model).shapes_at(lambda symbol: sizes.get(symbol, 1)).values
    except BadModel:
        return [-1] * len(loops)
    return [int(v.reshape(-1)[0]) if (v := values.get(n.input[0])) is not None and v.size == 1 else -1 for n in loops]


def probe(model: Model, inputs: Mapping[str, np.ndarray], session: Any = None) -> None:
    """Run in a fork first what may end the process: Loops do, where a number that they need is not there, and operators
    that divide by a length of 0. ``session`` is one of the model.

    Raises:
        BadModel: it did; TooSlow where it took too long, so that nobody need wait for that again.
    """

    def work(told: onnx.ModelProto) -> onnx.ModelProto:
        try:
            run(session or open_session(model), inputs, seconds=_SECONDS)
        except TooSlow as error:
            told.doc_string, told.producer_name = error.what, error.why
        except BadModel:  # as it will be here
            pass
        return told

    empty = not all(value.size for value in inputs.values())
    if empty or any(has(node, Trait.BODIES) for node in model.graph.node):
        told = apart("running the model", work, onnx.ModelProto())
        if told.doc_string:
            raise TooSlow(told.doc_string, why=told.producer_name)


def _candidates(ports: Sequence[TensorSpec], batches: Sequence[int]) -> Iterator[dict[str, int]]:
    """Numbers for the symbols: first axes are the batch, all others share one size."""
    batch: dict[str, None] = {}
    free: dict[str, None] = {}
    for dim, axis in _symbols(ports):
        (free if axis else batch)[dim] = None
    rest = [s for s in free if s not in batch]
    for size in FREE_SIZES if rest else (1,):
        for count in dict.fromkeys(batches) if batch else (1,):
            yield {**dict.fromkeys(batch, count), **dict.fromkeys(rest, size)}
    for size in FREE_SIZES if batch else ():  # a first axis that is no batch, such as time
        yield dict.fromkeys([*batch, *rest], size)


def _with_caches(ports: Sequence[TensorSpec], kept: Collection[str], batch: int) -> Iterator[dict[str, int]]:
    """Numbers for the symbols where one length, such as that of a mask, counts what is cached as well; then nothing is."""
    places = [(port, dim, axis) for port in ports for axis, dim in enumerate(port.shape or ()) if isinstance(dim, str)]
    first = {dim: batch for _, dim, axis in places if axis == 0}
    before = {dim for port, dim, _ in places if port.name in kept} - first.keys()
    rest = dict.fromkeys(dim for _, dim, _ in places if dim not in first)
    for size in FREE_SIZES[:2] if before else ():
        for whole in (dim for dim in rest if dim not in before):
            yield {**dict.fromkeys(rest, size), whole: 2 * size, **first}
        yield {**dict.fromkeys(rest, size), **dict.fromkeys(before, 0), **first}


def _macs(model: Model, ports: Sequence[TensorSpec], dims: Mapping[str, int]) -> float:
    """About what a run at these sizes costs, if costs grow as the inputs do."""
    unit = sum(_elements(port, dict.fromkeys(dims, 1)) for port in ports)
    return cost(model).macs * sum(_elements(port, dims) for port in ports) / max(1, unit)


def _affordable(ports: Sequence[TensorSpec], dims: Mapping[str, int]) -> bool:
    return all(_elements(port, dims) <= _LARGEST_INPUT for port in ports)


def _require_short(model: Model, dims: Mapping[str, int]) -> None:
    """Raises BadModel where shapes tell of a tensor that no run should make."""
    try:
        found = index_of(model).shapes_at(lambda symbol: dims.get(symbol, 1)).dims
    except BadModel:  # running it tells why
        return
    made = {name: math.prod(lengths) for name, lengths in found.items() if name not in model.weights}
    longest = max(made, key=lambda name: made[name], default="")
    if longest and made[longest] > _LARGEST_TENSOR:
        raise BadModel("the model is not run", why=f"{longest!r} would have {made[longest]:,} numbers")


def _default_sizes(ports: Sequence[TensorSpec]) -> dict[str, int]:
    return {dim: 8 if axis else 2 for dim, axis in reversed(list(_symbols(ports)))}  # the first place decides


def _symbols(ports: Sequence[TensorSpec]) -> Iterator[tuple[str, int]]:
    """Symbolic dimensions, and the axes that they stand for."""
    for port in ports:
        yield from ((dim, axis) for axis, dim in enumerate(port.shape or ()) if isinstance(dim, str))


def _values(port: TensorSpec, shape: tuple[int, ...], limit: int | None, rng: np.random.Generator) -> np.ndarray:
    dtype = port.dtype
    if dtype.kind == "O":
        return np.full(shape, "a", dtype=object)
    if dtype.kind == "b":
        return rng.integers(0, 2, shape).astype(bool)
    if dtype.kind in "iu":
        return _integers(dtype, shape, limit, rng)
    if dtype.kind == "c":
        return (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)).astype(dtype)
    return rng.standard_normal(shape).astype(dtype)  # kinds f and V: ml_dtypes convert from float64 too


def _gentle_values(port: TensorSpec, shape: tuple[int, ...], limit: int | None, rng: np.random.Generator) -> np.ndarray:
    kind = port.dtype.kind
    if kind in "fV":
        return rng.uniform(0.25, 1, shape).astype(port.dtype)
    if kind in "iu" and limit is None:
        return rng.integers(1, _SMALL_INTS, shape).astype(port.dtype)
    return _values(port, shape, limit, rng)


def _integers(dtype: np.dtype, shape: tuple[int, ...], limit: int | None, rng: np.random.Generator) -> np.ndarray:
    if limit in (_ONES, _RESHAPE):
        ones = np.ones(shape, dtype)
        if limit == _RESHAPE and ones.size:
            ones.flat[-1] = -1
        return ones
    if limit is None and dtype.itemsize == 1:  # pixels and quantized values
        return rng.integers(np.iinfo(dtype).min, np.iinfo(dtype).max, shape, dtype, endpoint=True)
    return rng.integers(0, _SMALL_INTS if limit is None else max(1, limit), shape).astype(dtype)


def _integer_limits(model: Model, ports: Sequence[TensorSpec], sizes: Mapping[str, int]) -> dict[str, int]:
    """Lowest limit that any consumer puts on each integer input's values."""
    integers = [p for p in ports if p.elem_type and p.dtype.kind in "iu"]
    if not integers:
        return {}
    index, known = index_of(model), _known_dims(model, sizes)
    found = {p.name: list(_limits(p.name, index, known)) for p in integers}
    return {name: min(limits) for name, limits in found.items() if limits}


def _limits(start: str, index: Index, known: Mapping[str, tuple[int, ...]]) -> Iterator[int]:
    todo, seen = [start], {start}
    while todo:
        for node, _, position in index.reads(todo.pop()):
            if node is None or position == CAPTURE:
                continue
            limit = _limit(node, position, known)
            if limit is not None:
                yield limit
            elif node.op_type == "Cast" or (has(node, Trait.MOVES) and operator(node).is_data(position)):
                fresh = [o for o in node.output if o not in seen]
                seen.update(fresh)
                todo.extend(fresh)


def _limit(node: onnx.NodeProto, position: int, known: Mapping[str, tuple[int, ...]]) -> int | None:
    """What the operand's values must stay below; None where anything goes."""
    if not is_standard(node):
        # EmbedLayerNormalization(ids, segments, words, positions, segment table): indices into the tables
        table = {0: 2, 1: 4}.get(position) if node.op_type == "EmbedLayerNormalization" else None
        return known[node.input[table]][0] if table and node.input[table] in known else None
    role, dims = operator(node).roles.get(position), known.get(node.input[0])
    if role is Role.INDICES:
        return dims[int(attribute(node, "axis", 0))] if dims else None
    if role is Role.POSITIONS:
        return min(dims) if dims else None
    return _RESHAPE if node.op_type == "Reshape" and role else _LIMITS.get(role)


def _known_dims(model: Model, sizes: Mapping[str, int]) -> Mapping[str, tuple[int, ...]]:
    """Shapes of all tensors, or of weights alone where inference fails."""
    try:
        return index_of(model).shapes_at(lambda symbol: sizes.get(symbol, 2)).dims
    except BadModel:
        return {name: w.shape for name, w in model.weights.items()}


def elements(model: Model, dims: Mapping[str, int]) -> int:
    """Elements of all inputs at these sizes of symbolic dimensions."""
    return sum(_elements(port, dims) for port in input_specs(model))


def _elements(port: TensorSpec, dims: Mapping[str, int]) -> int:
    return math.prod(d if isinstance(d, int) else dims[d] for d in port.shape or ())


def sizes_of(inputs: Mapping[str, np.ndarray], model: Model) -> Callable[[str], int]:
    """What the symbolic dimensions are in these inputs, by the names that shape inference asks for."""
    free = free_dims(v for v in model.graph.input if v.name in inputs)
    sizes = {name: inputs[v.name].shape[axis] for v, axis, name, _ in free if axis < inputs[v.name].ndim}
    return lambda name: sizes.get(name, 1)
