"""Convolutional networks that weigh their channels or pixels."""

from __future__ import annotations

from ..blocks import cbr, heads_first, squeeze_excite
from ..inputs import floats
from ..lazy import F, Tensor, nn, torch
from ..net_type import Net
from ..registry import network


@network("senet", x=floats("batch", 3, 24, 24))
def senet(net: Net, x: Tensor) -> Tensor:
    """Squeeze-and-excitation by linear layers on a flat vector, inside residual blocks."""
    x = cbr(net, x, 14)
    for width in (14, 22):
        y = cbr(net, cbr(net, x, 18), width)
        gate = net.linear(net.linear(F.adaptive_avg_pool2d(y, 1).flatten(1), 6).relu(), width).sigmoid()
        y = y * gate[:, :, None, None]
        x = (y + x if x.shape[1] == width else y).relu()
    return net.linear(x.mean((2, 3)), 10)


@network("se_concat", x=floats(1, 3, 24, 24))
def se_concat(net: Net, x: Tensor) -> Tensor:
    """The gate sees means and maxima, concatenated."""
    x = cbr(net, x, 16)
    for width in (20, 28):
        x = cbr(net, x, width)
        s = torch.cat([x.mean((2, 3), keepdim=True), x.amax((2, 3), keepdim=True)], 1)
        x = x * net.conv(net.conv(s, 8, 1).relu(), width, 1).sigmoid()
    return net.linear(x.mean((2, 3)), 10)


@network("cbam", x=floats(1, 3, 24, 24))
def cbam(net: Net, x: Tensor) -> Tensor:
    """A shared gate on mean and maximum, then a spatial gate from statistics over channels."""
    x = cbr(net, x, 18)
    for key, width in (("a", 18), ("b", 26)):
        y = cbr(net, x, width)
        gate = torch.zeros(())
        for pooled in (y.mean((2, 3), keepdim=True), y.amax((2, 3), keepdim=True)):
            with net.shared(key):
                gate = gate + net.conv(net.conv(pooled, 6, 1).relu(), width, 1)
        y = y * gate.sigmoid()
        where = torch.cat([y.mean(1, keepdim=True), y.amax(1, keepdim=True)], 1)
        x = y * net.conv(where, 1, 7).sigmoid()
    return net.linear(x.mean((2, 3)), 10)


@network("eca", x=floats(1, 3, 24, 24))
def eca(net: Net, x: Tensor) -> Tensor:
    """A 1-D convolution that slides over channels."""
    x = cbr(net, cbr(net, x, 20), 28)
    s = net.conv(x.mean((2, 3)).unsqueeze(1), 1, 3, bias=False)
    x = x * s.sigmoid().transpose(1, 2).unsqueeze(-1)
    return net.linear(cbr(net, x, 24).mean((2, 3)), 10)


@network("scse", x=floats(2, 3, 24, 24))
def scse(net: Net, x: Tensor) -> Tensor:
    """Channel and spatial gates side by side; the larger result wins."""
    x = cbr(net, x, 20)
    for width in (24, 30):
        x = cbr(net, x, width)
        x = torch.maximum(squeeze_excite(net, x, 8), x * net.conv(x, 1, 1).sigmoid())
    return net.linear(x.mean((2, 3)), 10)


@network("bam", x=floats(1, 3, 16, 16))
def bam(net: Net, x: Tensor) -> Tensor:
    """Channel gate and dilated spatial gate are added under broadcasting, then x + x * gate."""
    x = cbr(net, x, 24)
    for width in (24, 32):
        x = cbr(net, x, width)
        channel = net.linear(net.bn(net.linear(x.mean((2, 3)), 8)).relu(), width)[:, :, None, None]
        spatial = net.conv(cbr(net, cbr(net, x, 10, 1), 10, dilation=4), 1, 1)
        x = x + x * (channel + spatial).sigmoid()
    return net.linear(x.mean((2, 3)), 10)


@network("global_context", x=floats(1, 3, 16, 16))
def global_context(net: Net, x: Tensor) -> Tensor:
    """Softmax over pixels pools one vector, which is transformed and added everywhere (GCNet)."""
    x = cbr(net, x, 22)
    for _ in range(2):
        where = net.conv(x, 1, 1).flatten(2).softmax(-1)
        context = (x.flatten(2) @ where.transpose(1, 2)).unsqueeze(-1)
        context = net.apply(net.conv(context, 10, 1), nn.LayerNorm, [10, 1, 1]).relu()
        x = x + net.conv(context, 22, 1)
    return net.linear(cbr(net, x, 30).mean((2, 3)), 10)


@network("non_local", x=floats(1, 3, 16, 16))
def non_local(net: Net, x: Tensor) -> Tensor:
    """Every pixel attends to every other; keys are pooled; the block's output is normalized and added."""
    x = cbr(net, x, 22, 3, 2)
    query = net.conv(x, 12, 1).flatten(2).transpose(1, 2)
    key = F.max_pool2d(net.conv(x, 12, 1), 2).flatten(2)
    value = F.max_pool2d(net.conv(x, 14, 1), 2).flatten(2).transpose(1, 2)
    y = ((query @ key).softmax(-1) @ value).transpose(1, 2).reshape(x.shape[0], 14, x.shape[2], x.shape[3])
    x = x + net.bn(net.conv(y, 22, 1))
    return net.linear(cbr(net, x, 30).mean((2, 3)), 10)


@network("bottleneck_transformer", x=floats(1, 3, 16, 16))
def bottleneck_transformer(net: Net, x: Tensor) -> Tensor:
    """Attention in place of the 3x3 convolution; queries also meet learned row and column positions."""
    x = cbr(net, x, 28, 3, 2)
    heads, size = 4, 8
    y = cbr(net, x, 20, 1)
    q, k, v = net.conv(y, 96, 1, bias=False).reshape(1, 3, heads, 8, size * size).unbind(1)
    rows, columns = net.param(1, heads, 8, size, 1), net.param(1, heads, 8, 1, size)
    place = (rows + columns).flatten(3)
    scores = q.transpose(-1, -2) @ k + q.transpose(-1, -2) @ place
    y = (v @ scores.softmax(-1).transpose(-1, -2)).reshape(1, heads * 8, size, size)
    x = (x + net.bn(net.conv(net.bn(y).relu(), 28, 1))).relu()
    return net.linear(x.mean((2, 3)), 10)


@network("attention_augmented", x=floats(1, 3, 16, 16))
def attention_augmented(net: Net, x: Tensor) -> Tensor:
    """Attention features are concatenated to convolution features."""
    x = cbr(net, x, 18, 3, 2)
    for width in (20, 26):
        flat = net.conv(x, 4 * 8 * 2 + 4 * 6, 1).flatten(2).transpose(1, 2)
        q, k, v = flat.split([32, 32, 24], -1)
        scores = heads_first(q, 4) @ heads_first(k, 4).transpose(-1, -2) * 8**-0.5
        y = (scores.softmax(-1) @ heads_first(v, 4)).transpose(1, 2).flatten(2).transpose(1, 2)
        y = net.conv(y.reshape(1, 24, x.shape[2], x.shape[3]), 10, 1)
        x = net.bn(torch.cat([net.conv(x, width), y], 1)).relu()
    return net.linear(x.mean((2, 3)), 10)


@network("film", x=floats(2, 3, 16, 16), condition=floats(2, 12))
def film(net: Net, x: Tensor, condition: Tensor) -> Tensor:
    """Scale and shift per channel, both from one linear layer on a second input."""
    x = net.conv(x, 20).relu()
    c = net.linear(condition, 24).relu()
    for width in (20, 28):
        y = net.bn(net.conv(x, width))
        gamma, beta = net.linear(c, 2 * width).chunk(2, 1)
        y = ((1 + gamma[:, :, None, None]) * y + beta[:, :, None, None]).relu()
        x = x + y if x.shape == y.shape else y
    return net.linear(x.mean((2, 3)), 10)


@network("gather_excite", x=floats(1, 3, 16, 16))
def gather_excite(net: Net, x: Tensor) -> Tensor:
    """A gate of lower resolution: strided depthwise convolution, enlarged again by nearest neighbour."""
    x = cbr(net, x, 20)
    for width in (24, 30):
        x = cbr(net, x, width)
        g = net.conv(x, width, 3, 4, groups=width)
        x = x * F.interpolate(g, size=(16, 16), mode="nearest").sigmoid()
    return net.linear(x.mean((2, 3)), 10)


@network("triplet_attention", x=floats(1, 3, 12, 14))
def triplet_attention(net: Net, x: Tensor) -> Tensor:
    """The tensor is turned so that channels take the place of rows, gated by a convolution there, and turned back."""
    x = cbr(net, x, 20)

    def gate(t: Tensor) -> Tensor:
        pooled = torch.cat([t.amax(1, keepdim=True), t.mean(1, keepdim=True)], 1)
        return t * net.bn(net.conv(pooled, 1, 7, bias=False)).sigmoid()

    turned = gate(x.permute(0, 2, 1, 3)).permute(0, 2, 1, 3)
    y = (turned + gate(x)) / 2
    return net.linear(cbr(net, cbr(net, y, 26), 18).mean((2, 3)), 10)
