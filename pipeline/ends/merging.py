"""Models merged into one, run, and written."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...graph.errors import BadModel, UsageError
from ...graph.io.save import File, check_target, save_all
from ...graph.model import Model
from ...measure.run.inputs import runnable_inputs
from ...measure.run.session import open_session, run
from ...passes.rewrite.merge import merge as merged
from ..importing import read_model


def merge(
    base: Model, tuned: Sequence[Path], out: Path, n: int, m: int, *, scales: Sequence[float], apart: bool
) -> dict[str, Any]:
    """Merge, run once on made-up inputs, write.

    Raises:
        UsageError: as many scales as models are needed, or none; blocks keep nothing, or more than there is.
        BadModel: what comes of it gives numbers that are not finite.
    """
    if scales and len(scales) != len(tuned):
        raise UsageError(
            f"{len(scales)} scales are given for {len(tuned)} models", fix="give --scale once for each, or leave it out"
        )
    if not 0 < n <= m:
        raise UsageError(f"pattern {n}:{m} keeps nothing, or more than there is", fix="write n:m, such as 64:256")
    target = check_target(out)
    found = merged(base, [read_model(one) for one in tuned], n=n, m=m, scales=scales, apart=apart)
    feeds = runnable_inputs(base, seed=0, batches=(1,))
    for name, value in run(open_session(found.model), feeds).items():
        if value.dtype.kind == "f" and not np.isfinite(value).all():
            raise BadModel(
                f"output {name!r} of the merged model is not finite",
                why="what the models changed does not add up",
                fix="give smaller --scale",
            )
    recipe = {"pass": "merge", "tuned": [one.name for one in tuned], "pattern": f"{n}:{m}", "scales": list(scales)}
    save_all([File(found.model, target, {**recipe, "apart": apart})])
    rows = zip(tuned, found.kept, found.changed, scales or [1.0] * len(tuned), strict=True)
    return {
        "out": str(out),
        "pattern": f"{n}:{m}",
        "apart": apart,
        "models": [{"model": str(p), "scale": s, "changed": c, "kept": k} for p, k, c, s in rows],
        "notes": list(base.notes),
    }
