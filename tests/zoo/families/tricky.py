"""One awkward thing each: computed shapes, sharing, precision, outputs in the middle, data-dependent places."""

from __future__ import annotations

from collections.abc import Callable

from ..blocks import head
from ..inputs import floats
from ..lazy import F, Tensor, nn, torch
from ..net_type import Net
from ..registry import network


@network("prelu_net", x=floats(1, 3, 12, 12))
def prelu_net(net: Net, x: Tensor) -> Tensor:
    """PReLU with one slope, with one per channel, and on flat features."""
    x = net.apply(net.conv(x, 16), nn.PReLU)
    x = net.apply(net.conv(x, 22), nn.PReLU, 22)
    x = net.apply(net.linear(x.mean((2, 3)), 26), nn.PReLU, 26)
    return net.linear(x, 7)


@network("constant_of_shape", x=floats("batch", 9, 12))
def constant_of_shape(net: Net, x: Tensor) -> Tensor:
    """States of the input's batch size, made of zeros and ones, meet features (computed shapes)."""
    x = net.linear(x, 22)
    start = torch.zeros(x.shape[0], 1, x.shape[2])
    x = torch.cat([start, x], 1).relu() * x.new_ones(x.shape[0], 1, 22)
    return net.linear(net.linear(x.reshape(x.shape[0], -1), 18).relu(), 7)


@network("computed_reshape", x=floats("batch", 3, 8, 8))
def computed_reshape(net: Net, x: Tensor) -> Tensor:
    """Every reshape is written with sizes of the tensor itself."""
    x = net.conv(x, 24).relu()
    x = x.view(x.size(0), 4, x.size(1) // 4, x.size(2) * x.size(3)).transpose(2, 3)
    x = x.reshape(x.size(0), x.size(1) * x.size(2), x.size(3))
    x = net.linear(x, 14).relu()
    return net.linear(x.view(x.size(0), 4, -1, x.size(2)).sum((1, 2)), 7)


@network("pool_with_indices", x=floats(1, 3, 12, 12))
def pool_with_indices(net: Net, x: Tensor) -> tuple[Tensor, Tensor]:
    """Max pooling also gives the places as an output: they count through all channels."""
    x = net.conv(x, 14).relu()
    x, where = F.max_pool2d(x, 2, return_indices=True)
    return head(net, net.conv(x, 20).relu()), where.float()


@network("spatial_transformer", tags=("freezes",),
         x=floats(1, 3, 12, 12))  # fmt: skip
def spatial_transformer(net: Net, x: Tensor) -> Tensor:
    """GridSample of features at places computed by the network."""
    x = net.conv(x, 16).relu()
    turn = net.linear(net.linear(x.mean((2, 3)), 14).relu(), 6).tanh().reshape(1, 2, 3)
    line = net.const(lambda: torch.linspace(-1, 1, 12))
    ones = torch.ones(12, 12)
    base = torch.stack([line[None, :].expand(12, 12), line[:, None].expand(12, 12), ones], -1).reshape(1, 144, 3)
    grid = (base @ turn.transpose(1, 2)).reshape(1, 12, 12, 2)
    x = F.grid_sample(x, grid, align_corners=True)
    return head(net, net.conv(x, 20).relu())


@network("argmax_gate", x=floats(2, 12))
def argmax_gate(net: Net, x: Tensor) -> Tensor:
    """The largest of a few units picks a row of a table."""
    h = net.linear(x, 26).relu()
    row = net.embed(net.linear(h, 6).argmax(1), 6, 18)
    return net.linear(net.linear(h, 18) + row, 7)


@network("residual_to_output", x=floats(1, 3, 10, 10))
def residual_to_output(net: Net, x: Tensor) -> tuple[Tensor, Tensor]:
    """An inner tensor is an output too, which fixes its width but not its neighbours'."""
    x = net.conv(net.conv(x, 14).relu(), 18).relu()
    return head(net, net.conv(net.conv(x, 22).relu(), 18) + x), x


@network("residual_from_input", x=floats(1, 12, 10, 10))
def residual_from_input(net: Net, x: Tensor) -> Tensor:
    """The stream starts as the raw input, so only the inside of its blocks can shrink."""
    for width in (18, 24):
        x = x + net.conv(net.conv(x, width).relu(), 12)
    return head(net, x)


@network("folded_batch", x=floats(2, 4, 3, 10, 10))
def folded_batch(net: Net, x: Tensor) -> Tensor:
    """Views go into the batch axis and come out again; attention over views."""
    x = net.conv(net.conv(x.flatten(0, 1), 14).relu(), 20, 3, 2).relu().mean((2, 3))
    x = x.reshape(2, 4, 20)
    weights = net.linear(net.linear(x, 12).tanh(), 1).softmax(1)
    return net.linear((weights * x).sum(1), 7)


@network("overlap_add", x=floats(1, 8, 12))
def overlap_add(net: Net, x: Tensor) -> Tensor:
    """Windows by unfold, features per window, folded back by transposed convolution with a fixed kernel."""
    x = net.conv(x, 14).relu().unfold(2, 4, 2)
    x = net.linear(x, 10).relu()
    x = x.permute(0, 1, 3, 2).flatten(1, 2)
    return net.linear(net.conv(x, 18).relu().mean(2), 7)


@network("where_and_compare", x=floats(2, 3, 10, 10))
def where_and_compare(net: Net, x: Tensor) -> Tensor:
    """Comparisons and Where, with a threshold per channel and with a broadcast mask; a clamp."""
    x = net.conv(x, 16)
    x = torch.where(x > net.param(16, 1, 1), x, 0.1 * x).clamp(-2, 2)
    x = net.conv(x, 20)
    keep = x.mean(1, keepdim=True) > 0
    return head(net, net.conv(x.masked_fill(~keep, 0.0), 14).relu())


@network("conv_3d", x=floats(1, 2, 6, 8, 8))
def conv_3d(net: Net, x: Tensor) -> Tensor:
    """Three spatial axes: residual blocks, pooling, factorized kernels, transposed convolution, group norm."""
    x = net.bn(net.conv(x, 12)).relu()
    y = net.bn(net.conv(net.conv(x, 18, (1, 3, 3)), 12, (3, 1, 1)))
    x = F.max_pool3d((x + y).relu(), 2)
    x = net.group_norm(net.conv(x, 20, groups=2), 5).relu()
    return head(net, net.deconv(x, 14, 2, 2, 0).relu())


@network("half_precision", tolerance=1e-2, tags=("half",), exporters=("dynamo18", "legacy17"),
         x=floats(1, 3, 12, 12, dtype="float16"))  # fmt: skip
def half_precision(net: Net, x: Tensor) -> Tensor:
    """Everything in 16 bits."""

    def conv(x: Tensor, width: int) -> Tensor:
        weight = net.const(lambda: (torch.randn(width, int(x.shape[1]), 3, 3, generator=net.body.random) / 6).half())
        bias = net.const(lambda: (torch.randn(width, generator=net.body.random) / 4).half())
        return F.conv2d(x, weight, bias, padding=1)

    x = conv(x, 16).relu()
    x = (x + conv(conv(x, 22).relu(), 16)).relu().mean((2, 3))
    weight = net.const(lambda: (torch.randn(7, 16, generator=net.body.random) / 4).half())
    return F.linear(x, weight)


@network("mixed_precision", x=floats(1, 3, 12, 12))
def mixed_precision(net: Net, x: Tensor) -> Tensor:
    """Casts to 16 bits and back, to integers and to booleans."""
    x = net.conv(x, 16).relu()
    y = (x.half() * 0.5).float() + (x > 0.5).to(x.dtype)
    y = y + (x * 4).to(torch.int32).float() * 0.1
    return head(net, net.conv(y, 20).relu())


@network("early_exits", x=floats(1, 3, 12, 12))
def early_exits(net: Net, x: Tensor) -> tuple[Tensor, ...]:
    """A classifier after every stage, all of them outputs."""
    outs = []
    for width in (14, 20, 26):
        x = F.max_pool2d(net.conv(x, width).relu(), 2, ceil_mode=True)
        outs.append(head(net, x))
    return tuple(outs)


@network("unused_parts", x=floats(2, 14))
def unused_parts(net: Net, x: Tensor) -> Tensor:
    """Half of one layer's outputs are never read, and a branch is multiplied by zero."""
    h = net.linear(x, 30).relu()
    y = net.linear(h[:, :17], 20)
    y = y + 0.0 * net.linear(h[:, 10:], 20)
    return net.linear(y.tanh(), 7)


@network("long_chain", exporters=("legacy17", "raw17"), x=floats(1, 3, 8, 8))
def long_chain(net: Net, x: Tensor) -> Tensor:
    """Sixty blocks, to see that time stays linear."""
    x = net.conv(x, 12).relu()
    for i in range(60):
        x = (x + 0.2 * net.conv(net.conv(x, 8 + i % 5).relu(), 12)).tanh()
    return head(net, x)


@network("many_activations", x=floats(2, 3, 8, 8))
def many_activations(net: Net, x: Tensor) -> Tensor:
    """Piecewise functions written by hand: relu6(x + 3) / 6, x * sigmoid(1.7 x), x * tanh(softplus(x)), ..."""
    hand: tuple[Callable[[Tensor], Tensor], ...] = (
        lambda t: t * (t + 3).clamp(0, 6) / 6,
        lambda t: t * (1.702 * t).sigmoid(),
        lambda t: t * F.softplus(t).tanh(),
        lambda t: 0.5 * t * (1 + (0.7978 * (t + 0.0447 * t**3)).tanh()),
        lambda t: t / (1 + t.abs()),
        lambda t: torch.max(t, 0.2 * t) + torch.min(t, t * 0.5),
    )
    for i, act in enumerate(hand):
        x = act(net.conv(x, 12 + 2 * i))
    return head(net, x)
