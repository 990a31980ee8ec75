"""What a run would do, and what that is expected to cost: told without running anything."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..graph.io.save import file_bytes
from ..graph.model import Model
from ..passes.base import Pass
from ..passes.change import amounts
from .data import Data
from .recipe.write import shortened

_ALIKE = {"macs", "params", "size", "channels"}
"""What is asked of one of them is expected of all, as layers that go take all with them."""


def planned(passes: Sequence[Pass], model: Model, data: Data) -> dict[str, Any]:
    """The passes, with fractions of the original that are expected after each; None where only a run tells.

    Raises:
        IntaglioError: the data cannot be opened.
    """
    _ = data.open_calibration(model), data.open_labelled(model, passes)
    before = amounts(model)
    kept: dict[str, float | None] = {"macs": 1.0, "params": 1.0, "size_bytes": 1.0}
    steps = []
    for one in passes:
        kept = _after(one, model, kept)
        told = {name: value for name, value in one.model_dump(mode="json").items() if value is not None}
        steps.append({**shortened({"pass": one.name, **told}), "expected": dict(kept)})
    return {"model": str(model.source) if model.source else None, "before": before.as_dict(), "passes": steps}


def _after(one: Pass, model: Model, kept: dict[str, float | None]) -> dict[str, float | None]:
    target, keep, size = (getattr(one, name, None) for name in ("target", "keep", "size"))
    if target in _ALIKE and keep is not None:
        return {name: value and value * keep for name, value in kept.items()}
    if size is not None:
        return {**kept, "size_bytes": size}
    if one.weight_bits is not None:
        return {**kept, "size_bytes": kept["size_bytes"] and kept["size_bytes"] * _stored(model, one.weight_bits)}
    return dict.fromkeys(kept, None)


def _stored(model: Model, bits: float) -> float:
    """The fraction of a file that is left with so many bits for each number of a matrix or kernel."""
    large = [one for one in model.weights.values() if one.ndim > 1 and one.dtype.kind == "f"]
    saved = sum(one.nbytes * (1 - min(1.0, bits / (8 * one.dtype.itemsize))) for one in large)
    return 1 - saved / file_bytes(model)
