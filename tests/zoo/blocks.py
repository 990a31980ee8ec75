"""Pieces that many networks share."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from .lazy import F, Tensor, torch

if TYPE_CHECKING:
    from .net import Net

Activation = Callable[[Tensor], Tensor]


def identity(x: Tensor) -> Tensor:
    return x


def cbr(
    net: Net, x: Tensor, width: int, kernel: int | tuple[int, ...] = 3, stride: int = 1, *,
    groups: int = 1, dilation: int = 1, act: Activation | None = None,
) -> Tensor:  # fmt: skip
    """Convolution without bias, batch normalization, activation (ReLU unless given)."""
    x = net.bn(net.conv(x, width, kernel, stride, groups=groups, dilation=dilation, bias=False))
    return (act or torch.relu)(x)


def squeeze_excite(
    net: Net, x: Tensor, width: int, act: Activation | None = None, gate: Activation | None = None
) -> Tensor:
    """Scale channels by a gate computed from their means."""
    s = (act or torch.relu)(net.conv(x.mean((2, 3), keepdim=True), width, 1))
    return x * (gate or torch.sigmoid)(net.conv(s, x.shape[1], 1))


def heads_first(x: Tensor, heads: int) -> Tensor:
    """(batch, time, heads * width) to (batch, heads, time, width)."""
    return x.reshape(x.shape[0], x.shape[1], heads, -1).transpose(1, 2)


def heads_last(x: Tensor) -> Tensor:
    """(batch, heads, time, width) to (batch, time, heads * width)."""
    return x.transpose(1, 2).flatten(2)


def attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> Tensor:
    """Softmax attention written out; the bias is added to the scores."""
    scores = q @ k.transpose(-1, -2) * (q.shape[-1] ** -0.5)
    if bias is not None:
        scores = scores + bias
    out: Tensor = scores.softmax(-1) @ v
    return out


def attention(
    net: Net, x: Tensor, context: Tensor | None = None, *,
    heads: int = 4, width: int = 8, bias: Tensor | None = None, fused: bool = False, causal: bool = False,
) -> Tensor:  # fmt: skip
    """Multi-head attention with separate query, key and value maps; `fused` takes torch's own operator."""
    context = x if context is None else context
    q = heads_first(net.linear(x, heads * width), heads)
    k = heads_first(net.linear(context, heads * width), heads)
    v = heads_first(net.linear(context, heads * width), heads)
    if fused:
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=bias, is_causal=causal)
    else:
        out = attend(q, k, v, causal_bias(net, x.shape[1]) if causal else bias)
    return net.linear(heads_last(out), x.shape[-1])


def causal_bias(net: Net, length: int) -> Tensor:
    """A table that hides the future."""
    return net.const(lambda: torch.full((length, length), -1e4).triu(1))


def mlp(net: Net, x: Tensor, width: int, act: Activation | None = None) -> Tensor:
    """Two linear maps around an activation (GELU unless given), back to the width of x."""
    return net.linear((act or F.gelu)(net.linear(x, width)), x.shape[-1])


def encoder_layer(
    net: Net, x: Tensor, *, heads: int = 4, width: int = 8, hidden: int = 40, fused: bool = False
) -> Tensor:
    """Pre-norm transformer layer."""
    x = x + attention(net, net.layer_norm(x), heads=heads, width=width, fused=fused)
    return x + mlp(net, net.layer_norm(x), hidden)


def patches(net: Net, x: Tensor, width: int, size: int) -> Tensor:
    """Image to a sequence of embedded patches."""
    return net.conv(x, width, size, size, padding=0).flatten(2).transpose(1, 2)


def head(net: Net, x: Tensor, classes: int = 7) -> Tensor:
    """Mean over everything but batch and channels, then a classifier."""
    return net.linear(x.mean(tuple(range(2, x.ndim))), classes)
