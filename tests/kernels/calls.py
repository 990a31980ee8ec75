"""The kernels as numpy functions, for tests and benchmarks: shapes checked, then the library, or its numpy reference.

Both give the same numbers, bit for bit. Only the time differs: :func:`intaglio.kernels.loader.why_absent` tells how to
get the library.
"""

from __future__ import annotations

import ctypes
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from math import prod
from typing import Any, ClassVar, TypeAlias

import numpy as np

from intaglio.kernels import onebit, reference
from intaglio.kernels.loader import available, check
from intaglio.kernels.packing import packed_length
from intaglio.kernels.window import ConvWindow, Window

from . import library as abi
from .library import load_library, number

Crew: TypeAlias = "ctypes.Array[abi.Threads] | None"
"""The library's own threads; None for the caller's alone."""


def bit_pack(
    x: np.ndarray, threshold: np.ndarray, perm: Sequence[int], *, isa: str | None = None, threads: int = 1
) -> np.ndarray:
    """Bits of ``x`` transposed by ``perm``: one where a number lies below its threshold.

    Shapes: x float32 or int8, any rank; threshold (1,) or (C,), C the last axis after ``perm``; result uint8
    (..., ceil(C / 8)).

    Raises:
        ValueError: the types or shapes do not fit.
    """
    if x.dtype not in (np.float32, np.int8) or sorted(perm) != list(range(x.ndim)) or not x.ndim:
        raise ValueError(f"bit_pack takes float32 or int8 and a permutation of its axes, not {x.dtype} and {perm}")
    shape = tuple(x.shape[axis] for axis in perm)
    crew = _threads(threads)
    limit = _numbers(threshold, np.float32, (1,) if np.size(threshold) == 1 else shape[-1:], "threshold")
    if not available() or not shape[-1]:
        return reference.bit_pack(x, limit, perm)
    bits = np.empty((*shape[:-1], packed_length(shape[-1])), np.uint8)
    planes = x.ndim > 2 and list(perm) == [0, *range(2, x.ndim), 1]
    x = np.ascontiguousarray(x if planes else np.transpose(x, perm))
    numbers = abi.Numbers(abi.INT8 if x.dtype == np.int8 else abi.FLOAT32, _at(x), x.nbytes, _at(limit), limit.size)
    sizes = (x.shape[0], shape[-1], prod(shape[1:-1])) if planes else (prod(shape[:-1]), shape[-1])
    pack = load_library().ib_bitpack_planes if planes else load_library().ib_bitpack_rows
    check(pack(number(isa), *sizes, ctypes.byref(numbers), _at(bits), bits.nbytes, crew))
    return bits


def prepare(owner: object, kernel: str, isa: str | None, *weights: Any) -> ctypes.c_void_p | None:
    """Weights as the library lays them out, freed with their owner; None where there is no library."""
    if not available():
        return None
    library, handle = load_library(), ctypes.c_void_p()
    check(getattr(library, f"ib_{kernel}_prepare")(number(isa), *weights, ctypes.byref(handle)))
    weakref.finalize(owner, getattr(library, f"ib_{kernel}_free"), handle)
    return handle


class _Product(ABC):
    """Dot products of signs with prepared weights, and what is made of them. May be called from many threads at once.

    ``outputs_axis`` is where numbers have their outputs; bits have them last. ``_rows`` is the shape of a result but for
    those, ``_sizes`` what the library is told of the bits.
    """

    kernel: ClassVar[str]
    outputs_axis: ClassVar[int] = -1
    _handle: ctypes.c_void_p | None = None

    def __init__(self, planes: np.ndarray, length: int) -> None:
        planes = np.ascontiguousarray(planes)
        if planes.dtype != np.uint8 or planes.ndim != 3 or planes.shape[0] not in (1, 2):
            raise ValueError(f"weights are uint8 (1 or 2, outputs, bytes), not {planes.dtype} {planes.shape}")
        if planes.shape[2] != packed_length(length):
            raise ValueError(f"{length} weights take {packed_length(length)} bytes, not {planes.shape[2]}")
        self.planes = planes
        self.outputs = planes.shape[1]

    def dot(self, bits: np.ndarray, *, threads: int = 1, out: np.ndarray | None = None) -> np.ndarray:
        """The dot products themselves, int32. ``out`` is where they go; a fresh array costs time of its own."""
        return self._made(bits, abi.INT32, np.int32, lambda dot: dot, threads, out)

    def affine(
        self,
        bits: np.ndarray,
        scale: np.ndarray,
        bias: np.ndarray,
        *,
        threads: int = 1,
        out: np.ndarray | None = None,
    ) -> np.ndarray:
        """``dot * scale + bias``, float32, rounded after each. Shapes: scale and bias (outputs,)."""
        scale = _numbers(scale, np.float32, (self.outputs,), "scale")
        bias = _numbers(bias, np.float32, (self.outputs,), "bias")
        finish = partial(reference.affine, scale=scale, bias=bias)
        return self._made(bits, abi.FLOAT, np.float32, finish, threads, out, scale=_at(scale), bias=_at(bias))

    def below(
        self, bits: np.ndarray, threshold: np.ndarray, *, threads: int = 1, out: np.ndarray | None = None
    ) -> np.ndarray:
        """Bits, one where ``dot < threshold``. Shapes: threshold int32 (outputs,)."""
        threshold = _numbers(threshold, np.int32, (self.outputs,), "threshold")
        finish = partial(reference.below, threshold=threshold)
        return self._made(bits, abi.BITS, np.uint8, finish, threads, out, threshold=_at(threshold))

    def _made(
        self,
        bits: np.ndarray,
        kind: int,
        dtype: type,
        finish: Callable[[np.ndarray], np.ndarray],
        threads: int,
        out: np.ndarray | None,
        **operands: int,
    ) -> np.ndarray:
        crew, bits = _threads(threads), np.ascontiguousarray(self._checked(bits))
        axis, length = (-1, packed_length(self.outputs)) if kind == abi.BITS else (self.outputs_axis, self.outputs)
        if self._handle is None:
            return _put(np.ascontiguousarray(np.moveaxis(finish(self._reference(bits)), -1, axis)), out)
        shape = list(self._rows(bits))
        shape.insert(axis % (len(shape) + 1), length)
        out = _place(out, tuple(shape), dtype)
        output = abi.Output(kind, _at(out), out.nbytes, **operands)
        run = getattr(load_library(), f"ib_{self.kernel}_run")
        check(run(self._handle, *self._sizes(bits), _at(bits), bits.nbytes, ctypes.byref(output), crew))
        return out

    @abstractmethod
    def _checked(self, bits: np.ndarray) -> np.ndarray: ...

    @abstractmethod
    def _rows(self, bits: np.ndarray) -> tuple[int, ...]: ...

    @abstractmethod
    def _sizes(self, bits: np.ndarray) -> tuple[int, ...]: ...

    @abstractmethod
    def _reference(self, bits: np.ndarray) -> np.ndarray: ...


class Gemm(_Product):
    """Matrix product of signs: bits (..., ceil(length / 8)) with weights (P, O, ceil(length / 8)) to (..., O).

    With one plane weights are -1 and +1; with two each is the mean of two signs. Raises ValueError where shapes do not
    fit.
    """

    kernel = "bgemm"

    def __init__(self, planes: np.ndarray, length: int, *, isa: str | None = None) -> None:
        super().__init__(planes, length)
        self.length = length
        weights = (*self.planes.shape[:2], length, _at(self.planes), self.planes.nbytes)
        self._handle = prepare(self, self.kernel, isa, *weights)

    def _checked(self, bits: np.ndarray) -> np.ndarray:
        if bits.dtype != np.uint8 or not bits.ndim or bits.shape[-1] != packed_length(self.length):
            wanted = f"uint8 (..., {packed_length(self.length)})"
            raise ValueError(f"rows of {self.length} bits are {wanted}, not {bits.dtype} {bits.shape}")
        return bits

    def _rows(self, bits: np.ndarray) -> tuple[int, ...]:
        return bits.shape[:-1]

    def _sizes(self, bits: np.ndarray) -> tuple[int, ...]:
        return (prod(bits.shape[:-1]),)

    def _reference(self, bits: np.ndarray) -> np.ndarray:
        return reference.gemm(bits, self.planes, self.length)


class Conv(_Product):
    """Convolution of signs: bits (N, H, W, ceil(channels / 8)) to numbers (N, O, H', W') or bits (N, H', W', bytes).

    Weights (P, O, ceil(K / 8)) hold a filter's bits in the order height, width, channel of its group. Raises ValueError
    where shapes do not fit.
    """

    kernel = "bconv"
    outputs_axis = 1

    def __init__(self, planes: np.ndarray, channels: int, window: ConvWindow, *, isa: str | None = None) -> None:
        if channels < 1 or channels % window.group:
            raise ValueError(f"{channels} channels do not make {window.group} groups")
        super().__init__(planes, len(window.taps()) * channels // window.group)
        if self.outputs % window.group:
            raise ValueError(f"{self.outputs} outputs do not make {window.group} groups")
        self.channels, self.window = channels, window
        counts, w = (len(self.planes), channels, self.outputs, window.group), window
        shape = abi.ConvShape(*counts, w.kernel, w.strides, w.dilations, w.pads, w.pad_value)
        self._handle = prepare(self, self.kernel, isa, ctypes.byref(shape), _at(self.planes), self.planes.nbytes)

    def _checked(self, bits: np.ndarray) -> np.ndarray:
        return _images(bits, self.channels)

    def _rows(self, bits: np.ndarray) -> tuple[int, ...]:
        return (bits.shape[0], *self.window.out(*bits.shape[1:3]))

    def _sizes(self, bits: np.ndarray) -> tuple[int, ...]:
        return bits.shape[:3]

    def _reference(self, bits: np.ndarray) -> np.ndarray:
        return reference.conv(bits, self.planes, self.channels, self.window)


class OneBit:
    """Weights of one bit or several planes of it: x (..., channels) to y (..., outputs).

    Shapes: planes uint8 (P, outputs, ceil(channels / 8)); scale float32 (P, outputs, ceil(channels / block)).

    Raises:
        ValueError: the shapes do not fit.
    """

    def __init__(
        self, planes: np.ndarray, scale: np.ndarray, channels: int, block: int, *, isa: str | None = None
    ) -> None:
        if min(channels, block) < 1:
            raise ValueError(f"channels and block are positive, not {channels} and {block}")
        wanted = (*planes.shape[:2], packed_length(channels))
        if planes.dtype != np.uint8 or planes.ndim != 3 or planes.shape != wanted:
            raise ValueError(f"weights are uint8 (P, outputs, {wanted[-1]}), not {planes.dtype} {planes.shape}")
        if scale.shape != (*planes.shape[:2], -(-channels // block)):
            raise ValueError(f"scale is {(*planes.shape[:2], -(-channels // block))}, not {scale.shape}")
        self.planes = np.ascontiguousarray(planes)
        self.scale = np.ascontiguousarray(scale, np.float32)
        self.channels, self.block = channels, min(block, channels)
        sizes = (*self.planes.shape[:2], self.channels, self.block)
        weights = (_at(self.planes), self.planes.nbytes, _at(self.scale), self.scale.size)
        self._handle = prepare(self, "wgemv", isa, *sizes, *weights)

    def __call__(self, x: np.ndarray, *, int8: bool = False, threads: int = 1) -> np.ndarray:
        """The product. ``int8`` quantizes each row of x first.

        Raises:
            ValueError: x has rows of another length.
        """
        x = np.ascontiguousarray(x, np.float32)
        if not x.ndim or x.shape[-1] != self.channels:
            raise ValueError(f"rows have {self.channels} numbers, not {x.shape}")
        if self._handle is None:
            return onebit.reference(x, self.planes, self.scale, self.channels, self.block, int8=int8)
        y = np.empty((*x.shape[:-1], self.planes.shape[1]), np.float32)
        activation = abi.ACTIVATION_INT8 if int8 else abi.ACTIVATION_FLOAT
        sizes = (x.size // self.channels, _at(x), x.size, _at(y), y.size)
        check(load_library().ib_wgemv_run(self._handle, activation, *sizes, _threads(threads)))
        return y


def max_pool(bits: np.ndarray, channels: int, window: Window, *, threads: int = 1) -> np.ndarray:
    """Largest sign of every window; padding is never the largest.

    Shapes: bits uint8 (N, H, W, ceil(channels / 8)); result (N, H', W', ceil(channels / 8)).

    Raises:
        ValueError: shapes do not fit, the window is dilated, or one lies wholly in the padding.
    """
    bits = np.ascontiguousarray(_images(bits, channels))
    if window.dilations != (1, 1):
        raise ValueError(f"max_pool has no dilations, not {window.dilations}")
    crew = _threads(threads)
    out = np.empty((bits.shape[0], *window.out(*bits.shape[1:3]), bits.shape[-1]), np.uint8)
    if not available():
        return reference.max_pool(bits, channels, window)
    shape = abi.PoolShape(channels, window.kernel, window.strides, window.pads)
    sizes = (*bits.shape[:3], _at(bits), bits.nbytes, _at(out), out.nbytes)
    check(load_library().ib_bmaxpool_run(ctypes.byref(shape), *sizes, crew))
    return out


def _images(bits: np.ndarray, channels: int) -> np.ndarray:
    """``bits``, if they are images of so many channels. Raises ValueError where they are not."""
    if bits.dtype != np.uint8 or bits.ndim != 4 or bits.shape[-1] != packed_length(channels):
        wanted = f"uint8 (N, H, W, {packed_length(channels)})"
        raise ValueError(f"images of {channels} channels are {wanted}, not {bits.dtype} {bits.shape}")
    return bits


def _place(out: np.ndarray | None, shape: tuple[int, ...], dtype: type) -> np.ndarray:
    """``out``, if it is what the result needs, or a fresh array. Raises ValueError where it is not."""
    if out is None:
        return np.empty(shape, dtype)
    if out.shape != shape or out.dtype != dtype or not out.flags.c_contiguous or not out.flags.writeable:
        raise ValueError(f"the result is {np.dtype(dtype)} {shape} in one piece, not {out.dtype} {out.shape}")
    return out


def _put(values: np.ndarray, out: np.ndarray | None) -> np.ndarray:
    """``values``, in ``out`` where one is given."""
    if out is None:
        return values
    _place(out, values.shape, values.dtype.type)[...] = values
    return out


def _numbers(values: np.ndarray, dtype: type, shape: tuple[int, ...], what: str) -> np.ndarray:
    """``values`` as the library takes them. Raises ValueError where there are too many or too few."""
    values = np.ascontiguousarray(values, dtype)
    if values.shape != shape:
        raise ValueError(f"{what} has shape {values.shape}, not {shape}")
    return values


def _at(array: np.ndarray) -> int:
    return array.ctypes.data


def _threads(count: int) -> Crew:
    """So many of the library's own threads. An array of one: ctypes passes it by reference, and it holds its memory."""
    if count < 1:
        raise ValueError(f"at least one thread is needed, not {count}")
    return None if count == 1 else (abi.Threads * 1)(abi.Threads(count, None, None))
