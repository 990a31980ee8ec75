"""Quantization: fewer bits for weights and activations, in a form that a runtime accelerates, and what it cost."""

from __future__ import annotations

import re
from dataclasses import asdict, replace
from typing import ClassVar

from pydantic import field_validator

from ...graph.errors import UsageError
from ...graph.io.spill import largest
from ...graph.layers import Layers
from ...graph.model import Model
from ..base import PASSES, Context, Pass
from ..by_parts import is_large
from ..change import WORTH, Change
from ..live import MET, live_part
from ..needs import check_needs
from ..precision.attempt import attempt_within_limit
from ..precision.result import Result
from .options import QuantizeOptions
from .placement.kernels_used import Used, kernels_expected, kernels_used
from .ranges.pixels import pixel_ranges
from .rounding.rounding import ROUNDERS
from .scheme import Job, scheme_named
from .targets import TARGETS

_AT_ONCE = {"dynamic", "fp16", "bf16"}
"""Schemes that take about as long as copying the model."""
_WEIGHTS_ALONE = re.compile(r"w\d+")
_TINY = 2.0**-132
"""Largest weight of a layer below which eight bits of it have no scale that single precision holds well."""
_NO_SCALES = "its weights are below 1.9e-40, where single precision holds no scales of fewer bits"


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
    def resumes(self) -> bool:  # type: ignore[override]
        """What rounds layer by layer does."""
        return self.scheme not in _AT_ONCE

    @property
    def resumes_blind(self) -> bool:  # type: ignore[override]
        return self.resumes and self.repair == "none"

    @property
    def weight_bits(self) -> float | None:
        digits = re.search(r"\d+", self.scheme)
        return self.bits or (8.0 if self.scheme == "dynamic" else float(digits[0]) if digits else None)

    @property
    def blind(self) -> str:
        return "roundings" if _WEIGHTS_ALONE.fullmatch(self.scheme) and (self.weight_bits or 8) < 8 else ""

    def for_inputs(self, model: Model, preprocess: str | None) -> Quantize:
        if self.input_ranges or _WEIGHTS_ALONE.fullmatch(self.scheme):
            return self
        return self.model_copy(update={"input_ranges": pixel_ranges(model, preprocess)})

    @property
    def elsewhere(self) -> str | None:
        return None if TARGETS[self.target].is_here else self.target

    def run(self, model: Model, context: Context | None = None) -> Change:
        """Quantize a copy. Raises NothingChanged, ProofFailed, UsageError, BadData, BadModel."""
        context = context or Context()
        check_needs(f"rounding {self.method}", ROUNDERS.entry(self.method).needs, context)
        if self.repair != "none" and context.data is not None:
            raise UsageError(
                "`repair` is for quantization without data",
                why="with data each layer is rounded towards what the original made of it, which makes up for more",
                fix="leave out `repair`, or the data",
            )
        scheme = scheme_named(self.scheme)
        live = live_part(model)
        job, tiny = _without_tiny(Job(live.model, self, context, given=model))
        met = self.size is not None and live.meets("size", self.size)
        result, change = attempt_within_limit(
            live,
            lambda higher: (
                Result.none(live.model, MET) if met else _told(scheme(replace(job, higher_precision=higher)), tiny)
            ),
            context,
            max_drop=self.max_drop,
            verify=self.verify,
            advice="choose a --scheme with more bits",
            least=0.0 if self.include or self.exclude or self.size else WORTH,
            optimize=job.target.contrib,
        )
        if not job.target.is_here:
            expected = kernels_expected(change.model, job.target.runtime)
            return replace(
                change, details={**change.details, "predicted": {"target": self.target, "integer": expected}}
            )
        used = kernels_used(change.model) if self.verify and not is_large(model, context.memory) else Used()
        details = {**change.details, "runtime": asdict(used), "accelerated": result.accelerated}
        slower = "try another --scheme" if result.accelerated else "this graph is for study, not for speed"
        return replace(change, details=details, advice={"slower": slower})


def _without_tiny(job: Job) -> tuple[Job, dict[str, str]]:
    """The job without layers whose weights are next to nothing, and why each is left."""
    weights = job.model.weights
    tiny = {one.name: one.weight for one in Layers(job.model).weighted if 0 < largest(weights[one.weight]) < _TINY}
    options = job.options.model_copy(update={"exclude": (*job.options.exclude, *dict.fromkeys(tiny.values()))})
    return replace(job, options=options) if tiny else job, dict.fromkeys(tiny, _NO_SCALES)


def _told(result: Result, reasons: dict[str, str]) -> Result:
    return replace(result, skipped={**result.skipped, **reasons}) if reasons else result
