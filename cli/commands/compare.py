"""``intaglio compare``: two models side by side."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .. import console
from ..before_after import efficiency_text
from ..opened_model import OpenedModel, first_batch, open_models, open_source, shape_text, told_shapes
from ..options import Batch, Data, Debug, Json, Preprocess, Runs, Samples, Seconds, Seed, Shapes, Threads, Values

if TYPE_CHECKING:
    from ...graph.cost import Cost
    from ...measure.run.latency import Latency, Timing

RANDOM_NOTE = "no --data: the outputs are compared on random inputs, which say little about real ones"
_FIGURES = {
    "size_bytes": "bytes on disk",
    "params": "parameters",
    "macs": "MACs",
    "bops": "MACs of bits",
    "equivalent_macs": "all MACs, of bits 1/{}",
}
"""Those of bits are there only where a model computes with bits."""


def compare(
    a: Annotated[Path, typer.Argument(metavar="A", help="The reference model.", show_default=False)],
    b: Annotated[Path, typer.Argument(metavar="B", help="The model to set beside it.", show_default=False)],
    data: Data = None,
    preprocess: Preprocess = None,
    samples: Samples = None,
    batch: Batch = 64,
    runs: Runs = None,
    seconds: Seconds = 2.0,
    threads: Threads = 1,
    shape: Shapes = None,
    value: Values = None,
    seed: Seed = 0,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Set two models side by side: size, MACs, latency, outputs.

    Latency is that of one sample, both models run in turn. Without --data the outputs are compared on random inputs.

    Example: intaglio compare model.onnx small.onnx --data test.npz --preprocess unit
    """
    from ...measure.run.latency import time_sessions
    from ...measure.run.pairing import output_differences, pair_models

    left, right = open_models((a, b), shape, value)
    pair = pair_models(left.model, right.model)
    source = open_source(data, left.model, preprocess, samples)
    one = first_batch(left, source, seed=seed)
    sessions = [s.session(threads=threads, spin=False) for s in (left, right)]
    with console.progress("comparing outputs") as tick:
        batches = source.batches(batch) if source else [one]
        total = source.samples if source else 1
        outputs, seen = output_differences(sessions, pair, batches, tick=lambda done: tick(done, total))
    with console.progress("timing") as tick:
        feeds = (one.inputs, pair.for_b(one.inputs))
        timing = time_sessions(sessions, feeds, threads=threads, runs=runs, seconds=seconds, tick=tick)
    notes = [*pair.notes, *(source.notes if source else [RANDOM_NOTE])]
    result = {
        **_sides(left, right, timing),
        "outputs": {name: difference.as_dict() for name, difference in outputs.items()},
        "inputs": told_shapes(one.inputs),
        "data": data or f"random, seed {seed}",
        "samples": seen,
        "threads": threads,
        "machine": timing.machine,
        "notes": notes,
    }
    if source is None:
        for output in result["outputs"].values():
            output["top1_agreement"] = None  # on noise it says nothing, however high
    result["warnings"] = _warnings(result)
    console.notes(pair.notes if source else notes)
    console.emit(result, lambda: _show(result))


def _sides(left: OpenedModel, right: OpenedModel, timing: Timing) -> dict[str, Any]:
    """What both models cost, and what is left of A's costs in B."""
    from ...graph.cost import cost
    from ...measure.efficiency import efficiency

    costs = cost(left.model), cost(right.model)
    with_bits = any(c.bops for c in costs)
    a, b = (_side(*side, with_bits) for side in zip((left, right), costs, timing.latencies, strict=True))
    told: dict[str, Any] = {"a": a, "b": b, "speedup": timing.speedup(1), "verdict": timing.verdict(1)}
    told["kept"] = {key: _ratio(a[key], b[key]) for key in _FIGURES if key in a}
    if any(c.bit_params for c in costs):
        told["bibench"] = efficiency(*costs).as_dict()
    return told


def _side(opened: OpenedModel, costs: Cost, latency: Latency, with_bits: bool) -> dict[str, Any]:
    return {
        "model": str(opened.path),
        "size_bytes": opened.size_bytes,
        "params": costs.params,
        "macs": costs.macs,
        **({"bops": costs.bops, "equivalent_macs": costs.equivalent_macs} if with_bits else {}),
        "latency_ms": {"median": latency.median_ms, "p90": latency.p90_ms, "min": latency.min_ms},
        "runs": latency.runs,
    }


def _ratio(a: float, b: float) -> float | None:
    return b / a if a else None


def _words(key: str) -> str:
    from ...graph.bits import BITS_A_MAC

    return _FIGURES[key].format(BITS_A_MAC)


def _warnings(result: Mapping[str, Any]) -> list[str]:
    """What nobody should overlook."""
    told = [
        f"B has more {_words(key)}: {console.percent(kept, 1)} of A's"
        for key in _FIGURES
        if (kept := result["kept"].get(key)) is not None and kept > 1
    ]
    if result["verdict"] == "slower":
        told.append(f"B is slower: it takes {1 / result['speedup']:.2f} times as long as A")
    broken = {name: o["not_finite"] for name, o in result["outputs"].items() if o["not_finite"]}
    return told + [f"output {name!r}: {count} values are finite in one model only" for name, count in broken.items()]


def _show(result: dict[str, Any]) -> None:
    a, b = result["a"], result["b"]
    console.line(f"A  {a['model']}")
    console.line(f"B  {b['model']}")
    console.table("", ("", "A", "B", "B / A"), _figures(a, b))
    words = {"faster": "B is faster", "slower": "B is slower", "same": "no real difference in speed"}
    console.line(f"{words[result['verdict']]} ({result['speedup']:.2f} x) on {shape_text(result['inputs'])}")
    console.line(f"{console.count(result['threads'], 'thread')}; {result['machine']}")
    if "bibench" in result:
        console.line(efficiency_text(result["bibench"]))
    console.line()
    several = f"{console.count(result['samples'], 'sample')} of " if result["samples"] > 1 else ""
    columns = ("output", "max diff", "mean diff", "max / largest", "SQNR dB", "top-1 agreement")
    rows = [_output(name, o) for name, o in result["outputs"].items()]
    console.table(f"Outputs on {several}{result['data']}", columns, rows)
    for warning in result["warnings"]:
        console.line(f"warning: {warning}")


def _figures(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[list[object]]:
    rows: list[list[object]] = []
    for key in filter(a.__contains__, _FIGURES):
        unit = "B" if key == "size_bytes" else ""
        rows.append([_words(key), console.human(a[key], unit), console.human(b[key], unit), _percent(a[key], b[key])])
    for what in ("median", "p90"):
        times = a["latency_ms"][what], b["latency_ms"][what]
        rows.append([f"latency, {what}", *(f"{t:.3f} ms" for t in times), _percent(*times)])
    return rows


def _percent(a: float, b: float) -> str:
    return console.percent(_ratio(a, b), 1)


def _output(name: str, o: Mapping[str, Any]) -> list[object]:
    agreement = console.percent(o["top1_agreement"])
    if o["identical"]:
        return [name, "0", "0", "0", "identical", agreement]
    return [name, *(f"{o[k]:.3g}" for k in ("max_abs", "mean_abs", "max_rel")), f"{o['sqnr_db']:.1f}", agreement]
