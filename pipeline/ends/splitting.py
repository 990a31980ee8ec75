"""A model split in two, compared step by step with itself, and written as two files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np

from ...graph.errors import ProofFailed, UsageError
from ...graph.io.save import File, check_target, save_all
from ...graph.model import Model
from ...measure.data.source import DataSource
from ...measure.difference import Difference, add_outputs
from ...measure.run.inputs import runnable_inputs
from ...measure.run.session import open_session, read_by, run
from ...passes.change import amounts
from ...passes.rewrite.split import Halves
from ...passes.rewrite.split import split as halves
from ..data import Data

_NEAR = 1e-5
FULL, LIGHT = "full.onnx", "light.onnx"
Feed = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Steps:
    """How long a loop is, how often it runs the full model, and how far made-up inputs go from step to step."""

    count: int
    every: int
    drift: float


def split(
    model: Model,
    tensors: Sequence[str],
    out: Path,
    steps: Steps,
    *,
    data: str | None = None,
    preprocess: str | None = None,
    samples: int | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Split, compare, write ``full.onnx`` and ``light.onnx`` into a folder.

    Raises:
        ProofFailed: on the same step the light model does not give what the full one gives.
    """
    two = halves(model, tensors)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{out} is no folder to write to", why=str(error), fix="name another: -o FOLDER") from error
    files = [check_target(out / name) for name in (FULL, LIGHT)]
    source = Data(data, None, preprocess, samples, seed).open_calibration(model)
    ages = compared(two, list(_feeds(model, source, steps, seed)), steps.every, [v.name for v in model.graph.output])
    recipe = {"pass": "split", "at": list(two.tensors)}
    save_all([File(two.full, files[0], recipe), File(two.light, files[1], recipe)])
    before, after = amounts(two.full), amounts(two.light)
    return {
        "out": str(out),
        "tensors": [_told(two.light, name) for name in two.tensors],
        "before": before.as_dict(),
        "after": after.as_dict(),
        "kept": before.kept(after),
        "every": steps.every,
        "mean_macs": (before.macs + (steps.every - 1) * after.macs) / steps.every,
        "steps": steps.count,
        "ages": [{"age": k, "outputs": {n: one.as_dict() for n, one in found.items()}} for k, found in enumerate(ages)],
        "notes": list(_notes(model, source)),
    }


def compared(two: Halves, feeds: Sequence[Feed], every: int, outputs: Sequence[str]) -> list[dict[str, Difference]]:
    """By how many steps old the tensors are that the light model gets, how far it is from the full one; 0 is proved."""
    full, light = open_session(two.full), open_session(two.light)
    ages: list[dict[str, Difference]] = [{} for _ in range(every)]
    kept: Feed = {}
    for step, feed in enumerate(feeds):
        truth = run(full, feed)
        kept = {name: truth[name] for name in two.tensors} if step % every == 0 else kept
        ours = run(light, read_by(light, {**feed, **kept}))
        add_outputs(ages[step % every], {n: truth[n] for n in outputs}, {n: ours[n] for n in outputs})
    for name, one in ages[0].items():
        if one.not_finite or one.max_abs > _NEAR * max(one.largest, 1.0):
            raise ProofFailed(
                f"output {name!r} of the light model differs by {one.max_abs:.3g} on the same step",
                why="nothing is written",
                fix="report the model: this is a fault in intaglio",
            )
    return ages


def _feeds(model: Model, source: DataSource | None, steps: Steps, seed: int) -> Iterator[Feed]:
    """Samples as steps, in their order; or a straight way between two made-up inputs."""
    if source is not None:
        yield from islice((batch.inputs for _ in cycle([0]) for batch in source.batches(1)), steps.count)
        return
    begin, end = (runnable_inputs(model, seed=seed + k, batches=(1,)) for k in (0, 1))
    for step in range(steps.count):
        far = min(1.0, steps.drift * step)
        mixed = {
            n: ((1 - far) * a + far * end[n]).astype(a.dtype) if a.dtype.kind == "f" else a for n, a in begin.items()
        }
        yield mixed


def _told(light: Model, name: str) -> dict[str, Any]:
    kind = next(v.type.tensor_type for v in light.graph.input if v.name == name)
    return {"name": name, "shape": [d.dim_param or d.dim_value for d in kind.shape.dim]}


def _notes(model: Model, source: DataSource | None) -> Iterator[str]:
    yield from model.notes
    if source is None:
        yield "no --data: steps are made up, a straight way from one random input to another, which says little about real ones"
