"""To and from an onnx-graphsurgeon graph, for those who like to edit graphs with it.

An onnx-graphsurgeon graph holds less than a model: no metadata, no ``doc_string`` of a node, no constant that nothing
reads. So coming back is a three-way merge: what the edited graph exports is compared with what the graph of the
untouched model exports, and wherever these are equal the model's own message stays.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import contextmanager
from operator import attrgetter
from typing import Any

from google.protobuf.message import Message  # type: ignore[import-untyped]

from .errors import BadModel
from .io.load import from_proto
from .io.save import to_proto
from .model import Model
from .nodes import is_same

_KEYS: dict[str, Callable[[Any], Hashable]] = {
    **dict.fromkeys(("attribute", "initializer", "input", "output", "value_info"), attrgetter("name")),
    "node": lambda node: tuple(node.output),
    "sparse_initializer": attrgetter("values.name"),
    "opset_import": attrgetter("domain"),
    "functions": attrgetter("domain", "name"),
}
"""What tells the members of a repeated field apart."""
_ORDERED = frozenset(("node", "input", "output"))
"""Fields whose order means something: that of the edited graph holds."""


def to_graphsurgeon(model: Model) -> Any:
    """The model as an ``onnx_graphsurgeon.Graph``, with its weights; a copy.

    Raises:
        CannotWrite: it is above 2 GB.
    """
    import onnx_graphsurgeon

    with _quietly():
        return onnx_graphsurgeon.import_onnx(to_proto(model))


def from_graphsurgeon(graph: Any, original: Model) -> Model:
    """The original as ``graph``, which was made of it and edited, says it should be.

    All that was not edited stays as it was, byte by byte, with what such a graph cannot hold.

    Raises:
        BadModel: the graph cannot be written, or is no valid model.
        CannotWrite: the model is above 2 GB.
    """
    edited, untouched, whole = _exported(graph), _exported(to_graphsurgeon(original)), to_proto(original)
    made = from_proto(_merged(edited, untouched, whole))
    made.file, made.notes = original.file, list(original.notes)
    for name, known in original.weights.items():
        if name in made.weights and is_same(known, made.weights[name]):
            made.weights[name] = known
    return made


@contextmanager
def _quietly() -> Iterator[None]:
    """Its warnings, which go to stdout, are of what the merge puts right."""
    from onnx_graphsurgeon.logger import G_LOGGER

    before, G_LOGGER.severity = G_LOGGER.severity, G_LOGGER.CRITICAL
    try:
        yield
    finally:
        G_LOGGER.severity = before


def _exported(graph: Any) -> Any:
    import onnx_graphsurgeon

    try:
        with _quietly():
            return onnx_graphsurgeon.export_onnx(graph, do_type_check=False)
    except Exception as error:
        raise BadModel(
            "onnx-graphsurgeon cannot write this graph",
            why=f"{type(error).__name__}: {error}",
            fix="it knows no optional values and no maps; of an edited graph, check types and shapes of what was added",
        ) from error


def _merged(edited: Any, untouched: Any, whole: Any) -> Any:
    """``whole`` with all that tells ``edited`` from ``untouched``."""
    made = type(whole)()
    made.CopyFrom(whole)
    for field in made.DESCRIPTOR.fields:
        name = field.name
        now, before = getattr(edited, name), getattr(untouched, name)
        if now == before:
            continue
        if name in _KEYS and isinstance(made, Message) and field.message_type is not None:
            members = _members(name, now, before, getattr(whole, name))
            made.ClearField(name)
            getattr(made, name).extend(members)
        elif field.message_type is not None and not _repeated(now) and made.HasField(name):
            getattr(made, name).CopyFrom(_merged(now, before, getattr(whole, name)))
        else:
            _set(made, name, now)
    return made


def _members(name: str, edited: Iterable[Any], untouched: Iterable[Any], whole: Iterable[Any]) -> list[Any]:
    key = _KEYS[name]
    before, own = {key(m): m for m in untouched}, {key(m): m for m in whole}
    made = {}
    for member in edited:
        k = key(member)
        if k in before and k in own:
            made[k] = _merged(member, before[k], own[k])
        elif k not in before or member != before[k]:  # else the export made it up
            made[k] = member
    if name in _ORDERED:
        return list(made.values())
    kept = {k: made.get(k, m) for k, m in own.items() if k in made or k not in before}
    return list({**kept, **made}.values())


def _repeated(value: Any) -> bool:
    return hasattr(value, "extend")


def _set(made: Any, name: str, value: Any) -> None:
    made.ClearField(name)
    if _repeated(value):
        getattr(made, name).extend(value)
    elif isinstance(value, Message):
        getattr(made, name).CopyFrom(value)
    else:
        setattr(made, name, value)
