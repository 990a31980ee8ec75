"""Statistics of a model's tensors over calibration data, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from math import prod

import numpy as np
import onnx

from ...graph.errors import BadData, BadModel, UsageError
from ...graph.index import index_of
from ...graph.model import Model
from ...measure.data.source import Batch, DataSource
from ...measure.run.inputs import sizes_of
from ...measure.run.released import give_back
from ...measure.run.running import Tick
from ...measure.run.session import open_session, run
from ...measure.run.tensor_specs import input_specs
from ..base import MEMORY, Context
from .activation_cache import part
from .statistics import NotFinite, Statistic

DATA_FREE = "--dialect noise, or --criterion dfpc or udfc"
"""How to prune without data."""
_SMALLEST_BATCH = 4
"""Below this, running takes longer (on ResNet-20 batches of 4 to 64 differ by less than the noise); above it a smaller
batch is cheaper than a second sweep over the data."""
_CACHED = 1 << 19
"""Bytes of the largest tensor of a run: beyond what a core's own cache holds, reading it again waits for memory."""
_SAME = 1e-3
"""How far two rows computed from one sample may differ, relative to the largest value."""


class _Inseparable(BadData):
    """Samples and rows that only fill up a run cannot be told apart."""


@dataclass(frozen=True)
class Sweep:
    """One reading of all the data: which tensors are looked at, and how many samples run at once."""

    names: tuple[str, ...]
    batch: int


def require_data(context: Context, *, without: str = DATA_FREE) -> DataSource:
    """The calibration data. ``without`` names the options that need none, empty where there are none.

    Raises:
        UsageError: the user gave no data; says how to.
    """
    if context.data is not None:
        return context.data
    raise UsageError(
        "calibration data is missing",
        why="what the layers compute on real inputs decides here, and no inputs are ever made up in silence",
        fix="add --data SOURCE: an .npz whose arrays are named after the graph inputs, a folder of .npy files or images, "
        "an ONNX test_data_set folder, or package.module:callable; labels are not needed"
        + (f". Without any data: {without}" if without else ""),
    )


def collect(
    model: Model,
    data: DataSource,
    wanted: Mapping[str, Sequence[Statistic]],
    *,
    budget_bytes: int = MEMORY // 2,
    batch: int = 64,
    tick: Tick | None = None,
    short: set[str] | None = None,
) -> None:
    """Run the data through the model and add the wanted tensors, graph inputs among them, to their statistics.

    The tensors of one run take ``budget_bytes`` at most: batches become smaller than ``batch`` where they must, and
    then the data is read several times for a few tensors each. Only a single tensor on the smallest run that the model
    allows may take more. Sizes are those of the first run; what ONNX Runtime works in comes on top. A tensor without
    samples, such as a computed constant, is added once for each run. With ``short`` a tensor of which it cannot be told
    which part belongs to rows that only fill up the last run goes without that run, and is named there.

    Raises:
        UsageError: there is no such tensor, or it is a constant.
        BadData: there are no samples, or they hold NaN or infinity.
        BadModel: a tensor holds anything but finite numbers, or the model fails.
    """
    _check_names(model, wanted)
    first = next(data.batches(1), None)
    if first is None:
        raise BadData(f"{data.name} holds no samples")
    inputs = [p.name for p in input_specs(model)]
    computed = [name for name in index_of(model).place if name in wanted]
    fixed = data.batch_size(1) == data.batch_size(batch)
    sizes = run_bytes(model, computed, first.inputs)
    batch = cached(sizes, batch)
    sweeps = plan(sizes, budget_bytes, 1 if fixed else batch) or [Sweep((), batch)]
    fed = {name: wanted[name] for name in inputs if name in wanted}
    done = 0
    for sweep in sweeps:
        for piece in _run_sweep(model, data, sweep, {**fed, **{n: wanted[n] for n in sweep.names}}, short):
            done += piece.count
            if tick:
                tick(done, None if data.samples is None else data.samples * len(sweeps))
        fed = {}


def cached(run_bytes: Mapping[str, int], batch: int) -> int:
    """How many samples of a batch to run at once so that what one node made is still near when it is read."""
    return min(batch, max(_SMALLEST_BATCH, _CACHED // max(1, *run_bytes.values(), 1)))


def plan(run_bytes: Mapping[str, int], budget_bytes: int, batch: int) -> list[Sweep]:
    """Which tensors to ask for together, and with how many samples at once, so that they fit the budget.

    ``run_bytes`` is what each tensor takes in a run of one sample. A single one above the budget goes alone.
    """

    def fitting(size: int, least: int) -> int:
        return min(batch, max(least, budget_bytes // max(1, size)))

    together = fitting(sum(run_bytes.values()), _SMALLEST_BATCH)
    sweeps: list[Sweep] = []
    names: list[str] = []
    held = 0
    for name, size in run_bytes.items():
        if names and (held + size) * together > budget_bytes:
            sweeps.append(Sweep(tuple(names), fitting(held, 1)))
            names, held = [], 0
        names.append(name)
        held += size
    return [*sweeps, Sweep(tuple(names), fitting(held, 1))] if names else sweeps


def _run_sweep(
    model: Model,
    data: DataSource,
    sweep: Sweep,
    wanted: Mapping[str, Sequence[Statistic]],
    short: set[str] | None,
) -> Iterator[Batch]:
    """Add every batch to the statistics of the tensors of one sweep; yields what was done."""
    session = None
    if sweep.names:
        give_back()
        small, sources = part(model, sweep.names, [p.name for p in input_specs(model)])
        session = open_session(small)
    for place, piece in enumerate(data.batches(sweep.batch)):
        values = {n: piece.inputs[n] for n in wanted if n not in sweep.names}
        if session is not None:
            values.update(run(session, {n: piece.inputs[n] for n in sources}, sweep.names))
        for name, statistics in wanted.items():
            try:
                _add(name, values.pop(name), statistics, piece)
            except _Inseparable:
                if short is None or not place:
                    raise
                short.add(name)
        yield piece


def _add(name: str, value: np.ndarray, statistics: Sequence[Statistic], piece: Batch) -> None:
    if not isinstance(value, np.ndarray):
        raise BadModel(f"{name!r} is a sequence or a map, no tensor")
    real = _without_filler(name, value, piece)
    try:
        for statistic in statistics:
            statistic.add(real)
    except NotFinite as error:
        raise _not_finite(name, error, piece) from error
    except BadModel as error:
        raise BadModel(f"tensor {name!r}: {error.what}", why=error.why, fix=error.fix) from error


def _not_finite(name: str, error: NotFinite, piece: Batch) -> BadData | BadModel:
    """Whose fault it is: the data's or the model's."""
    for fed, value in piece.inputs.items():
        if value.dtype.kind == "f" and not np.isfinite(value).all():
            return BadData(
                f"the data for the input {fed!r} holds NaN or infinite values",
                fix="leave those samples out, and check --preprocess",
            )
    return BadModel(
        f"tensor {name!r}: {error.what}",
        why="the model makes them from finite inputs: a float16 that overflows, a mask of minus infinity, or a fault",
        fix="leave the layer out with --exclude; export the model in float32 if it is in float16",
    )


def _without_filler(name: str, value: np.ndarray, piece: Batch) -> np.ndarray:
    """The tensor without what comes from rows that only fill up the batch.

    Those rows repeat the last sample, which shows where they are: samples need not be counted by the first axis, and
    an axis may count more than samples, as in (samples · heads, tokens, width).

    Raises:
        BadData: the rows cannot be found.
    """
    rows = piece.count + piece.filled
    candidates = [axis for axis, length in enumerate(value.shape) if length and length % rows == 0]
    if not piece.filled or not candidates or value.dtype.kind in "OSU":
        return value
    for axis in candidates:
        before, inner, after = value.shape[:axis], value.shape[axis] // rows, value.shape[axis + 1 :]
        for place, split in ((axis, (rows, inner)), (axis + 1, (inner, rows))):
            apart = np.moveaxis(value.reshape(*before, *split, *after), place, 0)
            if _all_same(apart[piece.count - 1 :]):
                return np.moveaxis(apart[: piece.count], 0, place).reshape(*before, piece.count * inner, *after)
    raise _Inseparable(
        f"it cannot be told which part of tensor {name!r} belongs to rows that only fill up the last batch",
        why=f"the model takes {rows} samples at once, and {piece.count} are left at the end of the data",
        fix=f"give a multiple of {rows} samples, with --samples",
    )


def _all_same(rows: np.ndarray) -> bool:
    exact = rows.astype(np.float64)
    near = _SAME * float(np.abs(exact[np.isfinite(exact)]).max(initial=0.0))
    return bool(np.allclose(exact[1:], exact[:1], rtol=0, atol=near, equal_nan=True))


def _check_names(model: Model, wanted: Mapping[str, object]) -> None:
    constants = {*model.weights, *(s.values.name for s in model.graph.sparse_initializer)}
    there = [*(p.name for p in input_specs(model)), *index_of(model).place]
    for name in wanted:
        if name in constants:
            raise UsageError(f"{name!r} is a constant of the model", why="only what depends on the data has statistics")
    for name in sorted({*wanted}.difference(there)):
        near = get_close_matches(name, there)
        raise UsageError(
            f"the model has no tensor {name!r}",
            why="its tensors are the graph inputs and the outputs of its nodes outside of subgraphs",
            fix=f"did you mean {' or '.join(map(repr, near))}?"
            if near
            else "see what the nodes are called in the model",
        )


def inferred_bytes(model: Model, names: Iterable[str], inputs: Mapping[str, np.ndarray]) -> dict[str, int]:
    """Bytes of each tensor in a run on these inputs, where shape inference tells."""
    try:
        shapes = index_of(model).shapes_at(sizes_of(inputs, model))
    except BadModel:
        return {}
    kinds = {name: shapes.dtypes.get(name) for name in names if name in shapes.dims}
    return {
        name: np.dtype(onnx.helper.tensor_dtype_to_np_dtype(kind)).itemsize * prod(shapes.dims[name])
        for name, kind in kinds.items()
        if kind
    }


def run_bytes(model: Model, names: Sequence[str], inputs: Mapping[str, np.ndarray]) -> dict[str, int]:
    """Bytes of each tensor in a run on these inputs: by shape inference, and by running where that does not tell."""
    sizes = inferred_bytes(model, names, inputs)
    unknown = [name for name in names if name not in sizes]
    if unknown:
        small, sources = part(model, unknown, list(inputs))
        session = open_session(small)
        for name in unknown:  # one by one: together they could be too large
            value = run(session, {n: inputs[n] for n in sources}, [name])[name]
            sizes[name] = value.nbytes if isinstance(value, np.ndarray) else 0
    return {name: sizes[name] for name in names}
