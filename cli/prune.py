"""``intaglio prune``: remove coupled channels, prove it, and show what it cost."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import console
from .before_after import amounts_table, choice, emit, needs_data, one_target, samples_text
from .options import (
    Calibration,
    CalibrationSamples,
    Debug,
    Dialect,
    EvalData,
    Exclude,
    Json,
    Mirror,
    ModelPath,
    Out,
    Preprocess,
    Seed,
    Shapes,
    fraction,
)

if TYPE_CHECKING:
    from ..passes.change import Change


def prune(
    model: ModelPath,
    out: Out,
    macs: Annotated[float | None, fraction("Keep this fraction of the MACs, such as 0.5.")] = None,
    params: Annotated[float | None, fraction("Keep this fraction of the parameters.")] = None,
    size: Annotated[float | None, fraction("Keep this fraction of the file's bytes.")] = None,
    latency: Annotated[float | None, fraction("Keep this fraction of the time a run takes, measured here.")] = None,
    channels: Annotated[float | None, fraction("Keep this fraction of every prunable group's channels.")] = None,
    data: Calibration = None,
    criterion: Annotated[
        str | None,
        typer.Option(
            "--criterion",
            "-c",
            help="How channels are chosen: see intaglio passes.",
            show_default="obspa with --data or --dialect, else l2",
        ),
    ] = None,
    dialect: Dialect = None,
    mirror: Mirror = True,
    repair: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="What makes up for removed channels: see intaglio passes.",
            show_default="the criterion's own",
        ),
    ] = None,
    scope: Annotated[
        str, typer.Option(metavar="global|group", help="Weigh channels over all groups, or thin each group equally.")
    ] = "global",
    solver: Annotated[
        str, typer.Option(metavar="knapsack|greedy", help="How obspa divides the target over groups.")
    ] = "knapsack",
    steps: Annotated[int, typer.Option(min=1, help="Remove in so many steps, scoring anew before each.")] = 1,
    axis: Annotated[
        str, typer.Option(metavar="heads|width|both", help="What to thin where heads and their width cross.")
    ] = "width",
    include: Annotated[
        list[str] | None,
        typer.Option(help="Prune only these: group, node or tensor names, operator types, or re:REGEX. Repeatable."),
    ] = None,
    exclude: Exclude = None,
    min_channels: Annotated[int, typer.Option(min=1, help="Channels that every group keeps at least.")] = 1,
    round_to: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Keep multiples of this many channels.",
            show_default="1; with --latency what the runtime works on at once",
        ),
    ] = None,
    exact_only: Annotated[
        bool, typer.Option("--exact-only", help="Leave groups whole that a normalization or a mean runs over.")
    ] = False,
    verify: Annotated[
        bool, typer.Option("--verify/--no-verify", help="Prove that the result equals the masked original.")
    ] = True,
    proof: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Also write the masked original, so that anyone can check.", show_default=False
        ),
    ] = None,
    measure: Annotated[
        bool, typer.Option("--measure/--no-measure", help="Time both models in ONNX Runtime, in turn.")
    ] = True,
    eval_data: EvalData = None,
    preprocess: Preprocess = None,
    samples: CalibrationSamples = None,
    force: Annotated[
        bool,
        typer.Option("--force", help="Write the result though it misses --latency by being slower than the original."),
    ] = False,
    seed: Seed = 0,
    shape: Shapes = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Remove the least important coupled channels until a target is met.

    Example: intaglio prune model.onnx -o small.onnx --macs 0.5
    """
    from ..graph.io.load import load
    from ..passes.prune import PruneChannels
    from ..pipeline.run import run
    from .options import parse_shapes

    target, keep = one_target(macs=macs, params=params, size=size, latency=latency, channels=channels)
    options = {
        "target": target,
        "keep": keep,
        "criterion": criterion,
        "dialect": dialect if dialect is None else choice("--dialect", dialect, ("id", "ood", "noise")),
        "mirror": mirror,
        "repair": repair,
        "scope": "group" if target == "channels" else choice("--scope", scope, ("global", "group")),
        "solver": solver,
        "steps": steps,
        "axis": choice("--axis", axis, ("heads", "width", "both")),
        "include": tuple(include or ()),
        "exclude": tuple(exclude or ()),
        "min_channels": min_channels,
        "round_to": round_to,
        "exact_only": exact_only,
        "verify": verify,
    }
    needs_data(data or eval_data or dialect == "noise", preprocess, samples)
    report = run(
        load(model, shapes=parse_shapes(shape)),
        PruneChannels.model_validate(options),
        data=data,
        eval_data=eval_data,
        preprocess=preprocess,
        samples=samples,
        seed=seed,
        out=out,
        proof=proof,
        measure=measure,
        force=force,
        view=console,
    )
    emit(report, lambda result: _show(result, report.change))


def _show(result: dict[str, Any], change: Change) -> None:
    rows = [(g["name"], g["before"], g["after"], "" if g["exact"] else "inexact") for g in result["groups"]]
    console.table("channels", ("group", "before", "after", ""), [row for row in rows if row[1] != row[2]])
    console.line()
    amounts_table(result)
    console.line(change.proved)
    if repaired := result.get("repair", {}).get("refitted"):
        console.line(f"refitted {repaired} layers on {result['repair']['samples']:,} samples, without labels")
    if "dialect" in result:
        console.line(f"calibrated on {samples_text(result)}, without labels")
    if change.latency:
        console.line(change.latency.sentence())
