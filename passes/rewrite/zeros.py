"""Weights with many zeros, stored as a bit for each weight and the values that stay.

A weight keeps its name and becomes the output of standard nodes of constants: any runtime that computes these once, as
ONNX Runtime does when it opens the file, then runs the same dense weight as before and is no faster. Few different values
are stored as indices into a table, bits of a map that has many zeros itself likewise: what takes fewest bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from onnx import NodeProto, TensorProto

from ...graph.index import index_of
from ...graph.io.opset import raise_opset
from ...graph.io.save import file_bytes
from ...graph.model import Model
from . import weights
from .weights import Decoder, Work

PACKED = "packed"
"""What constants of a packed weight are called, behind its name."""
_OPSET = 13
_NODES_BYTES = 600
"""Of the nodes that look something up, about."""
_LEAST = 256
"""Numbers below which a map of zeros is not worth its nodes."""


def pack_weights(model: Model, names: Iterable[str]) -> Model:
    """The model with those of the weights packed that take fewer bytes so."""
    work = Work(raise_opset(model, max(model.opset, _OPSET)))
    index = index_of(work.original)
    for name in names:
        weight = work.original.weights[name]
        packed = Packed(weight)
        if packed.nbytes < weight.nbytes and (readers := index.readers(name)):
            work.asked[name].append((packed, set(readers)))
    made = work.finish()
    return made if file_bytes(made) < file_bytes(model) else model


def packable(model: Model) -> Iterator[str]:
    """Constants in which zeros may pay, in the order of the file."""
    for name, weight in model.weights.items():
        if weight.size >= _LEAST and weight.dtype in (np.float32, np.float16, np.int8, np.uint8):
            yield name


@dataclass(frozen=True)
class Packed:
    """A weight, in the place of which nodes stand."""

    weight: np.ndarray

    @cached_property
    def stored(self) -> Stored:
        return Stored.of(self.weight.reshape(-1))

    @property
    def nbytes(self) -> int:
        return self.stored.nbytes

    def same(self, other: Decoder, /) -> bool:
        return isinstance(other, Packed) and self.weight is other.weight

    def nodes(self, work: Work, weight: str, out: str, /) -> list[NodeProto]:
        lines = Lines(work, weight)
        flat = lines.unpacked(self.stored, PACKED)
        lines.add("Reshape", [flat, work.constant("sparse/shape", np.array(self.weight.shape, np.int64))], out)
        return lines.nodes


@dataclass(frozen=True)
class Stored:
    """Numbers in a row: as they are; behind a ``table`` as ``codes`` of some ``bits``; or the bits of a ``mask`` and ``kept``,
    which begins with a zero.
    """

    values: np.ndarray
    bits: int = 0
    table: np.ndarray | None = None
    mask: Stored | None = None
    kept: Stored | None = None

    @classmethod
    def of(cls, values: np.ndarray) -> Stored:
        """In the form of fewest bytes."""
        plain = cls._dense(values)
        mask = values != 0
        if values.size < _LEAST or mask.mean() > 0.95:
            return plain
        kept = cls._dense(np.concatenate([np.zeros(1, values.dtype), values[mask]]))
        sparse = cls(values, mask=cls.of(np.packbits(mask, bitorder="little")), kept=kept)
        return sparse if sparse.nbytes + _NODES_BYTES < plain.nbytes else plain

    @classmethod
    def _dense(cls, values: np.ndarray) -> Stored:
        table = np.unique(values) if values.dtype.itemsize > 1 else values
        if len(table) > 256 or values.dtype.itemsize == 1:
            return cls(values)
        behind = cls(values, next(b for b in (1, 2, 4, 8) if 2**b >= len(table)), table)
        return behind if behind.nbytes + _NODES_BYTES < values.nbytes else cls(values)

    @property
    def nbytes(self) -> int:
        if self.mask is not None and self.kept is not None:
            return self.mask.nbytes + self.kept.nbytes
        if self.table is not None:
            return -(-self.values.size * self.bits // 8) + self.table.nbytes
        return self.values.nbytes

    @property
    def codes(self) -> np.ndarray:
        """Bytes of indices into the table, lowest bits first."""
        assert self.table is not None
        found = np.searchsorted(self.table, self.values).astype(np.uint8)
        each = 8 // self.bits
        rows = np.pad(found, (0, -found.size % each)).reshape(-1, each)
        return np.bitwise_or.reduce(rows << (np.arange(each, dtype=np.uint8) * np.uint8(self.bits)), axis=1)


class Lines(weights.Lines):
    """Nodes that unpack."""

    def unpacked(self, one: Stored, what: str) -> str:
        """The numbers in a row."""
        if one.mask is not None and one.kept is not None:
            index = self._index(one.mask, one.values.size, what)
            return self.add("Gather", [self.unpacked(one.kept, f"{what}/values"), index])
        if one.table is None:
            return self.constant(what, one.values)
        code = self._looked_up(self.constant(what, one.codes), one.bits, one.values.size)
        return self.add("Gather", [self.constant(f"{what}/table", one.table), code])

    def _index(self, mask: Stored, size: int, what: str) -> str:
        """0 at a zero, and 1, 2, 3 and so on at what stays."""
        bits = self._looked_up(self.unpacked(mask, f"{what}/mask"), 1, size)
        place = self.add("CumSum", [bits, self.work.constant("sparse/axis", np.array(0, np.int64))])
        return self.add("Mul", [place, bits])

    def _looked_up(self, packed: str, bits: int, size: int) -> str:
        """So many numbers of so many bits in bytes."""
        index = self.add("Cast", [packed], to=TensorProto.INT32)
        if bits == 8:
            return index
        table = np.arange(256)[:, None] >> np.arange(0, 8, bits) & (2**bits - 1)
        kept = self.work.constant("sparse/digits", table.astype(bool if bits == 1 else np.uint8))
        found = self.add("Gather", [kept, index])
        found = self.add("Reshape", [found, self.work.constant("sparse/shape", np.array([-1], np.int64))])
        if size * bits % 8:
            ends = (self.work.constant("sparse/size", np.array([n], np.int64)) for n in (0, size))
            found = self.add("Slice", [found, *ends])
        return self.add("Cast", [found], to=TensorProto.INT32)
