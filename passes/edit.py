"""A step of a run that a user writes: a function that edits the graph by hand, with onnx-graphsurgeon."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from typing import Any, ClassVar

from ..graph.errors import BadModel, UsageError
from ..graph.io.save import to_bytes
from ..graph.lazy import imported
from ..graph.model import Model
from .base import PASSES, Context, Pass
from .change import Change
from .options import option


@PASSES.register("edit")
class Edit(Pass):
    """Change the graph by a function of yours.

    It gets the model as an ``onnx_graphsurgeon.Graph``, which it edits in place or returns anew. What it leaves alone
    stays as it was, byte by byte.
    """

    name: ClassVar[str] = "edit"
    doing: ClassVar[str] = "editing"
    function: str = option(..., "Your function, as package.module:callable.", "method", unit="package.module:callable")

    def run(self, model: Model, context: Context | None = None) -> Change:
        """Edit a copy. Raises UsageError where there is no such function, BadModel where it fails or breaks the graph."""
        edited = model.from_graphsurgeon(self._called(model.to_graphsurgeon()))
        if to_bytes(edited) == to_bytes(model):
            return Change(model, model, notes=[f"{self.function} changed nothing"])
        nodes = {"before": len(model.graph.node), "after": len(edited.graph.node)}
        return Change(model, edited, details={"function": self.function, "nodes": nodes})

    def _called(self, graph: Any) -> Any:
        function = imported(self.function, UsageError)
        try:
            with redirect_stdout(sys.stderr):  # stdout is for results
                returned = function(graph)
        except (Exception, SystemExit) as error:
            raise BadModel(f"{self.function} failed", why=f"{type(error).__name__}: {error}") from error
        if returned is None:
            return graph
        if not isinstance(returned, type(graph)):
            raise BadModel(
                f"{self.function} returned {type(returned).__name__}",
                fix="edit the graph that it gets, or return another onnx_graphsurgeon.Graph",
            )
        return returned
