"""A tensor as a stream, and what a node needs of one.

Of every streamed tensor a run makes the frames that are new. They are the last frames that the tensor has in the model as
it was, run on the window that ended ``delay`` samples ago. A tensor whose frames come once in ``rate`` samples is late by
a multiple of that, so that streams of one rate can always be aligned by holding the earlier one back. Behind an upsampling it is
late by a multiple of what stands before it: a window that ended in between has other frames there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import onnx


@dataclass(frozen=True)
class Frames:
    """``length`` frames along ``axis`` belong to a window. Units: ``rate`` samples a frame, ``delay`` samples, which is a
    multiple of ``grain``, of ``rate`` where that is 0."""

    axis: int
    length: int
    rate: int = 1
    delay: int = 0
    grain: int = 0

    @property
    def step(self) -> int:
        """What the delay is a multiple of."""
        return self.grain or self.rate

    def late_by(self, samples: int) -> int:
        """The next delay that is possible."""
        return -(-samples // self.step) * self.step

    def later(self, other: Frames) -> int:
        """Frames to hold this stream back by until it is as late as another."""
        return (other.delay - self.delay) // self.rate


@dataclass(frozen=True)
class View:
    """What a node reads: the new frames and ``past`` ones before them, all ``late`` frames ago; or the whole window.

    ``past`` may be below 0: then the first of the new frames are left out. ``at_head`` is as late as whole windows are.
    """

    past: int = 0
    late: int = 0
    whole: bool = False
    at_head: bool = False


PLAIN, WHOLE, AT_HEAD = View(), View(whole=True), View(at_head=True)


@dataclass(frozen=True)
class Flow:
    """How a node goes on with streams: what its outputs are, None for those that are no streams.

    ``views`` says by operand what it reads, if not the new frames alone. ``node`` is what it becomes. ``shape`` takes the
    place of operand 1, None standing for the number of new frames. ``padded`` says that frames from before or after the
    window take the place of padding; ``carried`` are pairs of operand and output of states that go on, ``fresh`` if the
    model began each window anew. ``cut`` frames go at the beginning and the end of what the node makes.
    """

    outputs: Sequence[Frames | None]
    views: Mapping[int, View] = field(default_factory=dict)
    node: onnx.NodeProto | None = None
    shape: Sequence[int | None] | None = None
    constants: Mapping[int, Sequence[int]] = field(default_factory=dict)
    padded: bool = False
    carried: Sequence[tuple[int, int]] = ()
    fresh: bool = False
    cut: int = 0
