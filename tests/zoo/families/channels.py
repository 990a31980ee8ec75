"""Channels that are permuted, cut, joined, repeated, viewed or reduced in awkward ways."""

from __future__ import annotations

from ..blocks import cbr, head
from ..inputs import floats
from ..lazy import F, Tensor, torch
from ..net_type import Net
from ..registry import network


@network("flatten_channels_last", x=floats(2, 3, 8, 8))
def flatten_channels_last(net: Net, x: Tensor) -> Tensor:
    """NHWC is flattened, so channels repeat with the shortest period."""
    x = net.conv(net.conv(x, 14).relu(), 18, 3, 2).relu()
    return net.linear(net.linear(x.permute(0, 2, 3, 1).flatten(1), 26).relu(), 7)


@network("flatten_after_concat", x=floats(1, 3, 8, 8))
def flatten_after_concat(net: Net, x: Tensor) -> Tensor:
    """Two maps of different widths, concatenated, flattened and normalized."""
    x = torch.cat([net.conv(x, 10, 3, 2).relu(), net.conv(x, 14, 1, 2).tanh()], 1).flatten(1)
    return net.linear(net.linear(net.bn(x), 22).relu(), 7)


@network("unflatten", x=floats(2, 12))
def unflatten(net: Net, x: Tensor) -> Tensor:
    """Linear features become a map: each channel owns a run of them."""
    x = net.linear(x, 18 * 16).relu().reshape(2, 18, 4, 4)
    return head(net, net.conv(x, 24).relu())


@network("channel_permutation", x=floats(1, 3, 12, 12))
def channel_permutation(net: Net, x: Tensor) -> Tensor:
    """Channels are gathered in a fixed random order, some twice, some never."""
    x = cbr(net, x, 20)
    order = net.const(lambda: torch.tensor([(7 * i + 3) % 20 for i in range(20)]))
    x = cbr(net, x + x.index_select(1, order), 24)
    some = net.const(lambda: torch.tensor([1, 1, 5, 8, 8, 20, 3, 11, 23, 0, 14, 2]))
    return head(net, cbr(net, x[:, some], 18))


@network("channel_flip", x=floats(1, 3, 12, 12))
def channel_flip(net: Net, x: Tensor) -> Tensor:
    """A stream is added to itself in reverse order, so channels go in pairs."""
    x = cbr(net, x, 22)
    return head(net, cbr(net, x + x.flip(1), 16))


@network("channel_roll", x=floats(1, 3, 12, 12))
def channel_roll(net: Net, x: Tensor) -> Tensor:
    """Channels move by one place, without and with a residual (which ties all of them)."""
    x = cbr(net, x, 22)
    x = cbr(net, x.roll(1, 1), 26)
    return head(net, x.roll(13, 1) + x)


@network("temporal_shift", x=floats(1, 4, 3, 8, 8))
def temporal_shift(net: Net, x: Tensor) -> Tensor:
    """An eighth of the channels moves one frame forward, an eighth back (TSM)."""
    x = cbr(net, x.flatten(0, 1), 16)
    for width in (24, 32):
        y = x.reshape(1, 4, *x.shape[1:])
        fold = int(y.shape[2]) // 8
        ahead = F.pad(y[:, 1:, :fold], (0, 0, 0, 0, 0, 0, 0, 1))
        back = F.pad(y[:, :-1, fold : 2 * fold], (0, 0, 0, 0, 0, 0, 1, 0))
        x = cbr(net, torch.cat([ahead, back, y[:, :, 2 * fold :]], 2).flatten(0, 1), width)
    return net.linear(x.mean((0, 2, 3)), 7)


@network("spatial_shift", x=floats(1, 3, 12, 12))
def spatial_shift(net: Net, x: Tensor) -> Tensor:
    """Four slices of channels are shifted in four directions by pad and slice, then joined."""
    x = net.conv(x, 22)
    for _ in range(2):
        a, b, c, d = x.split([5, 5, 6, 6], 1)
        moved = [F.pad(a, (1, 0))[..., :-1], F.pad(b, (0, 1))[..., 1:]]
        moved += [F.pad(c, (0, 0, 1, 0))[..., :-1, :], F.pad(d, (0, 0, 0, 1))[..., 1:, :]]
        x = x + net.conv(net.conv(torch.cat(moved, 1), 30, 1).relu(), 22, 1)
    return head(net, x)


@network("uneven_split", x=floats(2, 3, 10, 10))
def uneven_split(net: Net, x: Tensor) -> Tensor:
    """Parts of 5, 9, 2 and 14 channels go different ways and return in another order."""
    a, b, c, d = net.conv(x, 30).relu().split([5, 9, 2, 14], 1)
    a = a + net.conv(c, 5)
    b = b * net.conv(d, 9, 1).sigmoid()
    return head(net, net.conv(torch.cat([d, a, b, c], 1), 20).relu())


@network("swapped_concat", x=floats(1, 3, 10, 10))
def swapped_concat(net: Net, x: Tensor) -> Tensor:
    """cat(a, b) + cat(b, a): first with equal widths, then with different ones."""
    a, b = net.conv(x, 12).relu(), net.conv(x, 12).tanh()
    x = torch.cat([a, b], 1) + torch.cat([b, a], 1)
    c, d = net.conv(x, 10).relu(), net.conv(x, 16).tanh()
    return head(net, net.conv(torch.cat([c, d], 1) + torch.cat([d, c], 1), 18).relu())


@network("staggered_concat", x=floats(1, 3, 10, 10))
def staggered_concat(net: Net, x: Tensor) -> Tensor:
    """Sums of concatenations whose borders do not line up."""
    a, b, c = (net.conv(x, width).relu() for width in (8, 14, 10))
    d, e = net.conv(x, 18).tanh(), net.conv(x, 14).tanh()
    return head(net, net.conv(torch.cat([a, b, c], 1) + torch.cat([d, e], 1), 20).relu())


@network("strided_channels", x=floats(1, 3, 10, 10))
def strided_channels(net: Net, x: Tensor) -> Tensor:
    """Even and odd channels part, meet in a product, and are interleaved again."""
    x = net.conv(x, 24).relu()
    even, odd = x[:, ::2], x[:, 1::2]
    x = torch.stack([even * odd, even + odd], 2).flatten(1, 2)
    x = net.conv(x, 22).relu()
    return head(net, net.conv(x[:, 1:20:3], 12).relu())


@network("overlapping_slices", x=floats(1, 3, 10, 10))
def overlapping_slices(net: Net, x: Tensor) -> Tensor:
    """Two slices share half of their channels and are added."""
    x = net.conv(x, 24).relu()
    return head(net, net.conv(x[:, :16] + x[:, 8:], 18).relu())


@network("tiled_channels", x=floats(2, 3, 10, 10))
def tiled_channels(net: Net, x: Tensor) -> Tensor:
    """Channels are tiled (1212) and repeated (1122) before grouped work."""
    x = net.conv(x, 10).relu()
    y = net.conv(x.repeat(1, 2, 1, 1), 20, groups=20).relu()
    z = net.conv(x.repeat_interleave(3, 1), 30, groups=10).relu()
    return head(net, net.conv(torch.cat([y, z], 1), 16).relu())


@network("expanded_channel", x=floats(2, 3, 10, 10))
def expanded_channel(net: Net, x: Tensor) -> Tensor:
    """One channel is expanded to many and meets real ones; a scalar map broadcasts."""
    one = net.conv(x, 1).sigmoid()
    x = net.conv(one.expand(-1, 18, -1, -1), 18, groups=18).relu() + net.conv(x, 18)
    return head(net, net.conv(x * one, 14).relu())


@network("coordinates", x=floats("batch", 3, 10, 10))
def coordinates(net: Net, x: Tensor) -> Tensor:
    """Constant coordinate maps, expanded over the batch, are concatenated to features (CoordConv)."""
    line = net.const(lambda: torch.linspace(-1, 1, 10))
    rows = line[:, None].expand(x.shape[0], 1, 10, 10)
    columns = line[None, :].expand(x.shape[0], 1, 10, 10)
    x = net.conv(torch.cat([x, rows, columns], 1), 16).relu()
    return head(net, net.conv(torch.cat([rows, x, columns], 1), 22).relu())


@network("top_channels", tags=("freezes",), x=floats(2, 3, 10, 10))
def top_channels(net: Net, x: Tensor) -> Tensor:
    """TopK over channels: they cannot go, the rest can."""
    x = net.conv(net.conv(x, 14).relu(), 20).relu()
    return head(net, net.conv(x.topk(6, 1)[0], 18).relu())


@network("sorted_features", tags=("freezes",), x=floats(2, 12))
def sorted_features(net: Net, x: Tensor) -> Tensor:
    """Features are sorted, so their order carries the meaning."""
    h = net.linear(x, 16).topk(16, 1)[0]
    return net.linear(net.linear(h, 24).relu(), 7)


@network("maxout", x=floats(2, 3, 10, 10))
def maxout(net: Net, x: Tensor) -> Tensor:
    """The maximum of two neighbours in a view of channels, and of two halves."""
    x = net.conv(x, 2 * 14)
    x = x.reshape(2, 14, 2, 10, 10).amax(2)
    a, b = net.conv(x, 2 * 18).chunk(2, 1)
    return head(net, torch.maximum(a, b))


@network("channel_maximum", x=floats(2, 3, 10, 10))
def channel_maximum(net: Net, x: Tensor) -> Tensor:
    """Only the maximum, the minimum and the softmax over channels are used."""
    x = net.conv(net.conv(x, 16).relu(), 20)
    maps = torch.cat([x.amax(1, keepdim=True), x.amin(1, keepdim=True), x.softmax(1)[:, :3]], 1)
    return head(net, net.conv(maps, 12).relu())


@network("channel_cumsum", x=floats(2, 3, 10, 10))
def channel_cumsum(net: Net, x: Tensor) -> Tensor:
    """Running sums over time (harmless) and over channels."""
    x = net.conv(x, 16).relu().cumsum(3) * 0.2
    return head(net, net.conv((net.conv(x, 12) * 0.3).cumsum(1), 14).relu())


@network("channel_statistics", x=floats(2, 3, 10, 10))
def channel_statistics(net: Net, x: Tensor) -> Tensor:
    """Sum, mean, L1, L2, log-sum-exp and product over channels."""
    x = net.conv(x, 14).tanh()
    stats = [x.sum(1), x.mean(1), x.abs().sum(1), x.norm(dim=1), x.logsumexp(1), (1 + 0.1 * x).prod(1)]
    return head(net, net.conv(torch.stack(stats, 1), 18).relu())


@network("space_to_depth_stem", x=floats(2, 3, 16, 16))
def space_to_depth_stem(net: Net, x: Tensor) -> Tensor:
    """Blocks of pixels become channels by reshape and transpose (TResNet), before and after a convolution."""
    for width in (16, 20):
        batch, channels, height, wide = x.shape
        x = x.view(batch, channels, height // 2, 2, wide // 2, 2).permute(0, 3, 5, 1, 2, 4)
        x = net.conv(x.reshape(batch, channels * 4, height // 2, wide // 2), width).relu()
    return head(net, x)


@network("group_views", x=floats(1, 3, 8, 8))
def group_views(net: Net, x: Tensor) -> Tensor:
    """One stream of 24 channels is seen as 4x6, as 12x2 and as 3x8, with a map inside each view."""
    x = net.conv(x, 24).relu()
    for groups in (4, 12):
        y = x.reshape(1, groups, 24 // groups, 64)
        y = y * net.param(1, groups, 1, 1, mean=1.0) + net.param(1, 1, 24 // groups, 1)
        x = x + y.reshape(1, 24, 8, 8)
    y = x.reshape(1, 3, 8, 64).mean(2).sigmoid()
    return head(net, net.conv(x, 18).relu()) + net.linear(y.mean(2), 7)


@network("matrix_of_channels", x=floats(2, 12))
def matrix_of_channels(net: Net, x: Tensor) -> Tensor:
    """Features become a 5x6 matrix, are mapped along one axis, then along the other, and flattened."""
    x = net.linear(x, 30).relu().reshape(2, 5, 6)
    x = net.linear(x, 8).relu()
    x = net.linear(x.transpose(1, 2), 7).relu()
    return net.linear(x.reshape(2, -1), 7)


@network("stack_unbind", x=floats(2, 3, 10, 10))
def stack_unbind(net: Net, x: Tensor) -> Tensor:
    """Maps are stacked on a new axis, normalized there, taken apart again."""
    maps = torch.stack([net.conv(x, 16), net.conv(x, 16, 1), net.conv(x, 16, 5)], 1)
    weights = net.param(1, 3, 16, 1, 1).softmax(1)
    a, b, c = (maps * weights).unbind(1)
    return head(net, net.conv(a + b.relu() * c.sigmoid(), 20).relu())
