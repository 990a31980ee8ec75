"""What the bits of a layer's input are."""

from __future__ import annotations

from dataclasses import dataclass

import onnx

from .steps import Layout, Step


@dataclass(frozen=True)
class Bits:
    """A layer's input as bits: ``step`` of the float tensor ``source``, pooled, padded, times ``factor``.

    ``target`` is the tensor of the signs; ``pools`` are MaxPool nodes on it, first applied first; ``begins`` and
    ``ends`` are explicit padding with the value ``border``; ``factor`` is a tensor with one number for each sample that
    the signs were multiplied with; ``flattened`` is the node that makes rows of images, whose channels have so many
    ``pixels``.
    """

    source: str
    layout: Layout
    step: Step
    target: str
    pools: tuple[onnx.NodeProto, ...] = ()
    begins: tuple[int, ...] = ()
    ends: tuple[int, ...] = ()
    border: float | None = None
    factor: str = ""
    flattened: onnx.NodeProto | None = None
    pixels: int = 1

    @property
    def half(self) -> float:
        """What a sign is multiplied with to give a value, after which ``middle`` is added."""
        return (self.step.high - self.step.low) / 2

    @property
    def middle(self) -> float:
        return (self.step.high + self.step.low) / 2

    def as_sign(self, value: float) -> float | None:
        """A value as what stands for it among signs: -1, 0 or 1; None where it is none of them."""
        found = (value - self.middle) / self.half
        return next((s for s in (-1.0, 0.0, 1.0) if abs(found - s) < 1e-5), None)
