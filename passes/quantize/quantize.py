"""Quantization: fewer bits for weights and activations, in a form that a runtime accelerates, and what it cost."""

from __future__ import annotations

import re
from dataclasses import asdict, replace
from typing import ClassVar

from pydantic import field_validator

from ...graph.model import Model
from ..base import PASSES, Context, Pass
from ..change import WORTH, Change
from ..live import MET, live_part
from ..needs import check_needs
from ..precision.attempt import attempt_within_limit
from ..precision.result import Result
from .options import QuantizeOptions
from .placement.kernels_used import Used, kernels_used
from .ranges.pixels import pixel_ranges
from .rounding.rounding import ROUNDERS
from .scheme import Job, scheme_named


@PASSES.register("quantize")
class Quantize(QuantizeOptions, Pass):
    """Round weights, and with some schemes activations, to few bits."""

    name: ClassVar[str] = "quantize"
    doing: ClassVar[str] = "quantizing"
    in_bodies: ClassVar[bool] = True
    sees_through: ClassVar[bool] = True

    @field_validator("scheme")
    @classmethod
    def _storable(cls, scheme: str) -> str:
        scheme_named(scheme)
        return scheme

    @property
    def weight_bits(self) -> float | None:
        digits = re.search(r"\d+", self.scheme)
        return self.bits or (8.0 if self.scheme == "dynamic" else float(digits[0]) if digits else None)

    def for_inputs(self, model: Model, preprocess: str | None) -> Quantize:
        if self.input_ranges:
            return self
        return self.model_copy(update={"input_ranges": pixel_ranges(model, preprocess)})

    def run(self, model: Model, context: Context | None = None) -> Change:
        """Quantize a copy. Raises NothingChanged, ProofFailed, UsageError, BadData, BadModel."""
        context = context or Context()
        check_needs(f"rounding {self.method}", ROUNDERS.entry(self.method).needs, context)
        scheme = scheme_named(self.scheme)
        live = live_part(model)
        job = Job(live.model, self, context, given=model)
        met = self.size is not None and live.meets("size", self.size)
        result, change = attempt_within_limit(
            live,
            lambda higher: Result.none(live.model, MET) if met else scheme(replace(job, higher_precision=higher)),
            context,
            max_drop=self.max_drop,
            verify=self.verify,
            advice="choose a --scheme with more bits",
            least=0.0 if self.include or self.exclude or self.size else WORTH,
            optimize=job.target.contrib,
        )
        used = kernels_used(change.model) if self.verify and job.target.is_here else Used()
        details = {**change.details, "runtime": asdict(used), "accelerated": result.accelerated}
        slower = "try another --scheme" if result.accelerated else "this graph is for study, not for speed"
        if not job.target.is_here:
            slower = f"timed was ONNX Runtime on this machine, not what --target {self.target} stands for"
        return replace(change, details=details, advice={"slower": slower})
