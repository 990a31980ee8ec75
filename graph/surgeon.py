"""To and from an onnx-graphsurgeon graph, for those who like to edit graphs with it."""

from __future__ import annotations

from typing import Any

from .io.load import from_proto
from .io.save import to_proto
from .model import Model


def to_graphsurgeon(model: Model) -> Any:
    """The model as an ``onnx_graphsurgeon.Graph``, with its weights; a copy.

    Raises:
        CannotWrite: it is above 2 GB.
    """
    import onnx_graphsurgeon

    return onnx_graphsurgeon.import_onnx(to_proto(model))


def from_graphsurgeon(graph: Any) -> Model:
    """A model from an ``onnx_graphsurgeon.Graph``. What that graph cannot hold (metadata, sparse weights) is lost.

    Raises:
        BadModel: the graph is no valid model.
    """
    import onnx_graphsurgeon

    return from_proto(onnx_graphsurgeon.export_onnx(graph))
