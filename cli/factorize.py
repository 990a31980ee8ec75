"""``intaglio factorize``: write layers as products of smaller ones, prove it, and show what it cost."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..graph.errors import UsageError
from . import console
from .before_after import amounts_table, choice, emit, needs_data, samples_text
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
    points,
)

if TYPE_CHECKING:
    from ..passes.change import Change


def factorize(
    model: ModelPath,
    out: Out,
    macs: Annotated[float | None, fraction("Keep this fraction of the MACs, such as 0.6.")] = None,
    params: Annotated[float | None, fraction("Keep this fraction of the parameters.")] = None,
    size: Annotated[float | None, fraction("Keep this fraction of the file's bytes.")] = None,
    latency: Annotated[float | None, fraction("Keep this fraction of the time a run takes, measured here.")] = None,
    energy: Annotated[float | None, fraction("Keep this fraction of every layer's energy, such as 0.95.")] = None,
    evbmf: Annotated[bool, typer.Option("--evbmf", help="Keep what stands out of noise in every layer.")] = False,
    max_drop: Annotated[
        float | None,
        points("Look for the smallest model that loses at most so many points of accuracy on --eval-data."),
    ] = None,
    rank: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=RANK",
            help="Split this layer, by the name of its node or weight, at this rank; alone, only the layers named. "
            "Repeatable.",
        ),
    ] = None,
    data: Calibration = None,
    dialect: Dialect = None,
    scheme: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Use only this way to split, see intaglio passes. Repeatable.",
            show_default="all; without --data those that weights can choose",
        ),
    ] = None,
    align: Annotated[int, typer.Option(min=1, metavar="N", help="Ranks are multiples of N.")] = 8,
    min_gain: Annotated[
        float, typer.Option(min=0.0, metavar="TIMES", help="Split only layers that get so many times cheaper.")
    ] = 1.3,
    min_speedup: Annotated[
        float, typer.Option(min=0.0, metavar="TIMES", help="Split only layers that are measured so many times faster.")
    ] = 1.1,
    measure: Annotated[
        bool, typer.Option("--measure/--no-measure", help="Time layers alone, and both models in turn.")
    ] = True,
    solver: Annotated[
        str, typer.Option(metavar="knapsack|greedy", help="How the target is divided over layers.")
    ] = "knapsack",
    refit: Annotated[
        bool,
        typer.Option("--refit/--no-refit", help="With --data, also fit layers that stay whole to what reaches them."),
    ] = True,
    mirror: Mirror = True,
    include: Annotated[
        list[str] | None,
        typer.Option(help="Split only these: node or weight names, operator types, or re:REGEX. Repeatable."),
    ] = None,
    exclude: Exclude = None,
    verify: Annotated[
        bool, typer.Option("--verify/--no-verify", help="Prove that the result equals the product of its factors.")
    ] = True,
    proof: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Also write the network with the products, so that anyone can check.",
            show_default=False,
        ),
    ] = None,
    eval_data: EvalData = None,
    preprocess: Preprocess = None,
    samples: CalibrationSamples = None,
    force: Annotated[
        bool, typer.Option("--force", help="Write the result though --latency made it slower than the original.")
    ] = False,
    seed: Seed = 0,
    shape: Shapes = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Split layers into low-rank factors until a target is met.

    Example: intaglio factorize model.onnx -o small.onnx --macs 0.6 --data calib.npz
    """
    from ..graph.io.load import load
    from ..passes.factorize import Factorize
    from ..pipeline.run import run
    from .options import parse_shapes

    given = {"macs": macs, "params": params, "size": size, "latency": latency, "energy": energy, "drop": max_drop}
    ranks = _ranks(rank)
    target, keep = _target(given, evbmf, bool(ranks))
    options: dict[str, Any] = {
        "target": target,
        "keep": keep,
        "ranks": ranks,
        "schemes": tuple(scheme or ()),
        "align": align,
        "min_gain": min_gain,
        "measure": measure,
        "min_speedup": min_speedup,
        "solver": solver,
        "refit": refit,
        "mirror": mirror,
        "dialect": dialect if dialect is None else choice("--dialect", dialect, ("id", "ood", "noise")),
        "include": tuple(include or ()),
        "exclude": tuple(exclude or ()),
        "verify": verify,
    }
    needs_data(data or eval_data or dialect == "noise", preprocess, samples)
    report = run(
        load(model, shapes=parse_shapes(shape)),
        Factorize(**options),
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


def _target(given: dict[str, float | None], evbmf: bool, ranks: bool) -> tuple[str, float]:
    chosen = {name: value for name, value in given.items() if value is not None}
    if evbmf:
        chosen["evbmf"] = 1.0
    options = {name: f"--{'max-drop' if name == 'drop' else name}" for name in (*given, "evbmf")}
    if len(chosen) > 1:
        raise UsageError(f"{' and '.join(options[n] for n in chosen)} exclude each other", fix="give one of them")
    if not chosen and ranks:
        return "rank", 1.0
    if not chosen:
        raise UsageError(
            "no target was given",
            fix=f"say what to keep with one of {', '.join(options.values())} or --rank NAME=16, such as --macs 0.6",
        )
    ((name, value),) = chosen.items()
    if value <= 0 and name != "drop":
        raise UsageError(f"{options[name]} {value:g} keeps nothing", fix="give a fraction above 0 and up to 1")
    return name, max(value, 1e-9)


def _ranks(texts: list[str] | None) -> tuple[tuple[str, int], ...]:
    """``["conv1=16"]`` as ``(("conv1", 16),)``. Raises UsageError on anything else."""
    ranks: dict[str, int] = {}
    for text in texts or ():
        name, equals, number = text.rpartition("=")
        if not equals or not name or not number.isdecimal() or not int(number[:9]) > 0 or len(number) > 9:
            raise UsageError(f"cannot read --rank {text!r}", fix="write it like --rank NAME=16")
        if name in ranks:
            raise UsageError(f"--rank gives {name!r} twice")
        ranks[name] = int(number)
    return tuple(ranks.items())


def _show(result: dict[str, Any], change: Change) -> None:
    split = [one for one in result["layers"] if one["scheme"]]
    rows = [
        (r["name"], r["op"], r["scheme"], "x".join(map(str, r["rank"])), _times(r["gain"]), _times(r["speedup"]))
        for r in split
    ]
    console.table("split", ("layer", "operator", "scheme", "rank", "cheaper", "faster"), rows)
    if whole := [(r["name"], r["op"], r["reason"]) for r in result["layers"] if not r["scheme"]]:
        console.line()
        console.table("whole", ("layer", "operator", "because"), whole)
    console.line()
    amounts_table(result)
    console.line(change.proved)
    if "samples" in result:
        fitted = f"fitted {result['fitted']} layers and refitted {result['refitted']} that stay whole"
        console.line(f"{fitted} on {samples_text(result)}, without labels")
    if change.latency:
        console.line(change.latency.sentence())


def _times(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
