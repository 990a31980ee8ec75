"""Networks on graphs, sets and point clouds."""

from __future__ import annotations

from ..blocks import attention, mlp
from ..inputs import adjacency, floats, tokens
from ..lazy import F, Tensor, nn, torch
from ..net_type import Net
from ..registry import network


@network("gcn", x=floats(2, 9, 14), edges=adjacency(2, 9, 9))
def gcn(net: Net, x: Tensor, edges: Tensor) -> Tensor:
    """Symmetrically normalized adjacency times features times weight."""
    degree = edges.sum(-1, keepdim=True).rsqrt()
    spread = edges * degree * degree.transpose(1, 2)
    for width in (26, 20):
        x = (spread @ net.linear(x, width)).relu()
    return net.linear(x, 5)


@network("gat", x=floats(9, 14), edges=adjacency(9, 9))
def gat(net: Net, x: Tensor, edges: Tensor) -> Tensor:
    """Additive attention over neighbours: source and target scores per head, masked, softmax; heads concatenated."""
    for heads, width in ((4, 8), (5, 6)):
        h = net.linear(x, heads * width, bias=False).reshape(9, heads, width)
        source, target = (h * net.param(1, heads, width)).sum(-1), (h * net.param(1, heads, width)).sum(-1)
        scores = F.leaky_relu(source.unsqueeze(1) + target.unsqueeze(0), 0.2)
        scores = scores.masked_fill(edges.unsqueeze(-1) == 0, -1e4).softmax(1)
        x = F.elu(torch.einsum("ijh,jhd->ihd", scores, h).flatten(1))
    return net.linear(x, 5)


@network("gat_mean_heads", x=floats(9, 14), edges=adjacency(9, 9))
def gat_mean_heads(net: Net, x: Tensor, edges: Tensor) -> Tensor:
    """The last layer averages its heads instead of concatenating them."""
    h = net.linear(x, 4 * 12, bias=False).reshape(9, 4, 12).transpose(0, 1)
    scores = net.linear(h, 1, bias=False) + net.linear(h, 1, bias=False).transpose(1, 2)
    weights = (F.leaky_relu(scores, 0.2) + (edges - 1) * 1e4).softmax(-1)
    return net.linear((weights @ h).mean(0).relu(), 5)


@network("graph_sage", x=floats(2, 9, 14), edges=adjacency(2, 9, 9))
def graph_sage(net: Net, x: Tensor, edges: Tensor) -> Tensor:
    """Each node's features are concatenated with its neighbours' mean; unit length after every layer."""
    mean = edges / edges.sum(-1, keepdim=True)
    for width in (24, 18):
        x = F.normalize(net.linear(torch.cat([x, mean @ x], -1), width).relu(), dim=-1)
    return net.linear(x, 5)


@network("gin", x=floats(2, 9, 14), edges=adjacency(2, 9, 9))
def gin(net: Net, x: Tensor, edges: Tensor) -> Tensor:
    """Sum over neighbours, MLP with batch normalization, readouts of all layers concatenated."""
    x, reads = net.linear(x, 20), []
    for width in (20, 26):
        h = (1 + net.param(1)) * x + edges @ x * 0.2
        h = net.bn(net.linear(h, 24).transpose(1, 2)).transpose(1, 2).relu()
        x = net.linear(h, width).relu()
        reads.append(x.sum(1))
    return net.linear(torch.cat(reads, -1), 5)


@network("graph_pool", x=floats(2, 12, 14), edges=adjacency(2, 12, 12))
def graph_pool(net: Net, x: Tensor, edges: Tensor) -> Tensor:
    """A softmax assigns nodes to clusters; features and adjacency are pooled by it (DiffPool)."""
    edges = edges / edges.sum(-1, keepdim=True)
    z, s = (edges @ net.linear(x, 24)).relu(), (edges @ net.linear(x, 5)).softmax(-1)
    x, edges = s.transpose(1, 2) @ z, s.transpose(1, 2) @ edges @ s
    return net.linear((edges @ net.linear(x, 18)).relu().amax(1), 5)


@network("graph_transformer", x=floats(2, 9, 14), edges=adjacency(2, 9, 9))
def graph_transformer(net: Net, x: Tensor, edges: Tensor) -> Tensor:
    """Attention whose bias per head is a function of the edge."""
    x = net.linear(x, 28)
    bias = net.linear(net.linear(edges.unsqueeze(-1), 10).relu(), 5).permute(0, 3, 1, 2)
    for _ in range(2):
        x = x + attention(net, net.layer_norm(x), heads=5, bias=bias)
        x = x + mlp(net, net.layer_norm(x), 40)
    return net.linear(x.mean(1), 5)


@network("message_passing", tags=("freezes",), x=floats(9, 14), source=tokens(20, vocabulary=9),
         target=tokens(20, vocabulary=9), edge=floats(20, 6))  # fmt: skip
def message_passing(net: Net, x: Tensor, source: Tensor, target: Tensor, edge: Tensor) -> Tensor:
    """Edges as index lists: gather both ends, compute a message, scatter-add into the targets."""
    x = net.linear(x, 24).relu()
    message = net.linear(torch.cat([x[source], x[target], edge], -1), 30).relu()
    message = net.linear(message, 20)
    total = torch.zeros(9, 20).scatter_add(0, target.unsqueeze(1).expand(-1, 20), message)
    return net.linear(net.linear(torch.cat([x, total], -1), 26).relu(), 5)


@network("relation_network", x=floats(2, 5, 14))
def relation_network(net: Net, x: Tensor) -> Tensor:
    """All pairs by expand and concatenation, one MLP on each, summed."""
    x = net.linear(x, 18).relu()
    a, b = x.unsqueeze(1).expand(-1, 5, -1, -1), x.unsqueeze(2).expand(-1, -1, 5, -1)
    pairs = net.linear(net.linear(torch.cat([a, b], -1), 30).relu(), 22).relu()
    return net.linear(pairs.sum((1, 2)), 5)


@network("deep_sets", x=floats("batch", 9, 14))
def deep_sets(net: Net, x: Tensor) -> Tensor:
    """An MLP per element, minus the maximum over elements, a sum, an MLP."""
    x = net.linear(x, 24)
    x = (net.linear(x, 20) - net.linear(x.amax(1, keepdim=True), 20, bias=False)).tanh()
    return net.linear(net.linear(x.sum(1), 26).relu(), 5)


@network("set_transformer", x=floats(2, 9, 14))
def set_transformer(net: Net, x: Tensor) -> Tensor:
    """Induced points attend to the set and the set to them; pooling by seeds."""
    x = net.linear(x, 30)
    points = net.param(1, 4, 22).expand(2, -1, -1)
    h = net.layer_norm(points + attention(net, points, x, heads=4))
    x = net.layer_norm(x + attention(net, x, h, heads=5))
    x = net.layer_norm(x + mlp(net, x, 40, F.relu))
    seeds = net.param(1, 2, 26).expand(2, -1, -1)
    return net.linear((seeds + attention(net, seeds, x, heads=4)).flatten(1), 5)


@network("point_net", x=floats(2, 3, 16))
def point_net(net: Net, x: Tensor) -> Tensor:
    """A transform predicted from all points multiplies them; shared MLPs and a maximum."""
    h = x
    for width in (16, 28):
        h = net.bn(net.conv(h, width, 1)).relu()
    turn = net.linear(net.linear(h.amax(2), 20).relu(), 9).reshape(2, 3, 3)
    x = (x.transpose(1, 2) @ turn).transpose(1, 2)
    x = net.bn(net.conv(x, 18, 1)).relu()
    turn = net.linear(net.linear(x.amax(2), 14).relu(), 18 * 18).reshape(2, 18, 18) * 0.3
    local = (x.transpose(1, 2) @ turn).transpose(1, 2)
    wide = net.bn(net.conv(local, 34, 1)).amax(2, keepdim=True)
    x = torch.cat([local, wide.expand(-1, -1, 16)], 1)
    return net.conv(net.bn(net.conv(x, 24, 1)).relu(), 5, 1)


@network("dynamic_graph", tags=("freezes",), x=floats(1, 3, 12))
def dynamic_graph(net: Net, x: Tensor) -> Tensor:
    """Neighbours are the nearest in feature space: TopK on distances, gathered by data (DGCNN)."""
    for width in (16, 24):
        square = x.square().sum(1, keepdim=True)
        distance = 2 * x.transpose(1, 2) @ x - square - square.transpose(1, 2)
        where = distance.topk(4, -1)[1]
        near = x.transpose(1, 2)[0][where[0]].unsqueeze(0)
        here = x.transpose(1, 2).unsqueeze(2).expand(-1, -1, 4, -1)
        pairs = torch.cat([near - here, here], -1).permute(0, 3, 1, 2)
        x = F.leaky_relu(net.bn(net.conv(pairs, width, 1)), 0.2).amax(-1)
    return net.linear(x.amax(2), 5)


@network("skeleton_graph", x=floats(1, 3, 8, 10))
def skeleton_graph(net: Net, x: Tensor) -> Tensor:
    """Joints times time: one 1x1 convolution gives several graph partitions, an Einsum sums over them (ST-GCN)."""
    for width in (16, 24):
        links = net.param(3, 10, 10, spread=0.3)
        y = net.conv(x, 3 * width, 1).reshape(1, 3, width, 8, 10)
        y = net.bn(torch.einsum("nkctv,kvw->nctw", y, links)).relu()
        y = net.bn(net.conv(y, width, (5, 1)))
        x = (y + net.bn(net.conv(x, width, 1))).relu()
    return net.linear(x.mean((2, 3)), 5)


@network("neural_tensor", exporters=("dynamo18", "dynamo20"), x=floats(2, 14), y=floats(2, 12))
def neural_tensor(net: Net, x: Tensor, y: Tensor) -> Tensor:
    """torch's Bilinear on two embedded inputs, joined with their linear map."""
    a, b = net.linear(x, 18).relu(), net.linear(y, 16).relu()
    both = net.make(nn.Bilinear, 18, 16, 10)(a, b) * 0.3 + net.linear(torch.cat([a, b], 1), 10)
    return net.linear(both.tanh(), 5)
