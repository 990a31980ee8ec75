"""``intaglio prune``: remove coupled channels, prove it, and show what it cost."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..graph.errors import NothingChanged, UsageError
from . import console
from .before_after import (
    accuracies,
    amount_rows,
    calibration_of,
    choice,
    for_many_samples,
    latencies,
    one_target,
    open_source,
    slower,
)
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
    from collections.abc import Callable

    from ..graph.model import Model
    from ..passes.prune.prune import Pruned


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
    from ..graph.io.save import check_target, save
    from ..passes import Context
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
    original = load(model, shapes=parse_shapes(shape))
    console.notes(original.notes)
    for path in (out, proof):
        if path is not None:
            check_target(original, path)
    if data is None and eval_data is None and preprocess is not None and dialect != "noise":
        raise UsageError("--preprocess says nothing without --data or --eval-data", fix="leave it out, or add data")
    if samples is not None and data is None and eval_data is None and dialect != "noise":
        raise UsageError("--samples says nothing without --data or --eval-data", fix="leave it out, or add data")
    original, close = for_many_samples(original, data, eval_data, dialect)
    labelled = open_source(eval_data, original, preprocess, samples if data is None and dialect != "noise" else None)
    source = calibration_of(data, dialect, original, preprocess, samples, seed)
    with console.progress("pruning") as tick:
        pruned = _run(options, original, Context(data=source, seed=seed, tick=tick), labelled)
    accuracy = accuracies(original, pruned.model, labelled)
    if pruned.latency and pruned.latency.verdict == "slower" and not force:
        raise NothingChanged(
            f"the pruned model is {pruned.latency.sentence()}; nothing was written",
            why="narrower layers can miss the widths that the runtime is fast at",
            fix="ask for a smaller --latency, try --round-to 8, or write it all the same with --force",
        )
    for changed in (original, pruned.model):
        close(changed)
    times = latencies(original, pruned.model, seed, pruned.latency) if measure else None
    if not pruned.latency:
        pruned.notes.extend(slower(times, "widths that are multiples of 8 or 16 run best, try --round-to 8"))
    options["criterion"] = pruned.criterion
    recipe = {"pass": "prune", "seed": seed, **{k: v for k, v in options.items() if v is not None}}
    save(pruned.model, out, recipe=recipe)
    if proof:
        _write_proof(pruned, close, proof)
    measured = {"accuracy": accuracy, "latency_ms": times}
    _report(pruned, model, out, measured, original.notes)


def _run(options: dict[str, Any], model: Model, context: Any, real: Any) -> Pruned:
    from ..passes.prune import PruneChannels

    return PruneChannels(**options).prune(model, context, real=real)


def _write_proof(pruned: Pruned, close: Callable[[Model], None], path: Path) -> None:
    from ..graph.coupling import masked
    from ..graph.io.save import save

    reference = masked(pruned.removal)
    close(reference)
    save(reference, path)


def _report(
    pruned: Pruned, model: Path, out: Path, measured: dict[str, dict[str, Any] | None], notes: list[str]
) -> None:
    from ..passes.prune.prune import describe

    result = {"model": str(model), "out": str(out), **describe(pruned), "notes": [*notes, *pruned.notes]}
    result.update({name: values for name, values in measured.items() if values})

    def show() -> None:
        changed = [(g.name, old, new, "" if g.exact else "inexact") for g, old, new in pruned.groups if old != new]
        console.table("channels", ("group", "before", "after", ""), changed)
        console.line()
        console.table(str(out), ("", "before", "after", "kept"), list(amount_rows(result)))
        console.line()
        console.line(_proof_line(pruned))
        if repaired := result.get("repair", {}).get("refitted"):
            console.line(f"refitted {repaired} layers on {result['repair']['samples']:,} samples, without labels")
        if "dialect" in result:
            what = {"id": "samples", "ood": "samples of another kind", "noise": "made-up samples"}[result["dialect"]]
            mirror = " and their mirror images" if result["mirrored"] else ""
            console.line(f"calibrated on {result['samples']:,} {what}{mirror}, without labels")
        if pruned.latency:
            console.line(pruned.latency.sentence())
        if "accuracy" not in result:
            console.line("accuracy not measured: give --eval-data to see what it cost")
        for note in pruned.notes:
            console.line(f"note: {note}")
        console.line(f"wrote {out} in {pruned.seconds:.1f} s")

    console.emit(result, show)


def _proof_line(pruned: Pruned) -> str:
    proof = pruned.proof
    if proof is None:
        return "not verified (--no-verify)"
    what = "the original with the removed channels zeroed"
    if pruned.refitted:
        what = "the refitted original with the removed channels zeroed"
    if not proof.exact:
        what += ", normalizations and means taken over what stays"
    return (
        f"verified: equals {what}, on all {proof.tensors} tensors ({proof.inputs} inputs, "
        f"largest relative difference {proof.max_rel_diff:.1e})"
    )
