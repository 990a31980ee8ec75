"""Networks for phones: depthwise and grouped convolutions, shuffles, gates."""

from __future__ import annotations

from ..blocks import Activation, cbr, identity, squeeze_excite
from ..inputs import floats
from ..lazy import F, Tensor, torch
from ..net_type import Net
from ..registry import network


def depthwise(net: Net, x: Tensor, kernel: int = 3, stride: int = 1, act: Activation | None = None) -> Tensor:
    """One filter per channel, normalized."""
    return cbr(net, x, x.shape[1], kernel, stride, groups=x.shape[1], act=act)


@network("mobilenet_v1", x=floats(1, 3, 32, 32))
def mobilenet_v1(net: Net, x: Tensor) -> Tensor:
    """Depthwise, then pointwise."""
    x = cbr(net, x, 10, 3, 2)
    for width, stride in ((18, 1), (26, 2), (26, 1), (42, 2)):
        x = cbr(net, depthwise(net, x, 3, stride), width, 1)
    return net.linear(x.mean((2, 3)), 10)


def inverted(
    net: Net, x: Tensor, middle: int, out: int, kernel: int = 3, stride: int = 1, *,
    act: Activation | None = None, gate: Activation | None = None,
) -> Tensor:  # fmt: skip
    """Expand, filter per channel, optionally gate, project; a shortcut where shapes agree."""
    y = depthwise(net, cbr(net, x, middle, 1, act=act), kernel, stride, act=act)
    if gate is not None:
        y = squeeze_excite(net, y, max(4, middle // 6), act, gate)
    y = cbr(net, y, out, 1, act=identity)
    return x + y if stride == 1 and x.shape[1] == out else y


@network("mobilenet_v2", x=floats("batch", 3, 32, 32))
def mobilenet_v2(net: Net, x: Tensor) -> Tensor:
    """Inverted residuals with linear bottlenecks and ReLU6."""
    x = cbr(net, x, 8, 3, 2, act=F.relu6)
    for middle, out, stride in ((24, 12, 1), (36, 12, 1), (40, 18, 2), (54, 18, 1)):
        x = inverted(net, x, middle, out, 3, stride, act=F.relu6)
    return net.linear(cbr(net, x, 48, 1, act=F.relu6).mean((2, 3)), 10)


@network("mobilenet_v3", x=floats(1, 3, 32, 32))
def mobilenet_v3(net: Net, x: Tensor) -> Tensor:
    """Hard-swish, hard-sigmoid gates, 5x5 depthwise."""
    x = cbr(net, x, 10, 3, 2, act=F.hardswish)
    for middle, out, kernel, stride in ((20, 14, 3, 2), (44, 14, 5, 1), (52, 22, 5, 2), (60, 22, 3, 1)):
        y = depthwise(net, cbr(net, x, middle, 1, act=F.hardswish), kernel, stride, act=F.hardswish)
        y = cbr(net, squeeze_excite(net, y, 8, gate=F.hardsigmoid), out, 1, act=identity)
        x = x + y if x.shape == y.shape else y
    x = cbr(net, x, 40, 1, act=F.hardswish)
    return net.linear(F.hardswish(net.linear(x.mean((2, 3)), 56)), 10)


@network("efficientnet", x=floats(1, 3, 32, 32))
def efficientnet(net: Net, x: Tensor) -> Tensor:
    """SiLU, squeeze-and-excitation in every block."""
    x = cbr(net, x, 12, 3, 2, act=F.silu)
    for middle, out, kernel, stride in ((24, 16, 3, 1), (48, 16, 3, 1), (48, 24, 5, 2), (60, 24, 5, 1)):
        x = inverted(net, x, middle, out, kernel, stride, act=F.silu, gate=torch.sigmoid)
    return net.linear(cbr(net, x, 56, 1, act=F.silu).mean((2, 3)), 10)


@network("efficientnet_v2", x=floats(1, 3, 24, 24))
def efficientnet_v2(net: Net, x: Tensor) -> Tensor:
    """Fused blocks (full 3x3 instead of expand and depthwise) first, gated ones later."""
    x = cbr(net, x, 12, 3, 2, act=F.silu)
    for middle, out, stride in ((30, 12, 1), (36, 20, 2)):
        y = cbr(net, cbr(net, x, middle, 3, stride, act=F.silu), out, 1, act=identity)
        x = x + y if x.shape == y.shape else y
    x = inverted(net, x, 50, 20, act=F.silu, gate=torch.sigmoid)
    return net.linear(cbr(net, x, 44, 1, act=F.silu).mean((2, 3)), 10)


@network("mnasnet", x=floats(3, 3, 24, 24))
def mnasnet(net: Net, x: Tensor) -> Tensor:
    """Separable stem without activation after the projection, mixed kernels."""
    x = cbr(net, depthwise(net, cbr(net, x, 14, 3, 2)), 10, 1, act=identity)
    for middle, out, kernel, stride in ((30, 16, 3, 2), (48, 16, 3, 1), (48, 26, 5, 1)):
        x = inverted(net, x, middle, out, kernel, stride)
    return net.linear(x.mean((2, 3)), 10)


def shuffle(x: Tensor, groups: int) -> Tensor:
    """Interleave the groups of channels."""
    batch, channels, height, width = x.shape
    return x.view(batch, groups, channels // groups, height, width).transpose(1, 2).reshape(x.shape)


@network("shufflenet_v1", x=floats(1, 3, 32, 32))
def shufflenet_v1(net: Net, x: Tensor) -> Tensor:
    """Grouped pointwise convolutions with a shuffle between; the strided block concatenates its pooled input."""
    x = cbr(net, x, 24, 3, 2)
    for middle, stride in ((24, 2), (24, 1), (24, 1)):
        out = 48 if stride == 1 else 48 - int(x.shape[1])
        y = shuffle(cbr(net, x, middle, 1, groups=3), 3)
        y = depthwise(net, y, 3, stride, act=identity)
        y = cbr(net, y, out, 1, groups=3, act=identity)
        x = torch.cat([F.avg_pool2d(x, 3, 2, 1), y], 1).relu() if stride == 2 else (x + y).relu()
    return net.linear(x.mean((2, 3)), 10)


@network("shufflenet_grouped", x=floats(2, 3, 24, 24))
def shufflenet_grouped(net: Net, x: Tensor) -> Tensor:
    """A plain chain of grouped convolutions of equal group count with shuffles between."""
    x = cbr(net, x, 24)
    for width in (32, 32, 40):
        x = shuffle(cbr(net, x, width, 1, groups=4), 4)
    return net.linear(x.mean((2, 3)), 10)


def shuffle_unit(net: Net, x: Tensor, width: int, stride: int) -> Tensor:
    """Half of the channels pass; concatenate and shuffle."""
    if stride == 1:
        left, right = x.chunk(2, 1)
    else:
        left = cbr(net, depthwise(net, x, 3, 2, act=identity), width // 2, 1)
        right = x
    right = depthwise(net, cbr(net, right, width // 2, 1), 3, stride, act=identity)
    return shuffle(torch.cat([left, cbr(net, right, width // 2, 1)], 1), 2)


@network("shufflenet_v2", x=floats("batch", 3, 32, 32))
def shufflenet_v2(net: Net, x: Tensor) -> Tensor:
    """Channel split, concatenation, shuffle."""
    x = F.max_pool2d(cbr(net, x, 12, 3, 2), 3, 2, 1)
    for width, stride in ((20, 2), (20, 1), (36, 2), (36, 1)):
        x = shuffle_unit(net, x, width, stride)
    return net.linear(cbr(net, x, 48, 1).mean((2, 3)), 10)


@network("shufflenet_v2_deep", exporters=("legacy17", "dynamo18"), x=floats(1, 3, 16, 16))
def shufflenet_v2_deep(net: Net, x: Tensor) -> Tensor:
    """The same unit many times over: permutations pile up."""
    x = shuffle_unit(net, cbr(net, x, 14, 3, 2), 32, 2)
    for _ in range(9):
        x = shuffle_unit(net, x, 32, 1)
    return net.linear(x.mean((2, 3)), 10)


@network("ghostnet", x=floats(1, 3, 24, 24))
def ghostnet(net: Net, x: Tensor) -> Tensor:
    """Half of the features are cheap depthwise copies; the concatenation is cut to an odd width."""

    def ghost(x: Tensor, width: int, act: Activation | None = None) -> Tensor:
        half = (width + 1) // 2
        primary = cbr(net, x, half, 1, act=act)
        return torch.cat([primary, depthwise(net, primary, act=act)], 1)[:, :width]

    x = cbr(net, x, 12, 3, 2)
    for middle, out, stride in ((23, 12, 1), (37, 20, 2), (41, 20, 1)):
        y = ghost(x, middle)
        if stride == 2:
            y = depthwise(net, y, 3, 2, act=identity)
        y = ghost(squeeze_excite(net, y, 6, gate=F.hardsigmoid), out, act=identity)
        short = x if stride == 1 else cbr(net, depthwise(net, x, 3, 2, act=identity), out, 1, act=identity)
        x = short + y
    return net.linear(x.mean((2, 3)), 10)


@network("depthwise_multiplier", x=floats(1, 3, 24, 24))
def depthwise_multiplier(net: Net, x: Tensor) -> Tensor:
    """Depthwise convolutions that make two or three channels of each one."""
    x = cbr(net, net.conv(x, 9, groups=3), 10)
    for multiplier, width in ((3, 14), (2, 22)):
        x = cbr(net, net.conv(x, int(x.shape[1]) * multiplier, groups=int(x.shape[1])).relu(), width, 1)
    return net.linear(x.mean((2, 3)), 10)


@network("group_chain", x=floats(1, 3, 16, 16))
def group_chain(net: Net, x: Tensor) -> Tensor:
    """Grouped convolutions of 4, 8 and 2 groups directly after one another."""
    x = net.conv(x, 32).relu()
    for width, groups in ((32, 4), (48, 8), (40, 2)):
        x = net.conv(x, width, groups=groups).relu()
    return net.linear(net.conv(x, 20, 1).relu().mean((2, 3)), 10)


@network("keyword_spotting", x=floats("batch", 1, 49, 10))
def keyword_spotting(net: Net, x: Tensor) -> Tensor:
    """DS-CNN on speech features: oblong kernels and strides."""
    x = net.bn(net.conv(x, 20, (10, 4), 2, padding=(4, 1))).relu()
    for width in (20, 28, 28):
        x = cbr(net, depthwise(net, x), width, 1)
    return net.linear(F.avg_pool2d(x, (24, 5)).flatten(1), 12).softmax(-1)


@network("mobile_one", x=floats(1, 3, 24, 24))
def mobile_one(net: Net, x: Tensor) -> Tensor:
    """Over-parameterized branches: three parallel copies, a 1x1 scale and a normalized identity, depthwise too."""
    x = cbr(net, x, 12, 3, 2)
    for width in (12, 20):
        for out, groups, kernel in ((int(x.shape[1]), int(x.shape[1]), 3), (width, 1, 1)):
            y = net.bn(x) if out == x.shape[1] else None
            for size in (kernel, kernel, 1):
                branch = net.bn(net.conv(x, out, size, groups=groups, bias=False))
                y = branch if y is None else y + branch
            assert y is not None
            x = y.relu()
    return net.linear(x.mean((2, 3)), 10)


@network("coordinate_attention", x=floats(1, 3, 16, 16))
def coordinate_attention(net: Net, x: Tensor) -> Tensor:
    """Gates along height and along width, made by one convolution on their concatenation."""
    x = cbr(net, x, 18)
    for width in (18, 26):
        y = cbr(net, x, width, 1)
        rows, columns = y.mean(3, keepdim=True), y.mean(2, keepdim=True).transpose(2, 3)
        z = cbr(net, torch.cat([rows, columns], 2), 8, 1, act=F.hardswish)
        a, b = z.split([16, 16], 2)
        x = y * net.conv(a, width, 1).sigmoid() * net.conv(b.transpose(2, 3), width, 1).sigmoid()
    return net.linear(x.mean((2, 3)), 10)
