"""Networks that make time finer again: transposed convolutions and repeated frames, hop after hop as in windows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from intaglio.graph.model import Model
from intaglio.measure.run.session import open_session, run
from intaglio.passes.stream import StreamOptions, stream

from .nets import Net, hopped

CHANNELS = 3


def hourglass(seed: int, window: int | str, *, padded: bool = False) -> tuple[Model, str, int]:
    """Down by strides, up again in one of three ways, beside it a branch that stays fine; what a hop must be a multiple of."""
    rng = np.random.default_rng(seed)
    net, stride = Net(rng), int(rng.integers(2, 5))
    span = int(rng.integers(1, stride + 1)) if padded else stride
    x = net.add("Relu", [net.add("Conv", ["x", net.draw(CHANNELS, CHANNELS, span)], strides=[stride])])
    x = net.add("Conv", [x, net.draw(CHANNELS, CHANNELS, 3)], pads=[1, 1] if padded else [0, 0])
    kind = ["ConvTranspose", "dilated", "Resize"][seed % 3]
    if kind == "Resize":
        scales = net.put(np.array([1, 1, stride], np.float32))
        x = net.add(
            "Resize", [x, "", scales], mode="nearest", nearest_mode="floor", coordinate_transformation_mode="asymmetric"
        )
    else:
        kernel, dilation = int(rng.integers(1, 6)), 2 if kind == "dilated" else 1
        reach = dilation * (kernel - 1) + 1
        begin = max(0, reach - stride)
        some: dict[str, Any] = {"output_padding": [stride - reach]} if reach < stride else {}
        pads = [int(rng.integers(begin + 1)) for _ in range(2)] if padded else [begin, begin]
        weight = net.draw(CHANNELS, CHANNELS, kernel)
        x = net.add(
            "ConvTranspose", [x, weight, net.draw(CHANNELS)], strides=[stride], dilations=[dilation], pads=pads, **some
        )
    x = net.add("Conv", [net.add("Relu", [x]), net.draw(CHANNELS, CHANNELS, 2)], pads=[0, 1] if padded else [0, 0])
    if padded:
        return net.model({"x": [1, CHANNELS, window]}, {x: 3}), x, stride
    last = net.add("Slice", [x, net.ints(-2 * stride), net.ints(1 << 40), net.ints(2)])
    fine = net.add("Conv", ["x", net.draw(CHANNELS, CHANNELS, 3)])
    fine = net.add("Slice", [fine, net.ints(-2 * stride - 1), net.ints(-1), net.ints(2)])
    return net.model({"x": [1, CHANNELS, window]}, {net.add("Add", [last, fine]): 3}), f"t{len(net.nodes) - 1}", stride


@pytest.mark.parametrize("seed", range(15))
def test_hops_equal_windows(seed: int) -> None:
    stride = hourglass(seed, 60)[2]
    window, hop = 12 * stride, stride * (1 + seed % 2)
    model, name, _ = hourglass(seed, window)
    made = stream(model, StreamOptions(hop=hop, hops=2))
    assert made.told["exact"]
    assert not made.told["windowed"]
    delay, warm, hops = made.told["delay"][name], 2 * window // hop + 4, 100
    assert delay % stride == 0
    x = np.random.default_rng(seed).standard_normal((1, CHANNELS, (warm + hops) * hop)).astype(np.float32)
    outs, session = hopped(made.told, made.model, {"x": x}, warm + hops), open_session(model)
    for k in range(warm, warm + hops):
        end = (k + 1) * hop - delay
        wanted = run(session, {"x": x[:, :, end - window : end]})[name]
        got = outs[k][name]
        new = min(got.shape[2], wanted.shape[2])
        np.testing.assert_allclose(got[:, :, -new:], wanted[:, :, -new:], atol=1e-5 * max(1, np.abs(wanted).max()))


@pytest.mark.parametrize("how", ["asymmetric", "half_pixel", "pytorch_half_pixel"])
@pytest.mark.parametrize("factor", [2, 3, 4])
def test_frames_that_are_mixed_wait_for_one_more(how: str, factor: int) -> None:
    net = Net(np.random.default_rng(factor))
    x = net.add("Conv", ["x", net.draw(CHANNELS, CHANNELS, factor)], strides=[factor])
    scales = net.put(np.array([1, 1, factor], np.float32))
    x = net.add("Resize", [x, "", scales], mode="linear", coordinate_transformation_mode=how)
    x = net.add("Conv", [x, net.draw(CHANNELS, CHANNELS, 2)])
    model, hop = net.model({"x": [1, CHANNELS, "T"]}, {x: 3}), 2 * factor
    made = stream(model, StreamOptions(hop=hop, axis="T", hops=3))
    assert not made.told["windowed"]
    assert made.told["delay"][x] == factor
    signal = np.random.default_rng(1).standard_normal((1, CHANNELS, 110 * hop)).astype(np.float32)
    outs, session = hopped(made.told, made.model, {"x": signal}, 110), open_session(model)
    for k in range(10, 110):  # of a long signal the runtime's places are not as exact: they are floats
        whole = run(session, {"x": signal[:, :, (k - 9) * hop : (k + 1) * hop]})[x]
        wanted = whole[:, :, -hop - factor : -factor]
        np.testing.assert_allclose(outs[k][x], wanted, atol=1e-5 * np.abs(wanted).max())


@pytest.mark.parametrize("seed", range(9))
def test_hops_equal_the_whole_signal_where_borders_are_padded(seed: int) -> None:
    model, name, stride = hourglass(seed, "T", padded=True)
    hop = 2 * stride
    made = stream(model, StreamOptions(hop=hop, axis="T", hops=3))
    assert not made.told["windowed"]
    x = np.random.default_rng(seed).standard_normal((1, CHANNELS, 110 * hop)).astype(np.float32)
    late = np.concatenate([out[name] for out in hopped(made.told, made.model, {"x": x}, 110)], axis=2)
    whole, shift = run(open_session(model), {"x": x})[name], made.told["delay"][name]
    wanted = whole[:, :, 12 * stride : whole.shape[2] - shift]
    np.testing.assert_allclose(late[:, :, -wanted.shape[2] :], wanted, atol=1e-5 * max(1, np.abs(wanted).max()))


def test_a_signal_finer_than_its_samples_needs_whole_windows() -> None:
    net = Net(np.random.default_rng(0))
    x = net.add("Conv", ["x", net.draw(CHANNELS, CHANNELS, 3)])
    x = net.add("ConvTranspose", [x, net.draw(CHANNELS, CHANNELS, 2)], strides=[2])
    made = stream(net.model({"x": [1, CHANNELS, 40]}, {x: 3}), StreamOptions(hop=4, hops=5))
    assert made.told["windowed"]
