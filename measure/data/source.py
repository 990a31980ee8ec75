"""Data for a model: opened from what ``--data`` names, checked against the graph inputs, streamed in batches."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ...graph.coupling.caches import caches
from ...graph.errors import BadData, UsageError
from ...graph.model import Model
from ...graph.nodes import all_nodes, is_standard
from ..run.tensor_specs import TensorSpec, input_specs, output_specs
from .callable_reader import read_callable
from .fit import Feed, Form, fit, is_one_sample
from .folders import SAMPLE, read_folder
from .preprocess import Preprocess, parse_preprocess
from .readers import Reader, read_npy_files, read_npz

LABEL_NAMES = ("labels", "label", "targets", "target", "y")
_SAYS_SCALE = frozenset(("scale", "offset", "mean", "std", "dtype"))


@dataclass(frozen=True)
class Batch:
    """Inputs of one run. ``count`` samples are real; ``filled`` rows after them only fill up a fixed batch.

    ``labels`` and ``expected`` (outputs that the data says are right, by name) hold ``count`` rows.
    """

    inputs: dict[str, np.ndarray]
    count: int
    labels: np.ndarray | None = None
    expected: dict[str, np.ndarray] = field(default_factory=dict)
    filled: int = 0


@dataclass(frozen=True)
class DataSource:
    """Real inputs for one model, to be read as often as needed.

    ``samples`` is None where only reading to the end would tell. ``fixed_batch`` is the batch that the model insists
    on. ``empty`` are caches, which start with nothing in them. ``notes`` are sentences for the user about what was taken for what.
    """

    name: str
    reader: Reader
    feeds: Sequence[Feed]
    labels: str | None
    expected: Mapping[str, str]
    limit: int | None
    fixed_batch: int | None
    notes: Sequence[str]
    empty: Sequence[TensorSpec] = ()

    @property
    def samples(self) -> int | None:
        counts = [n for n in (self.reader.count, self.limit) if n is not None]
        return min(counts) if self.reader.count is not None else None

    @property
    def labelled(self) -> bool:
        return self.labels is not None

    def batches(self, size: int = 64) -> Iterator[Batch]:
        """The samples in order, ``size`` at a time (or as many as the model insists on), the last batch shorter.

        Raises:
            BadData: a sample cannot be read or does not fit, or there is none.
        """
        size = self.batch_size(size)
        names = [f.stored for f in self.feeds] + [n for n in (self.labels, *self.expected.values()) if n]
        left, seen = self.limit, 0
        for chunk in self.reader.chunks(list(dict.fromkeys(names)), size if left is None else min(size, left)):
            count = next((len(a) for a in chunk.values() if a.ndim), 1)
            if left is not None and count > left:
                chunk, count = {n: a[:left] if a.ndim else a for n, a in chunk.items()}, left
            if count:
                yield self._batch(chunk, count, seen)
            seen += count
            left = None if left is None else left - count
            if left == 0:
                return

    def batch_size(self, wanted: int) -> int:
        """Samples in one run: what the model insists on, else what is wanted."""
        if any(f.form is Form.RUNS for f in self.feeds):
            return 1
        return self.fixed_batch or wanted

    def _batch(self, chunk: dict[str, np.ndarray], count: int, before: int) -> Batch:
        inputs = {f.port.name: f(chunk[f.stored]) for f in self.feeds}
        for f in self.feeds:
            _require_numbers(f, inputs[f.port.name], before)
        filled = max(0, (self.fixed_batch or 0) - count)
        if filled and self.fixed_batch:
            inputs = {f.port.name: _fill(inputs[f.port.name], f, self.fixed_batch) for f in self.feeds}
        rows = len(next(iter(inputs.values()))) if self.empty else 0
        inputs |= {port.name: _nothing(port, rows) for port in self.empty}
        labels = chunk[self.labels] if self.labels else None
        runs = any(f.form is Form.RUNS for f in self.feeds)
        expected = {out: chunk[name][0] if runs else chunk[name] for out, name in self.expected.items()}
        return Batch(inputs, count, labels, expected, filled)


def open_data(spec: str, model: Model, *, preprocess: str | None = None, samples: int | None = None) -> DataSource:
    """Open what ``--data`` names for the model.

    Raises:
        BadData: it cannot be read or does not fit the inputs; says why and what to do.
        UsageError: ``preprocess`` is malformed, or means nothing for this kind of data.
    """
    inputs, outputs = input_specs(model), output_specs(model)
    steps = parse_preprocess(preprocess, [p.name for p in inputs])
    reader = _open_reader(spec, inputs, outputs, steps)
    return read_data(spec, reader, model, preprocess=preprocess, samples=samples)


def read_data(
    spec: str, reader: Reader, model: Model, *, preprocess: str | None = None, samples: int | None = None
) -> DataSource:
    """Data for the model from a reader of any kind. Raises as ``open_data`` does."""
    inputs, outputs = input_specs(model), output_specs(model)
    steps = parse_preprocess(preprocess, [p.name for p in inputs])
    if reader.count == 0:
        shapes = ", ".join(f"{name} has shape {f.shape}" for name, f in reader.fields.items())
        raise BadData(f"{spec} holds no samples", why=shapes, fix="give at least one row to every array")
    if reader.whole_runs and any(p.steps for p in steps.values()):
        raise UsageError("--preprocess does not go with an ONNX test data set", why="its tensors are fed as they are")
    notes = list(reader.notes)
    unfed = caches(model).keys() - reader.fields.keys()
    kept, inputs = [p for p in inputs if p.name in unfed], [p for p in inputs if p.name not in unfed]
    if kept:
        notes.append(f"caches start empty, as the data has none: {', '.join(p.name for p in kept)}")
    bound, labels, expected = _bind(reader, inputs, outputs, notes)
    empty = [p.name for p in inputs if 0 in reader.fields[bound[p.name]].shape]
    if empty and any(is_standard(node) and node.op_type == "Scan" for node in all_nodes(model.graph)):
        raise BadData(
            f"{spec} gives {empty[0]} an axis of length 0",
            why="the model has a Scan, and ONNX Runtime ends the process at a Scan over nothing",
            fix="leave such samples out",
        )
    lone = any(is_one_sample(reader.fields[bound[p.name]], p, steps[p.name]) for p in inputs)
    if lone and (labels is None or reader.fields[labels].shape == ()):  # labels show that the first axis counts samples
        reader = reader.one_sample()
        notes.append("the data has no axis that counts samples: taken as one sample")
    kind = {"images": reader.images, "whole_runs": reader.whole_runs}
    feeds = [fit(bound[p.name], reader.fields[bound[p.name]], p, steps[p.name], **kind) for p in inputs]
    notes += [*_type_notes(feeds, reader, preprocess), *_moved_notes(feeds, steps)]
    if not reader.images and any(p.image_steps for p in steps.values()):
        notes.append("resize and crop are for image files: arrays go in at the size they have")
    return DataSource(spec, reader, feeds, labels, expected, samples, _fixed_batch(feeds), notes, kept)


def _open_reader(
    spec: str, inputs: list[TensorSpec], outputs: list[TensorSpec], steps: Mapping[str, Preprocess]
) -> Reader:
    path = Path(spec)
    if spec and path.is_dir():
        image_steps = [s for p in steps.values() for s in p.image_steps]
        return read_folder(path, inputs, outputs, image_steps)
    if path.is_file():
        if path.suffix.lower() == ".npz":
            return read_npz(path)
        if path.suffix.lower() == ".npy":
            return read_npy_files({SAMPLE: path})
        raise BadData(f"{spec} is of no known kind", fix="give an .npz, an .npy, a folder, or package.module:callable")
    if re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", spec):
        return read_callable(spec)
    raise BadData(f"there is no data at {spec!r}", fix="check the path; Python code is named package.module:callable")


def _bind(
    reader: Reader, inputs: list[TensorSpec], outputs: list[TensorSpec], notes: list[str]
) -> tuple[dict[str, str], str | None, dict[str, str]]:
    """Which stored array goes into which input, which holds the labels, which hold expected outputs."""
    fields = reader.fields
    bound = {p.name: p.name for p in inputs if p.name in fields}
    free = [name for name in fields if name not in bound]
    expected = {p.name: p.name for p in outputs if p.name in free and _is_output(p, reader)}
    free = [name for name in free if name not in expected]
    labels = next((name for name in LABEL_NAMES if name in free), None)
    free = [name for name in free if name != labels]
    missing = [p.name for p in inputs if p.name not in bound]
    if len(inputs) == len(missing) == len(free) == 1:
        bound, free, (name,) = {missing[0]: free[0]}, [], free
        if name != SAMPLE:
            notes.append(f"the array {name!r} is taken for the input {missing[0]!r}")
    elif missing:
        raise BadData(
            f"the data has nothing for the input{'s' if len(missing) > 1 else ''} {', '.join(map(repr, missing))}",
            why=f"it holds {', '.join(map(repr, fields)) or 'nothing'}{', which are labels' if [*fields] == [labels] else ''}",
            fix=f"name the arrays after the graph inputs: {', '.join(f'{p.name} {p.describe()}' for p in inputs)}",
        )
    if free:
        notes.append(f"not used: {', '.join(free)}")
    return bound, labels, expected


def _is_output(port: TensorSpec, reader: Reader) -> bool:
    """Whether an array named after an output holds what it should give: one called ``y`` may well be labels."""
    if reader.whole_runs or port.name not in LABEL_NAMES:
        return True
    stored = reader.fields[port.name]
    return bool(port.elem_type) and port.accepts(stored.shape) and port.dtype == stored.dtype


def _nothing(port: TensorSpec, rows: int) -> np.ndarray:
    """A cache of nothing: its free length is 0."""
    first, *others = port.shape or ()
    return np.zeros(
        (first if isinstance(first, int) else rows, *(d if isinstance(d, int) else 0 for d in others)), port.dtype
    )


def _fixed_batch(feeds: Sequence[Feed]) -> int | None:
    """The number of samples that the model insists on, if any."""
    fixed = {
        f.port.name: f.port.shape[0]
        for f in feeds
        if f.form is Form.ROWS and f.port.shape and isinstance(f.port.shape[0], int)
    }
    runs = any(f.form is Form.RUNS for f in feeds)
    if len(set(fixed.values())) > 1 or (runs and set(fixed.values()) - {1}):
        raise BadData(
            "it cannot be told which axis of the inputs counts samples",
            why=", ".join(f"the first axis of {name} is {n}" for name, n in fixed.items()),
            fix="give every input one more axis that counts samples: (samples, *input shape)",
        )
    return next((int(n) for n in fixed.values()), None)


def _type_notes(feeds: Sequence[Feed], reader: Reader, preprocess: str | None) -> list[str]:
    said = {f.stored for f in feeds if any(s.key in _SAYS_SCALE for s in f.preprocess.steps)}
    if preprocess is not None:  # "none" says that nothing is to be done; a layout says nothing of scales
        said |= {f.stored for f in feeds if not f.preprocess.steps}
    floats = [f.stored for f in feeds if f.port.dtype.kind == "f" and f.stored not in said]
    kinds = {name: reader.fields[name].dtype for name in floats}
    return [
        f"{stored!r} holds {kind} and goes in unscaled: if the model wants it scaled, say so with --preprocess, "
        "such as scale=1/255 or a preset"
        for stored, kind in kinds.items()
        if kind.kind in "iu"
    ]


def _moved_notes(feeds: Sequence[Feed], said: Mapping[str, Preprocess]) -> list[str]:
    moved = [(f.stored, f.preprocess.steps[-1].word) for f in feeds if f.preprocess != said[f.port.name]]
    other = {"nchw": "NHWC", "nhwc": "NCHW"}
    return [
        f"{stored!r} is {other[word]} and the model takes {word.upper()}: the channels are moved; "
        f"layout={word} in --preprocess says so"
        for stored, word in moved
    ]


def _require_numbers(feed: Feed, value: np.ndarray, before: int) -> None:
    """Raises BadData for NaN and infinity. A mask of minus infinity has nothing above 0 beside it."""
    if value.dtype.kind != "f" or np.isfinite(value).all() or (value <= 0).all():
        return
    wrong = np.argwhere(~np.isfinite(value))
    sample = before + (int(wrong[0][0]) if feed.form is Form.ROWS else 0)
    raise BadData(
        f"the data for the input {feed.port.name!r} holds NaN or infinite values in sample {sample}, counted from 0",
        why=f"{len(wrong)} numbers of the {value.size} that were read with it",
        fix="leave such samples out, or check --preprocess",
    )


def _fill(array: np.ndarray, feed: Feed, batch: int) -> np.ndarray:
    """Repeat the last sample until the batch is full."""
    if feed.form is not Form.ROWS:
        return array
    return np.concatenate([array, np.repeat(array[-1:], batch - len(array), axis=0)])
