"""What reaches the bodies of If, Loop and Scan on data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, zip_longest

import numpy as np
import onnx
from onnx import helper

from ..graph.bodies import Body
from ..graph.errors import IntaglioError
from ..graph.index import index_of
from ..graph.model import Model
from ..graph.nodes import attribute, set_attribute, subgraphs
from ..measure.data.readers import Field, Reader
from ..measure.data.source import DataSource, read_data
from ..measure.run.session import open_session, run
from .calibration.activation_cache import part

_ROWS, _MOST_RUNS, _MOST_TURNS = 64, 16, 8
"""Samples in a run, runs, and turns of a loop in each run, of which a body is given what it reads."""
_FOLLOWED = 64
"""Turns of a loop that are followed one by one, where its states change their shapes."""
_Feed = dict[str, np.ndarray]


@dataclass(frozen=True, kw_only=True)
class _Runs(Reader):
    """Arrays of whole runs, whose shapes may differ; then they come one by one."""

    runs: Sequence[Mapping[str, np.ndarray]]

    def chunks(self, names: Sequence[str], size: int) -> Iterator[dict[str, np.ndarray]]:
        for start in range(0, len(self.runs), size):
            yield {name: np.stack([run[name] for run in self.runs[start : start + size]]) for name in names}


def reaching(model: Model, body: Body, data: DataSource | None) -> DataSource | None:
    """What a body captures and is handed in the runs that take it: of a loop, in turns that lie evenly apart.

    None without data, and where no run takes it.
    """
    wanted = [v.name for v in body.model.graph.input]
    if data is None or not wanted:
        return None
    try:
        runs = _handed(model, body, data, wanted)
    except _Changing:
        runs = _followed(model, body, data)
    mixed = [one for turn in zip_longest(*runs) for one in turn if one is not None]
    if not mixed:
        return None
    fields = {name: Field((len(mixed), *value.shape), value.dtype) for name, value in mixed[0].items()}
    reader = _Runs(runs=mixed, fields=fields, count=len(mixed), whole_runs=True)
    return read_data(f"what reaches {body.name}", reader, body.model)


class _Changing(Exception):
    """What a loop hands to its body cannot be stacked, so its shape changes from turn to turn."""


def _handed(model: Model, body: Body, data: DataSource, wanted: Sequence[str]) -> list[list[_Feed]]:
    """What a body is given, of each run the turns that are looked at, by one run of the model for all turns."""
    watched, seen = _watched(model, body)
    node = index_of(watched).makers[body.output]
    condition = [node.input[0]] if node.op_type == "If" else []
    runs: list[list[_Feed]] = []
    try:
        for found in _computed(watched, data, [seen.get(name, name) for name in (*condition, *wanted)]):
            if all(bool(found[name].all()) == body.name.endswith("then_branch") for name in condition):
                runs.append(list(_turns(found, wanted, seen)))
    except IntaglioError as error:
        if node.op_type == "Loop":
            raise _Changing from error
        if seen:
            return []
        raise
    first = next((one for turns in runs for one in turns), {})
    return [[one for one in turns if all(one[n].shape == first[n].shape for n in wanted)] for turns in runs]


def _computed(model: Model, data: DataSource, names: Sequence[str]) -> Iterator[_Feed]:
    """Of a few runs on the data, the named tensors that nodes make, the weights and the inputs."""
    computed = [name for name in dict.fromkeys(names) if name in index_of(model).place]
    small, sources = part(model, computed, [v.name for v in model.graph.input])
    session = open_session(small) if computed else None
    for batch in islice(data.batches(_ROWS), _MOST_RUNS):
        made = run(session, {n: batch.inputs[n] for n in sources}, computed) if session else {}
        yield {**model.weights, **batch.inputs, **made}


def _followed(model: Model, body: Body, data: DataSource) -> list[list[_Feed]]:
    """The same of a loop whose states change their shapes: its body is run turn by turn."""
    node = index_of(model).makers[body.output]
    most, goes_on, *states = node.input
    ports = [value.name for value in body.model.graph.input]
    count, on, *formal = ports[: len(node.input)]
    captured = ports[len(node.input) :]
    again, *later = [value.name for value in body.model.graph.output][: len(node.input) - 1]
    ranks = {value.name: len(value.type.tensor_type.shape.dim) for value in body.model.graph.input[:2]}
    session, runs = open_session(body.model), []
    for found in _computed(model, data, [name for name in (most, goes_on, *states, *captured) if name]):
        turns: list[_Feed] = []
        if most and found[most].size != 1:  # computed, and no number of turns on these samples: the loop does not run
            return []
        feed = {name: found[name] for name in captured} | {f: found[n] for f, n in zip(formal, states, strict=True)}
        last = int(found[most].reshape(())) if most else _FOLLOWED
        alive = bool(found[goes_on].all()) if goes_on else True
        while alive and len(turns) < min(last, _FOLLOWED):
            feed |= {count: np.full((1,) * ranks[count], len(turns)), on: np.full((1,) * ranks[on], True)}
            turns.append(dict(feed))
            try:
                made = run(session, feed, [again, *later])
            except IntaglioError:
                return []
            feed |= {f: made[n] for f, n in zip(formal, later, strict=True)}
            alive = bool(made[again].all())
        runs.append([turns[k] for k in _looked_at(len(turns))])
    return runs


def _looked_at(turns: int) -> Sequence[int]:
    """Turns that lie evenly apart."""
    places: list[int] = np.unique(np.linspace(0, turns - 1, min(turns, _MOST_TURNS)).round().astype(int)).tolist()
    return places


def _turns(
    found: Mapping[str, np.ndarray], wanted: Sequence[str], seen: Mapping[str, str]
) -> Iterator[dict[str, np.ndarray]]:
    """What each turn that is looked at is given; a branch takes one."""
    length = min((len(found[name]) for name in seen.values()), default=1)
    for turn in _looked_at(length):
        yield {name: np.array(found[seen[name]][turn]) if name in seen else found[name] for name in wanted}


def _watched(model: Model, body: Body) -> tuple[Model, dict[str, str]]:
    """The model with a loop that also hands out, turn by turn, what its body is handed; by which names."""
    watched = model.copy()
    node = index_of(watched).makers[body.output]
    graph = list(subgraphs(node))[body.number]
    formal, seen = list(graph.input), dict[str, str]()
    for value in formal:
        inner, seen[value.name] = f"{body.name}/{value.name} here", f"{body.name}/{value.name} seen"
        graph.node.append(helper.make_node("Identity", [value.name], [inner]))
        graph.output.append(onnx.ValueInfoProto(name=inner))
        node.output.append(seen[value.name])
    for name in ("scan_output_axes", "scan_output_directions"):
        if stated := attribute(node, name):
            set_attribute(node, name, [*stated, *[0] * len(formal)])
    return watched, seen
