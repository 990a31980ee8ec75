"""Binarization: weights in one or two bits that are stored as bits, and what it cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from ...graph.cost import cost
from ...graph.errors import UsageError
from ...graph.model import Model
from ...measure.efficiency import efficiency
from ..base import PASSES, Context, Pass, name_in
from ..change import Change
from ..precision.attempt import attempted
from ..precision.result import Result
from .algorithms.binarizer import BINARIZERS
from .scheme import AUTO, SCHEMES, BitNote, Job, scheme_for

_DROWNED_DB = 3.0
"""Outputs with less signal over noise hardly resemble the original's."""


@PASSES.register("binarize")
class Binarize(Pass):
    """Store weights in one or two bits, or lower a network that was trained binary to operators on bits.

    ``scheme`` names the algorithm; ``auto`` looks whether the model was trained for one and else takes two planes.
    ``form`` is how bits stand in the file. ``activations`` of int8 are what large products make of their input, row by row,
    to multiply it by bits faster. ``block`` weights of a row share scales (0: all of it; None: as the algorithm
    does); ``salient`` is the fraction that keeps eight bits with ``pb``. ``size`` is the fraction of the file's bytes to
    keep: layers that lose most stay in float. ``max_drop`` bounds the loss of accuracy, in points, likewise. ``edges``
    takes the first and the last layers, too. ``zeros`` takes what Sign makes of 0 as +1 with ``pack``. ``force`` runs a scheme that is expected to ruin the model.
    """

    name: ClassVar[str] = "binarize"
    doing: ClassVar[str] = "binarizing"
    scheme: Annotated[str, name_in(SCHEMES, AUTO)] = AUTO
    form: Literal["packed", "standard", "dense", "qonnx"] = "packed"
    activations: Literal["float", "int8"] = "float"
    block: int | None = Field(default=None, ge=0)
    salient: float = Field(default=0.1, ge=0, lt=1)
    size: float | None = Field(default=None, gt=0, le=1)
    max_drop: float | None = Field(default=None, ge=0)
    edges: bool = False
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    zeros: bool = False
    force: bool = False
    verify: bool = True

    def run(self, model: Model, context: Context | None = None) -> Change:
        """Binarize a copy. Raises NothingChanged, ProofFailed, UsageError, BadData, BadModel, TargetUnreachable."""
        context = context or Context()
        name, scheme = scheme_for(self.scheme, model)
        if self.activations != "float" and (name not in BINARIZERS or self.stored == "dense"):
            raise UsageError(
                f"--activations {self.activations} goes with weights in bits alone, not with "
                + ("--form dense" if name in BINARIZERS else f"scheme {name}"),
                fix="leave it out, or take --scheme planes and --form packed",
            )
        job = Job(model, self, context)
        result, change = attempted(
            model,
            lambda spared: scheme.run(replace(job, spared=spared)),
            context,
            max_drop=self.max_drop,
            verify=self.verify,
            done="binarized",
            advice="use more bits: intaglio quantize --scheme w4",
            rounded=False,
        )
        mend = f"quantize it to 4 bits, spare layers with --max-drop{'' if context.data else ', give --data'}"
        notes = [*change.notes, *([] if context.eval_data else _drowned(change.details["sqnr_db"], mend))]
        bibench = efficiency(cost(model), cost(change.model)).as_dict()
        details = {"scheme": name, "bits": _bits(result), "bibench": bibench, **change.details}
        advice = {"slower": _SLOWER["pack" if name == "pack" else "bits"], "collapsed": f"{mend}, or train it in bits"}
        return replace(change, details=details, notes=notes, advice=advice)

    @property
    def stored(self) -> str:
        """How weights stand in the model that is run: QONNX is written only, as no runtime here takes it."""
        return "dense" if self.form == "qonnx" else self.form

    def read(self, model: Model) -> Model:
        from .trained.qonnx import from_qonnx

        return from_qonnx(model)

    def written(self, model: Model) -> Model:
        from .trained.qonnx import to_qonnx

        return to_qonnx(model) if self.form == "qonnx" else model


_SLOWER = {
    "pack": "see intaglio passes for what computes operators on bits here",
    "bits": "weights in bits save memory, and time where single rows meet large layers; for speed see intaglio quantize",
}


def _bits(result: Result) -> float | None:
    """Stored for each weight of the layers in bits, scales and maps included; None without such layers."""
    layers = [one for one in result.layers if isinstance(one, BitNote)]
    weights = sum(one.weights_count for one in layers)
    return sum(one.bits * one.weights_count for one in layers) / weights if weights else None


def _drowned(outputs: Mapping[str, float], mend: str) -> list[str]:
    return [
        f"output {name} hardly resembles the original's ({ratio:.1f} dB): {mend}"
        for name, ratio in outputs.items()
        if ratio < _DROWNED_DB
    ]
