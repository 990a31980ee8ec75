"""Options of sparsification."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import model_validator

from ...graph.errors import UsageError
from ..options import LayerOptions, Registered, option

AUTO = "auto"
"""The method that is best with what the user gave."""
N_OF_M = r"\d+:\d+"
"""Of each block of m weights n stay."""


class SparsifyOptions(LayerOptions):
    density: float | None = option(
        None,
        "Keep this fraction of the weights, such as 0.2. Without it and --size zeros that are there are stored small.",
        "target",
        unit="fraction",
        gt=0,
        le=1,
    )
    size: float | None = option(None, "Keep this fraction of the file's bytes.", "target", unit="fraction", gt=0, le=1)
    pattern: Annotated[str, Registered("intaglio.patterns", also=(N_OF_M,))] = option(
        "any",
        "Where zeros may be: any, n:m such as 2:4 (of m weights in a row n stay), block (runs of 4, block:size=8).",
        "target",
    )
    layers: Annotated[str, Registered("intaglio.densities")] = option(
        "uniform",
        "How much of each layer stays: uniform, erk, balanced, pyramid, global, or measured (needs --data).",
        "method",
    )
    method: Annotated[str, Registered("intaglio.sparsifiers", also=(AUTO,))] = option(
        AUTO,
        "Which weights stay: magnitude, random, lamp, wanda, obs, nettrim; see intaglio passes.",
        "method",
        shown="obs with data, else magnitude",
    )
    refit: bool = option(True, "With data: fit what stays to what the layer gave, layer after layer.", "method")
    codebook: int | None = option(
        None, "Weights of a layer share so many values, zero among them: 16 take four bits.", "method", ge=3, le=256
    )
    form: Literal["packed", "dense"] = option(
        "packed",
        "packed: a bit for each weight and the values that stay, unpacked once when a runtime opens the file. dense: "
        "zeros stand in the weight, as TensorRT takes 2:4.",
        "output",
        unit="name",
    )
    max_drop: float | None = option(
        None,
        "Lose no more accuracy: layers that hurt most stay dense. Needs --eval-data.",
        "accuracy",
        unit="points",
        ge=0,
    )
    force: bool = option(
        False,
        "Write what is refused otherwise: a result that is slower, no smaller or of no use, or the model as it is "
        "where nothing can change.",
        "output",
    )
    verify: bool = option(True, "Run the result and measure its noise.", "accuracy")

    @model_validator(mode="after")
    def _one_target(self) -> SparsifyOptions:
        if self.density is not None and self.size is not None:
            raise UsageError("`density` and `size` exclude each other", fix="give one of them")
        return self
