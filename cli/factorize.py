"""``intaglio factorize``: write layers as products of smaller ones, prove it, and show what it cost."""

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
    points,
)

if TYPE_CHECKING:
    from ..graph.model import Model
    from ..passes.factorize.factorize import Factorized


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
    from ..graph.io.save import check_target, save
    from ..passes import Context
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
    if data is None and eval_data is None and dialect != "noise":
        for name, value in (("--preprocess", preprocess), ("--samples", samples)):
            if value is not None:
                raise UsageError(f"{name} says nothing without --data or --eval-data", fix="leave it out, or add data")
    original = load(model, shapes=parse_shapes(shape))
    console.notes(original.notes)
    for path in (out, proof):
        if path is not None:
            check_target(original, path)
    original, close = for_many_samples(original, data, eval_data, dialect)
    labelled = open_source(eval_data, original, preprocess, samples if data is None and dialect != "noise" else None)
    source = calibration_of(data, dialect, original, preprocess, samples, seed)
    with console.progress("factorizing") as tick:
        done = _run(options, original, Context(data=source, seed=seed, tick=tick), labelled)
    accuracy = accuracies(original, done.model, labelled)
    if done.latency and done.latency.verdict == "slower" and not force:
        raise NothingChanged(
            f"the factorized model is {done.latency.sentence()}; nothing was written",
            why="thin layers can take longer than what they save",
            fix="ask for a smaller --latency, or write it all the same with --force",
        )
    for changed in (original, done.model, done.reference):
        close(changed)
    times = latencies(original, done.model, seed, done.latency) if measure else None
    if not done.latency:
        hint = "thin layers can take longer than what they save, try --align 16 or a higher --min-speedup"
        done.notes.extend(slower(times, hint))
    recipe = {"pass": "factorize", "seed": seed, **{k: v for k, v in options.items() if v is not None}}
    save(done.model, out, recipe=recipe)
    if proof:
        save(done.reference, proof)
    _report(done, model, out, {"accuracy": accuracy, "latency_ms": times}, original.notes)


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


def _run(options: dict[str, Any], model: Model, context: Any, labelled: Any) -> Factorized:
    from ..passes.factorize import Factorize

    return Factorize(**options).factorize(model, context, real=labelled)


def _report(
    done: Factorized, model: Path, out: Path, measured: dict[str, dict[str, Any] | None], notes: list[str]
) -> None:
    from ..passes.factorize.factorize import describe

    result = {"model": str(model), "out": str(out), **describe(done), "notes": [*notes, *done.notes]}
    result.update({name: values for name, values in measured.items() if values})

    def show() -> None:
        split = [layer for layer in done.layers if layer.scheme]
        rows = [(r.name, r.op, r.scheme, "x".join(map(str, r.rank)), _times(r.gain), _times(r.speedup)) for r in split]
        console.table("split", ("layer", "operator", "scheme", "rank", "cheaper", "faster"), rows)
        if whole := [(r.name, r.op, r.reason) for r in done.layers if not r.scheme]:
            console.line()
            console.table("whole", ("layer", "operator", "because"), whole)
        console.line()
        console.table(str(out), ("", "before", "after", "kept"), list(amount_rows(result)))
        console.line()
        console.line(_proof_line(done))
        if "samples" in result:
            mirror = " and their mirror images" if result["mirrored"] else ""
            fitted = f"fitted {result['fitted']} layers and refitted {result['refitted']} that stay whole"
            what = {"id": "samples", "ood": "samples of another kind", "noise": "made-up samples"}[result["dialect"]]
            console.line(f"{fitted} on {result['samples']:,} {what}{mirror}, without labels")
        if done.latency:
            console.line(done.latency.sentence())
        if "accuracy" not in result:
            console.line("accuracy not measured: give --eval-data to see what it cost")
        for note in done.notes:
            console.line(f"note: {note}")
        console.line(f"wrote {out} in {done.seconds:.1f} s")

    console.emit(result, show)


def _times(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _proof_line(done: Factorized) -> str:
    if done.proof is None:
        return "not verified (--no-verify)"
    return (
        "verified: equals the network whose weights are the products of the factors, on "
        f"{console.count(done.proof.tensors, 'tensor')} ({done.proof.inputs} inputs, largest relative difference {done.proof.max_rel_diff:.1e})"
    )
