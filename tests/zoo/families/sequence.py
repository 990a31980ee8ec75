"""Sound, time series, tables, text by convolution, and pairs of inputs."""

from __future__ import annotations

from collections.abc import Callable

from ..blocks import attention, mlp
from ..inputs import floats, tokens
from ..lazy import F, Tensor, nn, torch
from ..net_type import Net
from ..registry import network


@network("tcn", x=floats("batch", 5, 24))
def tcn(net: Net, x: Tensor) -> Tensor:
    """Causal dilated convolutions: padded on both sides, the end cut off."""
    for width, dilation in ((14, 1), (22, 2), (22, 4)):
        y = x
        for _ in range(2):
            y = net.conv(y, width, 3, dilation=dilation, padding=2 * dilation)[:, :, : -2 * dilation].relu()
        x = (y + (x if x.shape[1] == width else net.conv(x, width, 1))).relu()
    return net.linear(x[:, :, -1], 6)


@network("wavenet", x=floats(1, 1, 24))
def wavenet(net: Net, x: Tensor) -> Tensor:
    """Tanh times sigmoid, one convolution to the residual stream and one to the sum of skips."""
    x, skips = net.conv(x, 18, 1), torch.zeros(())
    for dilation in (1, 2, 4):
        y = F.pad(x, (dilation, 0))
        y = net.conv(y, 14, 2, dilation=dilation, padding=0).tanh() * net.conv(
            y, 14, 2, dilation=dilation, padding=0
        ).sigmoid()  # fmt: skip
        skips = skips + net.conv(y, 26, 1)
        x = x + net.conv(y, 18, 1)
    return net.conv(net.conv(skips.relu(), 20, 1).relu(), 9, 1)


@network("source_separation", x=floats(1, 1, 40))
def source_separation(net: Net, x: Tensor) -> Tensor:
    """Learned filter bank, normalization over everything, masks for two sources, overlap-add (Conv-TasNet)."""
    bank = net.conv(x, 24, 4, 2, padding=1).relu()
    y = net.conv(net.group_norm(bank, 1), 16, 1)
    for dilation in (1, 2):
        h = net.group_norm(net.apply(net.conv(y, 28, 1), nn.PReLU), 1)
        h = net.group_norm(net.apply(net.conv(h, 28, 3, groups=28, dilation=dilation), nn.PReLU), 1)
        y = y + net.conv(h, 16, 1)
    masks = net.conv(y, 2 * 24, 1).sigmoid().reshape(1, 2, 24, -1)
    return net.deconv((masks * bank.unsqueeze(1)).reshape(2, 24, -1), 1).reshape(1, 2, -1)


@network("quartz_net", x=floats(1, 16, 30))
def quartz_net(net: Net, x: Tensor) -> Tensor:
    """Separable 1-D convolutions with wide kernels in residual blocks; log-softmax per frame."""
    x = net.bn(net.conv(x, 20, 5, 2)).relu()
    for width in (20, 28):
        y = x
        for _ in range(2):
            y = net.conv(net.conv(y, int(y.shape[1]), 7, groups=int(y.shape[1]), bias=False), width, 1, bias=False)
            y = net.bn(y)
            y = y.relu() if _ == 0 else y
        x = (y + net.bn(net.conv(x, width, 1, bias=False))).relu()
    return net.conv(x, 9, 1).log_softmax(1)


@network("wav2vec", x=floats(1, 1, 80))
def wav2vec(net: Net, x: Tensor) -> Tensor:
    """Group normalization per channel in the first layer, positions from a grouped convolution, transformer."""
    x = F.gelu(net.group_norm(net.conv(x, 16, 6, 4, bias=False), 16))
    x = F.gelu(net.conv(x, 22, 3, 2, bias=False)).transpose(1, 2)
    x = net.linear(net.layer_norm(x), 32)
    x = x + F.gelu(net.conv(x.transpose(1, 2), 32, 4, groups=4, padding=2)[..., :-1]).transpose(1, 2)
    x = net.layer_norm(x)
    for _ in range(2):
        x = net.layer_norm(x + attention(net, x, heads=5))
        x = net.layer_norm(x + mlp(net, x, 44))
    return net.linear(x, 9)


@network("speaker_embedding", x=floats(2, 14, 20))
def speaker_embedding(net: Net, x: Tensor) -> Tensor:
    """Time-delay layers, then mean and deviation over time, concatenated (x-vector)."""
    for width, dilation in ((20, 1), (26, 2)):
        x = net.bn(net.conv(x, width, 3, dilation=dilation).relu())
    x = torch.cat([x.mean(2), (x.var(2) + 1e-5).sqrt()], 1)
    return F.normalize(net.bn(net.linear(net.linear(x, 30).relu(), 12)), dim=1)


@network("ecapa", x=floats(2, 14, 20))
def ecapa(net: Net, x: Tensor) -> Tensor:
    """Res2 blocks with gates, all outputs joined, attentive statistics (weights per channel and frame)."""
    x, outs = net.bn(net.conv(x, 24, 5).relu()), []
    for dilation in (2, 3):
        parts = list(net.conv(x, 24, 1).relu().chunk(4, 1))
        for i in (1, 2, 3):
            parts[i] = net.bn(net.conv(parts[i] + (parts[i - 1] if i > 1 else 0), 6, 3, dilation=dilation).relu())
        y = net.conv(torch.cat(parts, 1), 24, 1)
        gate = net.conv(net.conv(y.mean(2, keepdim=True), 8, 1).relu(), 24, 1).sigmoid()
        x = x + y * gate
        outs.append(x)
    y = net.conv(torch.cat(outs, 1), 30, 1).relu()
    weights = net.conv(net.conv(y, 10, 1).tanh(), 30, 1).softmax(2)
    mean = (weights * y).sum(2)
    spread = ((weights * y.square()).sum(2) - mean.square()).clamp(min=1e-5).sqrt()
    return net.linear(torch.cat([mean, spread], 1), 12)


@network("inception_time", x=floats(2, 5, 30))
def inception_time(net: Net, x: Tensor) -> Tensor:
    """Parallel 1-D kernels of three sizes behind a bottleneck, plus a pooled branch."""
    for width in (8, 10):
        h = net.conv(x, 12, 1, bias=False)
        y = [net.conv(h, width, kernel, bias=False) for kernel in (3, 5, 9)]
        y.append(net.conv(F.max_pool1d(x, 3, 1, 1), width, 1, bias=False))
        x = net.bn(torch.cat(y, 1)).relu()
    return net.linear(x.mean(2), 6)


@network("text_cnn", ids=tokens("batch", 12, vocabulary=50))
def text_cnn(net: Net, ids: Tensor) -> Tensor:
    """Kernels of three widths over embeddings, maximum over time, concatenated."""
    x = net.embed(ids, 50, 22).transpose(1, 2)
    y = torch.cat([net.conv(x, w, k, padding=0).relu().amax(2) for w, k in ((14, 2), (18, 3), (10, 4))], 1)
    return net.linear(y, 4)


@network("character_highway", ids=tokens(2, 5, 6, vocabulary=30))
def character_highway(net: Net, ids: Tensor) -> Tensor:
    """Words from characters: convolutions, maxima, highway layers with one packed projection."""
    x = net.embed(ids, 30, 14).reshape(10, 6, 14).transpose(1, 2)
    x = torch.cat([net.conv(x, w, k, padding=0).amax(2) for w, k in ((12, 1), (18, 2))], 1).relu()
    for _ in range(2):
        y, gate = net.linear(x, 60).chunk(2, 1)
        x = gate.sigmoid() * x + (1 - gate.sigmoid()) * y.relu()
    return net.linear(net.linear(x, 24).reshape(2, 5, 24).mean(1), 4)


@network("fast_text", ids=tokens(2, 8, vocabulary=50), weights=floats(2, 8))
def fast_text(net: Net, ids: Tensor, weights: Tensor) -> Tensor:
    """Rows of a table, weighted by an input and summed with a batched product."""
    x = (weights.unsqueeze(1) @ net.embed(ids, 50, 26)).squeeze(1)
    return net.linear(net.linear(x, 18).relu(), 4)


@network("n_beats", x=floats(2, 20))
def n_beats(net: Net, x: Tensor) -> Tensor:
    """Each block explains part of its input, which is subtracted; forecasts are summed; fixed bases."""
    forecast = torch.zeros(())
    for width in (30, 36):
        h = net.linear(net.linear(x, width).relu(), width).relu()
        theta = net.linear(h, 8)
        basis = net.const(lambda: torch.cos(torch.arange(8)[:, None] * torch.linspace(0, 3.1, 26)[None, :]))
        back, ahead = (theta @ basis).split([20, 6], 1)
        x, forecast = x - back, forecast + ahead
    return forecast


@network("time_patches", x=floats(2, 24, 3))
def time_patches(net: Net, x: Tensor) -> Tensor:
    """Every channel on its own, normalized, cut in overlapping patches, attended, flattened, put back (PatchTST)."""
    mean = x.mean(1, keepdim=True)
    spread = (x.var(1, keepdim=True, unbiased=False) + 1e-5).sqrt()
    h = ((x - mean) / spread).transpose(1, 2).unfold(2, 8, 4).reshape(6, 5, 8)
    h = net.linear(h, 28) + net.param(5, 28)
    h = net.layer_norm(h + attention(net, h, heads=4))
    h = net.layer_norm(h + mlp(net, h, 40))
    return net.linear(h.flatten(1), 6).reshape(2, 3, 6).transpose(1, 2) * spread + mean


@network("tabular_mlp", x=floats("batch", 16))
def tabular_mlp(net: Net, x: Tensor) -> Tensor:
    """Batch normalization between linear layers, SELU and ELU."""
    for width, act in ((34, F.selu), (26, F.elu), (18, F.celu)):
        x = act(net.bn(net.linear(x, width)))
    return net.linear(x, 3)


@network("tabular_resnet", x=floats(4, 16))
def tabular_resnet(net: Net, x: Tensor) -> Tensor:
    """Residual blocks of linear layers around batch normalization, one wide and one narrow."""
    x = net.linear(x, 24)
    for width in (40, 14):
        x = x + net.linear(net.linear(net.bn(x), width).relu(), 24)
    return net.linear(net.bn(x).relu(), 3)


@network("highway_mlp", x=floats(2, 16))
def highway_mlp(net: Net, x: Tensor) -> Tensor:
    """Gated layers that carry their input, coupled and uncoupled gates."""
    x = net.linear(x, 28)
    for _ in range(2):
        carry = net.linear(x, 28).sigmoid()
        x = net.linear(x, 28).tanh() * (1 - carry) + x * carry
    x = net.linear(x, 28).tanh() * net.linear(x, 28).sigmoid() + x * net.linear(x, 28).sigmoid()
    return net.linear(x, 3)


@network("dense_mlp", x=floats(2, 16))
def dense_mlp(net: Net, x: Tensor) -> Tensor:
    """Every linear layer sees the concatenation of everything before, input included."""
    for width in (14, 18, 22):
        x = torch.cat([x, net.linear(x, width).relu()], 1)
    return net.linear(x, 3)


@network("feature_tokens", x=floats(2, 7), ids=tokens(2, 3, vocabulary=12))
def feature_tokens(net: Net, x: Tensor, ids: Tensor) -> Tensor:
    """Numbers times learned vectors beside embedded categories, a class token, attention (FT-Transformer)."""
    numbers = x.unsqueeze(-1) * net.param(7, 28) + net.param(7, 28)
    h = torch.cat([net.param(1, 1, 28).expand(2, -1, -1), numbers, net.embed(ids, 12, 28)], 1)
    for _ in range(2):
        h = h + attention(net, net.layer_norm(h), heads=4)
        gate, value = net.linear(net.layer_norm(h), 2 * 34).chunk(2, -1)
        h = h + net.linear(gate.relu() * value, 28)
    return net.linear(net.layer_norm(h[:, 0]).relu(), 3)


@network("recommender", x=floats(4, 6), ids=tokens(4, 3, vocabulary=20))
def recommender(net: Net, x: Tensor, ids: Tensor) -> Tensor:
    """Products of all pairs of embeddings, the lower triangle gathered and joined to the dense part (DLRM)."""
    dense = net.linear(net.linear(x, 26).relu(), 14).relu()
    rows = [dense] + [net.embed(ids[:, i], 20, 14) for i in range(3)]
    z = torch.stack(rows, 1)
    pairs = (z @ z.transpose(1, 2)).flatten(1)
    lower = net.const(lambda: torch.tensor([4, 8, 9, 12, 13, 14]))
    top = torch.cat([dense, pairs.index_select(1, lower)], 1)
    return net.linear(net.linear(top, 24).relu(), 1).sigmoid()


@network("factorization_machine", ids=tokens(4, 5, vocabulary=20))
def factorization_machine(net: Net, ids: Tensor) -> Tensor:
    """Half of (sum squared minus squares summed), plus linear terms, plus a deep part on flat embeddings (DeepFM)."""
    rows = net.embed(ids, 20, 14)
    second = 0.5 * (rows.sum(1).square() - rows.square().sum(1)).sum(1, keepdim=True)
    first = net.embed(ids, 20, 1).sum(1)
    deep = net.linear(net.linear(rows.flatten(1), 26).relu(), 1)
    return (first + second * 0.1 + deep).sigmoid()


@network("deep_cross", x=floats(4, 12))
def deep_cross(net: Net, x: Tensor) -> Tensor:
    """x0 times a linear map of x plus x, beside an MLP; both joined (DCN)."""
    first = net.linear(x, 22)
    y = first
    for _ in range(2):
        y = first * net.linear(net.linear(y, 9), 22) * 0.3 + y
    deep = net.linear(net.linear(x, 30).relu(), 18).relu()
    return net.linear(torch.cat([y, deep], 1), 1)


@network("two_tower", user=floats("batch", 10), item=floats("batch", 14))
def two_tower(net: Net, user: Tensor, item: Tensor) -> Tensor:
    """Two MLPs of different widths, compared by cosine."""
    a = net.linear(net.linear(user, 28).relu(), 16)
    b = net.linear(net.linear(item, 34).relu(), 16)
    return F.cosine_similarity(a, b, dim=1)


@network("siamese", a=floats(2, 3, 16, 16), b=floats(2, 3, 16, 16))
def siamese(net: Net, a: Tensor, b: Tensor) -> Tensor:
    """One encoder twice, the absolute difference classified."""
    codes = []
    for image in (a, b):
        with net.shared("encoder"):
            x = net.conv(net.conv(image, 14).relu(), 22, 3, 2).relu()
            codes.append(net.linear(x.mean((2, 3)), 26))
    return net.linear((codes[0] - codes[1]).abs(), 1).sigmoid()


@network("correlation_tracker", template=floats(1, 3, 8, 8), search=floats(1, 3, 16, 16))
def correlation_tracker(net: Net, template: Tensor, search: Tensor) -> Tensor:
    """The features of one input are the convolution weight for the other, per channel (SiamRPN++)."""
    maps = []
    for image in (template, search):
        with net.shared("encoder"):
            maps.append(net.conv(net.conv(image, 14).relu(), 22, 3, 2))
    both = F.conv2d(maps[1], maps[0].permute(1, 0, 2, 3) * 0.1, groups=22)
    return net.conv(net.conv(both, 16, 1).relu(), 2, 1)


@network("embedding_head", x=floats(2, 3, 16, 16))
def embedding_head(net: Net, x: Tensor) -> Tensor:
    """A unit vector as output, cosine to class centres as another (ArcFace)."""
    x = net.conv(net.conv(x, 14).relu(), 22, 3, 2).relu().mean((2, 3))
    x = F.normalize(net.linear(x, 26), dim=1)
    return 8.0 * F.linear(x, F.normalize(net.param(7, 26), dim=1))


@network("capsules", x=floats(2, 1, 12, 12))
def capsules(net: Net, x: Tensor) -> Tensor:
    """Vectors of units, votes by Einsum, two rounds of routing, length as the score."""

    def squash(s: Tensor, axis: int) -> Tensor:
        square = s.square().sum(axis, keepdim=True)
        return s * square / (1 + square) / (square + 1e-8).sqrt()

    x = net.conv(net.conv(x, 18, 3, 2).relu(), 4 * 8, 3, 2)
    u = squash(x.reshape(2, 4, 8, 9).transpose(2, 3).reshape(2, 36, 8), -1)
    votes = torch.einsum("bid,ijde->bije", u, net.param(36, 5, 8, 10, spread=0.4))
    logits = torch.zeros(2, 36, 5)
    for _ in range(2):
        v = squash((logits.softmax(-1).unsqueeze(-1) * votes).sum(1), -1)
        logits = logits + (votes * v.unsqueeze(1)).sum(-1)
    return v.norm(dim=-1)


@network("mixture_density", x=floats(2, 12))
def mixture_density(net: Net, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Weights, means and deviations of a mixture from one hidden layer; three outputs."""
    h = net.linear(net.linear(x, 28).tanh(), 22).tanh()
    return net.linear(h, 4).softmax(-1), net.linear(h, 4 * 3).reshape(2, 4, 3), net.linear(h, 4).exp()


@network("branching_q", x=floats(2, 12))
def branching_q(net: Net, x: Tensor) -> Tensor:
    """Value plus advantage minus its mean over actions (duelling)."""
    h = net.linear(net.linear(x, 30).relu(), 24).relu()
    value = net.linear(net.linear(h, 14).relu(), 1)
    advantage = net.linear(net.linear(h, 18).relu(), 6)
    return value + advantage - advantage.mean(1, keepdim=True)


@network("radiance_field", x=floats(6, 3), direction=floats(6, 3))
def radiance_field(net: Net, x: Tensor, direction: Tensor) -> Tensor:
    """Sine features of the input, a skip that concatenates them again, two heads joined (NeRF)."""

    def waves(x: Tensor, count: int) -> Tensor:
        parts = [x]
        for i in range(count):
            parts += [(2.0**i * x).sin(), (2.0**i * x).cos()]
        return torch.cat(parts, -1)

    place = waves(x, 3)
    h = net.linear(net.linear(place, 28).relu(), 24).relu()
    h = net.linear(torch.cat([h, place], -1), 32).relu()
    colour = net.linear(torch.cat([net.linear(h, 20), waves(direction, 2)], -1), 14).relu()
    return torch.cat([net.linear(colour, 3).sigmoid(), net.linear(h, 1).relu()], -1)


@network("sine_network", x=floats(6, 2))
def sine_network(net: Net, x: Tensor) -> Tensor:
    """Sines as activations (SIREN)."""
    for width in (26, 34, 22):
        x = (2.0 * net.linear(x, width)).sin()
    return net.linear(x, 3)


@network("activation_sampler", x=floats(2, 16))
def activation_sampler(net: Net, x: Tensor) -> Tensor:
    """One layer for every element-wise activation torch has a name for."""
    acts: tuple[Callable[[Tensor], Tensor], ...] = (
        F.relu6, F.hardtanh, F.hardsigmoid, F.hardswish, F.softplus, F.softsign, F.mish, F.silu, F.logsigmoid,
        F.tanhshrink, F.elu, F.selu, F.celu, F.leaky_relu, F.gelu, torch.erf, torch.sin, torch.abs, torch.atan,
        torch.neg, F.softshrink, F.hardshrink, torch.exp, torch.square, torch.reciprocal, torch.sign,
    )  # fmt: skip
    for i, act in enumerate(acts):
        h = net.linear(x, 10 + i % 4).sigmoid() + 0.3
        x = x + net.linear(act(h), 16) * 0.3
    return net.linear(x, 3)
