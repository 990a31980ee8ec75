"""Run a model part by part over calibration inputs, holding only the tensors that later parts start from."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any, TypeVar
from zlib import crc32

import numpy as np
import onnx

from ...graph.errors import BadModel
from ...graph.index import index_of
from ...graph.layer import Floats, Ints
from ...graph.model import Model
from ...graph.nodes import reads
from ...graph.traits import Trait, has
from ...measure.run.session import open_session, require_room, run
from ..base import Context

Batch = dict[str, Floats]
T = TypeVar("T")


class Store:
    """Arrays in memory up to a number of bytes, the rest in temporary files.

    A context manager: its files go when it is left, whatever happened.
    """

    def __init__(self, budget_bytes: int, folder: Path | None = None) -> None:
        self.budget_bytes, self.used_bytes = budget_bytes, 0
        self._where, self._serial = folder, count()
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    @classmethod
    def of(cls, context: Context) -> Store:
        """Of a quarter of the memory that a run may take for tensors; the rest is for those that are worked on."""
        return cls(context.memory // 4, context.folder)

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        if self._folder is not None:
            self._folder.cleanup()

    def put(self, value: Floats) -> Floats | Path:
        """A ticket to ``get`` the array back with."""
        if self.used_bytes + value.nbytes <= self.budget_bytes:
            self.used_bytes += value.nbytes
            return value
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="intaglio-", dir=self._where)
        path = Path(self._folder.name) / f"{next(self._serial)}.npy"
        try:
            np.save(path, value, allow_pickle=False)
        except OSError:
            require_room(path.parent, 2 * value.nbytes)
            raise
        return path

    def get(self, ticket: Floats | Path) -> Floats:
        return np.load(ticket, allow_pickle=False) if isinstance(ticket, Path) else ticket

    def drop(self, ticket: Floats | Path) -> None:
        if isinstance(ticket, Path):
            ticket.unlink()
        else:
            self.used_bytes -= ticket.nbytes


class Inputs:
    """Calibration inputs, cut into batches once and for all; any number of caches may run over them."""

    def __init__(self, batches: Iterable[Mapping[str, Floats]], store: Store) -> None:
        self.store = store
        self.tickets: dict[str, list[Floats | Path]] = {}
        self.samples = self.batch_count = 0
        self.keys: list[Ints] = []
        for batch in batches:
            self.keys.append(_keys(batch))
            for name, value in batch.items():
                self.tickets.setdefault(name, []).append(store.put(value))
            self.samples += len(counting(batch))
            self.batch_count += 1

    def first(self, samples: int) -> Inputs:
        """Whole batches from the beginning, until there are so many samples."""
        fewer = Inputs((), self.store)
        for k in range(self.batch_count):
            if fewer.samples >= samples:
                break
            fewer.samples += len(self.keys[k])
            fewer.batch_count += 1
        fewer.keys = self.keys[: fewer.batch_count]
        fewer.tickets = {name: tickets[: fewer.batch_count] for name, tickets in self.tickets.items()}
        return fewer


def counting(batch: Mapping[str, Floats]) -> Floats:
    """What counts the samples of a batch: the first input with an axis. The body of a loop is handed numbers besides."""
    return next((value for value in batch.values() if value.ndim), np.zeros(1))


def _keys(batch: Mapping[str, Floats]) -> Ints:
    """A number for each sample that depends on its content alone."""
    first = np.ascontiguousarray(counting(batch))
    return np.array([crc32(row.tobytes()) for row in first], dtype=np.int64)


class ActivationCache:
    """One model over calibration inputs.

    ``model`` may be replaced while the cache runs: what is held stays held. Parts of one that runs ``once`` over few
    samples read large weights where they lie.
    """

    def __init__(self, model: Model, inputs: Inputs, *, optimize: bool = True, once: bool = False) -> None:
        self.model, self.store, self.optimize, self.once = model, inputs.store, optimize, once
        self.samples, self.batch_count, self.keys = inputs.samples, inputs.batch_count, inputs.keys
        self.inputs = tuple(inputs.tickets)
        self._held: dict[str, list[Floats | Path]] = {name: list(t) for name, t in inputs.tickets.items()}

    def hold(self, names: Sequence[str]) -> None:
        """Compute what is not held yet and keep it."""
        missing = [n for n in dict.fromkeys(names) if n not in self._held]
        if missing:
            fresh: dict[str, list[Floats | Path]] = {n: [] for n in missing}
            for batch in self.batches(missing):
                for name in missing:
                    fresh[name].append(self.store.put(batch[name]))
            self._held.update(fresh)

    def batches(self, names: Sequence[str], model: Model | None = None, first: int = 0) -> Iterator[Batch]:
        """Values of tensors, batch by batch; those not held are computed from what is, by ``model`` if it is given.

        ``first`` is the number of the batch to begin with.
        """
        missing = [n for n in dict.fromkeys(names) if n not in self._held]
        sources: list[str] = []
        session: Any = None
        if missing:
            small, sources = part(model or self.model, missing, self.types())
            session = _opened(small, optimize=self.optimize, once=self.once)
        for k in range(first, self.batch_count):
            batch = {n: self.store.get(self._held[n][k]) for n in {*names, *sources} if n in self._held}
            if session is not None:
                batch.update(run(session, {n: batch[n] for n in sources}, missing))
            yield {n: batch[n] for n in names}

    def types(self) -> dict[str, int]:
        """ONNX element types of what is held."""
        held = {name: self.store.get(tickets[0]) for name, tickets in self._held.items() if tickets}
        return {name: onnx.helper.np_dtype_to_tensor_dtype(value.dtype) for name, value in held.items()}

    def replace(self, name: str, change: Any) -> None:
        """Apply a function to every batch of a held tensor."""
        tickets = self._held[name]
        for k, ticket in enumerate(tickets):
            value = change(self.store.get(ticket))
            self.store.drop(ticket)
            tickets[k] = self.store.put(value)

    @property
    def held(self) -> list[str]:
        return list(self._held)

    def drop(self, names: Iterable[str]) -> None:
        for name in list(names):
            for ticket in self._held.pop(name, ()):
                self.store.drop(ticket)

    def retain(self, wanted: Iterable[str]) -> None:
        """Keep the inputs and what a later computation of ``wanted`` would start from; drop the rest."""
        start = find_sources(self.model, wanted, self._held.keys()) | set(self.inputs)
        self.drop(n for n in self.held if n not in start)


def each(cache: ActivationCache, visits: Sequence[tuple[T, Sequence[str]]], after: Sequence[str] = ()) -> Iterator[T]:
    """Visit one thing after the other while the tensors that it names are held.

    Dropped is what neither later visits nor computations of the tensors wanted ``after`` all of them start from.
    """
    for k, (one, names) in enumerate(visits):
        cache.hold(names)
        yield one
        cache.retain([*(name for _, later in visits[k + 1 :] for name in later), *after])


def part(model: Model, targets: Sequence[str], available: Iterable[str] | Mapping[str, int]) -> tuple[Model, list[str]]:
    """The part of a model that computes ``targets`` from what is available, and the tensors it starts from.

    ``available`` may map names to ONNX element types, for tensors whose type the model does not record.
    """
    graph, known = model.graph, set(available)
    nodes, read = _upstream(graph, targets, known)
    read = read.union(targets)
    sources = sorted(read & known)
    proto = onnx.ModelProto(ir_version=model.proto.ir_version)
    proto.opset_import.extend(model.proto.opset_import)
    proto.functions.extend(model.proto.functions)
    proto.graph.name = "part"
    proto.graph.node.extend(nodes)
    for node in proto.graph.node:  # of several outputs one may be wanted and another be there already
        for k, name in enumerate(node.output):
            if name in known:
                node.output[k] = f"{name} again"
    kinds = {v.name: v.type.tensor_type.elem_type for v in (*graph.value_info, *graph.output, *graph.input)}
    ranks = _ranks(model, nodes)
    kinds.update(available if isinstance(available, Mapping) else {})
    proto.graph.input.extend(
        onnx.helper.make_tensor_value_info(name, kinds.get(name) or onnx.TensorProto.FLOAT, ranks.get(name))
        for name in sources
    )
    proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in targets)
    proto.graph.sparse_initializer.extend(s for s in graph.sparse_initializer if s.values.name in read)
    return Model(proto, {n: w for n, w in model.weights.items() if n in read}), sources


def _ranks(model: Model, nodes: Iterable[onnx.NodeProto]) -> dict[str, list[None]]:
    """Shapes with free lengths, where there are bodies: a Scan runs only if the ranks in its body can be inferred."""
    if not any(has(node, Trait.BODIES) for node in nodes):
        return {}
    with suppress(BadModel):
        return {name: [None] * len(dims) for name, dims in index_of(model).shapes.dims.items()}
    return {}


def find_sources(model: Model, targets: Iterable[str], available: Iterable[str]) -> set[str]:
    """Of what is available, the tensors that a computation of the targets starts from, or that are targets."""
    known = set(available)
    wanted = list(targets)
    return (_upstream(model.graph, wanted, known)[1] | set(wanted)) & known


def _upstream(graph: onnx.GraphProto, targets: Iterable[str], known: set[str]) -> tuple[list[onnx.NodeProto], set[str]]:
    """Nodes that must run, walking back from the targets to what is known, and all that they read."""
    needed = {t for t in targets if t not in known}
    nodes, read = [], set[str]()
    for node in reversed(graph.node):
        if any(o in needed for o in node.output if o):
            nodes.append(node)
            read.update(inputs := reads(node))
            needed.update(name for name in inputs if name not in known)
    return nodes[::-1], read


def _opened(model: Model, *, optimize: bool, once: bool) -> Any:
    """As the nodes stand where ONNX Runtime's optimizer makes of them what it cannot load: it joins conversions that follow
    each other, those to signed and unsigned integers too, in 1.31.
    """
    try:
        return open_session(model, spin=False, lean=True, optimize=optimize, once=once)
    except BadModel:
        return open_session(model, spin=False, lean=True, optimize=False, once=once)
