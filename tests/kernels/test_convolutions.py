"""The convolution of signs is the reference, bit for bit, on every instruction set."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from intaglio.kernels import reference
from intaglio.kernels.packing import unpack
from intaglio.kernels.window import ConvWindow

from .calls import Conv
from .signs import EVERY_ISA, LENGTHS, OUTPUTS, bits, scales
from .test_products import assert_same


def assert_equals_reference(
    rng: np.random.Generator, isa: str, planes: int, image: tuple[int, int, int, int], outputs: int, window: ConvWindow
) -> None:
    """All three results, with as many threads as planes. Shapes: image (N, H, W, C)."""
    channels = image[-1]
    length = len(window.taps()) * channels // window.group
    x, weights = bits(rng, *image), bits(rng, planes, outputs, length)
    convolution = Conv(weights, channels, window, isa=isa)
    dot = reference.conv(x, weights, channels, window)
    assert_same(convolution.dot(x, threads=planes), dot.transpose(0, 3, 1, 2))
    scale, bias = scales(rng, outputs), rng.standard_normal(outputs).astype(np.float32)
    with np.errstate(all="ignore"):
        wanted = reference.affine(dot, scale, bias).transpose(0, 3, 1, 2)
        assert_same(convolution.affine(x, scale, bias, threads=planes), wanted)
    tie = dot[0, 0, 0].astype(np.int32)  # at the threshold itself the bit is 0
    assert_same(convolution.below(x, tie, threads=planes), reference.below(dot, tie))


@pytest.mark.parametrize("pad_value", [-1, 0, 1])
@pytest.mark.parametrize("channels", LENGTHS)
@pytest.mark.parametrize("isa", EVERY_ISA)
def test_convolutions_of_every_depth_equal_the_reference(isa: str, channels: int, pad_value: int) -> None:
    rng = np.random.default_rng(channels)
    for outputs in OUTPUTS:
        size = int(rng.integers(1, 6))
        kernel = (size, int(rng.integers(1, 6)))
        strides = (int(rng.integers(1, 4)), int(rng.integers(1, 4)))
        window = ConvWindow(kernel, strides, (size - 1, 4, 2, 4), pad_value=pad_value)
        assert_equals_reference(rng, isa, int(rng.integers(1, 3)), (2, 6, 7, channels), outputs, window)


@st.composite
def windows(draw: st.DrawFn) -> ConvWindow:
    """Any window: even and odd, dilated, with pads that may be wider than the kernel."""
    pair = st.tuples(st.integers(1, 5), st.integers(1, 5))
    few = st.tuples(st.integers(1, 3), st.integers(1, 3))
    pads = draw(st.tuples(*[st.integers(0, 7)] * 4))
    return ConvWindow(draw(pair), draw(few), pads, draw(few), draw(st.integers(1, 4)), draw(st.integers(-1, 1)))


@given(
    isa=st.sampled_from(EVERY_ISA),
    planes=st.integers(1, 2),
    window=windows(),
    size=st.tuples(st.integers(1, 3), st.integers(1, 20), st.integers(1, 20)),
    depth=st.integers(1, 140),
    outputs=st.integers(1, 40),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=150, deadline=None)
def test_convolutions_of_any_shape_equal_the_reference(
    isa: str,
    planes: int,
    window: ConvWindow,
    size: tuple[int, int, int],
    depth: int,
    outputs: int,
    seed: int,
) -> None:
    image = (*size, depth * window.group)
    rng = np.random.default_rng(seed)
    try:
        window.out(*size[1:])
    except ValueError:
        x, length = bits(rng, *image), len(window.taps()) * depth
        with pytest.raises(ValueError, match="does not fit"):
            Conv(bits(rng, planes, window.group, length), image[-1], window, isa=isa).dot(x)
        return
    assert_equals_reference(rng, isa, planes, image, outputs * window.group, window)


@pytest.mark.parametrize("width", [1, 2, 5, 30])
@pytest.mark.parametrize("isa", EVERY_ISA)
def test_pixels_that_share_a_word_are_told_apart(isa: str, width: int) -> None:
    """Few channels, whole bytes of them or not; images narrower than the kernel; taps next to each other or not."""
    rng = np.random.default_rng(width)
    for channels in (8, 16, 24, 20):
        for across, dilation, left, right in ((3, 1, 1, 1), (5, 1, 0, 4), (5, 1, 4, 0), (3, 2, 2, 2), (3, 4, 9, 0)):
            window = ConvWindow((2, across), (1, 2), (0, left, 1, right), (1, dilation), pad_value=-1)
            assert_equals_reference(rng, isa, 1, (2, 3, width, channels), 9, window)


@pytest.mark.parametrize("isa", EVERY_ISA)
def test_every_channel_alone_is_convolved(isa: str) -> None:
    window = ConvWindow((3, 3), pads=(1, 1, 1, 1), group=65, pad_value=0)
    assert_equals_reference(np.random.default_rng(0), isa, 1, (1, 9, 9, 65), 65, window)


@pytest.mark.parametrize("isa", EVERY_ISA)
def test_padding_with_zero_is_exact(isa: str) -> None:
    """Against numpy's own sum over the part of the window that lies inside, not the reference."""
    rng = np.random.default_rng(1)
    x, weights = bits(rng, 1, 5, 5, 40), bits(rng, 1, 3, 9 * 40)
    convolution = Conv(weights, 40, ConvWindow((3, 3), pads=(1, 1, 1, 1), pad_value=0), isa=isa)
    image, filters = unpack(x, 40)[0], unpack(weights, 360)[0].reshape(3, 3, 3, 40)
    corner = np.einsum("ijc,oijc->o", image[:2, :2], filters[:, 1:, 1:])
    np.testing.assert_array_equal(convolution.dot(x)[0, :, 0, 0], corner)


@pytest.mark.parametrize("kernel", [(1, 1), (3, 3)])
@pytest.mark.parametrize("isa", EVERY_ISA)
def test_bits_past_the_last_channel_change_nothing(isa: str, kernel: tuple[int, int]) -> None:
    rng = np.random.default_rng(4)
    for channels in (5, 37, 69):
        window = ConvWindow(kernel, pads=(1, 1, 0, 0), pad_value=-1)
        x, weights = bits(rng, 1, 6, 6, channels), bits(rng, 2, 9, len(window.taps()) * channels)
        dirty = x.copy()
        dirty[..., -1] |= 0xFF << channels % 8 & 0xFF
        convolution = Conv(weights, channels, window, isa=isa)
        assert_same(convolution.dot(dirty), convolution.dot(x))


@pytest.mark.parametrize("isa", EVERY_ISA)
def test_one_convolution_serves_images_of_any_size_at_once(isa: str) -> None:
    rng = np.random.default_rng(2)
    window = ConvWindow((3, 2), pads=(1, 0, 1, 1), pad_value=0)
    weights = bits(rng, 2, 20, 6 * 33)
    convolution = Conv(weights, 33, window, isa=isa)
    images = [bits(rng, 1, 1 + i % 11, 1 + i % 7, 33) for i in range(40)]
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda x: convolution.dot(x, threads=2), images))
    for x, result in zip(images, results, strict=True):
        assert_same(result, reference.conv(x, weights, 33, window).transpose(0, 3, 1, 2))


def test_the_number_of_threads_changes_nothing() -> None:
    """Groups of outputs that share a byte of the result as well."""
    rng = np.random.default_rng(3)
    for group, outputs in ((1, 40), (3, 27)):
        window = ConvWindow((3, 3), pads=(1, 1, 1, 1), group=group, pad_value=0)
        x, weights = bits(rng, 3, 60, 61, 120), bits(rng, 1, outputs, 9 * 120 // group)
        convolution, tie = Conv(weights, 120, window), np.zeros(outputs, np.int32)
        dot = reference.conv(x, weights, 120, window)
        for threads in (1, 2, 3, 50):
            assert_same(convolution.dot(x, threads=threads), dot.transpose(0, 3, 1, 2))
            assert_same(convolution.below(x, tie, threads=threads), reference.below(dot, tie))
