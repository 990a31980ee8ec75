"""``intaglio quantize``: fewer bits for weights and activations, and what that cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..passes.quantize.options import QuantizeOptions
from . import console
from .before_after import amounts_table, emit
from .fewer_bits import decibels, samples_of_data, tell_noise, tell_skipped
from .parameters import takes
from .run import Run

if TYPE_CHECKING:
    from ..graph.model import Model


@takes
def quantize(options: QuantizeOptions, run: Run) -> None:
    """Give weights, and activations, fewer bits in a form that runtimes accelerate.

    Example: intaglio quantize model.onnx -o int8.onnx --data images.npz
    """
    from ..passes.quantize import Quantize

    samples_of_data(run.samples, run.data)
    model = run.opened()
    ranges = options.input_ranges or (() if run.data else _pixel_ranges(model, run.preprocess))
    emit(run.report(Quantize(**{**dict(options), "input_ranges": ranges}), model), _show)


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
