"""Quantization: fewer bits for weights and activations, in a form that a runtime accelerates, and what it cost."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, ClassVar

from pydantic import Field, field_validator, model_validator

from ...graph.errors import UsageError
from ...graph.model import Model
from ..base import PASSES, Context, Pass, name_in
from ..change import Change
from ..precision.attempt import attempted
from .allocation.allocate import ALLOCATORS
from .placement.kernels_used import Used, kernels_used
from .ranges.activations import AUTO
from .ranges.ranges import RANGES
from .rounding.rounding import ROUNDERS
from .scheme import Job, scheme_named
from .targets import TARGETS


@PASSES.register("quantize")
class Quantize(Pass):
    """Round weights, and with some schemes activations, to few bits.

    ``scheme`` says what becomes of what, ``target`` which runtime the integers are for, ``ranges`` how activations'
    ranges are found, ``method`` how weights are rounded. ``group_size`` weights share a scale where a scheme has that
    choice (0: a whole row). ``bits`` is an average over all weights, ``size`` the fraction of the file's bytes to keep:
    both let ``allocator`` give each layer its own number of bits. ``max_drop`` bounds the loss of accuracy, in points:
    layers that hurt most keep more bits. ``smooth`` is SmoothQuant's exponent, None for none; ``equalize`` levels
    weights of consecutive layers first. ``min_sqnr`` (dB) is what ``fp16`` and ``bf16`` keep nodes in float32 for.
    ``input_ranges`` are those of graph inputs, for ``int8`` without data.
    """

    name: ClassVar[str] = "quantize"
    doing: ClassVar[str] = "quantizing"
    scheme: str = "int8"
    target: Annotated[str, name_in(TARGETS)] = "x86"
    ranges: Annotated[str, name_in(RANGES, AUTO)] = AUTO
    method: Annotated[str, name_in(ROUNDERS)] = "auto"
    group_size: int | None = Field(default=None, ge=0)
    bits: float | None = Field(default=None, ge=2, le=8)
    size: float | None = Field(default=None, gt=0, le=1)
    allocator: Annotated[str, name_in(ALLOCATORS)] = "dp"
    max_drop: float | None = Field(default=None, ge=0)
    smooth: float | None = Field(default=None, ge=0, le=1)
    equalize: bool = False
    keep_io: bool = True
    min_sqnr: float = 30.0
    input_ranges: tuple[tuple[str, float, float], ...] = ()
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    verify: bool = True

    @field_validator("scheme")
    @classmethod
    def _scheme(cls, name: str) -> str:
        scheme_named(name)
        return name

    @model_validator(mode="after")
    def _one_budget(self) -> Quantize:
        if self.bits is not None and self.size is not None:
            raise UsageError("bits and size exclude each other", fix="give one of --bits, --size")
        return self

    def run(self, model: Model, context: Context | None = None) -> Change:
        """Quantize a copy. Raises NothingChanged, ProofFailed, UsageError, BadData, BadModel."""
        context = context or Context()
        scheme = scheme_named(self.scheme)
        job = Job(model, self, context)
        result, change = attempted(
            model,
            lambda spared: scheme(replace(job, spared=spared)),
            context,
            max_drop=self.max_drop,
            verify=self.verify,
            advice="choose a --scheme with more bits",
        )
        used = kernels_used(change.model) if self.verify else Used()
        details = {**change.details, "runtime": used.as_dict(), "accelerated": result.accelerated}
        slower = "try another --scheme" if result.accelerated else "this graph is for study, not for speed"
        return replace(change, details=details, advice={"slower": slower})
