"""Writing the streamed model: hops in the place of windows, and states that go from one run to the next."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import numpy as np
import onnx

from ...graph.errors import UsageError
from ...graph.index import index_of
from ...graph.model import Model
from ...graph.nodes import copied, drop_dead, reads, replace_nodes
from ...graph.traits import Trait, has
from ..rewrite.free import named
from ..simplify.names import Names
from .analysis import Streams
from .frames import PLAIN, View


@dataclass(frozen=True)
class State:
    """What a run hands to the next: the input ``name`` takes the output ``next``; the first run gets zeros."""

    name: str
    next: str
    shape: tuple[int | str, ...]
    dtype: int

    def as_dict(self) -> dict[str, Any]:
        return {"name": self.name, "next": self.next, "shape": list(self.shape), "bytes": self.zeros().nbytes}

    def zeros(self) -> np.ndarray:
        """For one sample."""
        kind = onnx.helper.tensor_dtype_to_np_dtype(self.dtype)
        return np.zeros([n if isinstance(n, int) else 1 for n in self.shape], kind)


@dataclass
class Build:
    """A model while it is written. ``views`` are by tensor what is read of it, with the name that each view has."""

    original: Model
    model: Model
    streams: Streams
    hop: int
    names: Names
    views: dict[str, dict[View, str]] = field(default_factory=lambda: defaultdict(dict))
    states: list[State] = field(default_factory=list)
    carried: dict[int, list[State]] = field(default_factory=dict)
    before: dict[int, list[onnx.NodeProto]] = field(default_factory=lambda: defaultdict(list))
    after: dict[int, onnx.NodeProto] = field(default_factory=dict)

    def fresh_frames(self, tensor: str) -> int:
        return self.hop // self.streams.frames[tensor].rate

    def constant(self, stem: str, numbers: Sequence[int]) -> str:
        return self.model.put(self.names.fresh(stem), np.array(numbers, np.int64))

    def view(self, tensor: str, view: View) -> str:
        """The name of what a node reads; the nodes that make it are written once all views of a tensor are known."""
        if view == PLAIN:
            return tensor
        known = self.views[tensor]
        if view not in known:
            known[view] = self.names.fresh(f"{tensor}/window" if view.whole else f"{tensor}/past{view.past}")
        return known[view]


@dataclass(frozen=True)
class Built:
    """The streamed model, its states, whose the delay of whole windows is, and which nodes of the original run on these."""

    model: Model
    states: Sequence[State]
    head_delay: int
    alive: frozenset[int]


def build(model: Model, streams: Streams, hop: int) -> Built:
    """Raises UsageError where the hop does not fit."""
    _check(streams, hop)
    work = Build(model, model.copy(), streams, hop, Names(model))
    nodes = list(_rewritten(work, index_of(model).nodes))
    kept, needed = _alive(work, nodes)
    head = _head_delay(work, needed)
    made: list[onnx.NodeProto] = []
    for name in (v.name for v in model.graph.input):
        made += _parts(work, name, needed, head)
    for place, node in enumerate(nodes):
        if place in kept:
            ends = [node, work.after[place]] if place in work.after else [node]
            made += [*work.before[place], *ends]
            for name in ends[-1].output:
                made += _parts(work, name, needed, head)
            work.states += work.carried.get(place, ())
    graph = work.model.graph
    replace_nodes(graph, made)
    del graph.value_info[:]
    _declare(work)
    drop_dead(work.model)
    return Built(work.model, work.states, head, frozenset(kept))


def _check(streams: Streams, hop: int) -> None:
    if hop % streams.rate == 0:
        return
    slowest = max(streams.frames, key=lambda name: streams.frames[name].rate)
    below, above = hop // streams.rate * streams.rate, -(-hop // streams.rate) * streams.rate
    raise UsageError(
        f"a hop of {hop} does not fit: strides make one frame of {slowest!r} in "
        f"{streams.frames[slowest].rate} samples, and all together fit every {streams.rate}",
        fix=f"give --hop {above}" + (f" or --hop {below}" if below else ""),
    )


def _rewritten(work: Build, nodes: Sequence[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    for place, node in enumerate(nodes):
        flow = work.streams.flows.get(place)
        if flow is None:
            yield node
            continue
        made = copied(flow.node or node)
        for k, name in enumerate(made.input):
            if name in work.streams.frames:
                made.input[k] = _viewed(work, place, name, flow.views.get(k, PLAIN))
        if flow.shape is not None:
            first = next(name for name, one in zip(node.output, flow.outputs, strict=True) if one)
            frames = work.fresh_frames(first)
            made.input[1] = work.constant(f"{first}/shape", [frames if n is None else n for n in flow.shape])
        for k, numbers in flow.constants.items():
            made.input[k] = work.constant(f"{node.output[0]}/operand{k}", numbers)
        if flow.cut:
            name, (one, *_) = made.output[0], flow.outputs
            made.output[0] = work.names.fresh(f"{name}/uncut")
            work.after[place] = _slice(work, made.output[0], name, one.axis if one else 0, flow.cut, -flow.cut)
        work.carried[place] = [_carry(work, node, made, operand, out) for operand, out in flow.carried]
        yield made


def _viewed(work: Build, place: int, name: str, view: View) -> str:
    """What a node reads. Of integers that stand for floats the past is kept as integers, which kernels then read."""
    maker = index_of(work.original).makers.get(name)
    if view == PLAIN or maker is None or not has(maker, Trait.QUANTIZES) or maker.input[0] not in work.streams.frames:
        return work.view(name, view)
    floats = copied(maker)
    floats.input[0] = work.view(maker.input[0], view)
    floats.output[0] = floats.name = work.names.fresh(f"{floats.input[0]}/dq")
    work.before[place].append(floats)
    return floats.output[0]


def _carry(work: Build, was: onnx.NodeProto, node: onnx.NodeProto, operand: int, output: int) -> State:
    """Wire a state of a recurrent layer to an input and an output of the graph, or tell those that it has."""
    for names, place in ((node.input, operand), (node.output, output)):
        names.extend([""] * (place + 1 - len(names)))
    own = {v.name: v for v in work.model.graph.input}
    dims, dtype = work.streams.shapes.dims, work.streams.shapes.dtypes[was.input[2]]
    if known := own.get(node.input[operand]):
        shape = tuple(d.dim_param or d.dim_value for d in known.type.tensor_type.shape.dim)
        return State(known.name, node.output[output], shape, dtype)
    stem = f"{node.output[0] or node.name}/{'hc'[output - 1]}"
    node.input[operand] = work.names.fresh(stem)
    node.output[output] = node.output[output] or work.names.fresh(f"{stem}/next")
    (directions, _, hidden), batch = dims[was.input[2]], dims[was.input[0]][1]
    return State(node.input[operand], node.output[output], _named(work, (directions, batch, hidden), stem), dtype)


def _sources(work: Build) -> dict[str, str]:
    """Views and streams by their names, with the tensors that they are of."""
    found = {name: name for name in work.streams.frames}
    return found | {name: tensor for tensor, views in work.views.items() for name in views.values()}


def _alive(work: Build, nodes: Sequence[onnx.NodeProto]) -> tuple[set[int], set[str]]:
    """The nodes that outputs depend on, and all names that are read, those of views among them."""
    sources, kept = _sources(work), set[int]()
    needed = {v.name for v in work.model.graph.output}
    for place in reversed(range(len(nodes))):
        node = nodes[place]
        if any(name in needed for name in work.after.get(place, node).output if name):
            kept.add(place)
            for name in chain(reads(node), *(one.input for one in work.before[place])):
                needed |= {name, sources.get(name, name)}
    return kept, needed


def _head_delay(work: Build, needed: set[str]) -> int:
    """How late whole windows are: as the latest stream that one is of, which all others wait for."""
    used = [
        t for t, views in work.views.items() for v, name in views.items() if name in needed and (v.whole or v.at_head)
    ]
    latest = max((work.streams.frames[name].delay for name in used), default=0)
    return -(-max(latest, 0) // work.streams.rate) * work.streams.rate if used else 0


def _parts(work: Build, tensor: str, needed: set[str], head: int) -> list[onnx.NodeProto]:
    """What keeps the past of a stream, and cuts the views of it that are needed."""
    frames = work.streams.frames.get(tensor)
    views = {view: name for view, name in work.views[tensor].items() if name in needed} if frames else {}
    if not frames or not views:
        return []
    new, wanted = work.fresh_frames(tensor), dict[str, tuple[int, int]]()
    for view, name in views.items():
        late = (head - frames.delay) // frames.rate if view.whole or view.at_head else view.late
        wanted[name] = (frames.length if view.whole else new + view.past, late)
    past = max(0, *(count + late - new for count, late in wanted.values()))
    nodes: list[onnx.NodeProto] = []
    whole = next(
        (name for name, (count, _) in wanted.items() if count == past + new), work.names.fresh(f"{tensor}/all")
    )
    if past:
        _keep_past(work, tensor, whole, past, nodes)
    else:
        whole = tensor
    for name, (count, late) in wanted.items():
        begin, end = past + new - late - count, past + new - late
        if count < 1:
            raise UsageError(f"a hop of {work.hop} leaves no frame of {tensor!r} to work on", fix="give a larger --hop")
        if name == whole:
            continue
        if count == past + new:
            nodes.append(onnx.helper.make_node("Identity", [whole], [name], name))
        else:
            nodes.append(_slice(work, whole, name, frames.axis, begin, end))
    return nodes


def _keep_past(work: Build, tensor: str, whole: str, past: int, nodes: list[onnx.NodeProto]) -> None:
    """The new frames behind those that are kept, whose last ones are kept for the next run."""
    axis, new = work.streams.frames[tensor].axis, work.fresh_frames(tensor)
    shape = [past if k == axis else n for k, n in enumerate(work.streams.shapes.dims[tensor])]
    name, after = work.names.fresh(f"{tensor}/past"), work.names.fresh(f"{tensor}/past/next")
    work.states.append(State(name, after, _named(work, shape, tensor), work.streams.shapes.dtypes[tensor]))
    nodes.append(onnx.helper.make_node("Concat", [name, tensor], [whole], whole, axis=axis))
    source, length = (tensor, new) if past < new else (whole, past + new)
    nodes.append(_slice(work, source, after, axis, length - past, length))


def _slice(work: Build, source: str, name: str, axis: int, begin: int, end: int) -> onnx.NodeProto:
    numbers = [work.constant(f"{name}/{word}", [n]) for word, n in (("from", begin), ("to", end), ("axis", axis))]
    return onnx.helper.make_node("Slice", [source, *numbers], [name], name)


def _named(work: Build, shape: Sequence[int], tensor: str) -> tuple[int | str, ...]:
    return named(shape, work.streams.numbers, f"a state of {tensor!r}")


def _declare(work: Build) -> None:
    graph, frames = work.model.graph, work.streams.frames
    for value in (*graph.input, *graph.output):
        if one := frames.get(value.name):
            dim = value.type.tensor_type.shape.dim[one.axis]
            dim.Clear()
            dim.dim_value = work.fresh_frames(value.name)
    make = onnx.helper.make_tensor_value_info
    there = {v.name for v in (*graph.input, *graph.output)}
    graph.input.extend(make(one.name, one.dtype, one.shape) for one in work.states if one.name not in there)
    graph.output.extend(make(one.next, one.dtype, one.shape) for one in work.states if one.next not in there)


def delays(streams: Streams, built: Built, outputs: Sequence[str]) -> Mapping[str, int]:
    """By output, of how many samples ago it is; states are no outputs."""
    states = {one.next for one in built.states}
    return {
        name: streams.frames[name].delay if name in streams.frames else built.head_delay
        for name in outputs
        if name not in states and (name in streams.frames or name in streams.windows)
    }
