"""The protobuf wire format of an ONNX file, walked without reading the weights.

Only what loading and saving need: find the values of large initializers in a mapped file and give back everything
else as a small serialized model; write tags, lengths and varints.
Source: protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
MODEL_GRAPH, MODEL_OPSETS = 7, 8
GRAPH_INITIALIZER = 5
TENSOR_FLOAT_DATA, TENSOR_RAW_DATA, TENSOR_DOUBLE_DATA = 4, 9, 10
# Packed floats and doubles are stored exactly like raw data, so they can be mapped too.
TENSOR_VALUES = (TENSOR_FLOAT_DATA, TENSOR_RAW_DATA, TENSOR_DOUBLE_DATA)


class WireError(ValueError):
    """The bytes are no protobuf message. ``truncated`` says that they end too early."""

    def __init__(self, message: str, *, truncated: bool = False) -> None:
        super().__init__(message)
        self.truncated = truncated


@dataclass(frozen=True)
class Span:
    """Where the values of one initializer lie in the file, and in which field of the tensor they are stored."""

    start: int
    stop: int
    stored_as: int


def varint(value: int) -> bytes:
    """Encode a number that is not negative."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def prefix(field: int, length: int) -> bytes:
    """Tag and length of a field that holds ``length`` bytes."""
    return varint(field << 3 | BYTES) + varint(length)


def strip_weights(data: memoryview, smallest: int = 1024) -> tuple[bytes, dict[int, Span]]:
    """Split a serialized model into its structure and the places of its large weights.

    The structure is a serialized model too, in which initializers of ``smallest`` bytes or more have no values; the
    spans are keyed by the position of the initializer in the graph. Raises WireError.
    """
    spans: dict[int, Span] = {}
    pieces: list[bytes] = []
    count = 0
    for field, wire, head, start, stop in fields(data, 0, len(data)):
        if field != MODEL_GRAPH or wire != BYTES:
            pieces.append(bytes(data[head:stop]))
            continue
        graph, count = _strip_graph(data, start, stop, smallest, spans, count)
        pieces += [prefix(MODEL_GRAPH, len(graph)), graph]
    return b"".join(pieces), spans


def _strip_graph(
    data: memoryview, start: int, stop: int, smallest: int, spans: dict[int, Span], count: int
) -> tuple[bytes, int]:
    """A serialized graph without its large weights, and the number of initializers seen so far."""
    pieces: list[bytes] = []
    kept_from = start  # runs of fields that stay are copied in one piece
    for field, wire, head, first, last in fields(data, start, stop):
        if field != GRAPH_INITIALIZER or wire != BYTES:
            continue
        if last - first >= smallest:
            tensor, span = _strip_tensor(data, first, last, smallest)
            if span is not None:
                spans[count] = span
                pieces += [bytes(data[kept_from:head]), prefix(GRAPH_INITIALIZER, len(tensor)), tensor]
                kept_from = last
        count += 1
    pieces.append(bytes(data[kept_from:stop]))
    return b"".join(pieces), count


def _strip_tensor(data: memoryview, start: int, stop: int, smallest: int) -> tuple[bytes, Span | None]:
    """A serialized tensor without its values, and where they are; no span where they are in many small pieces."""
    pieces: list[bytes] = []
    span: Span | None = None
    for field, wire, head, first, last in fields(data, start, stop):
        if field in TENSOR_VALUES and wire == BYTES:
            if span is not None or last - first < smallest:
                return b"", None
            span = Span(first, last, field)
        else:
            pieces.append(bytes(data[head:last]))
    return b"".join(pieces), span


def fields(data: memoryview, at: int, end: int) -> Iterator[tuple[int, int, int, int, int]]:
    """Yield (field number, wire type, start of the tag, start of the content, end) of each field in a message."""
    while at < end:
        head = at
        key = data[at]
        at += 1
        if key > 0x7F:
            key, at = _varint_at(data, head, end)
        wire = key & 7
        if wire == BYTES:
            length, at = _varint_at(data, at, end)
            stop = at + length
        elif wire == VARINT:
            stop = _varint_at(data, at, end)[1]
        elif wire == FIXED64:
            stop = at + 8
        elif wire == FIXED32:
            stop = at + 4
        else:
            raise WireError(f"byte {head}: wire type {wire} does not exist")
        if key >> 3 == 0:
            raise WireError(f"byte {head}: field number 0 does not exist")
        if stop > end:
            raise WireError(f"byte {head}: a field ends at byte {stop}, its message at {end}", truncated=True)
        yield key >> 3, wire, head, at, stop
        at = stop


def _varint_at(data: memoryview, at: int, end: int) -> tuple[int, int]:
    """Decode the number at ``at``; also returns where it ends."""
    value = shift = 0
    while at < end:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise WireError(f"byte {at}: a number is longer than 64 bits")
    raise WireError(f"byte {at}: a number has no end", truncated=True)
