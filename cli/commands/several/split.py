"""``intaglio split``: a full model that gives an inner tensor, and a light one that takes it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from ... import console
from ...before_after import decibels
from ...options import Data, Debug, Json, ModelPath, Preprocess, Samples, Seed, Shapes, Values, option, read_model


def split(
    *,
    model: ModelPath,
    out: Annotated[Path, option("--out -o FOLDER", "Folder for full.onnx and light.onnx.", "output")],
    at: Annotated[list[str], option("--at TENSOR", "The tensor that is handed over. Repeatable.", "target")],
    every: Annotated[
        int, option("--every N", "Of so many steps one runs the full model, the others the light one.", "target", min=1)
    ] = 4,
    steps: Annotated[int, option("--steps N", "Steps that are compared.", "accuracy", min=1)] = 32,
    drift: Annotated[
        float,
        option(
            "--drift X", "How far made-up inputs go in each step, as a part of the way to others.", "advanced", min=0.0
        ),
    ] = 0.05,
    data: Data = None,
    preprocess: Preprocess = None,
    samples: Samples = None,
    shape: Shapes = None,
    value: Values = None,
    seed: Seed = 0,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Split a model in two for loops: steps between may take a deep tensor of a step before.

    Example: intaglio split unet.onnx --at /mid/Add_output_0 -o two
    """
    from ....pipeline.ends.splitting import Steps
    from ....pipeline.ends.splitting import split as write

    read = read_model(model, shape, value)
    said = {"data": data, "preprocess": preprocess, "samples": samples, "seed": seed}
    result = {"model": str(model), **write(read, at, out, Steps(steps, every, drift), **said)}  # type: ignore[arg-type]
    console.notes(result["notes"])
    console.emit(result, lambda: _show(result))


def _show(result: dict[str, Any]) -> None:
    before, after = result["before"], result["after"]
    rows = [(name, console.human(before[key]), console.human(after[key]), console.percent(result["kept"][key], 1))
            for name, key in (("MACs", "macs"), ("parameters", "params"))]  # fmt: skip
    console.table(result["out"], ("", "full", "light", "kept"), rows)
    rows = [
        (name, str(one["age"]), f"{gap['max_rel']:.3g}", decibels(gap["sqnr_db"]))
        for one in result["ages"]
        for name, gap in one["outputs"].items()
    ]
    console.table("light beside full", ("output", "steps old", "max / largest", "SQNR"), rows)
    mean = result["mean_macs"] / before["macs"]
    console.line(
        f"with the full model every {result['every']} steps: {console.percent(mean, 1)} of the MACs on average"
    )
    console.line(f"wrote {result['out']}/full.onnx and light.onnx")
