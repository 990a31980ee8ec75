"""``intaglio stream``: a model of windows as one of hops, with states; compared hop by hop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ...passes.stream.options import StreamOptions
from .. import console
from ..before_after import decibels, tell_gates
from ..options import (
    Data,
    Debug,
    Gates,
    Json,
    ModelPath,
    Out,
    Preprocess,
    Samples,
    Seed,
    Shapes,
    Values,
    read_model,
)
from ..parameters import takes
from ..run import Fits


@dataclass(frozen=True, kw_only=True)
class _Job(Fits):
    """A model, where the result goes, and what it is compared on."""

    model: ModelPath
    out: Out
    data: Data = None
    preprocess: Preprocess = None
    samples: Samples = None
    shape: Shapes = None
    value: Values = None
    gate: Gates = None
    seed: Seed = 0
    json: Json = False
    debug: Debug = False


@takes
def stream(options: StreamOptions, job: _Job) -> None:
    """Make a model of windows one that takes what is new, keeping states, and compare the two.

    Example: intaglio stream model.onnx -o stream.onnx --axis time --hop 160
    """
    from ...graph.io.fit import Fit
    from ...pipeline.ends.streaming import stream as write

    streamed = write(
        read_model(job.model, job.shape, job.value),
        options,
        job.out,
        data=job.data,
        preprocess=job.preprocess,
        samples=job.samples,
        gates=job.gate or (),
        seed=job.seed,
        fit=Fit.of(job.opset, job.ir, job.runtime),
    )
    result = {"model": str(job.model), **streamed.told}
    console.notes(result["notes"])
    console.emit(result, lambda: _show(result), failed=streamed.failed)


def _show(result: dict[str, Any]) -> None:
    before, after = result["before"], result["after"]
    window = "window" if result["window"] else "window of any length"
    rows = [
        ("MACs", *(console.human(one["macs"]) for one in (before, after)), console.percent(result["kept"]["macs"], 1))
    ]
    rows.append(("median run", *(f"{result['ms'].get(name, 0):.3g} ms" for name in ("window", "hop")), ""))
    console.table(result["out"], ("", window, f"hop of {result['hop']}", "kept"), rows)
    rows = [
        (name, f"{late:,}", f"{one['max_abs']:.3g}", f"{one['max_rel']:.3g}", decibels(one["sqnr_db"]))
        for name, late in result["delay"].items()
        if (one := result["outputs"].get(name))
    ]
    columns = ("output", "samples late", "max diff", "max / largest", "SQNR")
    console.table(f"against the model as it was, {console.count(result['hops'], 'hop')}", columns, rows)
    console.line(
        f"{console.count(len(result['states']), 'state')} of {console.human(result['state_bytes'], 'B')} from run to run"
    )
    tell_gates(result)
    console.line(f"wrote {result['out']}")
