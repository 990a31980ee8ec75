"""The standard computation graph: an ONNX model whose weights stay where they lie."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx


@dataclass
class Model:
    """An ONNX model: its structure as a protobuf, its weights as arrays that may be memory-mapped.

    ``proto`` holds everything but the top-level dense initializers; those are in ``weights``, read-only arrays by
    name, in file order. ``notes`` says what loading changed, in sentences for the user.
    """

    proto: onnx.ModelProto
    weights: dict[str, np.ndarray]
    source: Path | None = None
    source_sha256: str = ""
    notes: list[str] = field(default_factory=list)

    @property
    def graph(self) -> onnx.GraphProto:
        return self.proto.graph

    @property
    def opset(self) -> int:
        """Version of the default operator set."""
        return next(o.version for o in self.proto.opset_import if o.domain in ("", "ai.onnx"))

    def copy(self) -> Model:
        """An independent copy of the structure. Weights are shared: they are read-only, a change replaces them."""
        proto = onnx.ModelProto()
        proto.CopyFrom(self.proto)
        return Model(proto, dict(self.weights), self.source, self.source_sha256, list(self.notes))
