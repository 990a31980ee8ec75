"""``intaglio compare``: two models side by side."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..graph.cost import cost
from . import console
from .options import Data, Debug, Json, Preprocess, Samples, Seed, Shapes, Threads
from .subject import Subject, first_inputs, open_source, open_subject, shape_text, told_shapes

if TYPE_CHECKING:
    import numpy as np

    from ..measure.data import DataSource
    from ..measure.difference import Difference
    from ..measure.latency import Timing

RANDOM_NOTE = "no --data: the outputs are compared on random inputs, which say little about real ones"
_ROWS = (("size on disk", "size_bytes", "B"), ("parameters", "params", ""), ("MACs", "macs", ""))


def compare(
    a: Annotated[Path, typer.Argument(metavar="A", help="The reference model.", show_default=False)],
    b: Annotated[Path, typer.Argument(metavar="B", help="The model to set beside it.", show_default=False)],
    data: Data = None,
    preprocess: Preprocess = None,
    samples: Samples = None,
    batch: Annotated[int, typer.Option("--batch", min=1, metavar="N", help="Samples run at once on --data.")] = 64,
    runs: Annotated[
        int | None, typer.Option("--runs", min=1, metavar="N", help="Timed runs of each model, instead of --seconds.")
    ] = None,
    seconds: Annotated[
        float, typer.Option("--seconds", min=0.0, metavar="S", help="Time to spend on each model's latency.")
    ] = 2.0,
    threads: Threads = 1,
    shape: Shapes = None,
    seed: Seed = 0,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Set two models side by side: size, MACs, latency, outputs.

    Latency is that of one sample, both models run in turn. Without --data the outputs are compared on random inputs.

    Example: intaglio compare model.onnx small.onnx --data test.npz --preprocess unit
    """
    left, right = open_subject(a, shape), open_subject(b, shape)
    source = open_source(data, left.model, preprocess, samples)
    one = first_inputs(left, source, batch=1, seed=seed)
    timing, outputs, seen = _measure(left, right, source, one, batch=batch, runs=runs, seconds=seconds, threads=threads)
    result = {
        **_result(left, right, timing, outputs),
        "inputs": told_shapes(one),
        "data": data or f"random, seed {seed}",
        "samples": seen,
        "threads": threads,
        "machine": timing.machine,
        "notes": list(source.notes) if source else [RANDOM_NOTE],
    }
    if source is None:
        console.notes(result["notes"])
        for output in result["outputs"].values():
            output["top1_agreement"] = None  # on noise it says nothing, however high
    console.emit(result, lambda: _show(result))


def _measure(
    left: Subject,
    right: Subject,
    source: DataSource | None,
    one: Mapping[str, np.ndarray],
    *,
    batch: int,
    runs: int | None,
    seconds: float,
    threads: int,
) -> tuple[Timing, dict[str, Difference], int]:
    from ..measure.latency import time_sessions
    from ..measure.pairing import inputs_for_b, output_differences, pair_ports
    from ..measure.ports import input_ports, output_ports

    ins = pair_ports(input_ports(left.model), input_ports(right.model), "input")
    outs = pair_ports(output_ports(left.model), output_ports(right.model), "output")
    theirs = input_ports(right.model)
    sessions = tuple(s.session(threads=threads, spin=False) for s in (left, right))
    seen = 0

    def pieces() -> Iterator[tuple[Mapping[str, np.ndarray], Mapping[str, np.ndarray], int | None]]:
        nonlocal seen
        if source is None:
            seen = 1
            yield one, inputs_for_b(one, ins, theirs), None
            return
        with console.progress("comparing outputs") as tick:
            for piece in source.batches(batch):
                rows = piece.count if source.fixed_batch and piece.count < source.fixed_batch else None
                yield piece.inputs, inputs_for_b(piece.inputs, ins, theirs), rows
                seen += piece.count
                tick(seen, source.samples)

    outputs = output_differences((sessions[0], sessions[1]), pieces(), outs)
    with console.progress("timing") as tick:
        feeds = (one, inputs_for_b(one, ins, theirs))
        timing = time_sessions(sessions, feeds, threads=threads, runs=runs, seconds=seconds, tick=tick)
    return timing, outputs, seen


def _result(left: Subject, right: Subject, timing: Timing, outputs: Mapping[str, Difference]) -> dict[str, Any]:
    sides = []
    for subject, latency in zip((left, right), timing.latencies, strict=True):
        costs = cost(subject.model)
        sides.append(
            {
                "model": str(subject.path),
                "size_bytes": subject.size_bytes,
                "params": costs.params,
                "macs": costs.macs,
                "latency_ms": {"median": latency.median_ms, "p90": latency.p90_ms, "min": latency.min_ms},
                "runs": latency.runs,
            }
        )
    kept = {key: sides[1][key] / sides[0][key] if sides[0][key] else None for _, key, _ in _ROWS}
    verdict = timing.verdict(1)
    return {
        "a": sides[0],
        "b": sides[1],
        "kept": {"size": kept["size_bytes"], "params": kept["params"], "macs": kept["macs"]},
        "speedup": timing.speedup(1),
        "verdict": verdict,
        "warnings": _warnings(kept, verdict, timing, outputs),
        "outputs": {name: difference.as_dict() for name, difference in outputs.items()},
    }


def _warnings(
    kept: Mapping[str, float | None], verdict: str, timing: Timing, outputs: Mapping[str, Difference]
) -> list[str]:
    """What nobody should overlook."""
    told = [
        f"B has more {what}: {console.human(100 * (kept[key] or 0))} % of A's"
        for what, key in (("bytes on disk", "size_bytes"), ("parameters", "params"), ("MACs", "macs"))
        if (kept[key] or 0) > 1
    ]
    if verdict == "slower":
        told.append(f"B is slower: it takes {1 / timing.speedup(1):.2f} times as long as A")
    broken = [name for name, difference in outputs.items() if difference.not_finite]
    return told + [
        f"output {name!r}: {outputs[name].not_finite} values are finite in one model only" for name in broken
    ]


def _show(result: dict[str, Any]) -> None:
    a, b = result["a"], result["b"]
    rows: list[list[object]] = [
        [what, console.human(a[key], unit), console.human(b[key], unit), _kept(a[key], b[key])]
        for what, key, unit in _ROWS
    ]
    for what in ("median", "p90"):
        times = a["latency_ms"][what], b["latency_ms"][what]
        rows.append([f"latency, {what}", *(f"{t:.3f} ms" for t in times), _kept(*times)])
    console.line(f"A  {a['model']}")
    console.line(f"B  {b['model']}")
    console.table("", ("", "A", "B", "B / A"), rows)
    words = {"faster": "B is faster", "slower": "B is slower", "same": "no real difference in speed"}
    console.line(f"{words[result['verdict']]} ({result['speedup']:.2f} x) on {shape_text(result['inputs'])}")
    console.line(f"{console.count(result['threads'], 'thread')}; {result['machine']}")
    console.line()
    several = f"{console.count(result['samples'], 'sample')} of " if result["samples"] > 1 else ""
    columns = ("output", "max diff", "mean diff", "max / largest", "SQNR dB", "top-1 agreement")
    console.table(
        f"Outputs on {several}{result['data']}", columns, [_output(name, o) for name, o in result["outputs"].items()]
    )
    for warning in result["warnings"]:
        console.line(f"warning: {warning}")


def _kept(a: float, b: float) -> str:
    return console.percent(b / a, 1) if a else "-"


def _output(name: str, o: Mapping[str, Any]) -> list[object]:
    if o["identical"]:
        return [name, "0", "0", "0", "identical", console.percent(o["top1_agreement"])]
    return [
        name,
        *(f"{o[k]:.3g}" for k in ("max_abs", "mean_abs", "max_rel")),
        f"{o['sqnr_db']:.1f}",
        console.percent(o["top1_agreement"]),
    ]
