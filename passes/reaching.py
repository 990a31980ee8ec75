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


@dataclass(frozen=True, kw_only=True)
class _Runs(Reader):
    """Arrays of whole runs."""

    runs: Sequence[Mapping[str, np.ndarray]]

    def chunks(self, names: Sequence[str], size: int) -> Iterator[dict[str, np.ndarray]]:
        for start in range(0, len(self.runs), size):
            yield {name: np.stack([run[name] for run in self.runs[start : start + size]]) for name in names}


def reaching(model: Model, body: Body, data: DataSource | None) -> DataSource | None:
    """What a body captures and is handed in the runs that take it: of a loop, in turns that lie evenly apart.

    None without data, where no run takes it, and where a state changes its shape from turn to turn.
    """
    wanted = [v.name for v in body.model.graph.input]
    if data is None or not wanted:
        return None
    watched, seen = _watched(model, body)
    node = index_of(watched).makers[body.output]
    condition = [node.input[0]] if node.op_type == "If" else []
    computed = [seen.get(name, name) for name in (*condition, *wanted)]
    computed = list(dict.fromkeys(name for name in computed if name in index_of(watched).place))
    small, sources = part(watched, computed, [v.name for v in model.graph.input])
    session, runs = open_session(small), list[list[dict[str, np.ndarray]]]()
    for batch in islice(data.batches(_ROWS), _MOST_RUNS):
        try:
            found = run(session, {n: batch.inputs[n] for n in sources}, computed)
        except IntaglioError:
            if seen:  # what a loop stacks has one shape
                return None
            raise
        found = {**model.weights, **batch.inputs, **found}
        if all(bool(found[name].all()) == body.name.endswith("then_branch") for name in condition):
            runs.append(list(_turns(found, wanted, seen)))
    mixed = [one for turn in zip_longest(*runs) for one in turn if one is not None]
    alike = [one for one in mixed if all(one[name].shape == mixed[0][name].shape for name in wanted)]
    if not alike:
        return None
    fields = {name: Field((len(alike), *value.shape), value.dtype) for name, value in alike[0].items()}
    reader = _Runs(runs=alike, fields=fields, count=len(alike), whole_runs=True)
    return read_data(f"what reaches {body.name}", reader, body.model)


def _turns(
    found: Mapping[str, np.ndarray], wanted: Sequence[str], seen: Mapping[str, str]
) -> Iterator[dict[str, np.ndarray]]:
    """What each turn that is looked at is given; a branch takes one."""
    length = min((len(found[name]) for name in seen.values()), default=1)
    for turn in np.unique(np.linspace(0, length - 1, min(length, _MOST_TURNS)).round().astype(int)):
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
