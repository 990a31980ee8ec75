"""Convolutional building blocks that later networks added."""

from __future__ import annotations

from ..blocks import cbr, head
from ..inputs import floats
from ..lazy import F, Tensor, nn, torch
from ..net_type import Net
from ..registry import network


@network("mix_convolution", x=floats(1, 3, 16, 16))
def mix_convolution(net: Net, x: Tensor) -> Tensor:
    """Slices of the channels get depthwise kernels of different sizes (MixNet)."""
    x = cbr(net, x, 18)
    for sizes, width in (((8, 6, 4), 26), ((12, 14), 22)):
        parts = [
            net.conv(part, size, 3 + 2 * i, groups=size, bias=False)
            for i, (part, size) in enumerate(zip(x.split(sizes, 1), sizes, strict=True))
        ]
        x = cbr(net, net.bn(torch.cat(parts, 1)).relu(), width, 1)
    return head(net, x)


@network("blur_pool", x=floats(1, 3, 16, 16))
def blur_pool(net: Net, x: Tensor) -> Tensor:
    """A fixed smoothing filter, repeated for every channel, before each stride."""
    for width in (14, 20):
        x = F.pad(cbr(net, x, width), (1, 1, 1, 1), mode="replicate")
        line = torch.tensor([0.25, 0.5, 0.25])
        blur = net.const(lambda line=line: line[:, None] * line[None, :])  # type: ignore[misc]
        x = F.conv2d(x, blur.expand(width, 1, 3, 3), stride=2, groups=width)
    return head(net, x)


@network("half_instance_norm", x=floats(1, 3, 12, 12))
def half_instance_norm(net: Net, x: Tensor) -> Tensor:
    """One part of the channels is instance-normalized, the other batch-normalized (IBN)."""
    x = cbr(net, x, 16)
    for width in (22, 26):
        a, b = net.conv(x, width, bias=False).split([10, width - 10], 1)
        x = torch.cat([net.apply(a, nn.InstanceNorm2d, 10, affine=True), net.bn(b)], 1).relu()
    return head(net, x)


@network("star_operation", x=floats("batch", 3, 12, 12))
def star_operation(net: Net, x: Tensor) -> Tensor:
    """Two expansions are multiplied, one of them through ReLU6, between depthwise convolutions (StarNet)."""
    x = net.bn(net.conv(x, 16, 3, 2))
    for _ in range(2):
        y = net.bn(net.conv(x, 16, 7, groups=16))
        y = F.relu6(net.conv(y, 26, 1)) * net.conv(y, 26, 1)
        x = x + 0.3 * net.conv(net.bn(net.conv(y, 16, 1)), 16, 7, groups=16)
    return head(net, net.bn(x))


@network("involution", x=floats(1, 3, 8, 8))
def involution(net: Net, x: Tensor) -> Tensor:
    """Kernels come from the pixel itself, one per group of channels, applied to an unfolded neighbourhood."""
    x = cbr(net, x, 24)
    for groups in (4, 6):
        kernel = net.conv(cbr(net, x, 10, 1), 9 * groups, 1).reshape(1, groups, 1, 9, 64)
        near = F.unfold(x, 3, padding=1).reshape(1, groups, 24 // groups, 9, 64)
        x = net.bn((kernel * near).sum(3).reshape(1, 24, 8, 8)).relu()
    return head(net, cbr(net, x, 18))


@network("octave", x=floats(1, 3, 16, 16))
def octave(net: Net, x: Tensor) -> Tensor:
    """Two streams of different resolution and width, exchanged in every layer."""
    high, low = net.conv(x, 14), net.conv(F.avg_pool2d(x, 2), 10)
    for a, b in ((16, 12), (20, 8)):
        up = F.interpolate(net.conv(low, a), scale_factor=2.0, mode="nearest")
        new_low = net.conv(low, b) + net.conv(F.avg_pool2d(high, 2), b)
        high, low = net.bn(net.conv(high, a) + up).relu(), net.bn(new_low).relu()
    return net.linear(torch.cat([high.mean((2, 3)), low.mean((2, 3))], 1), 7)


@network("focal_modulation", x=floats(1, 3, 8, 8))
def focal_modulation(net: Net, x: Tensor) -> Tensor:
    """One projection gives queries, context and gates; contexts of growing reach are gated and summed."""
    x = net.conv(x, 22)
    for _ in range(2):
        query, context, gates = net.conv(x, 22 + 22 + 3, 1).split([22, 22, 3], 1)
        total = torch.zeros(())
        for level in range(2):
            context = F.gelu(net.conv(context, 22, 3 + 2 * level, groups=22, bias=False))
            total = total + context * gates[:, level : level + 1]
        total = total + F.gelu(context.mean((2, 3), keepdim=True)) * gates[:, 2:]
        x = x + net.conv(query * net.conv(total, 22, 1), 22, 1) * 0.3
    return head(net, x)


@network("multi_scale_linear_attention", x=floats(1, 3, 8, 8))
def multi_scale_linear_attention(net: Net, x: Tensor) -> Tensor:
    """ReLU attention on packed heads and on their grouped aggregation, padded with ones for the sum (EfficientViT)."""
    x = cbr(net, x, 24, act=F.hardswish)
    packed = net.conv(x, 3 * 24, 1, bias=False)
    wide = net.conv(net.conv(packed, 72, 5, groups=72, bias=False), 72, 1, groups=9, bias=False)
    qkv = torch.cat([packed, wide], 1).reshape(1, 6, 24, 64)
    q, k, v = qkv[:, :, :8].relu(), qkv[:, :, 8:16].relu(), qkv[:, :, 16:]
    v = F.pad(v, (0, 0, 0, 1), value=1.0)
    y = (v @ k.transpose(-1, -2)) @ q
    y = y[:, :, :-1] / (y[:, :, -1:] + 1e-3)
    x = x + net.bn(net.conv(y.reshape(1, 48, 8, 8), 24, 1, bias=False))
    return head(net, cbr(net, x, 30, act=F.hardswish))


@network("scaled_skip_sum", x=floats(1, 3, 12, 12))
def scaled_skip_sum(net: Net, x: Tensor) -> Tensor:
    """Every layer adds all earlier maps, each with a learned factor, through 1x1 maps where widths differ."""
    maps = [net.conv(x, 14).relu()]
    for width in (14, 20, 20):
        total = torch.zeros(())
        for m in maps:
            total = total + net.param(1, mean=0.6) * (m if m.shape[1] == width else net.conv(m, width, 1))
        maps.append(net.conv(total, width).relu())
    return head(net, torch.cat(maps, 1))
