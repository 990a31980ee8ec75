"""``stream``: a model that takes windows becomes one that takes hops, and is compared with what it was.

Source: Kechris et al., "Don't Think It Twice: Exploit Shift Invariance for Efficient Online Streaming Inference of CNNs"
(StreamiNNC), 2024, arXiv:2408.03223.
Differs: states stand in the graph as inputs and outputs; what pads the end of a window is waited for; recurrent layers carry
their states; whatever has no rule is computed on whole windows that are kept.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import onnx

from ...graph.cost import cost, node_macs
from ...graph.errors import NothingChanged, ProofFailed, UsageError
from ...graph.index import index_of
from ...graph.io.branches import pin_inputs
from ...graph.io.fix_dims import pin_shapes
from ...graph.model import Model
from ...graph.nodes import display_name
from ..base import Context
from ..change import amounts
from .analysis import Streams, follow
from .build import Built, build, delays
from .compare import Both, Compared, compare
from .options import StreamOptions

_FREE_HOPS = 64
"""Hops of a window that stands for a signal of any length."""
_NEAR = 1e-4
RECORD = "intaglio.stream"
"""The key of the metadata that tells a program how to run the model."""


@dataclass(frozen=True)
class Streamed:
    """The streamed model and what is told of it, as plain data."""

    model: Model
    told: Mapping[str, Any]
    notes: Sequence[str]


def stream(model: Model, options: StreamOptions, context: Context | None = None) -> Streamed:
    """A model that takes ``hop`` samples at a time.

    Raises:
        UsageError: the axis is not there, or the hop does not fit.
        NothingChanged: nothing would be saved, as everything needs whole windows.
        ProofFailed: it should compute the same and does not.
    """
    axes, guessed = _axes(model, options.axis)
    fixed, window, whole = _windowed(model, axes, options)
    streams = follow(fixed, axes, exact=options.exact)
    built = build(fixed, streams, options.hop)
    alive = [place for place in sorted(built.alive) if place in streams.flows]
    windowed = [streams.whole[place] for place in alive if place in streams.whole]
    if whole and windowed:
        raise UsageError(
            f"the axis is free, and {windowed[0]!r} looks at all of it at once",
            fix="say how many samples it looks at: --window N",
        )
    late = delays(streams, built, [v.name for v in model.graph.output])
    nodes = index_of(fixed).nodes
    padded = [display_name(nodes[place]) for place in alive if streams.flows[place].padded]
    carried = [display_name(nodes[place]) for place in alive if streams.flows[place].fresh]
    if windowed and not (padded or carried):
        _require_less(fixed, built.model, windowed[0], exact=options.exact)
    frames = {name: one for name, one in streams.frames.items() if name in {*axes, *late}}
    original, carries = model if whole else fixed, _carries(streams, alive, options.hop)
    both = Both(original, built, options.hop, window, whole, frames, late, carries)
    compared = compare(both, context or Context(), options.hops)
    exact = not padded and not carried
    if exact and not whole:
        _require_near(compared)
    told = {
        **_costs(fixed, built, streams),
        "axis": dict(axes),
        "hop": options.hop,
        "window": None if whole else window,
        "hops_a_window": window / options.hop,
        "delay": dict(late),
        "padded": padded,
        "carried": carried,
        "windowed": windowed,
        "exact": exact,
        "outputs": {name: one.as_dict() for name, one in compared.outputs.items()},
        "hops": compared.hops,
        "ms": compared.ms,
    }
    _record(built, told)
    return Streamed(built.model, told, guessed)


def _costs(fixed: Model, built: Built, streams: Streams) -> dict[str, Any]:
    before, after = amounts(fixed), amounts(built.model)
    return {
        "before": before.as_dict(),
        "after": after.as_dict(),
        "kept": before.kept(after),
        "head_macs": _head_macs(built.model, streams),
        "states": [one.as_dict() for one in built.states],
        "state_bytes": sum(one.zeros().nbytes for one in built.states),
    }


def _require_less(fixed: Model, streamed: Model, windowed: str, *, exact: bool) -> None:
    window = cost(fixed).macs
    if cost(streamed).macs >= window:
        raise NothingChanged(
            f"a hop would cost as much as a window: {window:,} MACs",
            why=f"{windowed!r} needs the whole window, and all that costs stands behind it",
            fix=f"{'leave out --exact, or ' if exact else ''}cut the model in front of that node",
        )


def _axes(model: Model, text: str) -> tuple[dict[str, int], list[str]]:
    """By input the axis that goes on, and a note where it was guessed."""
    inputs = {v.name: [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim] for v in model.graph.input}
    found: dict[str, int] = {}
    for part in text.split(","):
        named, _, axis = part.strip().rpartition(":")
        if named and named not in inputs:
            raise UsageError(f"there is no graph input {named!r}", fix=f"inputs are: {', '.join(inputs)}")
        whose = {named: inputs[named]} if named else inputs
        found |= _axis(whose, axis)
    if not found and text == "time":
        for name, dims in inputs.items():
            if len(dims) > 1:
                place = max(range(1, len(dims)), key=lambda k: dims[k] if isinstance(dims[k], int) else 1 << 31)
                note = (
                    f"axis {place} of {name!r}, {dims[place] or 'free'} long, is taken for time: --axis {name}:{place}"
                )
                return {name: place}, [note]
    if not found:
        shown = "; ".join(f"{name}: {', '.join(map(str, dims))}" for name, dims in inputs.items())
        raise UsageError(f"no input has an axis {text!r}", why=f"inputs are {shown}", fix="give --axis INPUT:NUMBER")
    return found, []


def _axis(inputs: Mapping[str, list[Any]], axis: str) -> dict[str, int]:
    """An axis by its name, of all inputs that have it; by its number, of the first input that is long enough."""
    if not axis.lstrip("-").isdigit():
        return {name: dims.index(axis) for name, dims in inputs.items() if axis in dims}
    return next(({name: int(axis) % len(d)} for name, d in inputs.items() if -len(d) <= int(axis) < len(d)), {})


def _windowed(model: Model, axes: Mapping[str, int], options: StreamOptions) -> tuple[Model, int, bool]:
    """The model for one length of window, that length, and whether it stands for any."""
    inputs = {v.name: v.type.tensor_type.shape.dim for v in model.graph.input}
    lengths = {inputs[name][axis].dim_value for name, axis in axes.items()}
    if len(lengths) > 1:
        raise UsageError("the inputs have different lengths along time", fix="name one of them: --axis INPUT:NUMBER")
    (length,) = lengths
    window = options.window or length or _FREE_HOPS * options.hop
    if length and window != length:
        raise UsageError(f"--window {window} does not fit: the axis has {length} samples", fix="leave out --window")
    if options.hop > window:
        raise UsageError(f"a hop of {options.hop} is longer than the window of {window}", fix="give a smaller --hop")
    fixed = model.copy()
    shapes = {name: [window if k == axis else -1 for k in range(len(inputs[name]))] for name, axis in axes.items()}
    pin_shapes(fixed, shapes)
    pin_inputs(fixed, {})
    return _carried_out(fixed), window, not length and options.window is None


def _carried_out(model: Model) -> Model:
    """With what follows from the sizes computed."""
    from ..simplify import Simplify

    try:
        return Simplify(fold=False, merge=False, verify=False).run(model).model
    except NothingChanged:
        return model


def _carries(streams: Streams, alive: Sequence[int], hop: int) -> bool:
    """Whether the model's own states go from one window to the next: they see no frame twice."""
    owned = [streams.flows[place] for place in alive if streams.flows[place].carried and not streams.flows[place].fresh]
    return all(one and one.length * one.rate == hop for flow in owned for one in flow.outputs[:1])


def _head_macs(streamed: Model, streams: Streams) -> int:
    """Those of what is computed on whole windows."""
    shapes = index_of(streamed).shapes
    head = [node for node in streamed.graph.node if any(name in streams.windows for name in node.output)]
    return sum(node_macs(node, shapes) or 0 for node in head)


def _require_near(compared: Compared) -> None:
    for name, one in compared.outputs.items():
        if one.max_abs > _NEAR * max(one.largest, 1.0) or one.not_finite:
            raise ProofFailed(
                f"output {name!r} of the streamed model differs by {one.max_abs:.3g}, where values reach {one.largest:.3g}",
                why="nothing is written",
                fix="try --exact, and report the model: this is a fault in intaglio",
            )


def _record(built: Built, told: Mapping[str, Any]) -> None:
    kept = {key: told[key] for key in ("axis", "hop", "window", "delay")}
    states = {one["name"]: one["next"] for one in told["states"]}
    onnx.helper.set_model_props(
        built.model.proto,
        {
            **{p.key: p.value for p in built.model.proto.metadata_props},
            RECORD: json.dumps({**kept, "states": states}, sort_keys=True),
        },
    )
