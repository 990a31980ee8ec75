"""Options of binarization."""

from __future__ import annotations

from typing import Annotated, Literal

from ..options import Registered, RoundedOptions, option

AUTO = "auto"
"""The scheme that a model was trained for, else the usual one."""


class BinarizeOptions(RoundedOptions):
    scheme: Annotated[str, Registered("intaglio.binarize_schemes", "intaglio.binarizers", also=(AUTO,))] = option(
        AUTO,
        "planes, xnor, residual, onebit, twn, tbt, pb, billm, dbllm, pack: see intaglio passes. auto: what the model was "
        "trained for, else planes.",
        "target",
        short="-s",
    )
    form: Literal["packed", "standard", "dense", "qonnx"] = option(
        "packed",
        "packed: bits, and operators on them whose definitions are in the file. standard: bits and standard operators "
        "alone. dense: the floats that the bits stand for. qonnx, with pack: BipolarQuant.",
        "output",
        unit="name",
    )
    activations: Literal["float", "int8"] = option(
        "float",
        "int8: large products round each row of their input to 8 bits, which is multiplied by bits fastest.",
        "method",
    )
    block: int | None = option(
        None, "Weights of a row that share scales, 0 for all of it.", "method", shown="by scheme", ge=0
    )
    salient: float = option(0.1, "With pb: weights that keep eight bits.", "method", unit="fraction", ge=0, lt=1)
    size: float | None = option(
        None,
        "Keep this fraction of the file's bytes: layers that lose most stay in float. Needs data.",
        "target",
        unit="fraction",
        gt=0,
        le=1,
    )
    max_drop: float | None = option(
        None,
        "Lose no more accuracy: layers that hurt most stay in float. Needs --eval-data.",
        "accuracy",
        unit="points",
        ge=0,
    )
    include_first_last: bool = option(
        False, "Binarize the first and the last layers, too, which hurts most.", "target", old=("--edges",)
    )
    zeros: bool = option(False, "With pack: take what Sign makes of 0, which no bit can hold, as +1.", "advanced")
    force: bool = option(
        False,
        "Run a scheme that ruins models which were not trained for it, and write what is refused otherwise: a result that "
        "is slower, no smaller or of no use, or the model as it is where nothing can change.",
        "output",
    )
    verify: bool = option(True, "Run the result and measure its noise.", "accuracy")

    @property
    def stored(self) -> str:
        """How weights stand in the model that is run: QONNX is written only, as no runtime here takes it."""
        return "dense" if self.form == "qonnx" else self.form
