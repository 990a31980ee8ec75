"""``intaglio binarize``: weights in one or two bits, and what that cost."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from ..graph.errors import UsageError
from . import console
from .before_after import amounts_table, choice, efficiency_text, emit
from .fewer_bits import decibels, samples_of_data, tell_noise, tell_skipped
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
    from ..passes.binarize import Binarize
    from ..pipeline.run import run
    from .options import parse_shapes

    options: dict[str, Any] = {
        "scheme": scheme,
        "form": choice("--form", form, ("packed", "standard", "dense", "qonnx")),
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
    samples_of_data(samples, data)
    report = run(
        load(model, shapes=parse_shapes(shape)),
        Binarize(**options),
        data=data,
        eval_data=eval_data,
        preprocess=preprocess,
        samples=samples,
        seed=seed,
        out=out,
        measure=measure,
        unchanged=force,
        view=console,
    )
    emit(report, _show)


def _show(result: dict[str, Any]) -> None:
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
    amounts_table(result)
    if (bits := result["bits"]) is not None:
        console.line(f"{result['scheme']}: {bits:.2f} bits for each weight of these layers, scales and maps included")
    console.line(efficiency_text(result["bibench"]))
    tell_noise(result)
    tell_skipped(result, spared="left in float:")


def _number(value: float | None, digits: int = 2) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
