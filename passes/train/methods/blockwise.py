"""Distillation block by block."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from pydantic import BaseModel, Field

from ....graph.index import index_of
from ....graph.nodes import reads
from ....graph.traits import Trait, has
from .method import METHODS, Method

if TYPE_CHECKING:
    from torch import Tensor

    from ....graph.model import Model
    from ..engine.student import Student
    from ..losses.loss import Answers


class Blocks(BaseModel):
    together: float = Field(
        default=0.3, ge=0, lt=1, description="share of the steps, the last, in which all blocks move"
    )
    weight: float = Field(default=1.0, gt=0, description="times what a block's output differs from the teacher's")


@METHODS.register("blockwise", options=Blocks)
class Blockwise(Method):
    """One block after the other learns to give what the teacher's gives, those before it done; at last all move together.

    Blocks end where one tensor is all that the rest of the network reads, of those that the teacher has, too.
    Source: Li et al., Blockwisely Supervised Neural Architecture Search with Knowledge Distillation, CVPR 2020, arXiv:1911.13053.
    Differs: a block reads what the student gives, not what the teacher does.
    """

    losses = ("kd",)
    otherwise = ("mse",)

    def __init__(self, options: Blocks) -> None:
        self._options = options
        self._ends: list[str] = []
        self._block: dict[str, int] = {}

    def features(self, model: Model) -> Sequence[str]:
        index = index_of(model)
        self._ends = bottlenecks(model)
        places = [index.place[name] for name in self._ends]
        for name in model.weights:
            readers = index.readers(name)
            if readers:
                self._block[name] = sum(place < readers[0] for place in places)
        return self._ends

    def block(self, progress: float) -> int | None:
        """The one that learns; None for all."""
        if progress >= 1 - self._options.together or not self._ends:
            return None
        return int(progress / (1 - self._options.together) * len(self._ends))

    def loss(self, student: Student, answers: Answers, progress: float) -> Tensor | None:
        at = self.block(progress)
        name = "" if at is None else self._ends[at]
        if name not in answers.inner or answers.inner[name].shape != answers.features[name].shape:
            return None
        theirs, ours = answers.inner[name], answers.features[name]
        return self._options.weight * (ours - theirs).square().mean() / theirs.var(correction=0).clamp_min(1e-12)

    def on_gradients(self, student: Student, step: int, steps: int, again: Callable[[], float]) -> None:
        at = self.block(step / steps)
        for name, value in student.moving.items():
            if at is not None and self._block.get(name, at) != at:
                value.grad = None


def bottlenecks(model: Model) -> list[str]:
    """Tensors, in graph order, that all goes through from the inputs to the outputs: of those between two layers the last."""
    index, last, found = index_of(model), "", list[str]()
    opened, begun = set[str](), False
    left = {name: len(index.readers(name)) for name in index.place}
    for node in model.graph.node:
        if has(node, Trait.LAYER):
            found += [last] if last else []
            last, begun = "", True
        for name in set(reads(node)) & opened:
            left[name] -= 1
            if not left[name]:
                opened.discard(name)
        opened |= {name for name in node.output if left.get(name)}
        if begun and len(opened) == 1 and node.output[0] in opened:
            last = node.output[0]
    return found
