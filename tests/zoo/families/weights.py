"""Weights that are shared, computed, tied, or produced by data; products of activations."""

from __future__ import annotations

from ..blocks import head
from ..inputs import floats, tokens
from ..lazy import F, Tensor, nn, torch
from ..net_type import Net
from ..registry import network


@network("einsum_variety", x=floats(2, 6, 14))
def einsum_variety(net: Net, x: Tensor) -> Tensor:
    """Contractions, batch axes, an outer product, a diagonal-free transpose and a sum, all by Einsum."""
    x = torch.einsum("btc,cd->btd", x, net.param(14, 18, spread=0.3))
    y = torch.einsum("btd,bsd->bts", x, x) * 0.1
    x = torch.einsum("bts,bsd->dbt", y, x)
    z = torch.einsum("dbt,te->bde", x, net.param(6, 10, spread=0.4)).tanh()
    outer = torch.einsum("bde,bdf->bef", z, torch.einsum("bde,ef->bdf", z, net.param(10, 12, spread=0.3)))
    return net.linear(torch.einsum("bef->bf", outer), 7)


@network("weight_left", x=floats(2, 12, 6))
def weight_left(net: Net, x: Tensor) -> Tensor:
    """MatMul with the weight on the left, a matrix-vector product, and a weight per batch item."""
    x = (net.param(22, 12, spread=0.3) @ x).relu()
    x = (net.param(18, 22, spread=0.3) @ x + net.param(18, 1)).relu()
    return net.linear(x @ net.param(6), 7)


@network("weight_both_ways", x=floats(2, 14))
def weight_both_ways(net: Net, x: Tensor) -> Tensor:
    """One matrix forward, its transpose back (tied autoencoder), and once more forward."""
    weight = net.param(22, 14, spread=0.3)
    h = F.linear(x, weight, net.param(22)).relu()
    y = F.linear(h, weight.T, net.param(14)).tanh()
    return net.linear(F.linear(y, weight).relu(), 7)


@network("conv_used_twice", x=floats(1, 3, 12, 12))
def conv_used_twice(net: Net, x: Tensor) -> Tensor:
    """One convolution applied to its own output, and one to two different maps."""
    x = net.conv(x, 18).relu()
    for _ in range(2):
        with net.shared("self"):
            x = net.conv(x, 18).relu()
    maps = []
    for y in (x, F.avg_pool2d(x, 2)):
        with net.shared("both"):
            maps.append(net.conv(y, 22).relu().mean((2, 3)))
    return net.linear(maps[0] + maps[1], 7)


@network("conv_weight_as_matrix", x=floats(1, 14, 6, 6))
def conv_weight_as_matrix(net: Net, x: Tensor) -> Tensor:
    """One array is a 1x1 convolution in one place and a matrix in another."""
    weight = net.param(20, 14, spread=0.3)
    a = F.conv2d(x, weight[:, :, None, None]).relu()
    b = F.linear(x.permute(0, 2, 3, 1), weight).tanh()
    return head(net, net.conv(a, 16)) + net.linear(net.linear(b.mean((1, 2)), 18).relu(), 7)


@network("standardized_weights", x=floats(1, 3, 12, 12))
def standardized_weights(net: Net, x: Tensor) -> Tensor:
    """Every filter is centred and scaled at run time; group normalization follows."""
    for width in (16, 24):
        w = net.param(width, int(x.shape[1]), 3, 3, spread=0.5)
        w = (w - w.mean((1, 2, 3), keepdim=True)) / (w.std((1, 2, 3), keepdim=True) + 1e-5) / 5.0
        x = net.group_norm(F.conv2d(x, w, net.param(width), padding=1), 4).relu()
    return head(net, x)


@network("weight_normalized", x=floats(1, 3, 12, 12))
def weight_normalized(net: Net, x: Tensor) -> Tensor:
    """Direction over its norm, times a length per filter."""
    for width in (14, 22):
        v = net.param(width, int(x.shape[1]), 3, 3)
        w = net.param(width, 1, 1, 1, mean=1.0) * v / v.square().sum((1, 2, 3), keepdim=True).sqrt()
        x = F.conv2d(x, w, net.param(width), padding=1).relu()
    return head(net, x)


@network("conditional_convolution", x=floats(1, 3, 12, 12))
def conditional_convolution(net: Net, x: Tensor) -> Tensor:
    """The weight is a mixture of expert weights, mixed by the input (CondConv)."""
    x = net.conv(x, 14).relu()
    route = net.linear(x.mean((2, 3)), 3).sigmoid()
    experts = net.param(3, 18 * 14 * 9, spread=0.15)
    x = F.conv2d(x, (route @ experts).reshape(18, 14, 3, 3), padding=1).relu()
    return head(net, net.conv(x, 16).relu())


@network("bilinear_pooling", x=floats(1, 3, 10, 10))
def bilinear_pooling(net: Net, x: Tensor) -> Tensor:
    """Outer product of two feature maps over pixels, signed root, flattened."""
    a, b = net.conv(x, 10).relu().flatten(2), net.conv(x, 14).relu().flatten(2)
    z = (a @ b.transpose(1, 2) / 100).flatten(1)
    return net.linear(F.normalize((z + 1e-5).sqrt(), dim=1), 7)


@network("gram_matrix", x=floats(1, 3, 10, 10))
def gram_matrix(net: Net, x: Tensor) -> Tensor:
    """Features times their own transpose; rows of the product are features again."""
    x = net.conv(net.conv(x, 14).relu(), 18).tanh().flatten(2)
    gram = x @ x.transpose(1, 2) / 30
    return net.linear(net.linear(gram, 16).relu().sum(1), 7)


@network("cosine_head", x=floats(2, 14), y=floats(2, 10))
def cosine_head(net: Net, x: Tensor, y: Tensor) -> Tensor:
    """Two unit vectors and their products with a learned temperature."""
    a = F.normalize(net.linear(net.linear(x, 26).relu(), 18), dim=-1)
    b = F.normalize(net.linear(net.linear(y, 22).relu(), 18), dim=-1)
    return net.param(1, mean=2.0).exp() * a @ b.T


@network("embedding_sum", ids=tokens(2, 4, vocabulary=20))
def embedding_sum(net: Net, ids: Tensor) -> Tensor:
    """Several tables are added or concatenated; one table is read twice."""
    a = net.embed(ids, 20, 18) + net.embed(3 - torch.arange(4), 4, 18)
    table = net.make(nn.Embedding, 20, 12).weight
    b = torch.cat([F.embedding(ids, table), F.embedding(ids.flip(1), table)], -1)
    return net.linear(torch.cat([net.linear(a, 16).relu(), b], -1).sum(1), 7)


@network("quaternion_linear", x=floats(2, 16))
def quaternion_linear(net: Net, x: Tensor) -> Tensor:
    """Block matrices built from four small ones by concatenation, with shared and negated blocks."""
    for width in (6, 8):
        r, i, j, k = (net.param(width, int(x.shape[1]) // 4, spread=0.25) for _ in range(4))
        rows = [(r, -i, -j, -k), (i, r, -k, j), (j, k, r, -i), (k, -j, i, r)]
        weight = torch.cat([torch.cat(row, 1) for row in rows], 0)
        x = F.linear(x, weight, net.param(4 * width)).relu()
    return net.linear(x, 7)


@network("butterfly", x=floats(2, 16))
def butterfly(net: Net, x: Tensor) -> Tensor:
    """Block-diagonal products with permutations between them (Monarch)."""
    x = net.linear(x, 24).relu().reshape(2, 4, 6)
    x = torch.einsum("bgi,gio->bgo", x, net.param(4, 6, 8, spread=0.4)).transpose(1, 2)
    x = torch.einsum("bgi,gio->bgo", x, net.param(8, 4, 3, spread=0.4)).relu()
    return net.linear(x.flatten(1), 7)


@network("hyper_network", x=floats(2, 12), z=floats(2, 8))
def hyper_network(net: Net, x: Tensor, z: Tensor) -> Tensor:
    """One network's output is the matrix that another multiplies by."""
    h = net.linear(x, 16).relu()
    weight = net.linear(net.linear(z, 20).relu(), 16 * 10).reshape(2, 16, 10) * 0.3
    return net.linear((h.unsqueeze(1) @ weight).squeeze(1).relu(), 7)
