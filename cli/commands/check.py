"""``intaglio check``: does a model load and run?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from ...graph.errors import BadModel
from .. import console
from ..opened_model import dims_text, first_batch, open_model, open_source, shape_text, told_shapes
from ..options import Data, Debug, Json, ModelPath, Preprocess, Seed, Shapes, Threads, Values, option


def check(
    model: ModelPath,
    data: Data = None,
    preprocess: Preprocess = None,
    rtol: Annotated[float, option("--rtol X", "Allowed difference to expected outputs, relative.", min=0.0)] = 1e-3,
    atol: Annotated[float, option("--atol X", "Allowed difference to expected outputs, absolute.", min=0.0)] = 1e-5,
    threads: Threads = 1,
    shape: Shapes = None,
    value: Values = None,
    seed: Seed = 0,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Load a model, run it once and say whether it works.

    Outputs that the data says are right, as in an ONNX test_data_set folder, are compared.

    Example: intaglio check model.onnx --data test_data_set_0
    """
    from ...measure.run.session import run

    opened = open_model(model, shape, value)
    source = open_source(data, opened.model, preprocess, None)
    batch = first_batch(opened, source, size=1 if source else 2, seed=seed)
    outputs = run(opened.session(threads=threads), batch.inputs)
    wrong = _wrong(outputs, batch.expected, rtol, atol)
    described = [_describe(name, value) for name, value in outputs.items()]
    result = {
        "model": str(model),
        "ok": not wrong,
        "opset": opened.model.opset,
        "ran_on": told_shapes(batch.inputs),
        "inputs_from": data or f"random, seed {seed}",
        "outputs": described,
        "compared": sorted(batch.expected),
        "native": opened.native,
        "notes": list(opened.model.notes),
    }

    def show() -> None:
        console.line(f"{model}: loads and runs on {shape_text(told_shapes(batch.inputs))} ({result['inputs_from']})")
        if opened.native:
            console.line(f"operators on bits: native, {opened.native}")
        rows = [[o["name"], o["type"], dims_text(o["shape"]), o["not_finite"]] for o in described]
        console.table("", ("output", "type", "shape", "not finite"), rows)
        if batch.expected and not wrong:
            console.line(f"as expected: {', '.join(sorted(batch.expected))}")

    failure = BadModel("the model does not give what its data expects", why="; ".join(wrong)) if wrong else None
    console.emit(result, show, failed=failure)


def _wrong(outputs: Mapping[str, Any], expected: Mapping[str, Any], rtol: float, atol: float) -> list[str]:
    """What is not as expected, a sentence each."""
    import numpy as np

    told = []
    for name, wanted in expected.items():
        given = np.asarray(outputs[name])
        if given.shape != np.shape(wanted):
            told.append(f"{name} has shape {given.shape} instead of {np.shape(wanted)}")
        elif given.dtype.kind in "OUS":
            told += [] if (given.astype(str) == np.asarray(wanted).astype(str)).all() else [f"{name} differs"]
        elif not np.allclose(
            given.astype(np.float64), np.asarray(wanted).astype(np.float64), rtol, atol, equal_nan=True
        ):
            gap = np.nanmax(np.abs(given.astype(np.float64) - np.asarray(wanted).astype(np.float64)))
            told.append(f"{name} differs by up to {gap:.3g}")
    return told


def _describe(name: str, value: Any) -> dict[str, Any]:
    import numpy as np

    if not isinstance(value, np.ndarray):
        return {"name": name, "type": type(value).__name__, "shape": None, "not_finite": 0}
    wild = int((~np.isfinite(value)).sum()) if value.dtype.kind in "fc" else 0
    return {"name": name, "type": str(value.dtype), "shape": list(value.shape), "not_finite": wild}
