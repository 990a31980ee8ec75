"""``intaglio binarize``: weights in one or two bits, and what that cost."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..graph.errors import UsageError
from . import console
from .before_after import amount_rows, choice, efficiency_text
from .fewer_bits import Given, Measured, Request, decibels, recipe_of, tell_noise, tell_rest
from .options import (
    Calibration,
    Debug,
    EvalData,
    Exclude,
    Json,
    Measure,
    ModelPath,
    Out,
    Preprocess,
    Samples,
    Seed,
    Shapes,
    fraction,
    points,
)

if TYPE_CHECKING:
    from ..passes.binarize.binarize import BinarizedModel

_COLLAPSED = 0.1
"""Accuracy that is lost, as a fraction, from which on a model counts as ruined."""
_DROWNED_DB = 3.0
"""Outputs with less signal over noise hardly resemble the original's."""


def binarize(
    model: ModelPath,
    out: Out,
    scheme: Annotated[
        str,
        typer.Option(
            "--scheme",
            "-s",
            metavar="NAME",
            help="planes, xnor, residual, onebit, twn, tbt, pb, billm, dbllm, pack: see intaglio passes. auto: what the model "
            "was trained for, else planes.",
        ),
    ] = "auto",
    data: Calibration = None,
    preprocess: Preprocess = None,
    samples: Samples = None,
    form: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="packed: bits, and operators on them whose definitions are in the file. standard: bits and standard "
            "operators alone. dense: the floats that the bits stand for. qonnx, with pack: BipolarQuant.",
        ),
    ] = "packed",
    activations: Annotated[
        str,
        typer.Option(
            metavar="float|int8",
            help="int8: large products round each row of their input to 8 bits, which is multiplied by bits fastest.",
        ),
    ] = "float",
    block: Annotated[
        int | None,
        typer.Option(min=0, help="Weights of a row that share scales, 0 for all of it.", show_default="by scheme"),
    ] = None,
    salient: Annotated[
        float,
        typer.Option(min=0.0, max=0.99, metavar="FRACTION", help="With pb: weights that keep eight bits."),
    ] = 0.1,
    size: Annotated[
        float | None,
        fraction("Keep this fraction of the file's bytes: layers that lose most stay in float. Needs data."),
    ] = None,
    max_drop: Annotated[
        float | None,
        points("Lose no more accuracy: layers that hurt most stay in float. Needs --eval-data."),
    ] = None,
    edges: Annotated[
        bool, typer.Option("--edges", help="Binarize the first and the last layers, too, which hurts most.")
    ] = False,
    zeros: Annotated[
        bool,
        typer.Option("--zeros", help="With pack: take what Sign makes of 0, which no bit can hold, as +1."),
    ] = False,
    include: Annotated[
        list[str] | None,
        typer.Option(help="Binarize only these: node or tensor names, operator types, or re:REGEX. Repeatable."),
    ] = None,
    exclude: Exclude = None,
    verify: Annotated[bool, typer.Option("--verify/--no-verify", help="Run the result and measure its noise.")] = True,
    eval_data: EvalData = None,
    measure: Measure = True,
    force: Annotated[
        bool,
        typer.Option(
            "--force",
            help="Run a scheme that ruins models which were not trained for it; write the model as it is where nothing "
            "can be binarized.",
        ),
    ] = False,
    seed: Seed = 0,
    shape: Shapes = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Store weights in one or two bits, or lower a network that was trained binary to operators on bits.

    Example: intaglio binarize model.onnx -o bits.onnx --data images.npz
    """
    from ..graph.io.load import load
    from ..graph.io.save import check_target
    from ..passes.binarize import Binarize
    from ..passes.binarize.trained import from_qonnx, to_qonnx
    from .options import parse_shapes

    options: dict[str, Any] = {
        "scheme": scheme,
        "form": "dense" if form == "qonnx" else choice("--form", form, ("packed", "standard", "dense", "qonnx")),
        "activations": choice("--activations", activations, ("float", "int8")),
        "block": block,
        "salient": salient,
        "size": size,
        "max_drop": max_drop,
        "edges": edges,
        "zeros": zeros,
        "include": tuple(include or ()),
        "exclude": tuple(exclude or ()),
        "force": force,
        "verify": verify,
    }
    if size == 0:
        raise UsageError("--size 0 keeps nothing", fix="give a fraction above 0 and up to 1")
    work = Binarize(**options)
    original = from_qonnx(load(model, shapes=parse_shapes(shape)))
    console.notes(original.notes)
    check_target(original, out)
    given = Given(data, eval_data, preprocess, samples)
    recipe = {**recipe_of("binarize", seed, options), "form": form}
    written = to_qonnx if form == "qonnx" else None
    request = Request(original, model, out, recipe, given, seed, measure, force, written)
    answer = request.carried_out("binarizing", work.binarize, _hint)
    if answer is not None:
        done, measured = answer
        _tell_collapse(done, measured["accuracy"], with_data=data is not None)
        _report(done, measured, model, out, original.notes)


def _hint(done: BinarizedModel) -> str:
    if done.scheme == "pack":
        return "see intaglio passes for what computes operators on bits here"
    return "weights in bits save memory, and time where single rows meet large layers; for speed see intaglio quantize"


def _tell_collapse(done: BinarizedModel, accuracy: dict[str, Any] | None, *, with_data: bool) -> None:
    """A model that is ruined is told to be, by its accuracy or else by its outputs."""
    fix = "quantize it to 4 bits, spare layers with --max-drop" + ("" if with_data else ", give --data")
    if accuracy is not None and "top1" in accuracy["before"]:
        before, after = accuracy["before"]["top1"], accuracy["after"]["top1"]
        if before - after > _COLLAPSED:
            done.notes.append(f"accuracy collapsed from {before:.1%} to {after:.1%}: {fix}, or train it in bits")
        return
    for name, ratio in done.outputs.items():
        if ratio < _DROWNED_DB:
            done.notes.append(f"output {name} hardly resembles the original's ({decibels(ratio)}): {fix}")


def _report(done: BinarizedModel, measured: Measured, model: Path, out: Path, notes: list[str]) -> None:
    from ..passes.binarize.binarize import describe

    result = {"model": str(model), "out": str(out), **describe(done), "notes": [*notes, *done.notes]}
    result.update({name: values for name, values in measured.items() if values})

    def show() -> None:
        rows = [
            (
                one["name"],
                one["scheme"],
                _number(one["bits"]),
                _number(one["expected_error"], 3),
                _number(one["weight_error"], 3),
                _number(one["output_error"], 3),
                decibels(one["sqnr_db"]),
            )
            for one in result["layers"]
        ]
        if rows:
            heads = ("layer", "scheme", "bits", "expected", "weights", "output", "SQNR")
            console.table("layers: bits of each weight, squared errors, signal to noise", heads, rows)
            console.line()
        console.table(str(out), ("", "before", "after", "kept"), list(amount_rows(result)))
        console.line()
        if done.bits is not None:
            console.line(
                f"{done.scheme}: {done.bits:.2f} bits for each weight of these layers, scales and maps included"
            )
        console.line(efficiency_text(result["bibench"]))
        tell_noise(result)
        tell_rest(result, done, out, spared="left in float:")

    console.emit(result, show)


def _number(value: float | None, digits: int = 2) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
