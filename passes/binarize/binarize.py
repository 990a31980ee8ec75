"""Binarization: weights in one or two bits that are stored as bits, and what it cost."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from ...graph.cost import cost
from ...graph.errors import UsageError
from ...graph.model import Model
from ...measure.data.source import DataSource
from ...measure.efficiency import Efficiency, efficiency
from ..base import PASSES, Context, Pass, PassReport, name_in
from ..precision.attempt import Changed, Evaluate, attempted
from .algorithms.binarizer import BINARIZERS
from .scheme import AUTO, SCHEMES, BitNote, Job, scheme_for


@dataclass(frozen=True)
class BinarizedModel(Changed):
    """What a run of the pass found and did. ``scheme`` is the one that was used."""

    scheme: str
    efficiency: Efficiency

    @property
    def layers(self) -> list[BitNote]:
        return [one for one in self.result.layers if isinstance(one, BitNote)]

    @property
    def bits(self) -> float | None:
        """Stored for each weight of the layers in bits, scales and maps included; None without such layers."""
        weights = sum(one.weights_count for one in self.layers)
        return sum(one.bits * one.weights_count for one in self.layers) / weights if weights else None


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
    scheme: Annotated[str, name_in(SCHEMES, AUTO)] = AUTO
    form: Literal["packed", "standard", "dense"] = "packed"
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

    def run(self, model: Model, context: Context | None = None) -> PassReport:
        """Binarize a copy. Raises NothingChanged, ProofFailed, UsageError, BadData, BadModel, TargetUnreachable."""
        done = self.binarize(model, context or Context())
        return PassReport(done.model, True, describe(done))

    def binarize(
        self, model: Model, context: Context, *, real: DataSource | None = None, evaluate: Evaluate | None = None
    ) -> BinarizedModel:
        """The same with everything that was found on the way.

        ``real`` are inputs to measure losses on where there is no calibration data; ``evaluate`` is for ``max_drop``.
        """
        name, scheme = scheme_for(self.scheme, model)
        if self.activations != "float" and (name not in BINARIZERS or self.form == "dense"):
            raise UsageError(
                f"--activations {self.activations} goes with weights in bits alone, not with "
                + ("--form dense" if name in BINARIZERS else f"scheme {name}"),
                fix="leave it out, or take --scheme planes and --form packed",
            )
        job = Job(model, self, context, real=real)
        done = attempted(
            model,
            lambda spared: scheme.run(replace(job, spared=spared)),
            data=context.data or real,
            evaluate=evaluate,
            max_drop=self.max_drop,
            verify=self.verify,
            done="binarized",
            advice="use more bits: intaglio quantize --scheme w4",
            rounded=False,
        )
        return BinarizedModel(**vars(done), scheme=name, efficiency=efficiency(cost(model), cost(done.model)))


def describe(done: BinarizedModel) -> dict[str, Any]:
    """The result as plain data: what ``intaglio binarize --json`` prints."""
    return {
        "scheme": done.scheme,
        "bits": done.bits,
        "bibench": done.efficiency.as_dict(),
        **done.described(),
        "layers": [{**_layer(one), "sqnr_db": done.sqnr.get(one.name)} for one in done.layers],
    }


def _layer(one: BitNote) -> dict[str, Any]:
    return {
        "name": one.name,
        "scheme": one.method,
        "numbers": one.weights,
        "activations": one.activations,
        "bits": one.bits,
        "weights": one.weights_count,
        "expected_error": one.expected,
        "weight_error": one.weight_error,
        "output_error": one.error,
    }
