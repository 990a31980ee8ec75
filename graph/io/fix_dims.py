"""Which dimensions of graph inputs are symbolic, and numbers for those."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import onnx

from ..errors import UsageError
from ..model import Model
from ..nodes import all_graphs


def pin_shapes(model: Model, shapes: Mapping[str, Sequence[int]]) -> None:
    """Set the shapes of graph inputs, by name; -1 leaves a dimension as it is.

    A symbol that gets a number in one place gets it everywhere.

    Raises:
        UsageError: an input does not exist, or a shape contradicts the model or another one.
    """
    inputs = {i.name: i for i in model.graph.input}
    symbols: dict[str, int] = {}
    for name, dims in shapes.items():
        if name not in inputs:
            raise UsageError(f"there is no graph input {name!r}", fix=f"inputs are: {', '.join(inputs) or 'none'}")
        _pin_input(inputs[name], list(dims), symbols)
    for value in _values(model.graph) if symbols else ():
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param in symbols:
                dim.dim_value = symbols[dim.dim_param]


def free_negative_dims(model: Model) -> None:
    """Lengths below 0, which some exporters write for free ones, become free ones, as ONNX Runtime takes them."""
    freed = 0
    for value in _values(model.graph):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_value < 0:
                dim.ClearField("dim_value")
                freed += 1
    if freed:
        model.notes.append(f"{freed} length{'' if freed == 1 else 's'} below 0 read as free")


def _pin_input(value: onnx.ValueInfoProto, dims: list[int], symbols: dict[str, int]) -> None:
    what = f"shape {','.join(map(str, dims))} does not fit graph input {value.name!r}"
    if any(d < 1 and d != -1 for d in dims):
        raise UsageError(what, why="dimensions are 1 or more", fix="-1 leaves a dimension as it is")
    if value.type.WhichOneof("value") != "tensor_type":
        raise UsageError(what, why="it is no tensor")
    shape = value.type.tensor_type.shape
    if not value.type.tensor_type.HasField("shape"):
        for _ in dims:
            shape.dim.add()
    if len(shape.dim) != len(dims):
        raise UsageError(what, why=f"it has {len(shape.dim)} dimensions: {_text(shape)}")
    for dim, number in zip(shape.dim, dims, strict=True):
        if number == -1:
            continue
        if dim.HasField("dim_value"):
            if dim.dim_value != number:
                raise UsageError(what, why=f"the model fixes its shape as {_text(shape)}")
        elif dim.dim_param:
            if symbols.setdefault(dim.dim_param, number) != number:
                why = f"{dim.dim_param!r} would be both {symbols[dim.dim_param]} and {number}"
                raise UsageError(what, why=why, fix="give the same number wherever the model has the same symbol")
        else:
            dim.dim_value = number


def _text(shape: onnx.TensorShapeProto) -> str:
    return ",".join(str(d.dim_value) if d.HasField("dim_value") else d.dim_param or "?" for d in shape.dim)


def _values(graph: onnx.GraphProto) -> Iterator[onnx.ValueInfoProto]:
    """Everything in a graph and its subgraphs that may say a shape."""
    for part in all_graphs(graph):
        yield from (*part.input, *part.output, *part.value_info)
