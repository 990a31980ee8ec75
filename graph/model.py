"""The standard computation graph: an ONNX model whose weights stay where they lie."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from .io.spill import Weights
from .lazy import lazily
from .traits import DEFAULT_DOMAINS

_surgeon, _ = lazily(__name__, {"..surgeon": "to_graphsurgeon from_graphsurgeon"})
"""It loads and saves models, so it stands above them."""


@dataclass(frozen=True)
class Source:
    """The file a model was read from, mapped into memory, the files of its external data, and how inputs were pinned."""

    path: Path
    content: memoryview = field(repr=False)
    data_files: tuple[Path, ...] = ()
    shapes: Mapping[str, Sequence[int]] = field(default_factory=dict)
    values: Mapping[str, Any] = field(default_factory=dict)

    @property
    def size_bytes(self) -> int:
        """On disk, external data included."""
        return len(self.content) + sum(file.stat().st_size for file in self.data_files)

    @cached_property
    def sha256(self) -> str:
        """Hash of the ``.onnx`` file alone, as ``sha256sum`` prints it; external data is not covered."""
        digest = hashlib.sha256()
        for start in range(0, len(self.content), 1 << 24):
            digest.update(self.content[start : start + (1 << 24)])
        return digest.hexdigest()


@dataclass
class Model:
    """An ONNX model: its structure as a protobuf, its weights as arrays that may be memory-mapped.

    ``proto`` holds everything but the top-level dense initializers; those are in ``weights``, read-only arrays by
    name, in file order (ml_dtypes where numpy has no such type); large ones that are put there go to temporary files and
    are mapped, too, so that a model takes little memory however large it is. ``notes`` says what loading changed, in sentences for the user. ``file`` is where the model
    came from, None if it was made in memory.
    """

    proto: onnx.ModelProto
    weights: dict[str, np.ndarray]
    file: Source | None = None
    notes: list[str] = field(default_factory=list)
    sizes: dict[str, int] = field(default_factory=dict, compare=False)
    """What symbolic dimensions are usually, where data tell; costs count all others as 1."""
    given_nodes: int | None = field(default=None, init=False, repr=False, compare=False)
    """How many nodes the file has that was just read; None for whatever was made of a model."""
    cache: object = field(default=None, init=False, repr=False, compare=False)
    """Where ``index_of`` keeps the model's index."""

    def __post_init__(self) -> None:
        if not isinstance(self.weights, Weights):
            self.weights = Weights(self.weights)

    @property
    def graph(self) -> onnx.GraphProto:
        return self.proto.graph

    @property
    def source(self) -> Path | None:
        return self.file.path if self.file else None

    @property
    def source_sha256(self) -> str:
        """Hash of the source file, computed when first asked for; empty without a source file."""
        return self.file.sha256 if self.file else ""

    @property
    def opset(self) -> int:
        """Version of the default operator set; 0 for a model that uses only other domains."""
        return next((o.version for o in self.proto.opset_import if o.domain in DEFAULT_DOMAINS), 0)

    def put(self, name: str, value: np.ndarray) -> str:
        """Set a weight, which is read-only from now on; gives back its name."""
        self.weights[name] = np.asarray(value)
        self.weights[name].flags.writeable = False
        return name

    def of_nodes(
        self,
        nodes: Sequence[onnx.NodeProto],
        inputs: Sequence[onnx.ValueInfoProto],
        outputs: Sequence[onnx.ValueInfoProto],
        weights: Mapping[str, np.ndarray],
    ) -> Model:
        """Some nodes as a model of their own, with those of the weights that they read."""
        graph, read = onnx.helper.make_graph(nodes, "part", inputs, outputs), {i for n in nodes for i in n.input}
        proto = onnx.ModelProto(ir_version=self.proto.ir_version, graph=graph, opset_import=self.proto.opset_import)
        return Model(proto, {name: weight for name, weight in weights.items() if name in read})

    def copy(self) -> Model:
        """An independent copy of the structure. Weights are shared: they are read-only, a change replaces them."""
        proto = onnx.ModelProto()
        proto.CopyFrom(self.proto)
        return Model(proto, Weights(self.weights), self.file, list(self.notes), dict(self.sizes))

    def to_graphsurgeon(self) -> Any:
        """This model as an ``onnx_graphsurgeon.Graph`` to edit, with its weights; a copy."""
        return _surgeon("to_graphsurgeon")(self)

    def from_graphsurgeon(self, graph: Any) -> Model:
        """This model as ``graph``, which was made of it and edited, says it should be.

        All that was not edited stays as it was, byte by byte, with what such a graph cannot hold.
        """
        edited: Model = _surgeon("from_graphsurgeon")(graph, self)
        return edited
