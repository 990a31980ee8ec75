"""``intaglio sweep``: ways of pruning compared at several sizes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from .. import console
from ..before_after import decibels
from ..options import Debug, Json, Metrics, ModelPath, Preprocess, Seed, option
from ..parameters import takes


@dataclass(frozen=True, kw_only=True)
class _How:
    """How it is compared, and on what."""

    seeds: Annotated[
        int, option("--seeds N", "Seeds of whatever hangs on chance, the samples drawn among it.", "method", min=1)
    ] = 3
    target: Annotated[
        Literal["macs", "params", "size", "channels"],
        option("--target NAME", "What --keep is the fraction of.", "target"),
    ] = "macs"
    data: Annotated[str | None, option("--data SOURCE", "Real inputs, unlabelled: see intaglio prune.", "data")] = None
    preprocess: Preprocess = None
    samples: Annotated[int, option("--samples N", "Calibration samples, drawn by the seed.", "data", min=1)] = 512
    eval_data: Annotated[
        str | None, option("--eval-data SOURCE", "Labelled data: measure the accuracy.", "accuracy")
    ] = None
    metric: Metrics = None
    executor: Annotated[str, option("--executor NAME", "Where trials run: local, processes, ray.", "advanced")] = (
        "local"
    )
    workers: Annotated[int, option("--workers N", "Trials at the same time.", "advanced", min=1)] = 1
    cache: Annotated[Path | None, option("--cache DIR", "What trials share.", "advanced", show_default="OUT/cache")] = (
        None
    )
    seed: Seed = 0
    json: Json = False
    debug: Debug = False


@takes
def sweep(
    model: ModelPath,
    out: Annotated[Path, option("--out -o DIR", "Folder to write: a table, a page, a report.", "output")],
    methods: Annotated[
        str,
        option(
            "--methods NAMES", "Criteria, each with :DIALECT and +REPAIR if need be: l2,l2+refit,obspa:noise.", "method"
        ),
    ],
    keep: Annotated[str, option("--keep FRACTIONS", "How much is kept, such as 0.9,0.75,0.5.", "target")],
    how: _How,
) -> None:
    """Compare ways of pruning at several sizes, with seeds and spread: a table, a CSV file and a plot.

    Example: intaglio sweep model.onnx -o sweep --methods l2,obspa --keep 0.9,0.75,0.5 --data images.npz --eval-data test.npz
    """
    from ...graph.errors import UsageError
    from ...pipeline.study.sweep import Sweep

    try:
        shares = [float(word) for word in keep.split(",")]
    except ValueError as error:
        raise UsageError(f"cannot read --keep {keep!r}", fix="write it like --keep 0.9,0.75,0.5") from error
    names = [word.strip() for word in methods.split(",") if word.strip()]
    given = {key: value for key, value in vars(how).items() if key not in ("metric", "json", "debug")}
    given |= {"metrics": how.metric or (), "view": console}
    report = Sweep(model, out, names, shares, **given).run()
    console.emit(report, lambda: _show(report, shares))


def _show(report: dict[str, Any], shares: list[float]) -> None:
    found: dict[str, dict[str, str]] = {}
    for one in report["points"]:
        method, _, share = one["name"].rpartition(" ")
        found.setdefault(method, {})[share] = _cell(one)
    heads = [f"{share:g}" for share in shares]
    rows = [(method, *(cells.get(head, "") for head in heads)) for method, cells in found.items()]
    console.table(f"kept {report['target']}", ("method", *heads), rows)
    console.line(f"{report['trials']} trials; {report['out']} has sweep.csv and report.html")


def _cell(point: dict[str, Any]) -> str:
    """Mean and spread."""
    if point["told"]:
        return "-"
    for name, value in (point["accuracy"] or {}).items():
        spread = point["spread"][name]
        return f"{value:.2%}" + (f" ± {spread:.2%}" if point["seeds"] > 1 else "")
    return decibels(point["sqnr_db"])
