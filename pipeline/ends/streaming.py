"""A streamed model as a file, written once it was compared with the model as it was."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...graph.errors import GateFailed
from ...graph.io.fit import USUAL, Fit, fitted
from ...graph.io.save import check_target, save
from ...graph.model import Model
from ...passes.base import Context
from ...passes.stream import StreamOptions
from ...passes.stream import stream as streamed
from ..data import Data
from ..gates import missed, read_gates, require


@dataclass(frozen=True)
class Written:
    """What is told, and the error that a gate is."""

    told: dict[str, Any]
    failed: GateFailed | None


def stream(
    model: Model,
    options: StreamOptions,
    out: Path,
    *,
    data: str | None = None,
    preprocess: str | None = None,
    samples: int | None = None,
    gates: Sequence[str] = (),
    seed: int = 0,
    fit: Fit = USUAL,
) -> Written:
    """Stream a model and write it; what misses a gate lies aside as ``NAME.gate-failed.onnx``."""
    held = read_gates(gates)
    require(held, labels="leave it out", data=None, times="leave it out, or look at the times that are told")
    check_target(out)
    context = Context(Data(data, None, preprocess, samples, seed).open_calibration(model), seed=seed)
    made = streamed(model, options, context)
    told: dict[str, Any] = {**made.told, "notes": [*model.notes, *made.notes, *_remarks(made.told)]}
    told["gates"] = [gate.judged(told) for gate in held]
    failed = missed(told["gates"])
    final = out.with_name(f"{out.stem}.gate-failed{out.suffix}") if failed else out
    result, needs = fitted(made.model, fit)
    save(result, final, recipe={"pass": "stream", **options.model_dump(exclude_none=True)})
    return Written({**told, "out": str(final), "notes": [*told["notes"], *needs]}, failed)


def _remarks(told: dict[str, Any] | Any) -> list[str]:
    """Why it is not the same, and what is computed anew each time."""
    notes = []
    if padded := told["padded"]:
        more = f" and {len(padded) - 1} more" if len(padded) > 1 else ""
        notes.append(f"the signal takes the place of padding in {padded[0]}{more}: outputs differ; --exact avoids that")
    if carried := told["carried"]:
        notes.append(f"{', '.join(carried[:3])} carries its state on, where a window began anew: outputs differ")
    if windowed := told["windowed"]:
        share = told["head_macs"] / max(1, told["after"]["macs"])
        notes.append(
            f"from {windowed[0]} on all is computed on the whole window, which is kept: {share:.0%} of the MACs"
        )
    return notes
