"""Ways to write attention, each in a network of one or two layers."""

from __future__ import annotations

from collections.abc import Callable

from ..blocks import attend, attention, causal_bias, heads_first, heads_last, mlp
from ..inputs import floats, mask
from ..lazy import F, Tensor, nn, torch
from ..net_type import Net
from ..registry import network

Mixer = Callable[[Tensor], Tensor]


def around(net: Net, x: Tensor, mixer: Mixer, *, stream: int = 28, layers: int = 2, out: int = 7) -> Tensor:
    """Embed features, then pre-norm layers of this mixer and an MLP, then mean over time and a classifier."""
    x = net.linear(x, stream)
    for _ in range(layers):
        x = x + mixer(net.layer_norm(x))
        x = x + mlp(net, net.layer_norm(x), 36, F.relu)
    return net.linear(net.layer_norm(x).mean(1), out)


@network("attention_manual", x=floats("batch", "sequence", 18))
def attention_manual(net: Net, x: Tensor) -> Tensor:
    """MatMul, scale, Softmax, MatMul; every size but the width is dynamic."""
    return around(net, x, lambda h: attention(net, h, heads=5))


@network("attention_fused", x=floats(2, 9, 18))
def attention_fused(net: Net, x: Tensor) -> Tensor:
    """torch's scaled_dot_product_attention."""
    return around(net, x, lambda h: attention(net, h, heads=4, fused=True))


@network("attention_causal", x=floats("batch", 9, 18))
def attention_causal(net: Net, x: Tensor) -> Tensor:
    """torch's scaled_dot_product_attention with the causal flag."""
    return around(net, x, lambda h: attention(net, h, heads=6, fused=True, causal=True))


def packed(net: Net, h: Tensor, order: str, heads: int = 5, width: int = 8) -> Tensor:
    """One linear layer for query, key and value, laid out in the given order of (3, heads, width)."""
    sizes = {"3": 3, "H": heads, "D": width}
    qkv = net.linear(h, 3 * heads * width).reshape(*h.shape[:2], *(sizes[letter] for letter in order))
    axes = [2 + order.index("3"), 0, 2 + order.index("H"), 1, 2 + order.index("D")]
    q, k, v = qkv.permute(axes).unbind(0)
    return net.linear(heads_last(attend(q, k, v)), h.shape[-1])


@network("qkv_3hd", x=floats(2, 9, 18))
def qkv_3hd(net: Net, x: Tensor) -> Tensor:
    """Packed as (3, heads, width): ViT, Swin."""
    return around(net, x, lambda h: packed(net, h, "3HD"))


@network("qkv_h3d", x=floats("batch", 9, 18))
def qkv_h3d(net: Net, x: Tensor) -> Tensor:
    """Packed as (heads, 3, width): GPT-NeoX, BLOOM."""
    return around(net, x, lambda h: packed(net, h, "H3D"))


@network("qkv_hd3", x=floats(2, 9, 18))
def qkv_hd3(net: Net, x: Tensor) -> Tensor:
    """Packed as (heads, width, 3)."""
    return around(net, x, lambda h: packed(net, h, "HD3"))


@network("qkv_split", x=floats(2, 9, 18))
def qkv_split(net: Net, x: Tensor) -> Tensor:
    """One linear layer, split in unequal parts: values are wider than queries and keys."""

    def mixer(h: Tensor) -> Tensor:
        q, k, v = net.linear(h, 4 * (8 + 8 + 10)).split([32, 32, 40], -1)
        return net.linear(heads_last(attend(heads_first(q, 4), heads_first(k, 4), heads_first(v, 4))), h.shape[-1])

    return around(net, x, mixer)


@network("multi_query", x=floats("batch", 9, 18))
def multi_query(net: Net, x: Tensor) -> Tensor:
    """All query heads share one key and one value head."""

    def mixer(h: Tensor) -> Tensor:
        q = heads_first(net.linear(h, 48), 6)
        k, v = net.linear(h, 16).unsqueeze(1).chunk(2, -1)
        return net.linear(heads_last(attend(q, k, v)), h.shape[-1])

    return around(net, x, mixer)


def repeated(x: Tensor, times: int) -> Tensor:
    """Every head, several times in a row."""
    return x.unsqueeze(2).expand(-1, -1, times, -1, -1).reshape(x.shape[0], -1, *x.shape[2:])


@network("grouped_query", x=floats(2, 9, 18))
def grouped_query(net: Net, x: Tensor) -> Tensor:
    """Six query heads on two key heads, repeated by expand."""

    def mixer(h: Tensor) -> Tensor:
        q = heads_first(net.linear(h, 48), 6)
        k, v = (repeated(heads_first(net.linear(h, 16), 2), 3) for _ in range(2))
        return net.linear(heads_last(attend(q, k, v)), h.shape[-1])

    return around(net, x, mixer)


@network("grouped_query_interleave", x=floats(2, 9, 18))
def grouped_query_interleave(net: Net, x: Tensor) -> Tensor:
    """The same by repeat_interleave of keys and a 5-D product without repetition of values."""

    def mixer(h: Tensor) -> Tensor:
        q = heads_first(net.linear(h, 48), 6)
        k, v = (heads_first(net.linear(h, 24), 3) for _ in range(2))
        weights = (q @ k.repeat_interleave(2, 1).transpose(-1, -2) * 8**-0.5).softmax(-1)
        out = weights.reshape(h.shape[0], 3, 2, h.shape[1], h.shape[1]) @ v.unsqueeze(2)
        return net.linear(heads_last(out.flatten(1, 2)), h.shape[-1])

    return around(net, x, mixer)


@network("einsum_attention", x=floats(2, 9, 18))
def einsum_attention(net: Net, x: Tensor) -> Tensor:
    """Every product is an Einsum, the projections too: weights of shape (stream, heads, width)."""

    def mixer(h: Tensor) -> Tensor:
        q, k, v = (torch.einsum("btc,chd->bthd", h, net.param(h.shape[-1], 5, 8, spread=0.2)) for _ in range(3))
        weights = torch.einsum("bqhd,bkhd->bhqk", q, k).softmax(-1)
        out = torch.einsum("bhqk,bkhd->bqhd", weights, v)
        return torch.einsum("bqhd,hdc->bqc", out, net.param(5, 8, h.shape[-1], spread=0.2))

    return around(net, x, mixer)


@network("linear_attention", x=floats(2, 9, 18))
def linear_attention(net: Net, x: Tensor) -> Tensor:
    """No softmax: positive features, keys meet values first, then a normalizer."""

    def mixer(h: Tensor) -> Tensor:
        q, k, v = (heads_first(net.linear(h, 40), 5) for _ in range(3))
        q, k = F.elu(q) + 1, F.elu(k) + 1
        norm = 1 / (q * k.sum(2, keepdim=True)).sum(-1, keepdim=True)
        return net.linear(heads_last(q @ (k.transpose(-1, -2) @ v) * norm), h.shape[-1])

    return around(net, x, mixer)


@network("talking_heads", x=floats(2, 9, 18))
def talking_heads(net: Net, x: Tensor) -> Tensor:
    """Linear maps across heads before and after the softmax, to another head count and back."""

    def mixer(h: Tensor) -> Tensor:
        q, k, v = (heads_first(net.linear(h, width), heads) for heads, width in ((5, 40), (5, 40), (4, 32)))
        scores = (q @ k.transpose(-1, -2) * 8**-0.5).permute(0, 2, 3, 1)
        weights = net.linear(net.linear(scores, 6).softmax(2), 4).permute(0, 3, 1, 2)
        return net.linear(heads_last(weights @ v), h.shape[-1])

    return around(net, x, mixer)


@network("masked_attention", x=floats("batch", 9, 18), keep=mask("batch", 9))
def masked_attention(net: Net, x: Tensor, keep: Tensor) -> Tensor:
    """A padding mask becomes a bias by Where; the mean over time is masked, too."""
    bias = torch.where(keep[:, None, None, :], 0.0, -1e4)
    x = net.linear(x, 28)
    for _ in range(2):
        x = net.layer_norm(x + attention(net, x, heads=5, bias=bias))
        x = net.layer_norm(x + mlp(net, x, 36))
    weight = keep.to(x.dtype).unsqueeze(-1)
    return net.linear((x * weight).sum(1) / weight.sum(1), 7)


@network("query_key_norm", x=floats(2, 9, 18))
def query_key_norm(net: Net, x: Tensor) -> Tensor:
    """Queries and keys are normalized per head, with a learned temperature (ViT-22B, Gemma 3)."""

    def mixer(h: Tensor) -> Tensor:
        q, k, v = (heads_first(net.linear(h, 40), 5) for _ in range(3))
        return net.linear(heads_last(attend(net.layer_norm(q), net.layer_norm(k), v)), h.shape[-1])

    return around(net, x, mixer)


@network("cosine_attention", x=floats(2, 9, 18))
def cosine_attention(net: Net, x: Tensor) -> Tensor:
    """Unit queries and keys with one temperature per head (Swin V2)."""

    def mixer(h: Tensor) -> Tensor:
        q, k, v = (heads_first(net.linear(h, 40), 5) for _ in range(3))
        scores = F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).transpose(-1, -2)
        scale = net.param(5, 1, 1, mean=1.0).clamp(max=2.0).exp()
        return net.linear(heads_last((scores * scale).softmax(-1) @ v), h.shape[-1])

    return around(net, x, mixer)


@network("alibi", x=floats(2, 9, 18))
def alibi(net: Net, x: Tensor) -> Tensor:
    """A fixed slope per head times distance is added to the scores."""
    distance = net.const(lambda: (torch.arange(9)[None, :] - torch.arange(9)[:, None]).float())

    def mixer(h: Tensor) -> Tensor:
        slopes = net.const(lambda: 2.0 ** -torch.arange(1, 6).float())
        return attention(net, h, heads=5, bias=slopes[:, None, None] * distance)

    return around(net, x, mixer)


@network("relative_shift", x=floats(2, 9, 18))
def relative_shift(net: Net, x: Tensor) -> Tensor:
    """Transformer-XL: position keys are shifted into place by pad, reshape and slice."""
    table = net.const(lambda: torch.sin(torch.arange(17)[:, None] * torch.arange(1, 13)[None, :] * 0.1))

    def mixer(h: Tensor) -> Tensor:
        batch, time = h.shape[0], 9
        q, k, v = (heads_first(net.linear(h, 40), 5) for _ in range(3))
        place = net.linear(table, 40, bias=False).reshape(17, 5, 8).permute(1, 2, 0)
        far = F.pad((q + net.param(5, 1, 8)) @ place, (1, 0)).reshape(batch, 5, 18, time)[:, :, 1:]
        far = far.reshape(batch, 5, time, 17)[..., :time]
        weights = (((q + net.param(5, 1, 8)) @ k.transpose(-1, -2) + far) * 8**-0.5).softmax(-1)
        return net.linear(heads_last(weights @ v), h.shape[-1])

    return around(net, x, mixer)


@network("local_window", x=floats(2, 12, 18))
def local_window(net: Net, x: Tensor) -> Tensor:
    """Attention within blocks of time: the window moves into the batch axis."""

    def mixer(h: Tensor) -> Tensor:
        blocks = h.reshape(h.shape[0] * 3, 4, h.shape[2])
        return attention(net, blocks, heads=5).reshape(h.shape)

    return around(net, x, mixer)


@network("latent_attention", x=floats(2, 9, 18))
def latent_attention(net: Net, x: Tensor) -> Tensor:
    """Keys and values are expanded from one small latent; part of the key is shared by all heads (DeepSeek)."""

    def mixer(h: Tensor) -> Tensor:
        q = heads_first(net.linear(net.layer_norm(net.linear(h, 14)), 5 * 12), 5)
        latent, shared = net.linear(h, 16 + 4).split([16, 4], -1)
        k, v = heads_first(net.linear(net.layer_norm(latent), 5 * 16), 5).chunk(2, -1)
        shared = shared.unsqueeze(1).expand(-1, 5, -1, -1)
        return net.linear(heads_last(attend(q, torch.cat([k, shared], -1), v)), h.shape[-1])

    return around(net, x, mixer)


@network("external_attention", x=floats(2, 9, 18))
def external_attention(net: Net, x: Tensor) -> Tensor:
    """Keys and values are parameters; attention is normalized twice."""

    def mixer(h: Tensor) -> Tensor:
        q = heads_first(net.linear(h, 40), 5)
        weights = (q @ net.param(8, 14)).softmax(2)
        weights = weights / (1e-6 + weights.sum(-1, keepdim=True))
        return net.linear(heads_last(weights @ net.param(14, 8)), h.shape[-1])

    return around(net, x, mixer)


@network("cross_covariance", x=floats(2, 9, 18))
def cross_covariance(net: Net, x: Tensor) -> Tensor:
    """Attention between channels instead of positions (XCiT)."""

    def mixer(h: Tensor) -> Tensor:
        q, k, v = net.linear(h, 120).reshape(h.shape[0], 9, 3, 5, 8).permute(2, 0, 3, 4, 1).unbind(0)
        q, k = F.normalize(q, dim=-1), F.normalize(k, dim=-1)
        weights = (q @ k.transpose(-1, -2) * net.param(5, 1, 1, mean=1.0)).softmax(-1)
        return net.linear((weights @ v).permute(0, 3, 1, 2).flatten(2), h.shape[-1])

    return around(net, x, mixer)


@network("torch_multihead", x=floats(2, 9, 18), context=floats(2, 7, 14))
def torch_multihead(net: Net, x: Tensor, context: Tensor) -> Tensor:
    """torch's own MultiheadAttention, on itself and across to a memory of another width."""
    x = net.linear(x, 32)
    for memory in (x, context):
        layer = net.make(
            nn.MultiheadAttention, 32, 4, batch_first=True, kdim=int(memory.shape[2]), vdim=int(memory.shape[2])
        )
        x = net.layer_norm(x + layer(x, memory, memory, need_weights=False)[0])
    return net.linear(x.mean(1), 7)


@network("torch_encoder", x=floats(2, 9, 32))
def torch_encoder(net: Net, x: Tensor) -> Tensor:
    """torch's own TransformerEncoderLayer, twice, then a linear head."""
    for _ in range(2):
        x = net.apply(x, nn.TransformerEncoderLayer, 32, 4, 44, batch_first=True, norm_first=True)
    return net.linear(net.linear(x, 24).relu(), 7)


@network("multi_head_pooling", x=floats(2, 9, 18))
def multi_head_pooling(net: Net, x: Tensor) -> Tensor:
    """One learned query per head pools over time."""
    x = net.linear(x, 30).relu()
    k, v = heads_first(net.linear(x, 40), 5), heads_first(net.linear(x, 40), 5)
    pooled = ((k * net.param(5, 1, 8)).sum(-1, keepdim=True).softmax(2) * v).sum(2)
    return net.linear(net.linear(pooled.flatten(1), 26).relu(), 7)


@network("gated_attention", x=floats(2, 9, 18))
def gated_attention(net: Net, x: Tensor) -> Tensor:
    """One narrow attention, gated by a wide branch; scores are squared ReLUs (GAU, FLASH)."""

    def mixer(h: Tensor) -> Tensor:
        gate, value = F.silu(net.linear(h, 2 * 30)).chunk(2, -1)
        z = F.silu(net.linear(h, 12))
        q = z * net.param(12, mean=1.0) + net.param(12)
        k = z * net.param(12, mean=1.0) + net.param(12)
        scores = (q @ k.transpose(1, 2) / 9 + causal_bias(net, 9)).relu().square()
        return net.linear(gate * (scores @ value), h.shape[-1])

    return around(net, x, mixer)


@network("disentangled_attention", x=floats(2, 7, 18))
def disentangled_attention(net: Net, x: Tensor) -> Tensor:
    """Content-to-position and position-to-content scores, put in place by gathers along time (DeBERTa)."""
    table = net.const(lambda: torch.sin(torch.arange(13)[:, None] * torch.arange(1, 15)[None, :] * 0.2))
    place = net.const(lambda: torch.arange(7)[:, None] - torch.arange(7)[None, :] + 6)

    def mixer(h: Tensor) -> Tensor:
        q, k, v = (heads_first(net.linear(h, 40), 5) for _ in range(3))
        far_q, far_k = (net.linear(table, 40).reshape(13, 5, 8).permute(1, 2, 0) for _ in range(2))
        index = place.expand(h.shape[0], 5, 7, 7)
        content = (q @ far_k).gather(-1, index)
        position = (k @ far_q).gather(-1, index).transpose(-1, -2)
        weights = ((q @ k.transpose(-1, -2) + content + position) * 24**-0.5).softmax(-1)
        return net.linear(heads_last(weights @ v), h.shape[-1])

    return around(net, x, mixer)
