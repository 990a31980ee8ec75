"""A step of a run for files in which names weigh something beside the numbers."""

from __future__ import annotations

from itertools import count
from typing import ClassVar

from ..graph.index import index_of
from ..graph.model import Model
from ..graph.nodes import is_standard, refill
from .base import PASSES, Context, Pass
from .change import Change

_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"


@PASSES.register("shorten")
class Shorten(Pass):
    """Give inner tensors short names, and nodes none.

    Nothing that is computed changes, nor do names of inputs and outputs. Models with bodies stay as they are.
    """

    name: ClassVar[str] = "shorten"
    doing: ClassVar[str] = "shortening names"
    renames: ClassVar[bool] = True

    def run(self, model: Model, context: Context | None = None) -> Change:
        """Rename in a copy."""
        if any(a.HasField("g") or a.graphs for node in model.graph.node for a in node.attribute):
            return Change(model, model, notes=["names stay: the model has bodies, which read tensors of the graph"])
        short, graph = model.copy(), model.graph
        kept = {value.name for value in (*graph.input, *graph.output)}
        fresh = (name for k in count() if (name := _spelled(k)) not in kept)
        made = [*model.weights, *index_of(model).makers]
        names = {"": "", **{name: name for name in kept}}
        names.update({name: next(fresh) for name in made if name not in names})
        for node in short.graph.node:
            node.ClearField("name")
            node.input[:], node.output[:] = [names[n] for n in node.input], [names[n] for n in node.output]
        short.weights = {names[name]: value for name, value in model.weights.items()}
        foreign = {name for node in graph.node if not is_standard(node) for name in node.output}
        refill(short.graph.value_info, [value for value in graph.value_info if value.name in foreign])
        for value in short.graph.value_info:
            value.name = names[value.name]
        del short.graph.quantization_annotation[:]
        return Change(model, short, details={"renamed": len(names) - len(kept) - 1})


def _spelled(number: int) -> str:
    """Letters first: a name is no number."""
    text = _LETTERS[number % 52]
    number //= 52
    while number:
        number, digit = divmod(number, len(_LETTERS))
        text += _LETTERS[digit]
    return text
