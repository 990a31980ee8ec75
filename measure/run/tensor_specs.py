"""What a model takes and gives: names, shapes and element types of its inputs and outputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from ...graph.errors import BadModel
from ...graph.model import Model

Dim = int | str


@dataclass(frozen=True)
class TensorSpec:
    """One graph input or output.

    ``shape`` holds numbers and symbol names (an unnamed dimension is called ``input.axis``); None where the rank is
    unknown. ``elem_type`` is 0 where the value is no tensor.
    """

    name: str
    elem_type: int
    shape: tuple[Dim, ...] | None

    @property
    def dtype(self) -> np.dtype:
        """NumPy type of the elements. Raises BadModel where the value is no tensor."""
        if not self.elem_type:
            raise BadModel(f"{self.name!r} is a sequence, a map or optional, not a tensor", fix="feed it from Python")
        return np.dtype(onnx.helper.tensor_dtype_to_np_dtype(self.elem_type))

    def describe(self) -> str:
        """As a reader wants it: ``float32 (N, 3, 32, 32)``."""
        kind = onnx.TensorProto.DataType.Name(self.elem_type).lower() if self.elem_type else "not a tensor"
        kind = {"float": "float32", "double": "float64"}.get(kind, kind)
        if self.shape is None:
            return f"{kind} (any shape)"
        return f"{kind} ({', '.join(str(d) for d in self.shape)}{',' if len(self.shape) == 1 else ''})"

    @property
    def is_open(self) -> bool:
        """Whether more than the batch is free."""
        return self.shape is None or any(isinstance(d, str) for d in self.shape[1:])

    def pinned(self) -> str:
        """An option that leaves the batch alone open, as an example for one who has to write it: an image where it could be."""
        dims = self.shape if self.shape is not None else ("N", 3, "H", "W")
        free = [224 if len(dims) == 4 else 1000] * len(dims)
        if len(dims) == 4 and isinstance(dims[-1], str):
            free[1] = 3
        sizes = [-1, *(d if isinstance(d, int) else n for d, n in zip(dims[1:], free[1:], strict=True))]
        return f"--shape {self.name}:{','.join(map(str, sizes[: len(dims)]))}"

    def accepts(self, shape: tuple[int, ...]) -> bool:
        """Whether an array of that shape fits, symbols standing for anything."""
        return self.shape is None or dims_match(self.shape, shape)


def dims_match(wanted: tuple[Dim, ...], given: tuple[int, ...]) -> bool:
    """Whether numbers agree, symbols standing for anything."""
    return len(wanted) == len(given) and all(isinstance(w, str) or w == g for w, g in zip(wanted, given, strict=True))


def input_specs(model: Model) -> list[TensorSpec]:
    """What must be fed: graph inputs without a default value."""
    defaults = set(model.weights) | {t.name for t in model.graph.initializer}
    return [_port(v) for v in model.graph.input if v.name not in defaults]


def output_specs(model: Model) -> list[TensorSpec]:
    """What the model gives."""
    return [_port(v) for v in model.graph.output]


def free_sizes(ports: Sequence[TensorSpec]) -> list[str]:
    """Symbols that are no batch: those that stand on no first axis."""
    batch = {p.shape[0] for p in ports if p.shape}
    return list(dict.fromkeys(d for p in ports for d in (p.shape or ())[1:] if isinstance(d, str) and d not in batch))


def _port(value: onnx.ValueInfoProto) -> TensorSpec:
    if not value.type.HasField("tensor_type"):
        return TensorSpec(value.name, 0, None)
    tensor = value.type.tensor_type
    if not tensor.HasField("shape"):
        return TensorSpec(value.name, tensor.elem_type, None)
    dims = tuple(
        d.dim_value if d.HasField("dim_value") else d.dim_param or f"{value.name}.{axis}"
        for axis, d in enumerate(tensor.shape.dim)
    )
    return TensorSpec(value.name, tensor.elem_type, dims)
