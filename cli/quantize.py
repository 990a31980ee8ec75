"""``intaglio quantize``: fewer bits for weights and activations, and what that cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..graph.errors import UsageError
from . import console
from .before_after import amounts_table, emit
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
    points,
)

if TYPE_CHECKING:
    from ..graph.model import Model


def quantize(
    model: ModelPath,
    out: Out,
    scheme: Annotated[
        str | None,
        typer.Option(
            "--scheme",
            "-s",
            metavar="NAME",
            help="int8, dynamic, w8, w4, w3, w2, mixed, fp16, bf16, or wXaY such as w4a8: see intaglio passes.",
            show_default="int8; mixed with --bits or --size",
        ),
    ] = None,
    data: Calibration = None,
    preprocess: Preprocess = None,
    samples: Samples = None,
    target: Annotated[
        str,
        typer.Option(metavar="NAME", help="What will run it: x86, x86-avx2, arm, openvino, tensorrt, generic."),
    ] = "x86",
    ranges: Annotated[
        str,
        typer.Option(
            metavar="NAME", help="Ranges of activations: minmax, percentile, mse, entropy, or the best of them."
        ),
    ] = "auto",
    method: Annotated[
        str,
        typer.Option(
            metavar="NAME", help="How weights are rounded: nearest, mse, gptq, descent, adaround, or the best of them."
        ),
    ] = "auto",
    group_size: Annotated[
        int | None,
        typer.Option(
            min=0, help="Weights that share a scale, 0 for all of an output channel.", show_default="by scheme"
        ),
    ] = None,
    bits: Annotated[
        float | None, typer.Option(min=2.0, max=8.0, help="Bits per weight on average: layers get different numbers.")
    ] = None,
    size: Annotated[
        float | None,
        typer.Option(min=0.0, max=1.0, metavar="FRACTION", help="Keep this fraction of the file's bytes, likewise."),
    ] = None,
    allocator: Annotated[str, typer.Option(metavar="NAME", help="How --bits and --size are divided: dp, ompq.")] = "dp",
    max_drop: Annotated[
        float | None,
        points("Lose no more accuracy: layers that hurt most keep more bits. Needs --eval-data."),
    ] = None,
    smooth: Annotated[
        float | None,
        typer.Option(
            min=0.0, max=1.0, metavar="ALPHA", help="SmoothQuant before rounding, 0.5 is usual. Needs --data."
        ),
    ] = None,
    equalize: Annotated[
        bool, typer.Option("--equalize", help="Level the weights of consecutive layers first; always without data.")
    ] = False,
    input_range: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME:LOW,HIGH",
            help="Range of a graph input, for int8 without data. Repeatable.",
            show_default="8-bit pixels after --preprocess",
        ),
    ] = None,
    keep_io: Annotated[
        bool, typer.Option("--keep-io/--no-keep-io", help="With fp16: graph inputs and outputs stay float32.")
    ] = True,
    min_sqnr: Annotated[
        float, typer.Option(metavar="DB", help="With fp16 and bf16: nodes below this stay float32.")
    ] = 30.0,
    include: Annotated[
        list[str] | None,
        typer.Option(help="Quantize only these: node or tensor names, operator types, or re:REGEX. Repeatable."),
    ] = None,
    exclude: Exclude = None,
    verify: Annotated[
        bool, typer.Option("--verify/--no-verify", help="Run the result and look at what the runtime makes of it.")
    ] = True,
    eval_data: EvalData = None,
    measure: Measure = True,
    force: Annotated[
        bool, typer.Option("--force", help="Write the model as it is where nothing in it can be quantized.")
    ] = False,
    seed: Seed = 0,
    shape: Shapes = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Give weights, and activations, fewer bits in a form that runtimes accelerate.

    Example: intaglio quantize model.onnx -o int8.onnx --data images.npz
    """
    from ..graph.io.load import load
    from ..passes.quantize import Quantize
    from ..pipeline.run import run
    from .options import parse_shapes

    samples_of_data(samples, data)
    original = load(model, shapes=parse_shapes(shape))
    options: dict[str, Any] = {
        "scheme": scheme or ("int8" if bits is None and size is None else "mixed"),
        "target": target,
        "ranges": ranges,
        "method": method,
        "group_size": group_size,
        "bits": bits,
        "size": size,
        "allocator": allocator,
        "max_drop": max_drop,
        "smooth": smooth,
        "equalize": equalize,
        "input_ranges": _input_ranges(input_range) or (() if data else _pixel_ranges(original, preprocess)),
        "keep_io": keep_io,
        "min_sqnr": min_sqnr,
        "include": tuple(include or ()),
        "exclude": tuple(exclude or ()),
        "verify": verify,
    }
    report = run(
        original,
        Quantize(**options),
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


def _input_ranges(texts: list[str] | None) -> tuple[tuple[str, float, float], ...]:
    found = []
    for text in texts or ():
        name, _, limits = text.rpartition(":")
        try:
            low, high = (float(x) for x in limits.split(","))
        except ValueError as error:
            raise UsageError(f"cannot read --input-range {text!r}", fix="write it like image:-2.1,2.6") from error
        if not name or not low < high:
            raise UsageError(f"cannot read --input-range {text!r}", fix="write it like image:-2.1,2.6")
        found.append((name, low, high))
    return tuple(found)


def _pixel_ranges(model: Model, preprocess: str | None) -> tuple[tuple[str, float, float], ...]:
    """What --preprocess makes of the darkest and the brightest pixel, for each image input it describes."""
    import numpy as np

    from ..measure.data.preprocess import parse_preprocess
    from ..measure.run.tensor_specs import input_ports

    ports = input_ports(model)
    found = []
    for port in ports:
        steps = parse_preprocess(preprocess, [p.name for p in ports])[port.name]
        if not steps.steps or port.dtype.kind != "f" or len(port.shape or ()) != 4:
            continue
        colours = min(d for d in (port.shape or ())[1::2] if isinstance(d, int))
        ends = np.zeros((2, 8, 8, colours), np.uint8)
        ends[1] = 255
        values = steps(ends, channels_last=True)
        found.append((port.name, float(values.min()), float(values.max())))
    return tuple(found)


def _show(result: dict[str, Any]) -> None:
    rows = [
        (one["name"], one["weights"], one["activations"], one["method"], decibels(one["sqnr_db"]))
        for one in result["layers"]
    ]
    if rows:
        console.table("layers", ("layer", "weights", "input", "rounding", "SQNR"), rows)
        console.line()
    amounts_table(result)
    tell_noise(result)
    if integer := result["runtime"]["integer"]:
        told = ", ".join(f"{count} {op}" for op, count in integer.items())
        console.line(f"ONNX Runtime computes in integers: {told}")
    tell_skipped(result, spared="more bits for")
