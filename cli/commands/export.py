"""``intaglio export``: a model as a runtime takes it, checked in that runtime."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ...exporters.base import EXPORTERS
from ...graph.errors import UsageError
from .. import console
from ..before_after import decibels, tell_drops, tell_gates
from ..kinds import tell_kinds
from ..options import (
    Data,
    Debug,
    Json,
    Preprocess,
    Samples,
    Seed,
    Shapes,
    Threads,
    Values,
    option,
    read_model,
)
from ..parameters import options_behind, takes, with_behind
from ..run import Outlets

if TYPE_CHECKING:
    Behind = Any
else:
    Behind = options_behind(EXPORTERS, "target")


@dataclass(frozen=True, kw_only=True)
class _Job(Outlets):
    """What it is compared on, and where that is told."""

    data: Data = None
    preprocess: Preprocess = None
    samples: Samples = None
    shape: Shapes = None
    value: Values = None
    measure: Annotated[bool, option("--measure/--no-measure", "Time both, in turn.", "output")] = True
    seconds: Annotated[float, option("--seconds S", "Time to spend on timing each.", "advanced", min=0.0)] = 1.0
    threads: Threads = 1
    seed: Seed = 0
    json: Json = False
    debug: Debug = False


@takes
def export(
    *,
    model: Annotated[
        Path | None, typer.Argument(metavar="MODEL", help="What to export: any source.", show_default=False)
    ] = None,
    to: Annotated[
        str | None,
        option("--to TARGET", f"What will run it: {', '.join(EXPORTERS.builtin)}, or a plug-in's name.", "target"),
    ] = None,
    out: Annotated[Path | None, option("--out -o PATH", "File or folder to write.", "output")] = None,
    targets: Annotated[
        bool, option("--targets", "List targets, their options and what they need, and stop.", "target")
    ] = False,
    behind: Behind,
    job: _Job,
) -> None:
    """Write a model for a runtime, load it there, and compare it with ONNX Runtime.

    What was written gets its place only when its outputs are close enough: --gate "sqnr >= 40dB" says how close.

    Example: intaglio export model.onnx --to openvino -o model_openvino --data test.npz
    """
    if targets:
        tell_kinds(EXPORTERS, "targets")
        return
    from ...pipeline.exporting import export as write

    if model is None or to is None or out is None:
        wanted = ("MODEL", model), ("--to TARGET", to), ("-o PATH", out)
        raise UsageError("not all is said", fix=f"give {', '.join(name for name, value in wanted if value is None)}")
    with job.telling(model):
        read = read_model(model, job.shape, job.value)
        console.notes(read.notes)
        exported = write(
            read,
            with_behind(to, behind),
            out,
            data=job.data,
            preprocess=job.preprocess,
            samples=job.samples,
            seed=job.seed,
            gates=job.gate or (),
            measure=job.measure,
            threads=job.threads,
            seconds=job.seconds,
            view=console,
        )
        result = {**exported.as_dict(), "model": str(model)}
        job.tell(result)
    console.notes(result["notes"])
    console.emit(result, lambda: _show(result), failed=exported.failed)


def _show(result: dict[str, Any]) -> None:
    sizes = (console.human(result[side]["size_bytes"], "B") for side in ("before", "after"))
    console.table(
        result["out"], ("", "ONNX", result["target"]), [("bytes", *sizes), *_times(result), *_metrics(result)]
    )
    for name, value in result["figures"].items():
        console.line(f"{name}: {value}")
    told = f"{console.count(result['samples'], 'sample')} of {result['data']}"
    columns = ("output", "max diff", "max / largest", "SQNR", "top-1 agreement")
    rows = [_output(name, one) for name, one in result["outputs"].items()]
    console.table(f"Outputs in {result['runtime'] or result['target']} against ONNX Runtime's, {told}", columns, rows)
    if "accuracy" in result:
        tell_drops(result)
    tell_gates(result)
    console.line(f"wrote {result['out']}")


def _times(result: dict[str, Any]) -> list[tuple[str, ...]]:
    if "latency_ms" not in result:
        return []
    times = result["latency_ms"]
    both = f"{times['before']:.3f} ms", f"{times['after']:.3f} ms ({times['speedup']:.2f} x)"
    return [(f"latency, {console.count(times['threads'], 'thread')}", *both)]


def _metrics(result: dict[str, Any]) -> list[tuple[str, ...]]:
    rated = result.get("accuracy") or {"before": {}, "after": {}}
    return [(name, *(console.percent(rated[side][name]) for side in ("before", "after"))) for name in rated["before"]]


def _output(name: str, one: dict[str, Any]) -> tuple[str, ...]:
    agreement = console.percent(one["top1_agreement"])
    if one["identical"]:
        return name, "0", "0", "identical", agreement
    return name, f"{one['max_abs']:.3g}", f"{one['max_rel']:.3g}", decibels(one["sqnr_db"]), agreement
