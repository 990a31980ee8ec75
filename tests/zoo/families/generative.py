"""Networks that make or restore images."""

from __future__ import annotations

from collections.abc import Callable

from ..blocks import attend, cbr, heads_first, heads_last
from ..inputs import floats
from ..lazy import F, Tensor, nn, torch
from ..net_type import Net
from ..registry import network


@network("espcn", x=floats("batch", 1, 12, 12))
def espcn(net: Net, x: Tensor) -> Tensor:
    """Pixel shuffle in the middle of the network and again at its end."""
    x = net.conv(net.conv(x, 14, 5).tanh(), 4 * 10).tanh()
    x = net.conv(F.pixel_shuffle(x, 2), 18).relu()
    return F.pixel_shuffle(net.conv(x, 4), 2)


@network("pixel_unshuffle_net", x=floats(1, 3, 16, 16))
def pixel_unshuffle_net(net: Net, x: Tensor) -> Tensor:
    """Space to depth after a convolution, depth to space on the way back, a shortcut around both."""
    x = net.conv(x, 10).relu()
    y = net.conv(F.pixel_unshuffle(x, 2), 26).relu()
    y = F.pixel_shuffle(net.conv(y, 4 * 10), 2)
    return net.conv((x + y).relu(), 3)


@network("srcnn_residual", x=floats(2, 3, 12, 12))
def srcnn_residual(net: Net, x: Tensor) -> Tensor:
    """The network predicts a correction that is added to its input (VDSR, DnCNN)."""
    y = net.conv(x, 18).relu()
    for width in (22, 16):
        y = cbr(net, y, width)
    return x - net.conv(y, 3)


@network("edsr", x=floats(1, 3, 12, 12))
def edsr(net: Net, x: Tensor) -> Tensor:
    """Scaled residual blocks without normalization inside a long skip; fixed colour shift by convolution."""
    shift = net.const(lambda: torch.eye(3).reshape(3, 3, 1, 1))
    x = F.conv2d(x, shift, net.const(lambda: torch.tensor([-0.4, -0.3, -0.2])))
    x = net.conv(x, 20)
    y = x
    for _ in range(3):
        y = y + 0.3 * net.conv(net.conv(y, 26).relu(), 20)
    y = x + net.conv(y, 20)
    return net.conv(F.pixel_shuffle(net.conv(y, 4 * 12), 2), 3)


@network("residual_dense", x=floats(1, 3, 12, 12))
def residual_dense(net: Net, x: Tensor) -> Tensor:
    """Dense blocks inside residual blocks, all block outputs fused by 1x1 (RDN, ESRGAN)."""
    first = net.conv(x, 16)
    y, outs = first, []
    for _ in range(2):
        dense = y
        for _ in range(3):
            dense = torch.cat([dense, F.leaky_relu(net.conv(dense, 9), 0.2)], 1)
        y = y + 0.2 * net.conv(dense, 16, 1)
        outs.append(y)
    y = net.conv(torch.cat(outs, 1), 16, 1) + first
    y = F.leaky_relu(net.conv(F.interpolate(y, scale_factor=2.0, mode="nearest"), 12), 0.2)
    return net.conv(y, 3)


@network("information_distillation", x=floats(1, 3, 12, 12))
def information_distillation(net: Net, x: Tensor) -> Tensor:
    """After each layer a slice of the channels leaves for the end (IMDN), with contrast-aware gating."""
    x = net.conv(x, 24)
    y, kept = x, []
    for _ in range(3):
        part, y = F.leaky_relu(net.conv(y, 24), 0.05).split([7, 17], 1)
        kept.append(part)
    y = torch.cat([*kept, net.conv(y, 7)], 1)
    mean = y.mean((2, 3), keepdim=True)
    contrast = ((y - mean).square().mean((2, 3), keepdim=True) + 1e-5).sqrt() + mean
    y = y * net.conv(net.conv(contrast, 8, 1).relu(), 28, 1).sigmoid()
    return F.pixel_shuffle(net.conv(x + net.conv(y, 24, 1), 12), 2)


@network("dcgan", z=floats("batch", 20, 1, 1))
def dcgan(net: Net, z: Tensor) -> Tensor:
    """Transposed convolutions from a noise vector to an image."""
    x = net.bn(net.deconv(z, 34, 4, 1, 0, bias=False)).relu()
    for width in (26, 14):
        x = net.bn(net.deconv(x, width, bias=False)).relu()
    return net.deconv(x, 3, bias=False).tanh()


@network("discriminator", x=floats(2, 3, 16, 16))
def discriminator(net: Net, x: Tensor) -> Tensor:
    """Strided convolutions with leaky ReLU; weights divided by their spectral norm."""
    for width in (14, 22):
        weight = net.param(width, int(x.shape[1]), 4, 4, spread=0.2)
        norm = net.const(lambda: torch.tensor(1.7))
        x = F.leaky_relu(F.conv2d(x, weight / norm, net.param(width), stride=2, padding=1), 0.2)
    return net.conv(x, 1, 4, padding=0).flatten(1)


@network("autoencoder", x=floats(1, 3, 16, 16))
def autoencoder(net: Net, x: Tensor) -> Tensor:
    """Flatten to a code, linear back to a map, transposed convolutions."""
    x = net.conv(net.conv(x, 12, 3, 2).relu(), 20, 3, 2).relu()
    code = net.linear(x.flatten(1), 18)
    x = net.linear(code, 22 * 16).relu().reshape(1, 22, 4, 4)
    x = net.deconv(x, 14).relu()
    return net.deconv(x, 3).sigmoid()


@network("autoencoder_grouped", x=floats(2, 3, 16, 16))
def autoencoder_grouped(net: Net, x: Tensor) -> Tensor:
    """Grouped and depthwise transposed convolutions with output padding."""
    x = net.conv(net.conv(x, 16, 3, 2).relu(), 24, 3, 2, groups=2).relu()
    x = net.deconv(x, 32, 3, 2, 1, groups=4, output_padding=1).relu()
    x = net.deconv(net.conv(x, 20, 1).relu(), 20, 3, 2, 1, groups=20, output_padding=1).relu()
    return net.conv(x, 3)


@network("vae", x=floats(2, 1, 12, 12), noise=floats(2, 9))
def vae(net: Net, x: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and log variance, both outputs; the code is drawn with noise from outside."""
    h = net.linear(net.conv(x, 14, 3, 2).relu().flatten(1), 40).relu()
    mean, log_variance = net.linear(h, 9), net.linear(h, 9) * 0.3
    z = mean + (0.5 * log_variance).exp() * noise
    y = net.linear(net.linear(z, 44).relu(), 16 * 36).relu().reshape(2, 16, 6, 6)
    return net.deconv(y, 1).sigmoid(), mean, log_variance


@network("vae_chunked", x=floats(2, 30))
def vae_chunked(net: Net, x: Tensor) -> Tensor:
    """Mean and deviation are halves of one layer and stay inside the network."""
    mean, scale = net.linear(net.linear(x, 40).tanh(), 2 * 14).chunk(2, 1)
    return net.linear(net.linear(mean + F.softplus(scale), 34).relu(), 30)


@network("cyclegan", x=floats(1, 3, 16, 16))
def cyclegan(net: Net, x: Tensor) -> Tensor:
    """Instance normalization, reflected borders, residual blocks, transposed convolutions."""

    def norm(x: Tensor) -> Tensor:
        return net.apply(x, nn.InstanceNorm2d, int(x.shape[1]))

    def reflected(x: Tensor, width: int, pad: int) -> Tensor:
        return net.conv(F.pad(x, (pad,) * 4, mode="reflect"), width, 2 * pad + 1, padding=0)

    x = norm(reflected(x, 12, 3)).relu()
    x = norm(net.conv(x, 20, 3, 2)).relu()
    for _ in range(2):
        x = x + norm(reflected(norm(reflected(x, 20, 1)).relu(), 20, 1))
    x = norm(net.deconv(x, 14, 3, 2, 1, output_padding=1)).relu()
    return reflected(x, 3, 3).tanh()


@network("style_transfer", x=floats(1, 3, 16, 16))
def style_transfer(net: Net, x: Tensor) -> Tensor:
    """Affine instance normalization, nearest upsampling, 9x9 ends."""

    def block(x: Tensor, width: int, kernel: int = 3, stride: int = 1) -> Tensor:
        y = net.conv(F.pad(x, (kernel // 2,) * 4, mode="reflect"), width, kernel, stride, padding=0)
        return net.apply(y, nn.InstanceNorm2d, width, affine=True)

    x = block(block(x, 10, 9).relu(), 18, 3, 2).relu()
    x = x + block(block(x, 18).relu(), 18)
    x = block(F.interpolate(x, scale_factor=2.0, mode="nearest"), 12).relu()
    return net.conv(x, 3, 9)


@network("adain", content=floats(1, 3, 16, 16), style=floats(1, 3, 16, 16))
def adain(net: Net, content: Tensor, style: Tensor) -> Tensor:
    """One encoder for two images; content takes on the style's mean and deviation, channel by channel."""
    codes = []
    for image in (content, style):
        with net.shared("encoder"):
            codes.append(net.conv(net.conv(image, 14).relu(), 22, 3, 2).relu())
    mean, spread = codes[0].mean((2, 3), keepdim=True), codes[0].std((2, 3), keepdim=True) + 1e-3
    x = (codes[0] - mean) / spread * codes[1].std((2, 3), keepdim=True) + codes[1].mean((2, 3), keepdim=True)
    return net.conv(F.interpolate(net.conv(x, 16).relu(), scale_factor=2.0, mode="nearest"), 3)


@network("group_norms", x=floats(1, 3, 16, 16))
def group_norms(net: Net, x: Tensor) -> Tensor:
    """One stream under group normalizations of four and of eight groups."""
    x = net.conv(x, 32)
    for groups in (4, 8, 4):
        x = x + net.conv(net.group_norm(x, groups).relu(), 32)
    y = net.conv(net.group_norm(x, 8).relu(), 20)
    return net.linear(net.group_norm(y, 5).relu().mean((2, 3)), 10)


@network("diffusion_unet", x=floats(1, 3, 8, 8), time=floats(1, 16))
def diffusion_unet(net: Net, x: Tensor, time: Tensor) -> Tensor:
    """Group normalization, time added per channel, pixel attention, skips; what denoises."""
    t = F.silu(net.linear(F.silu(net.linear(time, 30)), 26))

    def residual(x: Tensor, width: int) -> Tensor:
        y = net.conv(F.silu(net.group_norm(x, 4)), width) + net.linear(t, width)[:, :, None, None]
        y = net.conv(F.silu(net.group_norm(y, 4)), width)
        return y + (x if x.shape[1] == width else net.conv(x, width, 1))

    a = residual(net.conv(x, 16), 16)
    b = residual(net.conv(a, 16, 3, 2), 28)
    tokens = net.group_norm(b, 4).flatten(2).transpose(1, 2)
    q, k, v = (heads_first(net.linear(tokens, 32), 4) for _ in range(3))
    y = net.linear(heads_last(attend(q, k, v)), 28).transpose(1, 2).reshape(b.shape)
    y = residual(torch.cat([b + y, b], 1), 20)
    y = residual(torch.cat([F.interpolate(y, scale_factor=2.0, mode="nearest"), a], 1), 16)
    return net.conv(F.silu(net.group_norm(y, 4)), 3)


@network("style_generator", z=floats(1, 18))
def style_generator(net: Net, z: Tensor) -> Tensor:
    """The convolution weight itself is modulated by data and renormalized (StyleGAN 2)."""
    w = F.leaky_relu(net.linear(F.leaky_relu(net.linear(z, 26), 0.2), 22), 0.2)
    x = net.param(1, 20, 8, 8)
    for width in (16, 12):
        style = net.linear(w, int(x.shape[1])) + 1
        weight = net.param(width, int(x.shape[1]), 3, 3, spread=0.2) * style.reshape(1, -1, 1, 1)
        weight = weight * (weight.square().sum((1, 2, 3), keepdim=True) + 1e-6).rsqrt()
        x = F.leaky_relu(F.conv2d(x, weight, padding=1) + net.param(width, 1, 1), 0.2)
    return net.conv(x, 3, 1)


@network("progressive_generator", z=floats(2, 18))
def progressive_generator(net: Net, z: Tensor) -> Tensor:
    """Pixel normalization: every position divided by its root mean square over channels."""

    def norm(x: Tensor) -> Tensor:
        return x * (x.square().mean(1, keepdim=True) + 1e-8).rsqrt()

    x = norm(F.leaky_relu(net.linear(norm(z), 24 * 16), 0.2).reshape(2, 24, 4, 4))
    for width in (20, 14):
        x = F.interpolate(x, scale_factor=2.0, mode="nearest")
        x = norm(F.leaky_relu(net.conv(x, width), 0.2))
    return net.conv(x, 3, 1)


@network("pixel_cnn", x=floats(1, 1, 12, 12))
def pixel_cnn(net: Net, x: Tensor) -> Tensor:
    """Weights times a constant mask, gated activations from a split."""

    def masked(x: Tensor, width: int, kernel: int, centre: bool) -> Tensor:
        def keep() -> Tensor:
            flat = (torch.arange(kernel * kernel) < kernel * kernel // 2 + centre).float()
            return flat.reshape(1, 1, kernel, kernel)

        weight = net.param(width, int(x.shape[1]), kernel, kernel, spread=0.2) * net.const(keep)
        return F.conv2d(x, weight, net.param(width), padding=kernel // 2)

    x = masked(x, 18, 5, centre=False).relu()
    for _ in range(2):
        a, b = masked(x, 2 * 14, 3, centre=True).chunk(2, 1)
        x = x + net.conv(a.tanh() * b.sigmoid(), 18, 1)
    return net.conv(x.relu(), 6, 1)


@network("vector_quantizer", tags=("freezes",), x=floats(1, 3, 8, 8))
def vector_quantizer(net: Net, x: Tensor) -> Tensor:
    """Every position is replaced by the nearest row of a codebook: distances, ArgMin, Gather."""
    x = net.conv(net.conv(x, 16, 3, 2).relu(), 12)
    flat = x.permute(0, 2, 3, 1).reshape(-1, 12)
    book = net.param(20, 12, spread=1.0)
    distance = flat.square().sum(1, keepdim=True) + book.square().sum(1) - 2 * flat @ book.T
    y = F.embedding(distance.argmin(1), book).reshape(1, 4, 4, 12).permute(0, 3, 1, 2)
    return net.deconv(net.conv(y, 18).relu(), 3)


def coupled(net: Net, x: Tensor, subnet: Callable[[Tensor], Tensor]) -> Tensor:
    """An affine coupling layer: one half conditions the other."""
    a, b = x.chunk(2, 1)
    log_scale, shift = subnet(a).chunk(2, 1)
    return torch.cat([a, b * log_scale.tanh().exp() + shift], 1)


@network("normalizing_flow", x=floats(2, 12))
def normalizing_flow(net: Net, x: Tensor) -> Tensor:
    """Coupling layers with reversed features between them: the flow's width is fixed, its subnets' is not."""
    for hidden in (34, 42):
        x = coupled(net, x, lambda a, hidden=hidden: net.linear(net.linear(a, hidden).relu(), 12))  # type: ignore[misc]
        x = x.flip(1)
    return x


@network("invertible_conv", x=floats(1, 3, 8, 8))
def invertible_conv(net: Net, x: Tensor) -> Tensor:
    """Squeeze, per-channel affine, 1x1 convolution and coupling (Glow)."""
    x = F.pixel_unshuffle(x, 2)
    for _ in range(2):
        x = net.conv((x + net.param(12, 1, 1)) * net.param(12, 1, 1, mean=1.0), 12, 1, bias=False)
        x = coupled(net, x, lambda a: net.conv(net.conv(net.conv(a, 26).relu(), 18, 1).relu(), 12))
    return F.pixel_shuffle(x, 2)


@network("spade", x=floats(1, 14, 4, 4), layout=floats(1, 5, 8, 8))
def spade(net: Net, x: Tensor, layout: Tensor) -> Tensor:
    """Scale and shift per channel and pixel, from a segmentation map."""
    x = net.conv(x, 24)
    for width in (18, 12):
        x = F.interpolate(x, size=(8, 8), mode="nearest")
        h = net.conv(layout, 16).relu()
        x = net.apply(x, nn.BatchNorm2d, int(x.shape[1]), affine=False)
        x = x * (1 + net.conv(h, int(x.shape[1]))) + net.conv(h, int(x.shape[1]))
        x = net.conv(F.leaky_relu(x, 0.2), width)
    return net.conv(x, 3).tanh()
