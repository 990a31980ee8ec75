"""``intaglio search``: many recipes tried on one model, and those that nothing beats written."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from ...passes.options import reworded
from .. import console
from ..before_after import decibels
from ..options import (
    Debug,
    Json,
    Memory,
    Metrics,
    ModelPath,
    Preprocess,
    Seed,
    Shapes,
    Values,
    option,
    parse_shapes,
    parse_values,
)
from ..parameters import takes

_LIMIT = "FRACTION|AMOUNT"


@dataclass(frozen=True)
class _What:
    """What may be chosen, and what is better."""

    space: Annotated[
        str | None,
        option(
            "--space WORDS",
            "What may be chosen, in the order of passes: widths, ranks, bits of each group and layer, macs, precision; "
            "by default macs,bits.",
            "method",
        ),
    ] = None
    recipe: Annotated[
        str | None,
        option(
            "--recipe FILE", "Or a recipe with ranges: keep: {from: 0.3, to: 1.0}, scheme: {of: [w4, w8]}.", "method"
        ),
    ] = None
    settings: Annotated[
        list[str] | None, option("--set NAME=VALUE", "Value of a variable of the recipe. Repeatable.", "method")
    ] = None
    objectives: Annotated[
        str | None,
        option(
            "--objectives NAMES",
            "accuracy, sqnr, agreement, size, macs, params, latency, memory; by default accuracy, or sqnr without labels, "
            "size and macs.",
            "target",
        ),
    ] = None
    size: Annotated[str | None, option(f"--size {_LIMIT}", "No more of the file's bytes, 0.25 or 500KB.", "target")] = (
        None
    )
    macs: Annotated[str | None, option(f"--macs {_LIMIT}", "No more MACs.", "target")] = None
    params: Annotated[str | None, option(f"--params {_LIMIT}", "No more parameters.", "target")] = None
    latency: Annotated[str | None, option(f"--latency {_LIMIT}", "No more time a run.", "target")] = None
    device: Annotated[
        str | None,
        option(
            "--device-command COMMAND",
            "Measures times elsewhere: runs the folder {bundle} there and brings its device.json back as {result}.",
            "target",
        ),
    ] = None
    max_drop: Annotated[float | None, option("--max-drop POINTS", "No more accuracy lost.", "target", min=0)] = None


@dataclass(frozen=True, kw_only=True)
class _How:
    """How it is searched, where, and on what."""

    strategy: Annotated[str, option("--strategy NAME", "How trials are chosen: see intaglio passes.", "method")] = (
        "linas"
    )
    trials: Annotated[
        int, option("--trials N", "Trials in all; a search that is begun again goes on.", "method", min=1)
    ] = 64
    batch: Annotated[int, option("--batch N", "Trials chosen at once.", "advanced", min=1)] = 8
    halving: Annotated[
        bool,
        option(
            "--halving", "Try all of a batch on a quarter of the samples first, only the better half on all.", "method"
        ),
    ] = False
    nested: Annotated[
        bool, option("--nested", "One order of channels for all widths, and no refit: trials cost less.", "method")
    ] = False
    executor: Annotated[str, option("--executor NAME", "Where trials run: local, processes, ray.", "advanced")] = (
        "local"
    )
    workers: Annotated[int, option("--workers N", "Trials at the same time.", "advanced", min=1)] = 1
    storage: Annotated[
        str | None,
        option(
            "--storage URL",
            "Where trials are kept: sqlite:///FILE, postgresql://..., journal:FILE, lines:FILE.",
            "advanced",
            show_default="OUT/study.db",
        ),
    ] = None
    study: Annotated[
        str | None, option("--study NAME", "Its name there.", "advanced", show_default="by model and all that decides")
    ] = None
    cache: Annotated[Path | None, option("--cache DIR", "What trials share.", "advanced", show_default="OUT/cache")] = (
        None
    )
    cache_size: Annotated[str, option("--cache-size SIZE", "Bytes that it may take.", "advanced")] = "4GB"
    data: Annotated[str | None, option("--data SOURCE", "Real inputs, unlabelled: see intaglio quantize.", "data")] = (
        None
    )
    preprocess: Preprocess = None
    samples: Annotated[int, option("--samples N", "Use only the first N samples of the data.", "data", min=1)] = 128
    shape: Shapes = None
    value: Values = None
    eval_data: Annotated[
        str | None, option("--eval-data SOURCE", "Labelled data: measure the accuracy.", "accuracy")
    ] = None
    eval_samples: Annotated[
        int | None,
        option("--eval-samples N", "Of these, the first N in each trial.", "accuracy", min=1, show_default="all"),
    ] = None
    metric: Metrics = None
    write: Annotated[int, option("--write N", "Models of the front to write.", "output", min=1)] = 8
    memory: Memory = "512MB"
    seed: Seed = 0
    json: Json = False
    debug: Debug = False


@takes
def search(
    what: _What, how: _How, model: ModelPath, out: Annotated[Path, option("--out -o DIR", "Folder to write.", "output")]
) -> None:
    """Try many recipes on one model: the front of those that nothing beats is written, with a report of all.

    Example: intaglio search model.onnx -o front --space widths,bits --data images.npz --eval-data test.npz
    """
    from ...graph.errors import GateFailed, UsageError
    from ...pipeline.recipe.load import parse_settings
    from ...pipeline.study.search import Searching
    from ...pipeline.units import parse_size

    given = {**vars(what), **{key: value for key, value in vars(how).items() if key not in _HERE}}
    given |= {
        "space": _words(what.space),
        "objectives": _words(what.objectives),
        "settings": parse_settings(what.settings),
        "metrics": how.metric or (),
        "scored": how.eval_samples,
        "shapes": parse_shapes(how.shape),
        "inputs": parse_values(how.value),
        "memory": parse_size(how.memory),
        "cache_bytes": parse_size(how.cache_size, "--cache-size"),
        "view": console,
    }
    failed = None
    try:
        report = Searching(model, out, **given).run()
    except GateFailed as error:
        failed, report = error, error.report
    except UsageError as error:
        raise reworded(error, lambda name: f"--{name.replace('_', '-')}") from error
    console.emit(report, lambda: _show(report), failed=failed)


_HERE = {"metric", "eval_samples", "shape", "value", "memory", "cache_size", "json", "debug"}
"""What is read on the command line alone."""


def _words(text: str | None) -> list[str]:
    return [word.strip() for word in (text or "").split(",") if word.strip()]


def _show(report: dict[str, Any]) -> None:
    written = {one["name"]: one["out"] for one in report["written"]}
    rows = [_row(one, written, report) for one in report["points"] if one["front"]]
    heads = ("", "accuracy", "SQNR", "file", "MACs", "time", "written")
    console.table("what nothing beats", heads, rows)
    console.line(
        f"{report['trials']} trials, {report['failed']} of them could not be run; all are in {report['out']}/report.html"
    )


def _row(point: dict[str, Any], written: dict[str, str], report: dict[str, Any]) -> tuple[str, ...]:
    kept = point["kept"]
    accuracy = next((f"{value:.4g}" for value in (point["accuracy"] or {}).values()), "")
    shares = [kept.get("size_bytes"), kept.get("macs"), point["latency_ratio"]]
    cells = ["" if share is None else f"{share:.1%}" for share in shares]
    return point["name"], accuracy, decibels(point["sqnr_db"]), *cells, written.get(point["name"], "")
