"""``intaglio compare``: two models side by side."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ...graph.errors import UsageError
from .. import console
from ..before_after import efficiency_text, tell_drops, tell_gates
from ..opened_model import OpenedModel, first_batch, open_models, open_source, shape_text, told_shapes
from ..options import (
    Batch,
    Data,
    Debug,
    Gates,
    GitHub,
    Html,
    Json,
    JUnit,
    Markdown,
    Measured,
    Metrics,
    Preprocess,
    Robust,
    Runs,
    Samples,
    Seconds,
    Seed,
    Shapes,
    Threads,
    Values,
)
from ..run import Outlets

if TYPE_CHECKING:
    from ...graph.cost import Cost
    from ...measure.data.source import Batch as Batches
    from ...measure.data.source import DataSource
    from ...measure.run.latency import Timing
    from ...measure.run.pairing import Pair
    from ...pipeline.gates import Gate

_FIGURES = {
    "size_bytes": "bytes on disk",
    "params": "parameters",
    "macs": "MACs",
    "bops": "MACs of bits",
    "equivalent_macs": "all MACs, of bits 1/{}",
}
"""Those of bits are there only where a model computes with bits."""


_CLASSES = 10


def compare(
    a: Annotated[Path, typer.Argument(metavar="A", help="The reference model.", show_default=False)],
    b: Annotated[Path, typer.Argument(metavar="B", help="The model to set beside it.", show_default=False)],
    data: Data = None,
    preprocess: Preprocess = None,
    samples: Samples = None,
    metric: Metrics = None,
    batch: Batch = 64,
    runs: Runs = None,
    seconds: Seconds = 2.0,
    threads: Threads = 1,
    shape: Shapes = None,
    value: Values = None,
    measured: Measured = None,
    robust: Robust = False,
    gate: Gates = None,
    junit: JUnit = None,
    markdown: Markdown = None,
    html: Html = None,
    github: GitHub = None,
    seed: Seed = 0,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Set two models side by side: size, MACs, latency, outputs, and accuracy where the data have labels.

    Latency is that of one sample, both models run in turn. Without --data the outputs are compared on random inputs.

    Example: intaglio compare model.onnx small.onnx --data test.npz --gate "drop <= 1.0" --gate "size <= 0.5x"
    """
    from ...measure.run.pairing import pair_models
    from ...pipeline.gates import missed, read_gates
    from ...pipeline.measured import told_latency

    gates, outlets = read_gates(gate or ()), Outlets(junit=junit, markdown=markdown, html=html, github=github)
    times = partial(_timing, measured, (a, b), threads=threads, runs=runs, seconds=seconds)
    with outlets.telling(a):
        left, right = open_models((a, b), shape, value)
        source = open_source(data, left.model, preprocess, samples)
        _require(gates, source, metric or (), robust=robust)
        one, sessions = (
            first_batch(left, source, seed=seed),
            [s.session(threads=threads, spin=False) for s in (left, right)],
        )
        pair, batches = pair_models(left.model, right.model), source.batches(batch) if source else [one]
        outputs = _outputs(sessions, pair, source, batches, gates, metric or (), robust=robust)
        timing, wrong = times(sessions, (one.inputs, pair.for_b(one.inputs)))
        result = {
            "model": str(a),
            "out": str(b),
            **_sides(left, right),
            "latency_ms": {**told_latency(timing), "inputs": told_shapes(one.inputs)},
            **outputs,
            "notes": [*outputs["notes"], *wrong],
            "data": data or f"random, seed {seed}",
        }
        result |= _judged(result, gates)
        outlets.tell(result)
    console.notes([note for note in result["notes"] if source is None or note not in source.notes])
    console.emit(result, lambda: _show(result), failed=missed(result["gates"]))


def _timing(
    measured: Path | None, models: Sequence[Path], sessions: Sequence[Any], feeds: Sequence[Any], **how: Any
) -> tuple[Timing, list[str]]:
    """Times taken here, or on another machine, and what was wrong there."""
    from ...measure.run.bundle import read_measured
    from ...measure.run.latency import time_sessions

    if measured is not None:
        return read_measured(measured, models)
    with console.progress("timing") as tick:
        return time_sessions(sessions, feeds, tick=tick, **how), []


def _outputs(
    sessions: Sequence[Any],
    pair: Pair,
    source: DataSource | None,
    batches: Iterable[Batches],
    gates: Sequence[Gate],
    metrics: Sequence[str],
    *,
    robust: bool,
) -> dict[str, Any]:
    """How far the outputs lie apart, and accuracy where there are labels."""
    from ...pipeline.measured import compared

    with console.progress("comparing outputs") as tick:
        return compared(sessions, pair, source, batches, gates, tick, metrics, robust=robust)


def _require(gates: Sequence[Gate], source: DataSource | None, metrics: Sequence[str], *, robust: bool) -> None:
    from ...pipeline.gates import require

    labels = None if source and source.labelled else "add --data SOURCE, data with labels"
    if labels and (metrics or robust):
        raise UsageError(f"{'--robust' if robust else f'metric {metrics[0]}'} needs labelled data", fix=labels)
    require(gates, labels=labels, data=None if source else "add --data SOURCE", times=None)


def _sides(left: OpenedModel, right: OpenedModel) -> dict[str, Any]:
    """What both models cost, and what is left of A's costs in B."""
    from ...graph.cost import cost
    from ...measure.efficiency import efficiency
    from ...pipeline.by_layer import by_layer

    costs = cost(left.model), cost(right.model)
    with_bits = any(c.bops for c in costs)
    a, b = (_side(*side, with_bits) for side in zip((left, right), costs, strict=True))
    told: dict[str, Any] = {"by_layer": list(by_layer(left.model, right.model))}
    told |= {"before": a, "after": b, "kept": {key: _ratio(a[key], b[key]) for key in _FIGURES if key in a}}
    return {**told, **({"bibench": efficiency(*costs).as_dict()} if any(c.bit_params for c in costs) else {})}


def _side(opened: OpenedModel, costs: Cost, with_bits: bool) -> dict[str, Any]:
    return {
        "macs": costs.macs,
        "params": costs.params,
        "size_bytes": opened.size_bytes,
        **({"bops": costs.bops, "equivalent_macs": costs.equivalent_macs} if with_bits else {}),
    }


def _ratio(a: float, b: float) -> float | None:
    return b / a if a else None


def _words(key: str) -> str:
    from ...graph.bits import BITS_A_MAC

    return _FIGURES[key].format(BITS_A_MAC)


def _judged(result: Mapping[str, Any], gates: Sequence[Gate]) -> dict[str, Any]:
    judged = [limit.judged(result) for limit in gates]
    passed = all(one["passed"] for one in judged)
    return {"gates": judged, "passed": passed, "warnings": _warnings({**result, "gates": judged})}


def _warnings(result: Mapping[str, Any]) -> list[str]:
    """What nobody should overlook."""
    told = [
        f"B has more {_words(key)}: {console.percent(kept, 1)} of A's"
        for key in _FIGURES
        if (kept := result["kept"].get(key)) is not None and kept > 1
    ]
    if result["latency_ms"]["verdict"] == "slower":
        told.append(f"B is slower: it takes {1 / result['latency_ms']['speedup']:.2f} times as long as A")
    broken = {name: o["not_finite"] for name, o in result["outputs"].items() if o["not_finite"]}
    told += [f"output {name!r}: {count} values are finite in one model only" for name, count in broken.items()]
    return [*told, *_drop_warnings(result)]


def _drop_warnings(result: Mapping[str, Any]) -> list[str]:
    from ...pipeline.warnings import drop_warnings

    return drop_warnings(result)


def _show(result: dict[str, Any]) -> None:
    latency = result["latency_ms"]
    console.line(f"A  {result['model']}")
    console.line(f"B  {result['out']}")
    console.table("", ("", "A", "B", "B / A"), _figures(result))
    words = {"faster": "B is faster", "slower": "B is slower", "same": "no real difference in speed"}
    console.line(f"{words[latency['verdict']]} ({latency['speedup']:.2f} x) on {shape_text(latency['inputs'])}")
    console.line(f"{console.count(latency['threads'], 'thread')}; {latency['machine']}")
    if "bibench" in result:
        console.line(efficiency_text(result["bibench"]))
    console.line()
    several = f"{console.count(result['samples'], 'sample')} of " if result["samples"] > 1 else ""
    columns = ("output", "max diff", "mean diff", "max / largest", "SQNR dB", "top-1 agreement")
    rows = [_output(name, o) for name, o in result["outputs"].items()]
    console.table(f"Outputs on {several}{result['data']}", columns, rows)
    if "accuracy" in result:
        tell_drops(result)
    if "robust" in result:
        _show_forgotten(result["robust"])
    tell_gates(result)
    for warning in result["warnings"]:
        console.line(f"warning: {warning}")


def _show_forgotten(found: Mapping[str, Any]) -> None:
    """The classes that lose most, and all together."""
    columns = ("class", "samples", "A right", "B right", "lost", "won", "changed", "margin A", "margin B", "")
    rows = [_forgotten(one) for one in (found, *found["classes"][:_CLASSES])]
    console.table("Answers, the classes that lose most first", columns, rows)
    if (rest := len(found["classes"]) - _CLASSES) > 0:
        console.line(f"and {rest} more classes: see --json")


def _forgotten(one: Mapping[str, Any]) -> list[object]:
    shares = (console.percent(one[side]["right"], 1) for side in ("before", "after"))
    margins = (f"{one[side]['margin']:.3g}" for side in ("before", "after"))
    told = "clearly worse" if one["clear"] else ""
    counts = one["lost"], one["won"], one["changed"]
    return [one.get("label", "all"), one["samples"], *shares, *counts, *margins, told]


def _figures(result: Mapping[str, Any]) -> list[list[object]]:
    from ...measure.paired import losses

    a, b, rows = result["before"], result["after"], list[list[object]]()
    for key in filter(a.__contains__, _FIGURES):
        unit = "B" if key == "size_bytes" else ""
        rows.append([_words(key), console.human(a[key], unit), console.human(b[key], unit), _percent(a[key], b[key])])
    times = {"median": result["latency_ms"], "p90": result["latency_ms"]["p90"]}
    for what, one in times.items():
        both = one["before"], one["after"]
        rows.append([f"latency, {what}", *(f"{t:.3f} ms" for t in both), _percent(*both)])
    for name, lost in losses(result).items():
        values = (console.metric(result, name, result["accuracy"][when][name]) for when in ("before", "after"))
        rows.append([name, *values, lost.change])
    return rows


def _percent(a: float, b: float) -> str:
    return console.percent(_ratio(a, b), 1)


def _output(name: str, o: Mapping[str, Any]) -> list[object]:
    agreement = console.percent(o["top1_agreement"])
    if o["identical"]:
        return [name, "0", "0", "0", "identical", agreement]
    return [name, *(f"{o[k]:.3g}" for k in ("max_abs", "mean_abs", "max_rel")), f"{o['sqnr_db']:.1f}", agreement]
