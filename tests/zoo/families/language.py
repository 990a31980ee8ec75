"""Language models and their relatives."""

from __future__ import annotations

from ..blocks import attend, attention, causal_bias, heads_first, heads_last, mlp
from ..inputs import floats, mask, tokens
from ..lazy import F, Tensor, nn, torch
from ..net_type import Net
from ..registry import network


@network("bert", ids=tokens(2, "sequence", vocabulary=60), segments=tokens(2, "sequence", vocabulary=2),
         keep=mask(2, "sequence", dtype="int64"))  # fmt: skip
def bert(net: Net, ids: Tensor, segments: Tensor, keep: Tensor) -> Tensor:
    """Three embeddings, post-norm layers, tanh pooler on the first token; the length is dynamic."""
    x = net.embed(ids, 60, 32) + net.embed(segments, 2, 32)
    x = net.layer_norm(x + net.make(nn.Embedding, 24, 32).weight[: ids.shape[1]])
    bias = (1.0 - keep[:, None, None, :].to(x.dtype)) * -1e4
    for _ in range(2):
        x = net.layer_norm(x + attention(net, x, heads=5, bias=bias))
        x = net.layer_norm(x + mlp(net, x, 44))
    return net.linear(net.linear(x[:, 0], 32).tanh(), 3)


def gpt2_layer(net: Net, x: Tensor, heads: int = 4, width: int = 8) -> Tensor:
    """GPT-2 keeps weights as (in, out) and packs query, key and value."""

    def conv1d(h: Tensor, out: int) -> Tensor:
        weight = net.param(h.shape[-1], out, spread=h.shape[-1] ** -0.5)
        return torch.addmm(net.param(out), h.reshape(-1, h.shape[-1]), weight).reshape(*h.shape[:-1], out)

    q, k, v = conv1d(net.layer_norm(x), 3 * heads * width).split(heads * width, 2)
    y = attend(heads_first(q, heads), heads_first(k, heads), heads_first(v, heads), causal_bias(net, x.shape[1]))
    x = x + conv1d(heads_last(y), x.shape[-1])
    return x + conv1d(F.gelu(conv1d(net.layer_norm(x), 52), approximate="tanh"), x.shape[-1])


@network("gpt2", ids=tokens(2, 10, vocabulary=60))
def gpt2(net: Net, ids: Tensor) -> Tensor:
    """Packed projections as Gemm with untransposed weights, causal mask, tied embedding as the head."""
    table = net.make(nn.Embedding, 60, 36).weight
    x = F.embedding(ids, table) + net.param(10, 36)
    for _ in range(2):
        x = gpt2_layer(net, x)
    return net.layer_norm(x) @ table.T


def rms_norm(net: Net, x: Tensor) -> Tensor:
    """Root mean square normalization, written out."""
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6) * net.param(x.shape[-1], mean=1.0, spread=0.3)


def rope(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary positions on halves."""
    a, b = x.chunk(2, -1)
    return x * cos + torch.cat([-b, a], -1) * sin


def rope_tables(net: Net, length: int, width: int) -> tuple[Tensor, Tensor]:
    """Cosines and sines, constants of every layer: an exporter keeps one copy."""

    def angle() -> Tensor:
        half = torch.arange(length)[:, None] * 10.0 ** (-torch.arange(0, width, 2) / width)[None, :]
        return torch.cat([half, half], -1)

    return net.const(lambda: angle().cos()), net.const(lambda: angle().sin())


@network("llama", ids=tokens(2, 10, vocabulary=60))
def llama(net: Net, ids: Tensor) -> Tensor:
    """RMSNorm, rotary halves with tables that layers share, grouped queries, SwiGLU, no biases."""
    x = net.embed(ids, 60, 36)
    for _ in range(2):
        h = rms_norm(net, x)
        cos, sin = rope_tables(net, 10, 8)
        q, k, v = (heads_first(net.linear(h, 8 * heads, bias=False), heads) for heads in (6, 2, 2))
        q, k = rope(q, cos, sin), rope(k, cos, sin)
        k, v = (t[:, :, None].expand(-1, -1, 3, -1, -1).reshape(-1, 6, 10, 8) for t in (k, v))
        x = x + net.linear(heads_last(attend(q, k, v, causal_bias(net, 10))), 36, bias=False)
        h = rms_norm(net, x)
        h = F.silu(net.linear(h, 44, bias=False)) * net.linear(h, 44, bias=False)
        x = x + net.linear(h, 36, bias=False)
    return net.linear(rms_norm(net, x), 60, bias=False)


@network("llama_fused", exporters=("dynamo18", "dynamo20"), ids=tokens(2, 10, vocabulary=60))
def llama_fused(net: Net, ids: Tensor) -> Tensor:
    """Packed query-key-value and packed gate-up weights (Phi-3), torch's RMSNorm and attention, scaled embedding."""
    x = net.embed(ids, 60, 36) * 6.0
    for _ in range(2):
        cos, sin = rope_tables(net, 10, 8)
        h = net.apply(x, nn.RMSNorm, 36)
        q, k, v = net.linear(h, 8 * (4 + 2 + 2), bias=False).split([32, 16, 16], -1)
        q, k = rope(heads_first(q, 4), cos, sin), rope(heads_first(k, 2), cos, sin)
        k, v = k.repeat_interleave(2, 1), heads_first(v, 2).repeat_interleave(2, 1)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + net.linear(heads_last(y), 36, bias=False)
        gate, up = net.linear(net.apply(x, nn.RMSNorm, 36), 2 * 42, bias=False).chunk(2, -1)
        x = x + net.linear(F.silu(gate) * up, 36, bias=False)
    return net.linear(net.apply(x, nn.RMSNorm, 36), 60, bias=False)


@network("gpt_neox", ids=tokens(2, 10, vocabulary=60))
def gpt_neox(net: Net, ids: Tensor) -> Tensor:
    """Parallel attention and MLP, heads packed as (heads, 3, width), rotation of the first half of each head."""
    x = net.embed(ids, 60, 36)
    for _ in range(2):
        cos, sin = rope_tables(net, 10, 4)
        qkv = net.linear(net.layer_norm(x), 4 * 3 * 8).reshape(2, 10, 4, 24).transpose(1, 2)
        q, k, v = qkv.chunk(3, -1)
        q, k = (torch.cat([rope(t[..., :4], cos, sin), t[..., 4:]], -1) for t in (q, k))
        y = net.linear(heads_last(attend(q, k, v, causal_bias(net, 10))), 36)
        x = x + y + mlp(net, net.layer_norm(x), 48)
    return net.linear(net.layer_norm(x), 60, bias=False)


@network("gpt_j", ids=tokens(2, 10, vocabulary=60))
def gpt_j(net: Net, ids: Tensor) -> Tensor:
    """Rotary positions on neighbouring pairs: strided slices, stacked and flattened again."""
    x = net.embed(ids, 60, 30)
    cos, sin = (t[:, :4] for t in rope_tables(net, 10, 8))

    def rotate(t: Tensor) -> Tensor:
        a, b = t[..., ::2], t[..., 1::2]
        return torch.stack([a * cos - b * sin, b * cos + a * sin], -1).flatten(-2)

    for _ in range(2):
        h = net.layer_norm(x)
        q, k, v = (heads_first(net.linear(h, 40, bias=False), 5) for _ in range(3))
        y = heads_last(attend(rotate(q), rotate(k), v, causal_bias(net, 10)))
        x = x + net.linear(y, 30, bias=False) + mlp(net, h, 44)
    return net.linear(net.layer_norm(x), 60)


def t5_attention(net: Net, x: Tensor, context: Tensor, bias: Tensor | None, heads: int = 4, width: int = 8) -> Tensor:
    """T5 does not scale its scores and has no biases."""
    q = heads_first(net.linear(x, heads * width, bias=False) * 0.3, heads)
    k, v = (heads_first(net.linear(context, heads * width, bias=False), heads) for _ in range(2))
    scores = q @ k.transpose(-1, -2)
    scores = scores if bias is None else scores + bias
    return net.linear(heads_last(scores.softmax(-1) @ v), x.shape[-1], bias=False)


@network("t5", ids=tokens(2, 8, vocabulary=50), target=tokens(2, 6, vocabulary=50))
def t5(net: Net, ids: Tensor, target: Tensor) -> Tensor:
    """Encoder and decoder with one embedding, relative position bias shared by layers, gated GELU."""
    table = net.make(nn.Embedding, 50, 36).weight

    def position_bias(length: int) -> Tensor:
        buckets = net.const(lambda: (torch.arange(length)[None, :] - torch.arange(length)[:, None]).clamp(-4, 4) + 4)
        return net.embed(buckets, 9, 4).permute(2, 0, 1).unsqueeze(0)

    def gated(x: Tensor) -> Tensor:
        h = rms_norm(net, x)
        return x + net.linear(F.gelu(net.linear(h, 40, bias=False)) * net.linear(h, 40, bias=False), 36, bias=False)

    x, bias = F.embedding(ids, table), position_bias(8)
    for _ in range(2):
        h = rms_norm(net, x)
        x = gated(x + t5_attention(net, h, h, bias))
    memory = rms_norm(net, x)
    y, bias = F.embedding(target, table), position_bias(6) + causal_bias(net, 6)
    for _ in range(2):
        h = rms_norm(net, y)
        y = y + t5_attention(net, h, h, bias)
        y = gated(y + t5_attention(net, rms_norm(net, y), memory, None))
    return (rms_norm(net, y) * 0.2) @ table.T


@network("whisper", sound=floats(2, 14, 24), target=tokens(2, 6, vocabulary=50))
def whisper(net: Net, sound: Tensor, target: Tensor) -> Tensor:
    """Convolutions over time as the stem, encoder and decoder, keys without bias, tied head."""
    x = F.gelu(net.conv(F.gelu(net.conv(sound, 30)), 34, 3, 2)).transpose(1, 2) + net.param(12, 34)
    for _ in range(2):
        x = x + attention(net, net.layer_norm(x), heads=4)
        x = x + mlp(net, net.layer_norm(x), 46)
    memory = net.layer_norm(x)
    table = net.make(nn.Embedding, 50, 34).weight
    y = F.embedding(target, table) + net.param(6, 34)
    for _ in range(2):
        y = y + attention(net, net.layer_norm(y), heads=5, bias=causal_bias(net, 6))
        y = y + attention(net, net.layer_norm(y), memory, heads=4)
        y = y + mlp(net, net.layer_norm(y), 46)
    return net.layer_norm(y) @ table.T


@network("bart", ids=tokens(2, 8, vocabulary=50), keep=mask(2, 8), target=tokens(2, 6, vocabulary=50))
def bart(net: Net, ids: Tensor, keep: Tensor, target: Tensor) -> Tensor:
    """Post-norm encoder and decoder, padding mask in both attentions, final logits bias."""
    bias = torch.zeros(2, 1, 1, 8).masked_fill(~keep[:, None, None, :], -1e4)
    x = net.layer_norm(net.embed(ids, 50, 32) + net.param(8, 32))
    for _ in range(2):
        x = net.layer_norm(x + attention(net, x, heads=5, bias=bias))
        x = net.layer_norm(x + mlp(net, x, 44))
    y = net.layer_norm(net.embed(target, 50, 38) + net.param(6, 38))
    for _ in range(2):
        y = net.layer_norm(y + attention(net, y, heads=4, bias=causal_bias(net, 6)))
        y = net.layer_norm(y + attention(net, y, x, heads=5, bias=bias))
        y = net.layer_norm(y + mlp(net, y, 44))
    return net.linear(y, 50, bias=False) + net.param(1, 50)


@network("albert", ids=tokens("batch", 10, vocabulary=60))
def albert(net: Net, ids: Tensor) -> Tensor:
    """Factorized embedding; one layer's weights used three times."""
    x = net.linear(net.layer_norm(net.embed(ids, 60, 14) + net.param(10, 14)), 36)
    for _ in range(3):
        with net.shared("layer"):
            x = net.layer_norm(x + attention(net, x, heads=5))
            x = net.layer_norm(x + mlp(net, x, 48))
    return net.linear(x[:, 0].tanh(), 3)


@network("tied_lm", ids=tokens(2, 10, vocabulary=48))
def tied_lm(net: Net, ids: Tensor) -> Tensor:
    """One matrix both embeds and predicts; a linear layer of another width lies between."""
    table = net.make(nn.Embedding, 48, 28).weight
    x = net.linear(F.embedding(ids, table), 34).relu()
    x = x + net.linear(net.linear(x, 22).tanh(), 34)
    return F.linear(net.linear(x, 28).relu(), table, net.param(48))


@network("glu_ffn", x=floats(2, 9, 18))
def glu_ffn(net: Net, x: Tensor) -> Tensor:
    """GLU through Split, GEGLU through chunk, and halves taken by slices with the gate first."""
    x = net.linear(x, 26)
    x = x + net.linear(F.glu(net.linear(x, 2 * 30), -1), 26)
    value, gate = net.linear(net.layer_norm(x), 2 * 34).chunk(2, -1)
    x = x + net.linear(value * F.gelu(gate), 26)
    h = net.linear(net.layer_norm(x), 2 * 20)
    return net.linear(x + net.linear(F.silu(h[..., 20:]) * h[..., :20], 26), 7)


@network("soft_experts", x=floats(2, 9, 18))
def soft_experts(net: Net, x: Tensor) -> Tensor:
    """A mixture of experts where all of them run: softmax weights over batched matrices."""
    x = net.linear(x, 26)
    weights = net.linear(x, 4).softmax(-1)
    hidden = torch.einsum("btc,ech->bteh", x, net.param(4, 26, 32, spread=0.2)).relu()
    out = torch.einsum("bteh,ehc->btec", hidden, net.param(4, 32, 26, spread=0.2))
    x = x + (out * weights.unsqueeze(-1)).sum(2)
    return net.linear(net.layer_norm(x), 7)


@network("expert_list", x=floats(2, 9, 18))
def expert_list(net: Net, x: Tensor) -> Tensor:
    """Experts of different widths in a loop, each weighed by one column of the router."""
    x = net.linear(x, 26)
    weights = net.linear(x, 3).softmax(-1)
    out = net.linear(x, 26)
    for i, width in enumerate((20, 28, 36)):
        out = out + weights[..., i : i + 1] * mlp(net, x, width)
    return net.linear(out, 7)


@network("mamba", x=floats(2, 6, 18))
def mamba(net: Net, x: Tensor) -> Tensor:
    """Selective state space: depthwise causal convolution and a scan that is unrolled in time."""
    x = net.linear(x, 26)
    h, gate = net.linear(net.layer_norm(x), 2 * 34).chunk(2, -1)
    h = F.silu(net.conv(h.transpose(1, 2), 34, 3, groups=34, padding=2)[..., :6].transpose(1, 2))
    step, b, c = net.linear(h, 4 + 5 + 5).split([4, 5, 5], -1)
    step = F.softplus(net.linear(step, 34))
    decay = -net.param(34, 5, mean=0.5, spread=0.3).exp()
    state, outs = torch.zeros(2, 34, 5), []
    for t in range(6):
        dt = step[:, t, :, None]
        state = state * (dt * decay).exp() + dt * b[:, t, None, :] * h[:, t, :, None]
        outs.append((state * c[:, t, None, :]).sum(-1))
    y = torch.stack(outs, 1) + net.param(34, mean=1.0) * h
    return net.linear(x + net.linear(y * F.silu(gate), 26), 7)


@network("rwkv", x=floats(2, 5, 18))
def rwkv(net: Net, x: Tensor) -> Tensor:
    """Token shift by pad and slice, per-channel mixing, an unrolled weighted key-value memory, squared ReLU."""
    x = net.linear(x, 26)

    def mixed(h: Tensor) -> Tensor:
        before = F.pad(h, (0, 0, 1, 0))[:, :-1]
        mix = net.param(26, mean=0.5, spread=0.2)
        return h * mix + before * (1 - mix)

    h = net.layer_norm(x)
    r, k, v = (net.linear(mixed(h), 30, bias=False) for _ in range(3))
    decay, first = (-net.param(30).exp()).exp(), net.param(30)
    top, bottom, outs = torch.zeros(2, 30), torch.zeros(2, 30), []
    for t in range(5):
        now, new = (first + k[:, t]).exp(), k[:, t].exp()
        outs.append((top + now * v[:, t]) / (bottom + now))
        top, bottom = top * decay + new * v[:, t], bottom * decay + new
    x = x + net.linear(r.sigmoid() * torch.stack(outs, 1), 26, bias=False)
    h = net.layer_norm(x)
    gate = net.linear(mixed(h), 26, bias=False).sigmoid()
    return net.linear(x + gate * net.linear(net.linear(mixed(h), 40, bias=False).relu().square(), 26, bias=False), 7)


@network("fnet", x=floats(2, 8, 18))
def fnet(net: Net, x: Tensor) -> Tensor:
    """A fixed cosine transform mixes time (constant on the left) and channels (constant on the right)."""

    def table(n: int) -> Tensor:
        return net.const(lambda: torch.cos(torch.arange(n)[:, None] * torch.arange(n) * (6.2832 / n)) / n**0.5)

    x = net.linear(x, 28)
    for _ in range(2):
        x = x + net.linear(table(8) @ net.linear(x, 20) @ table(20), 28)
        x = x + mlp(net, net.layer_norm(x), 40)
    return net.linear(x.mean(1), 7)


@network("conformer", x=floats(2, 12, 18))
def conformer(net: Net, x: Tensor) -> Tensor:
    """Half-step MLPs around attention and a gated depthwise convolution with batch normalization."""
    x = net.linear(x, 30)
    for _ in range(2):
        x = x + 0.5 * mlp(net, net.layer_norm(x), 40, F.silu)
        x = x + attention(net, net.layer_norm(x), heads=4)
        h = F.glu(net.conv(net.layer_norm(x).transpose(1, 2), 2 * 26, 1), 1)
        h = F.silu(net.bn(net.conv(h, 26, 5, groups=26)))
        x = x + net.conv(h, 30, 1).transpose(1, 2)
        x = net.layer_norm(x + 0.5 * mlp(net, net.layer_norm(x), 40, F.silu))
    return net.linear(x, 9)


@network("retention", x=floats(2, 8, 18))
def retention(net: Net, x: Tensor) -> Tensor:
    """Decay instead of softmax, normalization per head, and a gate (RetNet)."""
    x = net.linear(x, 30)
    decay = net.const(lambda: (0.8 ** (torch.arange(8)[:, None] - torch.arange(8)).clamp(min=0).float()).tril())
    for _ in range(2):
        h = net.layer_norm(x)
        q, k, v = (heads_first(net.linear(h, 32), 4) for _ in range(3))
        y = (q @ k.transpose(-1, -2) * decay) @ v
        y = net.group_norm(heads_last(y).reshape(-1, 32), 4).reshape(2, 8, 32)
        x = x + net.linear(F.silu(net.linear(h, 32)) * y, 30)
        x = x + mlp(net, net.layer_norm(x), 40)
    return net.linear(x, 9)


@network("text_classifier", ids=tokens("batch", "sequence", vocabulary=50))
def text_classifier(net: Net, ids: Tensor) -> Tensor:
    """A bag of embeddings (mean and max over dynamic time) and an MLP."""
    x = net.embed(ids, 50, 30)
    return net.linear(net.linear(torch.cat([x.mean(1), x.amax(1)], 1), 40).relu(), 4)
