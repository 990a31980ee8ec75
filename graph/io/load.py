"""Read an ONNX file as a model: structure parsed, weights mapped, never read as a whole."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError, Message  # type: ignore[import-untyped]
from onnx import TensorProto

from ..dtypes import is_packed, stored_bytes
from ..errors import BadModel, IntaglioError
from ..model import Model, Source
from ..nodes import refill
from .bounds import check_dims, check_texts
from .branches import pin_inputs
from .canonicalize import canonicalize
from .check import check_graph, check_versions, check_weights, looks_like
from .external import ExternalData, map_file
from .fix_dims import free_negative_dims, pin_shapes
from .opset import OLDEST, raise_opset
from .protobuf_wire import TENSOR_DOUBLE_DATA, TENSOR_FLOAT_DATA, Span, WireError, strip_weights
from .unfuse import unfuse

_PLAIN = {
    onnx.AttributeProto.AttributeType.Value(name) for name in ("FLOAT", "INT", "STRING", "FLOATS", "INTS", "STRINGS")
}
"""Attributes of these types hold no tensor: where one does, the node is refused."""
_HOLDERS = {
    f"{kind}Proto" for kind in ("Graph", "Node", "Function", "TrainingInfo", "Attribute", "Tensor", "SparseTensor")
}
"""Messages that tensors can lie in."""
# What the packed typed fields hold; their bytes are those of raw data.
_FIELD_DTYPES = {TENSOR_FLOAT_DATA: np.dtype("<f4"), TENSOR_DOUBLE_DATA: np.dtype("<f8")}


def load(
    path: str | PathLike[str],
    *,
    shapes: Mapping[str, Sequence[int]] | None = None,
    values: Mapping[str, Any] | None = None,
) -> Model:
    """Load a model. The file and its external data are mapped, weights are views on them.

    What changes, each said in ``notes`` and none of it changing an output bit: operator sets below 13 are raised to
    13, initializers stop being graph inputs, ``Constant`` nodes become weights, ``Identity`` and inference-mode
    ``Dropout`` nodes go, lengths below 0 become free, integer arithmetic on constants is done. ``shapes`` pins dimensions of graph inputs, -1
    leaves one as it is; ``values`` makes graph inputs constants. An ``If`` whose condition is then known becomes its
    branch.
    ``Dropout`` nodes go, lengths below 0 become free, integer arithmetic on constants is done. What ONNX Runtime's
    optimizer joined is parted where it holds weights; of attention and embeddings that changes the rounding.
    ``shapes`` pins dimensions of graph inputs, -1 leaves one as it is.

    Raises:
        BadModel: the file is no usable model; the message says why.
        UsageError: ``shapes`` or ``values`` do not fit the graph inputs.
    """
    path = Path(path)
    content = map_file(path)
    proto, spans = _parse(path, content)
    nodes = len(proto.graph.node)
    try:
        external = ExternalData(path.parent)
        model = _standardize(proto, _take_weights(proto.graph, spans, content, external), external, shapes, values)
    except BadModel as error:
        raise BadModel(f"{path}: {error.what}", why=error.why, fix=error.fix) from error
    model.file, model.given_nodes = Source(path, content, tuple(external.mapped), shapes or {}, values or {}), nodes
    return model


def load_exact(path: Path, original: Model) -> Model:
    """A model that was made of ``original`` and saved, as it was: nothing is standardized. Raises BadModel."""
    content = map_file(path)
    proto, spans = _parse(path, content)
    model = Model(proto, _take_weights(proto.graph, spans, content, ExternalData(path.parent)))
    model.file, model.sizes = original.file, dict(original.sizes)
    return model


def from_proto(
    proto: onnx.ModelProto,
    *,
    shapes: Mapping[str, Sequence[int]] | None = None,
    values: Mapping[str, Any] | None = None,
) -> Model:
    """The same for a model in memory. ``proto`` is not changed."""
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    check_versions(copy)
    external = ExternalData(None)
    return _standardize(copy, _take_weights(copy.graph, {}, memoryview(b""), external), external, shapes, values)


def _standardize(
    proto: onnx.ModelProto,
    weights: dict[str, np.ndarray],
    external: ExternalData,
    shapes: Mapping[str, Sequence[int]] | None,
    values: Mapping[str, Any] | None,
) -> Model:
    for tensor in _inner_tensors(proto):
        _check_inner(tensor, external)
    model = Model(proto, weights)
    _drop_weight_inputs(model)
    free_negative_dims(model)
    check_graph(model)
    canonicalize(model)
    check_weights(model)
    if 0 < model.opset < OLDEST:
        try:
            model = raise_opset(model, OLDEST)
        except IntaglioError as error:
            model.notes.append(f"operator set {model.opset} is kept: {error.what} ({error.why})")
    pin_shapes(model, shapes or {})
    pin_inputs(model, values or {})
    unfuse(model)
    return model


def _parse(path: Path, content: memoryview) -> tuple[onnx.ModelProto, dict[int, Span]]:
    if not content:
        raise BadModel(f"{path} is empty", fix="copy or export the model again")
    other = looks_like(bytes(content[:512]))
    if other:
        raise BadModel(f"{path} is no ONNX model", why=f"it looks like {other[0]}", fix=other[1])
    proto = onnx.ModelProto()
    try:
        structure, spans = strip_weights(content)
        proto.ParseFromString(structure)
    except WireError as error:
        if error.truncated:
            fix = "copy or download it again, and compare its size with the original's"
            raise BadModel(f"{path} is cut short or no ONNX model", why=str(error), fix=fix) from error
        raise BadModel(f"{path} is no ONNX model", why=f"it is no protobuf message ({error})") from error
    except DecodeError as error:
        raise BadModel(f"{path} is no ONNX model", why="it is no protobuf message of that kind") from error
    check_versions(proto, path)
    return proto, spans


def _take_weights(
    graph: onnx.GraphProto, spans: Mapping[int, Span], content: memoryview, external: ExternalData
) -> dict[str, np.ndarray]:
    """Move the top-level initializers out of the graph into read-only arrays."""
    weights: dict[str, np.ndarray] = {}
    for index, tensor in enumerate(graph.initializer):
        if not tensor.name:
            raise BadModel(f"initializer number {index} has no name")
        if tensor.name in weights:
            raise BadModel(f"there are two initializers {tensor.name!r}", fix="names must be unique; export it again")
        array = _array(tensor, spans.get(index), content, external)
        array.flags.writeable = False
        weights[tensor.name] = array
    del graph.initializer[:]
    return weights


def _array(tensor: TensorProto, span: Span | None, content: memoryview, external: ExternalData) -> np.ndarray:
    what = f"tensor {tensor.name!r} cannot be used"
    try:
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
    except KeyError as error:
        raise BadModel(what, why=f"the installed onnx knows no element type {tensor.data_type}") from error
    check_dims(tensor.name, tensor.dims)
    if tensor.data_type == TensorProto.STRING and not tensor.string_data and (span or tensor.HasField("raw_data")):
        raise BadModel(what, why="strings are not stored as raw data", fix="the file is damaged; export it again")
    check_texts("tensor", (tensor.name,))
    count = math.prod(tensor.dims)
    length = stored_bytes(count, tensor.data_type)
    if tensor.data_location == TensorProto.EXTERNAL:
        values = external.values(tensor, length)
    elif span is not None:
        if dtype != _FIELD_DTYPES.get(span.stored_as, dtype):
            raise BadModel(what, why=f"its values are not stored as {dtype}")
        values = content[span.start : span.stop]
    elif tensor.HasField("raw_data"):
        values = memoryview(tensor.raw_data)
    else:
        return _typed_array(tensor, count, what)
    if len(values) != length:
        shape = f"its shape {list(tensor.dims)} of {dtype} needs {length} bytes, {len(values)} are there"
        raise BadModel(what, why=shape)
    if is_packed(tensor.data_type):
        small = TensorProto(dims=tensor.dims, data_type=tensor.data_type, raw_data=bytes(values))
        return onnx.numpy_helper.to_array(small)
    return np.frombuffer(values, dtype, count).reshape(tensor.dims)


def _typed_array(tensor: TensorProto, count: int, what: str) -> np.ndarray:
    """The values of a small tensor that lie in the field of their type; strings stay bytes."""
    if tensor.data_type == TensorProto.STRING:
        array = np.empty(len(tensor.string_data), dtype=object)
        array[:] = list(tensor.string_data)
        if array.size != count:
            raise BadModel(what, why=f"its shape {list(tensor.dims)} needs {count} strings, {array.size} are there")
        return array.reshape(tensor.dims)
    try:
        return onnx.numpy_helper.to_array(tensor).copy()
    except (ValueError, TypeError) as error:
        raise BadModel(what, why=str(error)) from error


def _inner_tensors(message: Message) -> Iterator[TensorProto]:
    """Tensors that stay in the structure: attributes, sparse ones, and initializers of subgraphs and of training.

    Fields are asked, not types: a reader of the file may go by either.
    """
    if isinstance(message, onnx.NodeProto):
        parts = [a for a in message.attribute if a.type not in _PLAIN]
    else:
        held = [value for field, value in message.ListFields() if getattr(field.message_type, "name", "") in _HOLDERS]
        parts = [part for value in held for part in ((value,) if isinstance(value, Message) else value)]
    for part in parts:
        if isinstance(part, onnx.SparseTensorProto):
            check_dims(part.values.name, part.dims)
        yield from (part,) if isinstance(part, TensorProto) else _inner_tensors(part)


def _check_inner(tensor: TensorProto, external: ExternalData) -> None:
    """Raises BadModel for a tensor that is damaged; external values are copied in, so that it can be saved anywhere."""
    array = _array(tensor, None, memoryview(b""), external)
    if tensor.data_location == TensorProto.EXTERNAL:
        tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))


def _drop_weight_inputs(model: Model) -> None:
    """Initializers listed as graph inputs too (the style before IR version 4) are weights, not inputs."""
    graph = model.graph
    keep = [i for i in graph.input if i.name not in model.weights]
    dropped = len(graph.input) - len(keep)
    if dropped:
        refill(graph.input, keep)
        model.proto.ir_version = max(model.proto.ir_version, 4)  # older ones want every initializer to be an input
        model.notes.append(f"{dropped} graph inputs that have an initializer are weights, no longer inputs")
