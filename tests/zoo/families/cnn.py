"""Classic convolutional networks for images."""

from __future__ import annotations

from ..blocks import cbr, squeeze_excite
from ..inputs import floats
from ..lazy import F, Tensor, nn, torch
from ..net_type import Net
from ..registry import network


@network("lenet", x=floats("batch", 1, 28, 28))
def lenet(net: Net, x: Tensor) -> Tensor:
    """Tanh, average pooling, flatten."""
    x = F.avg_pool2d(net.conv(x, 6, 5).tanh(), 2)
    x = F.avg_pool2d(net.conv(x, 16, 5, padding=0).tanh(), 2).flatten(1)
    x = net.linear(net.linear(x, 60).tanh(), 42).tanh()
    return net.linear(x, 10)


@network("alexnet", x=floats(1, 3, 32, 32))
def alexnet(net: Net, x: Tensor) -> Tensor:
    """Local response normalization, grouped convolution, overlapping pooling."""
    x = F.max_pool2d(net.apply(net.conv(x, 16, 5, 2).relu(), nn.LocalResponseNorm, 5, 1e-2), 3, 2)
    x = F.max_pool2d(net.apply(net.conv(x, 24, 3, groups=2).relu(), nn.LocalResponseNorm, 5, 1e-2), 3, 2)
    x = net.conv(net.conv(x, 32).relu(), 20, groups=2).relu().flatten(1)
    return net.linear(net.linear(x, 48).relu(), 10)


@network("vgg", x=floats(1, 3, 32, 32))
def vgg(net: Net, x: Tensor) -> Tensor:
    """A plain stack, then NCHW flattened into a linear layer."""
    for width, depth in ((12, 1), (20, 2), (28, 2)):
        for _ in range(depth):
            x = net.conv(x, width).relu()
        x = F.max_pool2d(x, 2)
    return net.linear(net.linear(x.flatten(1), 40).relu(), 10)


@network("network_in_network", x=floats(2, 3, 24, 24))
def network_in_network(net: Net, x: Tensor) -> Tensor:
    """Classes straight from the mean of the last convolution."""
    for width in (12, 20, 28):
        x = net.conv(net.conv(x, width, 5 if width == 12 else 3).relu(), width - 4, 1).relu()
        x = F.max_pool2d(x, 2)
    return net.conv(x, 10, 1).mean((2, 3))


def basic_block(net: Net, x: Tensor, width: int, stride: int = 1) -> Tensor:
    """Two 3x3 convolutions and a shortcut."""
    y = cbr(net, x, width, 3, stride)
    y = net.bn(net.conv(y, width, bias=False))
    if stride != 1 or x.shape[1] != width:
        x = net.bn(net.conv(x, width, 1, stride, bias=False))
    return (x + y).relu()


@network("resnet", x=floats("batch", 3, 32, 32))
def resnet(net: Net, x: Tensor) -> Tensor:
    """Basic blocks, projection shortcuts."""
    x = cbr(net, x, 12)
    for width, stride in ((12, 1), (12, 1), (20, 2), (20, 1), (36, 2)):
        x = basic_block(net, x, width, stride)
    return net.linear(F.adaptive_avg_pool2d(x, 1).flatten(1), 10)


@network("resnet_bottleneck", x=floats(1, 3, 32, 32))
def resnet_bottleneck(net: Net, x: Tensor) -> Tensor:
    """1x1, 3x3, 1x1 with expansion; max-pool stem."""
    x = F.max_pool2d(cbr(net, x, 16, 7, 2), 3, 2, 1)
    for width, out, stride in ((8, 32, 1), (8, 32, 1), (12, 48, 2), (12, 48, 1)):
        y = cbr(net, cbr(net, x, width, 1), width, 3, stride)
        y = net.bn(net.conv(y, out, 1, bias=False))
        if x.shape[1] != out or stride != 1:
            x = net.bn(net.conv(x, out, 1, stride, bias=False))
        x = (x + y).relu()
    return net.linear(x.mean((2, 3)), 10)


@network("resnet_option_a", x=floats(1, 3, 32, 32))
def resnet_option_a(net: Net, x: Tensor) -> Tensor:
    """Shortcuts without weights: every second pixel, channels padded with zeros on both sides."""
    x = cbr(net, x, 10)
    for width, stride in ((10, 1), (18, 2), (18, 1), (34, 2)):
        y = net.bn(net.conv(cbr(net, x, width, 3, stride), width, bias=False))
        if stride == 2:
            pad = (width - x.shape[1]) // 2
            x = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, pad, width - int(x.shape[1]) - pad))
        x = (x + y).relu()
    return net.linear(x.mean((2, 3)), 10)


@network("resnet_avgpool_pad", x=floats(2, 3, 24, 24))
def resnet_avgpool_pad(net: Net, x: Tensor) -> Tensor:
    """Shortcuts by average pooling and concatenated zeros (PyramidNet): every block is a little wider."""
    x = net.bn(net.conv(x, 12, bias=False))
    for width, stride in ((16, 1), (20, 2), (24, 1), (28, 2)):
        y = net.conv(net.bn(x), width, 3, stride, bias=False)
        y = net.bn(net.conv(net.bn(y).relu(), width, bias=False))
        short = F.avg_pool2d(x, 2) if stride == 2 else x
        zeros = torch.zeros(short.shape[0], width - short.shape[1], short.shape[2], short.shape[3])
        x = y + torch.cat([short, zeros], 1)
    return net.linear(net.bn(x).relu().mean((2, 3)), 10)


@network("preact_resnet", x=floats(1, 3, 32, 32))
def preact_resnet(net: Net, x: Tensor) -> Tensor:
    """Normalization before convolution: the stream itself is never normalized."""
    x = net.conv(x, 14, bias=False)
    for width, stride in ((14, 1), (26, 2), (26, 1)):
        h = net.bn(x).relu()
        short = x if width == x.shape[1] else net.conv(h, width, 1, stride, bias=False)
        x = short + net.conv(net.bn(net.conv(h, width, 3, stride, bias=False)).relu(), width, bias=False)
    return net.linear(net.bn(x).relu().mean((2, 3)), 10)


@network("resnext", x=floats(1, 3, 32, 32))
def resnext(net: Net, x: Tensor) -> Tensor:
    """Bottlenecks with grouped convolutions."""
    x = cbr(net, x, 20)
    for width, out, stride in ((16, 40, 1), (24, 40, 1), (32, 56, 2)):
        y = cbr(net, cbr(net, x, width, 1), width, 3, stride, groups=8)
        y = net.bn(net.conv(y, out, 1, bias=False))
        x = x if x.shape[1] == out else net.bn(net.conv(x, out, 1, stride, bias=False))
        x = (x + y).relu()
    return net.linear(x.mean((2, 3)), 10)


@network("densenet", x=floats(1, 3, 32, 32))
def densenet(net: Net, x: Tensor) -> Tensor:
    """Every layer sees all earlier ones; batch normalization of the concatenation."""
    x = net.conv(x, 16)
    for depth in (4, 3):
        for _ in range(depth):
            y = net.conv(net.bn(x).relu(), 24, 1, bias=False)
            x = torch.cat([x, net.conv(net.bn(y).relu(), 10, bias=False)], 1)
        x = F.avg_pool2d(net.conv(net.bn(x).relu(), x.shape[1] // 2, 1, bias=False), 2)
    return net.linear(net.bn(x).relu().mean((2, 3)), 10)


@network("inception", x=floats(1, 3, 32, 32))
def inception(net: Net, x: Tensor) -> Tensor:
    """Four branches of different kernels, concatenated; factorized 1x5 and 5x1."""
    x = F.max_pool2d(cbr(net, x, 18), 2)
    for a, b, c, d in ((8, 12, 6, 10), (12, 16, 8, 14)):
        one = cbr(net, x, a, 1)
        three = cbr(net, cbr(net, x, b - 4, 1), b)
        five = cbr(net, cbr(net, cbr(net, x, c, 1), c + 2, (1, 5)), c + 4, (5, 1))
        pool = cbr(net, F.avg_pool2d(x, 3, 1, 1), d, 1)
        x = torch.cat([one, three, five, pool], 1)
    return net.linear(x.mean((2, 3)), 10)


@network("inception_resnet", x=floats(2, 3, 24, 24))
def inception_resnet(net: Net, x: Tensor) -> Tensor:
    """Concatenated branches, scaled and added to the stream; reduction by parallel strided branches."""
    x = cbr(net, x, 22, 3, 2)
    for _ in range(2):
        y = torch.cat([cbr(net, x, 8, 1), cbr(net, cbr(net, x, 10, 1), 12)], 1)
        x = (x + 0.3 * net.conv(y, x.shape[1], 1)).relu()
    x = torch.cat([F.max_pool2d(x, 3, 2, 1), cbr(net, x, 14, 3, 2), cbr(net, cbr(net, x, 10, 1), 18, 3, 2)], 1)
    return net.linear(x.mean((2, 3)), 10)


@network("xception", x=floats(1, 3, 32, 32))
def xception(net: Net, x: Tensor) -> Tensor:
    """Depthwise separable convolutions around residual adds."""
    x = cbr(net, x, 12, 3, 2)
    for width in (20, 36):
        y = x
        for _ in range(2):
            y = net.conv(y.relu(), y.shape[1], groups=y.shape[1], bias=False)
            y = net.bn(net.conv(y, width, 1, bias=False))
        x = F.max_pool2d(y, 3, 2, 1) + net.bn(net.conv(x, width, 1, 2, bias=False))
    return net.linear(x.relu().mean((2, 3)), 10)


@network("squeezenet", x=floats(1, 3, 32, 32))
def squeezenet(net: Net, x: Tensor) -> Tensor:
    """Fire modules with a bypass; the classifier is a convolution."""
    x = F.max_pool2d(net.conv(x, 20, 3, 2).relu(), 2)
    for squeeze, expand in ((6, 12), (6, 12), (10, 18)):
        s = net.conv(x, squeeze, 1).relu()
        y = torch.cat([net.conv(s, expand, 1).relu(), net.conv(s, expand).relu()], 1)
        x = x + y if x.shape == y.shape else y
    return net.conv(x, 10, 1).relu().mean((2, 3))


@network("regnet", x=floats("batch", 3, 32, 32))
def regnet(net: Net, x: Tensor) -> Tensor:
    """Grouped bottlenecks with fixed group width and squeeze-and-excitation."""
    x = cbr(net, x, 12, 3, 2)
    for width, stride in ((16, 1), (32, 2), (32, 1)):
        y = cbr(net, cbr(net, x, width, 1), width, 3, stride, groups=width // 8)
        y = net.bn(net.conv(squeeze_excite(net, y, 6), width, 1, bias=False))
        x = x if x.shape[1] == width else net.bn(net.conv(x, width, 1, stride, bias=False))
        x = (x + y).relu()
    return net.linear(x.mean((2, 3)), 10)


@network("res2net", x=floats(1, 3, 24, 24))
def res2net(net: Net, x: Tensor) -> Tensor:
    """The bottleneck is split in four, each part fed by the part before."""
    x = cbr(net, x, 24)
    for _ in range(2):
        parts = list(cbr(net, x, 32, 1).chunk(4, 1))
        for i in (1, 2, 3):
            parts[i] = cbr(net, parts[i] + parts[i - 1] if i > 1 else parts[i], 8)
        x = (x + net.bn(net.conv(torch.cat(parts, 1), 24, 1, bias=False))).relu()
    return net.linear(x.mean((2, 3)), 10)


@network("sknet", x=floats(1, 3, 24, 24))
def sknet(net: Net, x: Tensor) -> Tensor:
    """Selective kernels: softmax between branches, per channel."""
    x = cbr(net, x, 20)
    for width in (16, 28):
        a, b = cbr(net, x, width), cbr(net, x, width, dilation=2)
        z = net.linear((a + b).mean((2, 3)), 12).relu()
        choice = torch.stack([net.linear(z, width), net.linear(z, width)], 1).softmax(1)
        x = a * choice[:, 0, :, None, None] + b * choice[:, 1, :, None, None]
    return net.linear(x.mean((2, 3)), 10)


@network("resnest", x=floats(1, 3, 24, 24))
def resnest(net: Net, x: Tensor) -> Tensor:
    """Split attention: one grouped convolution, softmax over its radix, weighted sum of the halves."""
    x = cbr(net, x, 20)
    for width, cardinal in ((16, 2), (24, 4)):
        y = cbr(net, x, 2 * width, groups=2 * cardinal)
        y = y.reshape(y.shape[0], 2, width, y.shape[2], y.shape[3])
        z = net.conv(y.sum(1).mean((2, 3), keepdim=True), 12, 1, groups=2).relu()
        gate = net.conv(z, 2 * width, 1, groups=2)
        gate = gate.reshape(gate.shape[0], 2, width, 1, 1).softmax(1)
        x = cbr(net, (y * gate).sum(1), width + 8, 1)
    return net.linear(x.mean((2, 3)), 10)


@network("hrnet", x=floats(1, 3, 32, 32))
def hrnet(net: Net, x: Tensor) -> Tensor:
    """Two resolutions that exchange by strided convolution and upsampling."""
    high = cbr(net, x, 12)
    low = cbr(net, high, 22, 3, 2)
    for _ in range(2):
        high, low = basic_block(net, high, 12), basic_block(net, low, 22)
        up = F.interpolate(net.bn(net.conv(low, 12, 1, bias=False)), scale_factor=2.0, mode="nearest")
        down = net.bn(net.conv(high, 22, 3, 2, bias=False))
        high, low = (high + up).relu(), (low + down).relu()
    low = F.interpolate(low, scale_factor=2.0, mode="bilinear", align_corners=False)
    return net.conv(torch.cat([high, low], 1), 5, 1)


@network("cspnet", x=floats(1, 3, 32, 32))
def cspnet(net: Net, x: Tensor) -> Tensor:
    """One half of the channels goes around the residual blocks."""
    x = cbr(net, x, 18, 3, 2, act=F.leaky_relu)
    for width in (20, 32):
        x = cbr(net, x, width, 3, 2, act=F.leaky_relu)
        past, y = x.split([width // 2 - 2, width // 2 + 2], 1)
        for _ in range(2):
            y = y + cbr(net, cbr(net, y, 10, 1, act=F.leaky_relu), y.shape[1], act=F.leaky_relu)
        x = cbr(net, torch.cat([past, y], 1), width + 4, 1, act=F.leaky_relu)
    return net.linear(x.mean((2, 3)), 10)


@network("dual_path", x=floats(1, 3, 24, 24))
def dual_path(net: Net, x: Tensor) -> Tensor:
    """Each block's output is sliced: one part is added, the other concatenated."""
    stream = cbr(net, x, 30)
    for _ in range(3):
        y = cbr(net, cbr(net, stream, 16, 1), 16, groups=4)
        y = net.bn(net.conv(y, 20 + 6, 1, bias=False))
        stream = torch.cat([stream[:, :20] + y[:, :20], stream[:, 20:], y[:, 20:]], 1)
    return net.linear(stream.relu().mean((2, 3)), 10)


@network("deep_aggregation", x=floats(1, 3, 24, 24))
def deep_aggregation(net: Net, x: Tensor) -> Tensor:
    """Aggregation nodes over nested residual blocks (DLA), max-pooled shortcuts."""
    x = cbr(net, x, 14)
    for width in (18, 30):
        a = basic_block(net, x, width, 2)
        b = basic_block(net, a, width)
        pooled = F.max_pool2d(x, 2)
        root = net.bn(net.conv(torch.cat([a, b, pooled], 1), width, 1, bias=False))
        x = (root + b).relu()
    return net.linear(x.mean((2, 3)), 10)


@network("repvgg", x=floats(2, 3, 24, 24))
def repvgg(net: Net, x: Tensor) -> Tensor:
    """Three parallel branches (3x3, 1x1, identity with normalization) before they are merged."""
    for width, stride in ((16, 1), (16, 1), (28, 2), (28, 1)):
        y = net.bn(net.conv(x, width, 3, stride, bias=False)) + net.bn(net.conv(x, width, 1, stride, bias=False))
        x = (y + net.bn(x) if x.shape == y.shape else y).relu()
    return net.linear(x.mean((2, 3)), 10)


@network("highway_conv", x=floats(1, 3, 16, 16))
def highway_conv(net: Net, x: Tensor) -> Tensor:
    """A gate mixes each layer's output with its input."""
    x = net.conv(x, 22).relu()
    for _ in range(3):
        gate = net.conv(x, 22).sigmoid()
        x = gate * net.conv(x, 22).relu() + (1 - gate) * x
    return net.linear(x.mean((2, 3)), 10)
