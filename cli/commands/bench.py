"""``intaglio bench``: latency of one model, or of several in turn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ...graph.errors import UsageError
from .. import console
from ..opened_model import OpenedModel, first_batch, open_models, open_source, shape_text, told_shapes
from ..options import (
    Batch,
    Bundle,
    Data,
    Debug,
    GitHub,
    Html,
    Json,
    JUnit,
    Markdown,
    Preprocess,
    Runs,
    Seconds,
    Seed,
    Shapes,
    Threads,
    Values,
)
from ..run import Outlets

if TYPE_CHECKING:
    import numpy as np

    from ...measure.run.latency import Timing


def bench(
    models: Annotated[
        list[Path], typer.Argument(metavar="MODEL", help="ONNX files to time in turn.", show_default=False)
    ],
    runs: Runs = None,
    seconds: Seconds = 2.0,
    batch: Batch = 1,
    threads: Threads = 1,
    shape: Shapes = None,
    value: Values = None,
    data: Data = None,
    preprocess: Preprocess = None,
    bundle: Bundle = None,
    junit: JUnit = None,
    markdown: Markdown = None,
    html: Html = None,
    github: GitHub = None,
    seed: Seed = 0,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Measure how fast one model runs, or several in turn.

    Several models run turn by turn, A B B A, so that what slows the machine for a moment slows all of them.

    Example: intaglio bench model.onnx small.onnx --threads 2
    """
    from ...measure.run.latency import WARM_UP_RUNS, time_sessions

    outlets = Outlets(junit=junit, markdown=markdown, html=html, github=github)
    with outlets.telling(models[0]):
        opened_models = open_models(models, shape, value)
        sessions = [s.session(threads=threads, spin=len(models) == 1) for s in opened_models]
        feeds = []
        for opened in opened_models:
            source = open_source(data, opened.model, preprocess, None)
            feeds.append(first_batch(opened, source, size=batch, seed=seed).inputs)
        if bundle is not None:
            _bundle(bundle, opened_models, sessions, feeds, threads)
            return
        with console.progress("timing") as tick:
            timing = time_sessions(sessions, feeds, threads=threads, runs=runs, seconds=seconds, tick=tick)
        result = {
            "models": [_row(i, s, feed, timing) for i, (s, feed) in enumerate(zip(opened_models, feeds, strict=True))],
            "threads": threads,
            "warm_up_runs": WARM_UP_RUNS,
            "machine": timing.machine,
            "notes": _notes(feeds),
        }
        outlets.tell(result)
    console.notes(_notes(feeds))
    console.emit(result, lambda: _show(result))


def _bundle(
    folder: Path,
    models: Sequence[OpenedModel],
    sessions: Sequence[Any],
    feeds: Sequence[Mapping[str, np.ndarray]],
    threads: int,
) -> None:
    from ...measure.run.bundle import write_bundle
    from ...measure.run.latency import machine

    for one in models:
        if one.model.file and one.model.file.data_files:
            raise UsageError(f"{one.path} has a second file", fix="bundle models of one file, below 2 GB")
    files = write_bundle(folder, [one.path for one in models], sessions, feeds, threads)
    known = {"models": [], "threads": threads, "warm_up_runs": 0, "machine": machine(), "notes": _notes(feeds)}
    result = {**known, "bundle": str(folder), "files": files}

    def told() -> None:
        console.line(f"wrote {folder}: run its run.sh where the models will run")
        console.line("then: intaglio compare A B --measured device.json")

    console.emit(result, told)


def _row(i: int, opened: OpenedModel, feed: Mapping[str, np.ndarray], timing: Timing) -> dict[str, Any]:
    latency = timing.latencies[i]
    return {
        "model": str(opened.path),
        "inputs": told_shapes(feed),
        "median_ms": latency.median_ms,
        "p90_ms": latency.p90_ms,
        "min_ms": latency.min_ms,
        "runs": latency.runs,
        "native": opened.native,
        "speedup": timing.speedup(i),
        "verdict": timing.verdict(i) if i else "base",
    }


def _show(result: Mapping[str, Any]) -> None:
    rows = result["models"]
    columns = ("model", "median ms", "p90 ms", "min ms", "runs", *(("speed",) if len(rows) > 1 else ()))
    console.table("", columns, [_cells(row)[: len(columns)] for row in rows])
    native = {f"; operators on bits: native, {row['native']}" for row in rows if row["native"]}
    machine = f"{result['machine']}{''.join(native)}"
    console.line(f"{shape_text(rows[0]['inputs'])}; {console.count(result['threads'], 'thread')}; {machine}")


def _cells(row: Mapping[str, Any]) -> list[object]:
    words = {"faster": "", "slower": ", slower", "same": ", no real difference", "base": ""}
    times = [f"{row[key]:.3f}" for key in ("median_ms", "p90_ms", "min_ms")]
    return [row["model"], *times, row["runs"], f"{row['speedup']:.2f} x{words[row['verdict']]}"]


def _notes(feeds: Sequence[Mapping[str, np.ndarray]]) -> list[str]:
    shapes = [list(told_shapes(feed).values()) for feed in feeds]
    return ["the models run on inputs of different shapes"] if any(s != shapes[0] for s in shapes) else []
