"""Vision transformers, MLP mixers and the convolutional networks that answer them."""

from __future__ import annotations

from ..blocks import attend, attention, cbr, encoder_layer, heads_first, heads_last, mlp, patches
from ..inputs import floats
from ..lazy import F, Tensor, torch
from ..net_type import Net
from ..registry import network


@network("vit", x=floats("batch", 3, 16, 16))
def vit(net: Net, x: Tensor) -> Tensor:
    """Class token, learned positions, packed query-key-value."""
    x = patches(net, x, 36, 4)
    x = torch.cat([net.param(1, 1, 36).expand(x.shape[0], -1, -1), x], 1) + net.param(1, 17, 36)
    for _ in range(2):
        h = net.linear(net.layer_norm(x), 3 * 40).reshape(-1, 17, 3, 5, 8).permute(2, 0, 3, 1, 4)
        x = x + net.linear(heads_last(attend(h[0], h[1], h[2])), 36)
        x = x + mlp(net, net.layer_norm(x), 52)
    return net.linear(net.layer_norm(x)[:, 0], 10)


@network("deit", x=floats(1, 3, 16, 16))
def deit(net: Net, x: Tensor) -> tuple[Tensor, Tensor]:
    """A distillation token beside the class token; two heads, two outputs."""
    x = patches(net, x, 34, 4)
    x = torch.cat([net.param(1, 1, 34), net.param(1, 1, 34), x], 1) + net.param(1, 18, 34)
    for _ in range(2):
        x = encoder_layer(net, x, heads=4, hidden=46, fused=True)
    x = net.layer_norm(x)
    return net.linear(x[:, 0], 10), net.linear(x[:, 1], 10)


@network("vit_mean_pool", x=floats(2, 3, 16, 16))
def vit_mean_pool(net: Net, x: Tensor) -> Tensor:
    """Fixed sine positions, mean over tokens, normalization after it (DINO, SigLIP style)."""
    x = patches(net, x, 32, 4)
    x = x + net.const(lambda: torch.sin(torch.arange(16)[:, None] * 1.7 ** -torch.arange(32)))
    for _ in range(2):
        x = encoder_layer(net, x, heads=5, hidden=44)
    return net.linear(net.layer_norm(x.mean(1)), 10)


@network("cait", x=floats(1, 3, 16, 16))
def cait(net: Net, x: Tensor) -> Tensor:
    """Layer scale on every branch; a class token enters late and only it is updated."""
    x = patches(net, x, 30, 4) + net.param(16, 30)
    for _ in range(2):
        x = x + net.param(30, mean=0.6) * attention(net, net.layer_norm(x), heads=4)
        x = x + net.param(30, mean=0.6) * mlp(net, net.layer_norm(x), 44)
    token = net.param(1, 1, 30)
    for _ in range(2):
        both = net.layer_norm(torch.cat([token, x], 1))
        token = token + net.param(30, mean=0.6) * attention(net, both[:, :1], both, heads=4)
        token = token + net.param(30, mean=0.6) * mlp(net, net.layer_norm(token), 44)
    return net.linear(net.layer_norm(token)[:, 0], 10)


def windows(x: Tensor, size: int) -> Tensor:
    """(batch, height, width, channels) to (batch * windows, size * size, channels)."""
    batch, height, width, channels = x.shape
    x = x.reshape(batch, height // size, size, width // size, size, channels)
    return x.permute(0, 1, 3, 2, 4, 5).reshape(-1, size * size, channels)


def unwindows(x: Tensor, size: int, batch: int, height: int, width: int) -> Tensor:
    """The way back."""
    x = x.reshape(batch, height // size, width // size, size, size, -1)
    return x.permute(0, 1, 3, 2, 4, 5).reshape(batch, height, width, -1)


def swin_bias(net: Net, size: int, heads: int) -> Tensor:
    """Relative position bias: rows of a table, gathered by a constant index."""

    def index() -> Tensor:
        grid = torch.stack(torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")).flatten(1)
        offset = grid[:, :, None] - grid[:, None, :] + size - 1
        return offset[0] * (2 * size - 1) + offset[1]

    table, where = net.param((2 * size - 1) ** 2, heads), net.const(index)
    return table[where.reshape(-1)].reshape(size**2, size**2, heads).permute(2, 0, 1).unsqueeze(0)


def swin_mask(side: int, size: int, shift: int) -> Tensor:
    """Tokens that a shift has brought together from opposite borders do not see each other."""
    region = torch.zeros(1, side, side, 1)
    parts = (slice(0, -size), slice(-size, -shift), slice(-shift, None))
    for i, rows in enumerate(parts):
        for j, columns in enumerate(parts):
            region[:, rows, columns] = 3 * i + j
    flat = windows(region, size).squeeze(-1)
    return (flat[:, None, :] != flat[:, :, None]).float() * -100.0


@network("swin", x=floats(1, 3, 16, 16))
def swin(net: Net, x: Tensor) -> Tensor:
    """Shifted windows by roll, masks, relative position bias from a table, patch merging."""
    x = net.layer_norm(net.conv(x, 24, 2, 2, padding=0).permute(0, 2, 3, 1))
    side, heads = 8, 4
    for stage in range(2):
        for shift in (0, 2):
            size = min(4, side)
            shift = shift if side > size else 0
            h = net.layer_norm(x)
            h = torch.roll(h, (-shift, -shift), (1, 2)) if shift else h
            h = windows(h, size)
            q, k, v = net.linear(h, 24 * heads).reshape(-1, size**2, 3, heads, 8).permute(2, 0, 3, 1, 4).unbind(0)
            bias = swin_bias(net, size, heads)
            if shift:
                bias = bias + net.const(lambda: swin_mask(8, 4, 2).unsqueeze(1))
            h = unwindows(net.linear(heads_last(attend(q, k, v, bias)), x.shape[-1]), size, 1, side, side)
            x = x + (torch.roll(h, (shift, shift), (1, 2)) if shift else h)
            x = x + mlp(net, net.layer_norm(x), 40)
        if stage == 0:
            x = torch.cat([x[:, 0::2, 0::2], x[:, 1::2, 0::2], x[:, 0::2, 1::2], x[:, 1::2, 1::2]], -1)
            x = net.linear(net.layer_norm(x), 38, bias=False)
            side, heads = 4, 5
    return net.linear(net.layer_norm(x).mean((1, 2)), 10)


@network("maxvit", x=floats(1, 3, 16, 16))
def maxvit(net: Net, x: Tensor) -> Tensor:
    """Convolution, attention in windows, then attention over a grid that spans the image."""
    x = cbr(net, cbr(net, x, 20, 3, 2, act=F.gelu), 28, act=F.gelu).permute(0, 2, 3, 1)
    h = windows(x, 4)
    x = unwindows(h + attention(net, net.layer_norm(h), heads=4), 4, 1, 8, 8)
    grid = x.reshape(1, 4, 2, 4, 2, 28).permute(0, 2, 4, 1, 3, 5).reshape(-1, 16, 28)
    grid = grid + attention(net, net.layer_norm(grid), heads=4)
    x = grid.reshape(1, 2, 2, 4, 4, 28).permute(0, 3, 1, 4, 2, 5).reshape(1, 8, 8, 28)
    x = x + mlp(net, net.layer_norm(x), 40)
    return net.linear(x.mean((1, 2)), 10)


@network("mobilevit", x=floats(1, 3, 16, 16))
def mobilevit(net: Net, x: Tensor) -> Tensor:
    """Patches are unfolded by reshapes so that attention runs over equal positions; then fused by concatenation."""
    x = cbr(net, x, 16, 3, 2, act=F.silu)
    short = x
    h = net.conv(cbr(net, x, 16, act=F.silu), 30, 1, bias=False)
    h = h.reshape(1 * 30 * 4, 2, 4, 2).transpose(1, 2).reshape(1, 30, 16, 4).transpose(1, 3).reshape(4, 16, 30)
    for _ in range(2):
        h = encoder_layer(net, h, heads=4, hidden=44)
    h = net.layer_norm(h).reshape(1, 4, 16, 30).transpose(1, 3).reshape(1 * 30 * 4, 4, 2, 2).transpose(1, 2)
    h = cbr(net, h.reshape(1, 30, 8, 8), 16, 1, act=F.silu)
    x = cbr(net, torch.cat([short, h], 1), 22, act=F.silu)
    return net.linear(cbr(net, x, 40, 1, act=F.silu).mean((2, 3)), 10)


@network("cvt", x=floats(1, 3, 16, 16))
def cvt(net: Net, x: Tensor) -> Tensor:
    """Queries, keys and values come from depthwise convolutions, the last two strided."""
    x = net.conv(x, 28, 5, 2)
    for _ in range(2):
        tokens = x.flatten(2).transpose(1, 2)
        h = net.layer_norm(tokens).transpose(1, 2).reshape(x.shape)

        def project(h: Tensor, stride: int) -> Tensor:
            y = net.bn(net.conv(h, 28, 3, stride, groups=28, bias=False)).flatten(2).transpose(1, 2)
            return heads_first(net.linear(y, 40), 5)

        tokens = tokens + net.linear(heads_last(attend(project(h, 1), project(h, 2), project(h, 2))), 28)
        tokens = tokens + mlp(net, net.layer_norm(tokens), 44)
        x = tokens.transpose(1, 2).reshape(x.shape)
    return net.linear(net.layer_norm(x.flatten(2).transpose(1, 2)).mean(1), 10)


@network("pvt", x=floats(2, 3, 16, 16))
def pvt(net: Net, x: Tensor) -> Tensor:
    """Keys and values from a spatially reduced map; two stages of different width and heads."""
    for width, heads, side in ((22, 2, 8), (36, 5, 4)):
        x = net.conv(x, width, 2, 2, padding=0).flatten(2).transpose(1, 2)
        x = net.layer_norm(x) + net.param(1, side * side, width)
        for _ in range(2):
            h = net.layer_norm(x)
            small = net.conv(h.transpose(1, 2).reshape(2, width, side, side), width, 2, 2, padding=0)
            small = net.layer_norm(small.flatten(2).transpose(1, 2))
            k, v = net.linear(small, 16 * heads).reshape(2, -1, 2, heads, 8).permute(2, 0, 3, 1, 4).unbind(0)
            q = heads_first(net.linear(h, 8 * heads), heads)
            x = x + net.linear(heads_last(attend(q, k, v)), width)
            x = x + mlp(net, net.layer_norm(x), 40)
        x = x.transpose(1, 2).reshape(2, width, side, side)
    return net.linear(x.mean((2, 3)), 10)


@network("segformer", x=floats(1, 3, 16, 16))
def segformer(net: Net, x: Tensor) -> Tensor:
    """Depthwise convolution inside the MLP; linear decoder on concatenated, upsampled stages."""
    maps = []
    for width, heads, side in ((20, 2, 8), (32, 4, 4)):
        x = net.layer_norm(net.conv(x, width, 3, 2).flatten(2).transpose(1, 2))
        x = x + attention(net, net.layer_norm(x), heads=heads)
        h = net.linear(net.layer_norm(x), 44).transpose(1, 2).reshape(1, 44, side, side)
        h = F.gelu(net.conv(h, 44, groups=44)).flatten(2).transpose(1, 2)
        x = net.layer_norm(x + net.linear(h, width))
        y = net.linear(x, 26).transpose(1, 2).reshape(1, 26, side, side)
        maps.append(F.interpolate(y, size=(8, 8), mode="bilinear", align_corners=False))
        x = x.transpose(1, 2).reshape(1, width, side, side)
    return net.conv(cbr(net, torch.cat(maps, 1), 24, 1), 5, 1)


@network("levit", x=floats(2, 3, 16, 16))
def levit(net: Net, x: Tensor) -> Tensor:
    """Linear layers with batch normalization of flattened tokens, hard-swish, wide values, attention biases."""

    def linear_bn(h: Tensor, width: int) -> Tensor:
        y = net.linear(h, width, bias=False)
        return net.bn(y.flatten(0, 1)).reshape(y.shape)

    x = F.hardswish(net.bn(net.conv(x, 34, 3, 4))).flatten(2).transpose(1, 2)
    for _ in range(2):
        q, k, v = linear_bn(x, 4 * (8 + 8 + 12)).reshape(2, 16, 4, 28).transpose(1, 2).split([8, 8, 12], 3)
        weights = (q @ k.transpose(-1, -2) * 8**-0.5 + net.param(4, 16, 16)).softmax(-1)
        x = x + linear_bn(F.hardswish(heads_last(weights @ v)), 34)
        x = x + linear_bn(F.hardswish(linear_bn(x, 50)), 34)
    return net.linear(net.bn(x.mean(1)), 10)


def channels_last_norm(net: Net, x: Tensor) -> Tensor:
    """Layer normalization of NCHW over channels, by transposing there and back."""
    return net.layer_norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


@network("convnext", x=floats("batch", 3, 16, 16))
def convnext(net: Net, x: Tensor) -> Tensor:
    """7x7 depthwise, channels-last normalization and MLP, layer scale."""
    x = channels_last_norm(net, net.conv(x, 20, 2, 2, padding=0))
    for width in (20, 34):
        if width != x.shape[1]:
            x = net.conv(channels_last_norm(net, x), width, 2, 2, padding=0)
        for _ in range(2):
            h = net.layer_norm(net.conv(x, width, 7, groups=width).permute(0, 2, 3, 1))
            h = net.param(width, mean=0.6) * mlp(net, h, 2 * width + 6)
            x = x + h.permute(0, 3, 1, 2)
    return net.linear(net.layer_norm(x.mean((2, 3))), 10)


@network("convnext_v2", x=floats(1, 3, 16, 16))
def convnext_v2(net: Net, x: Tensor) -> Tensor:
    """Global response normalization: L2 over pixels, divided by its mean over channels."""
    x = channels_last_norm(net, net.conv(x, 20, 2, 2, padding=0))
    for width in (20, 34):
        if width != x.shape[1]:
            x = net.conv(channels_last_norm(net, x), width, 2, 2, padding=0)
        h = net.layer_norm(net.conv(x, width, 7, groups=width).permute(0, 2, 3, 1))
        h = F.gelu(net.linear(h, 2 * width + 6))
        energy = torch.linalg.vector_norm(h, dim=(1, 2), keepdim=True)
        ratio = energy / (energy.mean(-1, keepdim=True) + 1e-6)
        h = net.param(h.shape[-1]) * (h * ratio) + net.param(h.shape[-1]) + h
        x = x + net.linear(h, width).permute(0, 3, 1, 2)
    return net.linear(net.layer_norm(x.mean((2, 3))), 10)


@network("mlp_mixer", x=floats("batch", 3, 16, 16))
def mlp_mixer(net: Net, x: Tensor) -> Tensor:
    """One MLP across tokens, one across channels."""
    x = patches(net, x, 30, 4)
    for _ in range(2):
        x = x + mlp(net, net.layer_norm(x).transpose(1, 2), 22).transpose(1, 2)
        x = x + mlp(net, net.layer_norm(x), 44)
    return net.linear(net.layer_norm(x).mean(1), 10)


@network("resmlp", x=floats(2, 3, 16, 16))
def resmlp(net: Net, x: Tensor) -> Tensor:
    """Affine maps instead of normalization, a weight on the left mixes tokens, no inexact group anywhere."""
    x = patches(net, x, 30, 4)
    for _ in range(2):
        h = x * net.param(30, mean=1.0) + net.param(30)
        x = x + net.param(30, mean=0.6) * (net.param(16, 16, spread=0.2) @ h)
        h = x * net.param(30, mean=1.0) + net.param(30)
        x = x + net.param(30, mean=0.6) * mlp(net, h, 44)
    return net.linear(x.mean(1), 10)


@network("gmlp", x=floats(2, 3, 16, 16))
def gmlp(net: Net, x: Tensor) -> Tensor:
    """A spatial gating unit: one half is normalized, mixed across tokens and multiplies the other."""
    x = patches(net, x, 28, 4)
    for _ in range(2):
        u, v = F.gelu(net.linear(net.layer_norm(x), 2 * 34)).chunk(2, -1)
        v = net.conv(net.layer_norm(v), 16, 1)
        x = x + net.linear(u * v, 28)
    return net.linear(net.layer_norm(x).mean(1), 10)


@network("conv_mixer", x=floats(1, 3, 16, 16))
def conv_mixer(net: Net, x: Tensor) -> Tensor:
    """Depthwise with a shortcut, then pointwise, always GELU and batch normalization."""
    x = net.bn(F.gelu(net.conv(x, 26, 4, 4, padding=0)))
    for _ in range(3):
        x = x + net.bn(F.gelu(net.conv(x, 26, 5, groups=26)))
        x = net.bn(F.gelu(net.conv(x, 26, 1)))
    return net.linear(x.mean((2, 3)), 10)


@network("poolformer", x=floats(1, 3, 16, 16))
def poolformer(net: Net, x: Tensor) -> Tensor:
    """Average pooling minus identity mixes tokens; group normalization with one group."""
    x = net.conv(x, 26, 4, 4, padding=0)
    for _ in range(2):
        h = net.group_norm(x, 1)
        x = x + net.param(26, 1, 1, mean=0.6) * (F.avg_pool2d(h, 3, 1, 1, count_include_pad=False) - h)
        x = x + net.param(26, 1, 1, mean=0.6) * net.conv(F.gelu(net.conv(net.group_norm(x, 1), 40, 1)), 26, 1)
    return net.linear(x.mean((2, 3)), 10)


@network("perceiver", x=floats(2, 14, 18))
def perceiver(net: Net, x: Tensor) -> Tensor:
    """Learned latents read the input by cross attention, twice with the same weights."""
    latent = net.param(1, 6, 34).expand(x.shape[0], -1, -1)
    for _ in range(2):
        with net.shared("read"):
            latent = latent + attention(net, net.layer_norm(latent), net.layer_norm(x), heads=4)
            latent = latent + mlp(net, net.layer_norm(latent), 44)
        latent = encoder_layer(net, latent, heads=5, hidden=44)
    return net.linear(latent.mean(1), 10)


@network("vision_language", image=floats(2, 3, 16, 16), text=floats(2, 6, 20))
def vision_language(net: Net, image: Tensor, text: Tensor) -> Tensor:
    """Two towers meet in normalized projections and a temperature (CLIP)."""
    a = net.linear(encoder_layer(net, patches(net, image, 30, 4), heads=4).mean(1), 24, bias=False)
    b = net.linear(encoder_layer(net, net.linear(text, 34), heads=5)[:, -1], 24, bias=False)
    a, b = a / a.norm(dim=-1, keepdim=True), b / b.norm(dim=-1, keepdim=True)
    return net.param(1, mean=1.0).exp() * torch.matmul(a, b.T)


@network("halo_pyramid", x=floats(1, 3, 16, 16))
def halo_pyramid(net: Net, x: Tensor) -> Tensor:
    """Tokens-to-token: overlapping patches by unfold, a thin transformer, folded and unfolded again."""
    h = F.unfold(x, 5, padding=1, stride=4).transpose(1, 2)
    h = net.linear(h, 18)
    h = h + attention(net, net.layer_norm(h), heads=4)
    h = h.transpose(1, 2).reshape(1, 18, 4, 4)
    h = F.unfold(h, 2, stride=2).transpose(1, 2)
    h = encoder_layer(net, net.linear(h, 30), heads=4)
    return net.linear(net.layer_norm(h).mean(1), 10)
