"""Integers of less than a byte: which bits of a file each of them is made of, found by trying.

Nodes unpack them: tables, shifts, sums of planes. Whatever these are, an integer is a sum of what its bits are worth.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from ...graph.errors import IntaglioError
from ...graph.index import Index, index_of
from ...graph.model import Model
from ...graph.traits import Role, Trait, has, operator

_BITS = 8
_AT_MOST = 8
"""Bits that one integer has at most."""
Unpack = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Packed:
    """How the tensor ``name``, ``values``, follows from the weight ``source``.

    An integer is ``base`` plus, for each of its bits, ``worth`` where that is set. ``row``, ``byte`` and ``bit`` say where
    they stand in the weight as a matrix of bytes. Shapes: ``base`` (integers,), those of bits (integers, bits).
    """

    name: str
    source: str
    values: np.ndarray
    base: np.ndarray
    worth: np.ndarray
    row: np.ndarray
    byte: np.ndarray
    bit: np.ndarray

    @property
    def levels(self) -> np.ndarray:
        """All values that an integer can have, in rising order."""
        return np.unique(self._sums)

    def read(self, packed: np.ndarray) -> np.ndarray:
        """The integers that a weight holds. Shapes: as the weight -> as ``values``."""
        rows = packed.reshape(-1, packed.shape[-1])
        bits = (rows[self.row, self.byte] >> self.bit) & 1
        return (self.base + (bits * self.worth).sum(axis=1)).reshape(self.values.shape)

    @property
    def _patterns(self) -> np.ndarray:
        """Shapes: (values, bits)."""
        bits = self.worth.shape[1]
        return (np.arange(1 << bits)[:, None] >> np.arange(bits)) & 1

    @property
    def _sums(self) -> np.ndarray:
        return self.base[0] + self._patterns @ self.worth[0]

    def stored(self, values: np.ndarray, packed: np.ndarray) -> np.ndarray:
        """The weight with these values in it. Shapes: as ``values``, as the weight -> as the weight."""
        order = np.argsort(self._sums, kind="stable")
        rising = self._sums[order]
        at = np.searchsorted(rising, values.reshape(-1) - 0.25)
        bits = self._patterns[order[at.clip(0, len(order) - 1)]]
        result = packed.reshape(-1, packed.shape[-1]).copy()
        np.bitwise_and.at(result, (self.row, self.byte), (~(1 << self.bit)).astype(np.uint8))
        np.bitwise_or.at(result, (self.row, self.byte), (bits << self.bit).astype(np.uint8))
        return result.reshape(packed.shape)


def packed_weights(model: Model) -> Iterator[Packed]:
    """Those that a DequantizeLinear or a product with constants reads, as far as they can be read."""
    index, last = index_of(model), dict[str, str]()
    for node in model.graph.node:
        if not (has(node, Trait.QUANTIZES) or has(node, Trait.BROADCASTS | Trait.POLYNOMIAL)):
            continue
        name = node.input[0]
        if node.output[0] in index.constant and name in index.makers and (source := _source(model, index, name)):
            last[source] = name
    for source, name in last.items():
        if found := _found(name, source, model.weights[source], _unpacking(model, name, source)):
            yield found


def _source(model: Model, index: Index, name: str) -> str | None:
    """The only weight of bytes that a tensor comes from. What is looked up says which; tables are the same for all."""
    found, todo = set[str](), [name]
    while todo:
        tensor = todo.pop()
        weight = model.weights.get(tensor)
        if weight is None:
            node = index.makers[tensor]
            looked_up = [i for i, role in operator(node).roles.items() if role is Role.INDICES]
            todo += [node.input[i] for i in looked_up] or [one for one in node.input if one]
        elif weight.dtype == np.uint8 and weight.ndim in (1, 2) and len(index.reads(tensor)) == 1:
            found.add(tensor)
    return next(iter(found)) if len(found) == 1 else None


def _unpacking(model: Model, name: str, source: str) -> Unpack:
    from ...measure.autograd.network import Network

    network = Network(model, [name], fed=[source])
    return lambda packed: network({source: packed})[name].detach().numpy().astype(np.float32)


def _found(name: str, source: str, packed: np.ndarray, unpack: Unpack) -> Packed | None:
    """None where integers are no sums of bits, not all alike, or not whole numbers one behind the other."""
    try:
        return _tried(name, source, packed, unpack)
    except IntaglioError:
        return None


def _tried(name: str, source: str, packed: np.ndarray, unpack: Unpack) -> Packed | None:
    rows, length = packed.reshape(-1, packed.shape[-1]).shape
    blank = np.zeros((rows, length), np.uint8)
    base = unpack(blank.reshape(packed.shape)).reshape(-1)
    parts: list[tuple[np.ndarray, np.ndarray, int, int]] = []
    for row in range(rows):
        place = _bytes(unpack, packed.shape, blank, row, base)
        for bit in range(_BITS):
            apart = _apart(unpack, packed.shape, blank, row, np.full(length, 1 << bit)) - base
            worth = apart.astype(np.int16)
            if (worth != apart).any():
                return None
            if worth.any():
                parts.append((worth, place, row, bit))
    counts = sum((np.asarray(worth != 0, np.int64) for worth, *_ in parts), np.zeros(base.size, np.int64))
    bits = int(counts.max(initial=0))
    if not 0 < bits <= _AT_MOST or (counts != bits).any():
        return None
    found = Packed(name, source, unpack(packed), base, *_by_bit(parts, base.size, bits))
    alike = (found.worth == found.worth[0]).all() and (base == base[0]).all()
    steps = bool(alike) and np.array_equal(np.diff(found.levels), np.ones(len(found.levels) - 1))
    return found if steps and np.array_equal(found.stored(found.values, packed), packed) else None


def _by_bit(parts: list[tuple[np.ndarray, np.ndarray, int, int]], size: int, bits: int) -> list[np.ndarray]:
    """Worth, row, byte and bit. Shapes: (integers, bits), each."""
    kinds = (np.int16, np.int32, np.int32, np.uint8)
    found, filled = [np.zeros((size, bits), kind) for kind in kinds], np.zeros(size, np.int8)
    for worth, place, row, bit in parts:
        at = np.flatnonzero(worth)
        for column, value in zip(found, (worth[at], row, place[at], bit), strict=True):
            column[at, filled[at]] = value
        filled[at] += 1
    return found


def _apart(unpack: Unpack, shape: tuple[int, ...], blank: np.ndarray, row: int, values: np.ndarray) -> np.ndarray:
    tried = blank.copy()
    tried[row] = values
    return unpack(tried.reshape(shape)).reshape(-1)


def _bytes(unpack: Unpack, shape: tuple[int, ...], blank: np.ndarray, row: int, base: np.ndarray) -> np.ndarray:
    """Which byte of a row each integer takes bits from: one try for each digit of its number."""
    length = blank.shape[1]
    place = np.zeros(base.size, np.int32)
    for digit in range(max(1, (length - 1).bit_length())):
        marked = ((np.arange(length) >> digit) & 1) * 0xFF
        place |= (_apart(unpack, shape, blank, row, marked) != base).astype(np.int32) << digit
    return place
