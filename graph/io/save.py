"""Write a model as an ONNX file: atomically, and streaming the weights so that they are never held twice."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import chain, count
from os import PathLike
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ..dtypes import is_packed, stored_bytes
from ..errors import IntaglioError
from ..model import Model
from ..nodes import all_nodes, display_name
from ..version import VERSION
from .place import DIGEST_SIZE, Written, data_name, flush, sweep, temporary
from .protobuf_wire import GRAPH_INITIALIZER, MODEL_GRAPH, TENSOR_RAW_DATA, prefix
from .spill import pieces_of

LARGEST_FILE = 2**31 - 1
"""Bytes that a protobuf message can have; larger models keep their weights in a second file."""

# Smaller weights stay in the model file, where readers find the operands of shape inference.
_INLINE_BYTES = 1024
_ALIGNMENT = 64
_PACKED_AT_ONCE = 1 << 20  # elements, which fill whole bytes
_MOST_LINKS = 40
_PROVENANCE = ("version", "source_sha256", "recipe")


class CannotWrite(IntaglioError):
    """The file could not be written; what was there before is untouched."""


@dataclass(frozen=True)
class _Tensor:
    """One initializer to write: its serialized fields without values, and the values unless they are in ``head``."""

    head: bytes
    values: np.ndarray | None
    kind: int = TensorProto.UNDEFINED

    @property
    def values_size(self) -> int:
        return 0 if self.values is None else stored_bytes(self.values.size, self.kind)

    def pieces(self) -> Iterator[bytes | memoryview]:
        """The bytes of the values as they are stored, few at a time."""
        if self.values is None:
            return
        if not is_packed(self.kind):
            yield from pieces_of(self.values)
            return
        flat = self.values.reshape(-1)
        for start in range(0, flat.size, _PACKED_AT_ONCE):
            yield numpy_helper.from_array(flat[start : start + _PACKED_AT_ONCE]).raw_data

    @property
    def is_large(self) -> bool:
        """Whether it goes into the data file, where there is one."""
        return self.values_size >= _INLINE_BYTES

    @property
    def size(self) -> int:
        body = self.values_size
        return len(self.head) + (0 if self.values is None else len(prefix(TENSOR_RAW_DATA, body)) + body)


def save(
    model: Model,
    path: str | PathLike[str],
    *,
    recipe: Mapping[str, Any] | None = None,
    external_data: bool | None = None,
) -> None:
    """Write ``model`` to ``path``, whole or not at all; the same model gives the same bytes.

    ``recipe`` says how the model was made: it goes into the file's metadata with the version and the hash of the
    source, what a former run recorded moves to ``intaglio.history``. Without one the metadata stays as it is.
    ``external_data`` puts large weights into a second file beside it, ``<path>.<hash of its content>.data``; by
    default that happens above 2 GB only. The data of a model that is replaced go once nothing refers to them.

    Raises:
        CannotWrite: the folder, the disk or the size does not allow it.
    """
    save_all([File(model, path, recipe, external_data)])


@dataclass(frozen=True)
class File:
    """A model to write, as ``save`` takes it."""

    model: Model
    path: str | PathLike[str]
    recipe: Mapping[str, Any] | None = None
    external_data: bool | None = None


@dataclass(frozen=True)
class Document:
    """A text to write beside models."""

    path: str | PathLike[str]
    text: str


def save_all(files: Sequence[File | Document]) -> None:
    """Write several files; none takes its place before all of them are on the disk.

    Raises:
        CannotWrite: the folder, the disk or the size does not allow it.
    """
    targets = [os.path.realpath(file.path) for file in files]
    if len(set(targets)) < len(targets):
        raise CannotWrite("two files would have one name", fix="choose two names")
    with ExitStack() as stack:
        writers = [_written(file) if isinstance(file, File) else _text_written(file) for file in files]
        for written in [stack.enter_context(one) for one in writers]:
            with _explaining(written.target):
                written.place()


@contextmanager
def _explaining(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CannotWrite(f"cannot write {target}", why=(error.strerror or str(error)).lower()) from error


@contextmanager
def _written(file: File) -> Iterator[Written]:
    """The file is on the disk under a temporary name until it is placed or given up."""
    with _explaining(Path(file.path)):
        target = check_target(file.path, file.model)
    tensors = [_tensor(name, weight) for name, weight in file.model.weights.items()]
    rest, graph = _structure(file.model, file.recipe)
    external = file.external_data
    if external is None:
        external = _file_size(rest, graph, tensors) > LARGEST_FILE
    data, digest = None, ""
    with ExitStack() as stack:
        with _explaining(target):
            sweep(target.parent)
            if external:
                data = stack.enter_context(temporary(target.parent))
                digest = _write_aligned(data, [t for t in tensors if t.is_large])
                tensors = _move_out(tensors, data_name(target, digest))
            if _file_size(rest, graph, tensors) > LARGEST_FILE:
                fix = "let large weights go to a second file"
                raise CannotWrite(f"cannot write {target}", why="it is above 2 GB", fix=fix)
            content = stack.enter_context(temporary(target.parent))
            content.writelines(_pieces(rest, graph, tensors))
            flush(content)
        yield Written(target, content, data, digest)


@contextmanager
def _text_written(document: Document) -> Iterator[Written]:
    target = Path(os.path.realpath(document.path))
    with ExitStack() as stack:
        with _explaining(target):
            sweep(target.parent)
            content = stack.enter_context(temporary(target.parent))
            content.write(document.text.encode(errors="surrogateescape"))
            flush(content)
        yield Written(target, content)


def to_bytes(model: Model, *, outside: Collection[str] = ()) -> bytes:
    """The model as the bytes of a file, weights included: what ONNX Runtime takes in place of a path.

    Of weights ``outside`` there are types and shapes alone: callers hand them over in another way.

    Raises:
        CannotWrite: it is above 2 GB.
    """
    tensors = [
        _Tensor(_reference(tensor, "memory", 0), None) if name in outside else tensor
        for name, tensor in ((name, _tensor(name, weight)) for name, weight in model.weights.items())
    ]
    rest, graph = _structure(model, None)
    if _file_size(rest, graph, tensors) > LARGEST_FILE:
        raise CannotWrite("the model cannot be one message", why="it is above 2 GB", fix="save it to a file instead")
    return b"".join(_pieces(rest, graph, tensors))


def pieces(model: Model) -> Iterator[bytes | memoryview]:
    """The same piece by piece, of any size."""
    tensors = [_tensor(name, weight) for name, weight in model.weights.items()]
    return _pieces(*_structure(model, None), tensors)


def file_bytes(model: Model) -> int:
    """Bytes of the model in one file, counted without writing or copying it."""
    tensors = [_tensor(name, weight) for name, weight in model.weights.items()]
    return _file_size(*_structure(model, None), tensors)


def to_proto(model: Model) -> onnx.ModelProto:
    """The model as a protobuf with its weights put back.

    Raises:
        CannotWrite: it is above 2 GB.
    """
    proto = onnx.ModelProto()
    proto.ParseFromString(to_bytes(model))
    return proto


def _structure(model: Model, recipe: Mapping[str, Any] | None) -> tuple[bytes, bytes]:
    """The serialized model without its graph, and the serialized graph without its weights."""
    rest = onnx.ModelProto()
    rest.CopyFrom(model.proto)
    rest.ClearField("graph")
    if recipe is not None:
        _record(rest, model, recipe)
    return rest.SerializeToString(deterministic=True), _named(model.graph).SerializeToString(deterministic=True)


def _named(graph: onnx.GraphProto) -> onnx.GraphProto:
    """The same, every node with a name of its own, its first output's where it had none: some runtimes need that."""
    names = Counter(node.name for node in all_nodes(graph))
    if "" not in names and len(names) == names.total():
        return graph
    named, taken = onnx.GraphProto(), set(names)
    named.CopyFrom(graph)
    for node in all_nodes(named):
        if node.name and names[node.name] == 1:
            continue
        names[node.name] -= 1
        stem = display_name(node)
        tried = (f"{stem}_{k}" if k else stem for k in count())
        node.name = next(name for name in tried if name not in taken)
        taken.add(node.name)
    return named


def _record(proto: onnx.ModelProto, model: Model, recipe: Mapping[str, Any]) -> None:
    """Say in the metadata how the model was made; what a former run said moves to the history."""
    ours = {p.key: p for p in proto.metadata_props if p.key.startswith("intaglio.")}
    if "intaglio.recipe" in ours:
        former = {key: ours[f"intaglio.{key}"].value for key in _PROVENANCE if f"intaglio.{key}" in ours}
        entry = ours.get("intaglio.history") or proto.metadata_props.add(key="intaglio.history")
        entry.value = _json([*_history(entry.value), former])
    for key, value in zip(_PROVENANCE, (VERSION, model.source_sha256, _json(recipe)), strict=True):
        entry = ours.get(f"intaglio.{key}") or proto.metadata_props.add(key=f"intaglio.{key}")
        entry.value = value


def _history(text: str) -> list[Any]:
    try:
        runs = json.loads(text or "[]")
    except (ValueError, RecursionError):  # somebody else wrote it
        return []
    flat = isinstance(runs, list) and all(isinstance(r, dict) and not any(map(_nested, r.values())) for r in runs)
    return runs if flat else []


def _nested(value: Any) -> bool:
    return isinstance(value, list | dict)


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def _tensor(name: str, weight: np.ndarray) -> _Tensor:
    if weight.dtype.byteorder == ">":
        weight = weight.astype(weight.dtype.newbyteorder("<"))
    kind = helper.np_dtype_to_tensor_dtype(weight.dtype)
    if kind == TensorProto.STRING:
        return _Tensor(numpy_helper.from_array(weight, name).SerializeToString(deterministic=True), None)
    head = TensorProto(name=name, data_type=kind, dims=weight.shape).SerializeToString(deterministic=True)
    return _Tensor(head, weight, kind)


def _move_out(tensors: list[_Tensor], location: str) -> list[_Tensor]:
    """Replace the values of large tensors by references to places in the data file."""
    moved: list[_Tensor] = []
    offset = 0
    for tensor in tensors:
        if not tensor.is_large:
            moved.append(tensor)
            continue
        moved.append(_Tensor(_reference(tensor, location, offset), None))
        offset += tensor.values_size + -tensor.values_size % _ALIGNMENT
    return moved


def _reference(tensor: _Tensor, location: str, offset: int) -> bytes:
    """A tensor whose values lie elsewhere."""
    reference = TensorProto(data_location=TensorProto.EXTERNAL)
    for key, value in (("location", location), ("offset", offset), ("length", tensor.values_size)):
        reference.external_data.add(key=key, value=str(value))
    return tensor.head + reference.SerializeToString(deterministic=True)


def _file_size(rest: bytes, graph: bytes, tensors: list[_Tensor]) -> int:
    graph_size = _graph_size(graph, tensors)
    return len(rest) + len(prefix(MODEL_GRAPH, graph_size)) + graph_size


def _graph_size(graph: bytes, tensors: list[_Tensor]) -> int:
    return len(graph) + sum(len(prefix(GRAPH_INITIALIZER, t.size)) + t.size for t in tensors)


def _pieces(rest: bytes, graph: bytes, tensors: list[_Tensor]) -> Iterator[bytes | memoryview]:
    """The file, piece by piece."""
    yield rest
    yield prefix(MODEL_GRAPH, _graph_size(graph, tensors))
    yield graph
    for tensor in tensors:
        yield prefix(GRAPH_INITIALIZER, tensor.size) + tensor.head
        if tensor.values is not None:
            yield prefix(TENSOR_RAW_DATA, tensor.values_size)
            yield from tensor.pieces()


def _write_aligned(file: BinaryIO, tensors: Iterable[_Tensor]) -> str:
    """Write values one after the other; gives the digest of all that was written."""
    digest = hashlib.sha256()
    for tensor in tensors:
        for piece in chain(tensor.pieces(), [bytes(-tensor.values_size % _ALIGNMENT)]):
            file.write(piece)
            digest.update(piece)
    flush(file)
    return digest.hexdigest()[:DIGEST_SIZE]


def check_target(path: str | PathLike[str], model: Model | None = None) -> Path:
    """Where the file goes: a link is written through, as every other program does.

    Raises:
        CannotWrite: it could not be written, which should be found out before long work.
    """
    target = Path(os.path.realpath(path))
    what = f"cannot write {target}"
    if _is_device(Path(path)):
        raise CannotWrite(f"cannot write {path}", why="it is a device, not a file", fix="give a file, then copy it")
    if not target.parent.is_dir():
        raise CannotWrite(what, why=f"there is no folder {target.parent}", fix="create it first")
    if not os.access(target.parent, os.W_OK):
        raise CannotWrite(what, why=f"the folder {target.parent} is read-only", fix="choose another")
    if target.exists() and not target.is_file():
        raise CannotWrite(what, why=f"{target} is no regular file", fix="choose another name")
    if model and model.file and target in [p.resolve() for p in model.file.data_files]:
        why = f"that would overwrite the weights that {model.file.path} refers to"
        raise CannotWrite(what, why=why, fix="choose another name")
    return target


def _is_device(path: Path) -> bool:
    """Whether a name, or a link on its way, stands for an open stream: /dev/stdout may be a file, which would be replaced."""
    for _ in range(_MOST_LINKS):
        folder = os.path.realpath(path.parent)
        if folder == "/dev" or folder.startswith("/proc/"):
            return True
        if not os.path.islink(path):  # or it cannot be seen
            return False
        path = path.parent / os.readlink(path)
    return False
