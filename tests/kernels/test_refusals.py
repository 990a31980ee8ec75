"""Sizes that do not fit are refused with a reason, whatever they are: nothing crashes, nothing is read past an end."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from intaglio.kernels.window import ConvWindow, Window

from . import library
from .calls import Conv, Gemm, bit_pack, max_pool
from .signs import needs_library

SIZES = st.sampled_from([-(2**63), -1, 0, 1, 2, 3, 7, 8, 9, 64, 2**16, 2**31 - 1, 2**31, 2**32 + 1, 2**62, 2**63 - 1])
BYTES = 64


def room() -> Any:
    """A buffer that is small, whatever a call says of it."""
    return (ctypes.c_uint8 * BYTES)()


@needs_library
@given(planes=SIZES, outputs=SIZES, length=SIZES, given_bytes=st.sampled_from([-1, 0, 1, 8, BYTES]), rows=SIZES)
@settings(max_examples=300, deadline=None)
def test_products_of_any_size_are_computed_or_refused(
    planes: int, outputs: int, length: int, given_bytes: int, rows: int
) -> None:
    lib, handle = library.load_library(), ctypes.c_void_p()
    status = lib.ib_bgemm_prepare(-1, planes, outputs, length, room(), given_bytes, ctypes.byref(handle))
    fits = planes in (1, 2) and 0 < outputs < 2**31 and 0 < length < 2**31
    assert (status == 0) == (fits and planes * outputs * -(-length // 8) == given_bytes)
    if status:
        assert handle.value is None
        return
    out = room()
    output = library.Output(library.INT32, ctypes.addressof(out), BYTES)
    status = lib.ib_bgemm_run(handle, rows, room(), given_bytes, ctypes.byref(output), None)
    assert (status == 0) == (rows * -(-length // 8) == given_bytes and rows * outputs * 4 == BYTES)
    lib.ib_bgemm_free(handle)


@needs_library
@given(
    numbers=st.lists(SIZES, min_size=15, max_size=15),
    sizes=st.tuples(SIZES, SIZES, SIZES),
    usual=st.integers(0, 2**18 - 1),
)
@settings(max_examples=300, deadline=None)
def test_convolutions_of_any_size_are_computed_or_refused(
    numbers: list[int], sizes: tuple[int, int, int], usual: int
) -> None:
    """Most numbers are 1, so that what is drawn gets past the first check."""
    shape, handle, lib = library.ConvShape(), ctypes.c_void_p(), library.load_library()
    mixed = [1 if usual >> i & 1 else n for i, n in enumerate((*numbers, *sizes))]
    shape.planes, shape.channels, shape.outputs, shape.groups = mixed[:4]
    for name, start in (("kernel", 4), ("strides", 6), ("dilations", 8)):
        getattr(shape, name)[:] = mixed[start : start + 2]
    shape.pads[:], shape.pad_value = mixed[10:14], mixed[14]
    weights = max(min(mixed[0] * mixed[2] * -(-mixed[4] * mixed[5] * mixed[1] // max(8 * mixed[3], 1)), BYTES), 0)
    if lib.ib_bconv_prepare(-1, ctypes.byref(shape), room(), weights, ctypes.byref(handle)):
        assert handle.value is None
        return
    out = room()
    output = library.Output(library.INT32, ctypes.addressof(out), BYTES)
    bits_bytes = max(min(mixed[15] * mixed[16] * mixed[17] * -(-mixed[1] // 8), BYTES), 0)
    lib.ib_bconv_run(handle, *mixed[15:], room(), bits_bytes, ctypes.byref(output), None)
    lib.ib_bconv_free(handle)


@needs_library
@given(sizes=st.tuples(SIZES, SIZES, SIZES), thresholds=SIZES, dtype=st.integers(-1, 2), length=st.integers(-1, BYTES))
@settings(max_examples=200, deadline=None)
def test_packing_of_any_size_is_done_or_refused(
    sizes: tuple[int, int, int], thresholds: int, dtype: int, length: int
) -> None:
    lib, x, limits = library.load_library(), room(), room()
    numbers = library.Numbers(dtype, ctypes.addressof(x), length, ctypes.addressof(limits), min(thresholds, BYTES // 4))
    lib.ib_bitpack_planes(-1, *sizes, ctypes.byref(numbers), room(), length, None)
    lib.ib_bitpack_rows(-1, *sizes[:2], ctypes.byref(numbers), room(), length, None)


@needs_library
@given(
    numbers=st.lists(SIZES, min_size=9, max_size=9), sizes=st.tuples(SIZES, SIZES, SIZES), length=st.integers(-1, BYTES)
)
@settings(max_examples=200, deadline=None)
def test_pooling_of_any_size_is_done_or_refused(numbers: list[int], sizes: tuple[int, int, int], length: int) -> None:
    shape = library.PoolShape(numbers[0])
    shape.kernel[:], shape.strides[:], shape.pads[:] = numbers[1:3], numbers[3:5], numbers[5:9]
    library.load_library().ib_bmaxpool_run(ctypes.byref(shape), *sizes, room(), length, room(), length, None)


@needs_library
@given(
    planes=SIZES,
    outputs=SIZES,
    channels=SIZES,
    block=SIZES,
    given_bytes=st.sampled_from([-1, 0, 1, 8, BYTES]),
    scales=st.sampled_from([-1, 0, 1, 8, BYTES // 4]),
    rows=SIZES,
    activation=st.integers(-1, 2),
)
@settings(max_examples=300, deadline=None)
def test_products_with_real_numbers_of_any_size_are_computed_or_refused(
    planes: int, outputs: int, channels: int, block: int, given_bytes: int, scales: int, rows: int, activation: int
) -> None:
    lib, handle = library.load_library(), ctypes.c_void_p()
    weights = (room(), given_bytes, room(), scales)
    status = lib.ib_wgemv_prepare(-1, planes, outputs, channels, block, *weights, ctypes.byref(handle))
    fits = min(planes, outputs, channels, block) > 0 and max(planes, outputs, block) < 2**31 and channels <= 2**24
    full = (
        fits
        and planes * outputs * -(-channels // 8) == given_bytes
        and planes * outputs * -(-channels // block) == scales
    )
    assert (status == 0) == full
    if status:
        assert handle.value is None
        return
    x, y = (ctypes.c_float * 256)(), (ctypes.c_float * 256)()
    for numbers in (channels, 256):
        status = lib.ib_wgemv_run(handle, activation, rows, x, numbers, y, outputs, None)
        assert (status == 0) == (activation in (0, 1) and rows * channels == numbers and rows == 1)
    lib.ib_wgemv_free(handle)


@needs_library
def test_sizes_too_large_for_memory_are_refused_before_memory_is_asked_for() -> None:
    lib, handle, most = library.load_library(), ctypes.c_void_p(), 2**31 - 1
    claimed = most * -(-most // 8)
    assert lib.ib_bgemm_prepare(-1, 1, most, most, room(), claimed, ctypes.byref(handle)) != 0
    shape = library.ConvShape(1, most, most, 1, (most, most), (1, 1), (1, 1), (0, 0, 0, 0), 1)
    status = lib.ib_bconv_prepare(-1, ctypes.byref(shape), room(), 2**62, ctypes.byref(handle))
    assert b"more than memory can address" in lib.ib_message(status)


@needs_library
def test_sizes_whose_product_is_0_again_are_refused() -> None:
    """Each product is 2 ** 64, which 64 bits cannot hold: what is left of it is 0, the very size that the buffers have."""
    lib, handle = library.load_library(), ctypes.c_void_p()
    conv = library.ConvShape(1, 16, 1, 1, (2**30, 2**30), (1, 1), (1, 1), (0, 0, 0, 0), 1)
    limit = room()
    numbers = library.Numbers(library.INT8, ctypes.addressof(room()), 0, ctypes.addressof(limit), 1)
    pool = library.PoolShape(1, (1, 1), (1, 1), (0, 0, 0, 0))
    for status in (
        lib.ib_bconv_prepare(-1, ctypes.byref(conv), room(), 0, ctypes.byref(handle)),
        lib.ib_bitpack_planes(-1, 2**30, 1, 2**34, ctypes.byref(numbers), room(), 0, None),
        lib.ib_bmaxpool_run(ctypes.byref(pool), 16, 2**30, 2**30, room(), 0, room(), 0, None),
    ):
        assert b"more than memory can address" in lib.ib_message(status)


@needs_library
def test_null_pointers_are_refused() -> None:
    lib, handle = library.load_library(), ctypes.c_void_p()
    for status in (
        lib.ib_bgemm_prepare(-1, 1, 1, 1, None, 1, ctypes.byref(handle)),
        lib.ib_bgemm_run(None, 1, room(), 1, ctypes.byref(library.Output(1)), None),
        lib.ib_bconv_prepare(-1, None, room(), 1, ctypes.byref(handle)),
        lib.ib_bconv_run(None, 1, 1, 1, room(), 1, ctypes.byref(library.Output(1)), None),
        lib.ib_bitpack_rows(-1, 1, 1, None, room(), 1, None),
        lib.ib_bmaxpool_run(None, 1, 1, 1, room(), 1, room(), 1, None),
        lib.ib_wgemv_prepare(-1, 1, 1, 1, 1, room(), 1, None, 1, ctypes.byref(handle)),
        lib.ib_wgemv_run(None, 0, 1, room(), 1, room(), 1, None),
    ):
        assert lib.ib_message(status) == b"a pointer is null"
    lib.ib_bgemm_free(None)
    lib.ib_bconv_free(None)
    lib.ib_wgemv_free(None)


@needs_library
def test_every_status_has_a_message_of_its_own() -> None:
    lib = library.load_library()
    messages = [lib.ib_message(status) for status in range(10)]
    assert len(set(messages)) == 10
    assert {lib.ib_message(-1), lib.ib_message(1000)} == {b"unknown status"}


ZEROS = np.zeros((1, 4, 3), np.uint8)


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        (lambda: Gemm(ZEROS, 25), "25 weights take 4 bytes, not 3"),
        (lambda: Gemm(ZEROS.repeat(3, 0), 24), r"weights are uint8 \(1 or 2"),
        (lambda: Gemm(ZEROS.astype(np.int8), 24), "weights are uint8"),
        (lambda: Gemm(ZEROS, 24).dot(np.zeros((2, 2), np.uint8)), "rows of 24 bits are"),
        (lambda: Gemm(ZEROS, 24).dot(ZEROS, threads=0), "at least one thread"),
        (lambda: Gemm(ZEROS, 24).affine(ZEROS, np.ones(3), np.ones(4)), r"scale has shape \(3,\), not \(4,\)"),
        (lambda: Gemm(ZEROS, 24).below(ZEROS, np.ones((4, 1))), r"threshold has shape \(4, 1\)"),
        (lambda: Conv(ZEROS, 5, ConvWindow((1, 1), group=2)), "do not make 2 groups"),
        (lambda: Conv(ZEROS, 72, ConvWindow((1, 1), group=3)), "4 outputs do not make 3 groups"),
        (lambda: Conv(ZEROS, 24, ConvWindow((1, 1))).dot(ZEROS), "images of 24 channels are"),
        (lambda: Conv(ZEROS, 6, ConvWindow((2, 2))).dot(ZEROS[None, :, :1]), "images of 6 channels|does not fit"),
        (lambda: ConvWindow((0, 1)), "positive sizes"),
        (lambda: ConvWindow((1, 1), pads=(0, 0, -1, 0)), "positive sizes"),
        (lambda: ConvWindow((1, 1), pad_value=2), "pad_value one of"),
        (lambda: max_pool(ZEROS[None], 25, Window((1, 1))), "images of 25 channels are"),
        (lambda: max_pool(ZEROS[None], 24, Window((1, 1), dilations=(2, 1))), "no dilations"),
        (lambda: bit_pack(np.ones((2, 3)), np.ones(1), (0, 1)), "float32 or int8"),
        (lambda: bit_pack(np.ones((2, 3), np.int8), np.ones(1), (0, 0)), "permutation"),
        (lambda: bit_pack(np.ones((2, 3), np.int8), np.ones(2), (0, 1)), r"threshold has shape \(2,\), not \(3,\)"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(call: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        call()
