"""Attention of two values for each row."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from pydantic import BaseModel, Field

from .....graph.errors import NothingChanged
from .....graph.index import index_of
from .....graph.nodes import attribute, copied
from .....graph.traits import Trait, has
from ....rewrite.edit import Edit
from ...binary.convert import DOMAIN, reduced
from ..method import METHODS, Method

if TYPE_CHECKING:
    from torch import Tensor

    from .....graph.model import Model
    from .....measure.autograd.call import Call
    from .....measure.data.source import DataSource
    from ...engine.student import Student

_ROWS = "AttentionRows"


class SoftmaxAware(BaseModel):
    start: float = Field(default=0.25, gt=0, lt=1, description="of a row's largest number, the first threshold")
    rounds: int = Field(default=1, ge=0, le=5, description="how often threshold and value are fitted to each other")


def two_values(rows: Tensor, start: float, rounds: int) -> Tensor:
    """Each row as zeros and one value: the mean of what is above half of itself. Shapes: (..., row) -> the same."""
    threshold = start * rows.amax(-1, keepdim=True)
    for k in range(rounds + 1):
        above = (rows >= threshold).to(rows.dtype)
        value = (rows * above).sum(-1, keepdim=True) / above.sum(-1, keepdim=True)
        threshold = value / 2 if k < rounds else threshold
    return value * above


@METHODS.register("bivit", options=SoftmaxAware)
class SoftmaxAwareBinarizing(Method):
    """Attention has two values a row, zero and the mean of what is large there, with the gradient of attention itself.

    Source: He et al., BiViT, ICCV 2023, arXiv:2211.07091. Differs: weights and other activations stay floats; ``bnn`` makes
    those binary.
    """

    def __init__(self, options: SoftmaxAware) -> None:
        self._options = options

    def prepared(self, model: Model, data: DataSource) -> Model:
        """Raises NothingChanged where there is no attention."""
        index, edit, found = index_of(model), Edit(model), 0
        for node in model.graph.node:
            reader = index.sole_reader(node.output[0]) if node.output else None
            weighs = reader is not None and has(reader, Trait.MULTIPLIES) and reader.input[0] == node.output[0]
            if node.op_type != "Softmax" or not weighs or attribute(node, "axis", -1) not in (-1, 3):
                edit.keep(node)
                continue
            copy, out = copied(node), node.output[0]
            copy.output[0] = edit.tensor(f"{out}/soft")
            edit.keep(copy)
            edit.add(_ROWS, [copy.output[0]], out, domain=DOMAIN)
            found += 1
        if not found:
            raise NothingChanged("there is no attention: no Softmax goes into a product", fix="use --method bnn")
        return edit.finish()

    def operators(self) -> Mapping[str, Callable[[Any], Any]]:
        return {f"{DOMAIN}:{_ROWS}": self._binary}

    def _binary(self, call: Call) -> Tensor:
        soft = call.tensor()
        return two_values(soft.detach(), self._options.start, self._options.rounds) + (soft - soft.detach())

    def finished(self, model: Model, student: Student) -> Model:
        edit = Edit(model)
        for node in model.graph.node:
            if node.op_type == _ROWS:
                edit.replace(node)
                self._write(edit, node)
            else:
                edit.keep(node)
        return edit.finish()

    def _write(self, edit: Edit, node: onnx.NodeProto) -> None:
        x, out = node.input[0], node.output[0]

        def number(name: str, value: float) -> str:
            return edit.constant(f"{out}/{name}", np.array(value, np.float32))

        largest = reduced(edit, "ReduceMax", x, [-1], f"{out}/largest")
        threshold = edit.add("Mul", [largest, number("start", self._options.start)], edit.tensor(f"{out}/threshold"))
        for k in range(self._options.rounds + 1):
            there = edit.add("GreaterOrEqual", [x, threshold], edit.tensor(f"{out}/there"))
            above = edit.add("Where", [there, number("one", 1), number("zero", 0)], edit.tensor(f"{out}/above"))
            large = edit.add("Mul", [x, above], edit.tensor(f"{out}/large"))
            means = [reduced(edit, "ReduceMean", one, [-1], f"{out}/mean") for one in (large, above)]
            value = edit.add("Div", means, edit.tensor(f"{out}/value"))
            if k < self._options.rounds:
                threshold = edit.add("Mul", [value, number("half", 0.5)], edit.tensor(f"{out}/threshold"))
        edit.add("Mul", [value, above], out)
