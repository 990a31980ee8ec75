"""Detection, segmentation and keypoints: skips, pyramids and heads that reshape."""

from __future__ import annotations

from ..blocks import attention, cbr, encoder_layer, mlp
from ..inputs import floats
from ..lazy import F, Tensor, nn, torch
from ..net_type import Net
from ..registry import network


def backbone(net: Net, x: Tensor, *widths: int) -> list[Tensor]:
    """One feature map per width, each half the size of the one before."""
    maps = []
    for width in widths:
        x = cbr(net, x, width, 3, 2)
        maps.append(x)
    return maps


@network("unet", x=floats("batch", 3, 16, 16))
def unet(net: Net, x: Tensor) -> Tensor:
    """Skips concatenated after transposed convolutions."""
    skips = []
    for width in (10, 18):
        x = cbr(net, cbr(net, x, width), width)
        skips.append(x)
        x = F.max_pool2d(x, 2)
    x = cbr(net, x, 30)
    for width, skip in ((20, skips[1]), (12, skips[0])):
        x = torch.cat([skip, net.deconv(x, width, 2, 2, 0)], 1)
        x = cbr(net, x, width + 2)
    return net.conv(x, 4, 1)


@network("unet_attention", x=floats(1, 3, 16, 16))
def unet_attention(net: Net, x: Tensor) -> Tensor:
    """Bilinear upsampling; a gate on every skip, computed from the skip and the coarser map."""
    a = cbr(net, x, 12)
    b = cbr(net, F.max_pool2d(a, 2), 20)
    y = cbr(net, F.max_pool2d(b, 2), 28)
    for skip, width in ((b, 18), (a, 10)):
        y = cbr(net, F.interpolate(y, scale_factor=2.0, mode="bilinear", align_corners=True), width)
        gate = (net.bn(net.conv(y, 8, 1)) + net.bn(net.conv(skip, 8, 1))).relu()
        y = cbr(net, torch.cat([skip * net.conv(gate, 1, 1).sigmoid(), y], 1), width)
    return net.conv(y, 1, 1).sigmoid()


@network("linknet", x=floats(2, 3, 16, 16))
def linknet(net: Net, x: Tensor) -> Tensor:
    """Skips are added, so encoder and decoder widths are tied."""
    a, b, c = backbone(net, x, 14, 22, 30)
    for skip in (b, a):
        width = int(skip.shape[1])
        c = cbr(net, net.deconv(cbr(net, c, 10, 1), 10), width, 1) + skip
    return net.deconv(c, 3)


@network("segnet", tags=("freezes",), x=floats(1, 3, 16, 16))
def segnet(net: Net, x: Tensor) -> Tensor:
    """Max pooling remembers where, unpooling puts values back: indices are data."""
    x = cbr(net, x, 12)
    y, where = F.max_pool2d(x, 2, return_indices=True)
    y = cbr(net, cbr(net, y, 20), 12)
    flat = torch.zeros(1, 12, 256).scatter(2, where.flatten(2), y.flatten(2))
    return net.conv(cbr(net, flat.reshape(1, 12, 16, 16), 14), 3, 1)


@network("fpn", x=floats(1, 3, 32, 32))
def fpn(net: Net, x: Tensor) -> tuple[Tensor, ...]:
    """Top-down additions; one head shared by all levels; three outputs."""
    maps = backbone(net, x, 12, 20, 32)
    lateral = [net.conv(m, 24, 1) for m in maps]
    for i in (1, 0):
        lateral[i] = lateral[i] + F.interpolate(lateral[i + 1], scale_factor=2.0, mode="nearest")
    outs = []
    for level in lateral:
        with net.shared("head"):
            outs.append(net.conv(net.conv(level, 18).relu(), 6))
    return tuple(outs)


@network("retinanet", x=floats(1, 3, 32, 32))
def retinanet(net: Net, x: Tensor) -> tuple[Tensor, Tensor]:
    """Shared class and box towers with group normalization; levels concatenated after permute and reshape."""
    classes, boxes = [], []
    for level in [net.conv(m, 24, 1) for m in backbone(net, x, 12, 20, 32)[1:]]:
        with net.shared("towers"):
            c = net.conv(net.group_norm(net.conv(level, 24), 4).relu(), 3 * 5)
            b = net.conv(net.group_norm(net.conv(level, 24), 6).relu(), 3 * 4)
        classes.append(c.permute(0, 2, 3, 1).reshape(1, -1, 5))
        boxes.append(b.permute(0, 2, 3, 1).reshape(1, -1, 4))
    return torch.cat(classes, 1).sigmoid(), torch.cat(boxes, 1)


@network("bifpn", x=floats(1, 3, 32, 32))
def bifpn(net: Net, x: Tensor) -> Tensor:
    """Weighted sums of levels, both ways, weights normalized by their sum (EfficientDet)."""
    a, b, c = (net.bn(net.conv(m, 22, 1)) for m in backbone(net, x, 12, 20, 32))

    def fuse(*maps: Tensor) -> Tensor:
        weights = net.param(len(maps), mean=1.0, spread=0.3).relu()
        weights = weights / (weights.sum() + 1e-4)
        mixed = F.silu(sum((w * m for w, m in zip(weights.unbind(), maps, strict=True)), torch.zeros(())))
        return cbr(net, net.conv(mixed, 22, groups=22), 22, 1)

    def up(m: Tensor) -> Tensor:
        return F.interpolate(m, scale_factor=2.0, mode="nearest")

    for _ in range(2):
        middle = fuse(b, up(c))
        a = fuse(a, up(middle))
        b = fuse(b, middle, F.max_pool2d(a, 3, 2, 1))
        c = fuse(c, F.max_pool2d(b, 3, 2, 1))
    return net.conv(torch.cat([a, up(b), up(up(c))], 1), 5, 1)


@network("ssd", x=floats(2, 3, 32, 32))
def ssd(net: Net, x: Tensor) -> tuple[Tensor, Tensor]:
    """L2-normalized first map with a learned scale per channel; permute, flatten, concatenate, softmax."""
    maps = backbone(net, x, 14, 22, 30)[1:]
    norm = maps[0].square().sum(1, keepdim=True).sqrt() + 1e-6
    maps[0] = maps[0] / norm * net.param(1, 22, 1, 1, mean=3.0)
    classes = torch.cat([net.conv(m, 4 * 5).permute(0, 2, 3, 1).flatten(1) for m in maps], 1)
    boxes = torch.cat([net.conv(m, 4 * 4).permute(0, 2, 3, 1).flatten(1) for m in maps], 1)
    return classes.reshape(2, -1, 5).softmax(-1), boxes.reshape(2, -1, 4)


def csp(net: Net, x: Tensor, width: int, hidden: int) -> Tensor:
    """C2f of YOLOv8: split, a chain of residual blocks, everything concatenated."""
    parts = list(cbr(net, x, 2 * hidden, 1, act=F.silu).split([hidden, hidden], 1))
    for _ in range(2):
        y = cbr(net, cbr(net, parts[-1], hidden, act=F.silu), hidden, act=F.silu)
        parts.append(parts[-1] + y)
    return cbr(net, torch.cat(parts, 1), width, 1, act=F.silu)


@network("yolo_v3", x=floats(1, 3, 32, 32))
def yolo_v3(net: Net, x: Tensor) -> Tensor:
    """Boxes from a 5-D view: sigmoid offsets plus a grid, exponential sizes times anchors, all levels joined."""
    outs = []
    b, c = backbone(net, x, 14, 22, 34)[1:]
    y = cbr(net, c, 20, 1, act=F.leaky_relu)
    up = F.interpolate(cbr(net, y, 12, 1, act=F.leaky_relu), scale_factor=2.0, mode="nearest")
    for level in (y, cbr(net, torch.cat([up, b], 1), 24, act=F.leaky_relu)):
        side = int(level.shape[2])
        raw = net.conv(level, 3 * 9, 1).reshape(1, 3, 9, side, side).permute(0, 1, 3, 4, 2)
        grid = net.const(lambda side=side: torch.stack(  # type: ignore[misc]
            torch.meshgrid(torch.arange(side), torch.arange(side), indexing="xy"), -1).float())  # fmt: skip
        place = raw[..., 0:2].sigmoid() + grid
        size = (0.3 * raw[..., 2:4]).exp() * net.param(1, 3, 1, 1, 2, mean=2.0)
        outs.append(torch.cat([place, size, raw[..., 4:].sigmoid()], -1).reshape(1, -1, 9))
    return torch.cat(outs, 1)


@network("yolo_v5", x=floats(1, 3, 32, 32))
def yolo_v5(net: Net, x: Tensor) -> Tensor:
    """Focus stem (four strided slices), CSP blocks, pyramid pooling, sigmoid head split in three."""
    x = torch.cat([x[..., ::2, ::2], x[..., 1::2, ::2], x[..., ::2, 1::2], x[..., 1::2, 1::2]], 1)
    x = cbr(net, cbr(net, x, 14, act=F.silu), 24, 3, 2, act=F.silu)
    left = cbr(net, x, 12, 1, act=F.silu)
    left = left + cbr(net, cbr(net, left, 12, 1, act=F.silu), 12, act=F.silu)
    x = cbr(net, torch.cat([left, cbr(net, x, 10, 1, act=F.silu)], 1), 26, 1, act=F.silu)
    y = cbr(net, x, 14, 1, act=F.silu)
    pools = [y]
    for _ in range(3):
        pools.append(F.max_pool2d(pools[-1], 5, 1, 2))
    y = cbr(net, torch.cat(pools, 1), 30, 1, act=F.silu)
    raw = net.conv(y, 3 * 8, 1).reshape(1, 3, 8, 8, 8).permute(0, 1, 3, 4, 2).sigmoid()
    xy, wh, rest = raw.split((2, 2, 4), 4)
    return torch.cat([xy * 2 - 0.5, (wh * 2) ** 2 * net.param(1, 3, 1, 1, 2, mean=2.0), rest], 4).reshape(1, -1, 8)


@network("yolo_v8", x=floats(1, 3, 32, 32))
def yolo_v8(net: Net, x: Tensor) -> Tensor:
    """C2f blocks, decoupled heads, box distances as the mean of a softmax taken by a fixed convolution."""
    a = csp(net, cbr(net, cbr(net, x, 12, 3, 2, act=F.silu), 20, 3, 2, act=F.silu), 22, 8)
    b = csp(net, cbr(net, a, 28, 3, 2, act=F.silu), 30, 10)
    top = csp(net, torch.cat([F.interpolate(b, scale_factor=2.0, mode="nearest"), a], 1), 24, 8)
    outs = []
    for level in (top, b):
        box = net.conv(cbr(net, level, 18, act=F.silu), 4 * 6, 1)
        kind = net.conv(cbr(net, level, 14, act=F.silu), 5, 1)
        outs.append(torch.cat([box, kind], 1).reshape(1, 29, -1))
    box, kind = torch.cat(outs, 2).split((24, 5), 1)
    bins = net.const(lambda: torch.arange(6.0).reshape(1, 6, 1, 1))
    distance = F.conv2d(box.reshape(1, 4, 6, -1).transpose(2, 1).softmax(1), bins).reshape(1, 4, -1)
    low, high = distance.chunk(2, 1)
    return torch.cat([(high - low) / 2, low + high, kind.sigmoid()], 1)


@network("centernet", x=floats(1, 3, 32, 32))
def centernet(net: Net, x: Tensor) -> tuple[Tensor, ...]:
    """Transposed convolutions with batch normalization, three heads, peaks kept by max pooling."""
    x = backbone(net, x, 14, 22, 30)[-1]
    for width in (24, 18):
        x = net.bn(net.deconv(x, width, bias=False)).relu()
    heat = net.conv(net.conv(x, 14).relu(), 4, 1).sigmoid()
    heat = heat * (F.max_pool2d(heat, 3, 1, 1) == heat).to(heat.dtype)
    return heat, net.conv(net.conv(x, 12).relu(), 2, 1), net.conv(net.conv(x, 12).relu(), 2, 1)


@network("detr", x=floats(1, 3, 32, 32))
def detr(net: Net, x: Tensor) -> tuple[Tensor, Tensor]:
    """Encoder on pixels, decoder from learned queries; positions are added to queries and keys only."""
    x = net.conv(backbone(net, x, 14, 22, 30)[-1], 32, 1).flatten(2).transpose(1, 2)
    memory = encoder_layer(net, x + net.param(16, 32), heads=4)
    query = net.param(1, 5, 32)
    y = torch.zeros(1, 5, 32)
    for _ in range(2):
        y = net.layer_norm(y + attention(net, y + query, heads=5))
        y = net.layer_norm(y + attention(net, y + query, memory, heads=4))
        y = net.layer_norm(y + mlp(net, y, 44, F.relu))
    return net.linear(y, 6), net.linear(net.linear(y, 26).relu(), 4).sigmoid()


@network("deeplab", x=floats(1, 3, 24, 24))
def deeplab(net: Net, x: Tensor) -> Tensor:
    """Dilated branches and an image-wide mean, enlarged and concatenated; low-level features join late."""
    low = cbr(net, x, 14, 3, 2)
    x = cbr(net, cbr(net, low, 22, 3, 2), 30, dilation=2)
    wide = F.interpolate(cbr(net, F.adaptive_avg_pool2d(x, 1), 12, 1), size=(6, 6), mode="bilinear")
    branches = [cbr(net, x, 12, 1), cbr(net, x, 10, dilation=2), cbr(net, x, 14, dilation=3), wide]
    x = F.interpolate(cbr(net, torch.cat(branches, 1), 24, 1), size=(12, 12), mode="bilinear")
    x = cbr(net, torch.cat([x, cbr(net, low, 8, 1)], 1), 20)
    return F.interpolate(net.conv(x, 4, 1), size=(24, 24), mode="bilinear", align_corners=True)


@network("pspnet", x=floats(1, 3, 24, 24))
def pspnet(net: Net, x: Tensor) -> Tensor:
    """Means over grids of several sizes, enlarged and concatenated to the map itself."""
    x = cbr(net, cbr(net, x, 14, 3, 2), 26, 3, 2)
    maps = [x]
    for size in (1, 2, 3):
        y = cbr(net, F.adaptive_avg_pool2d(x, size), 8 + size, 1)
        maps.append(F.interpolate(y, size=(6, 6), mode="nearest"))
    return net.conv(cbr(net, torch.cat(maps, 1), 22), 4, 1)


@network("bisenet", x=floats(2, 3, 32, 32))
def bisenet(net: Net, x: Tensor) -> Tensor:
    """A detail path and a context path, each gating the other."""
    detail = cbr(net, cbr(net, x, 14, 3, 2), 24, 3, 2)
    context = cbr(net, cbr(net, cbr(net, x, 10, 3, 2), 18, 3, 2), 24, 3, 2)
    gate = F.interpolate(net.conv(context, 24), scale_factor=2.0, mode="nearest").sigmoid()
    small = F.avg_pool2d(net.bn(net.conv(detail, 24, 3, 2)), 3, 1, 1) * net.conv(context, 24).sigmoid()
    both = detail * gate + F.interpolate(small, scale_factor=2.0, mode="nearest")
    return net.conv(cbr(net, both, 20), 5, 1)


@network("hourglass", x=floats(1, 3, 16, 16))
def hourglass(net: Net, x: Tensor) -> tuple[Tensor, Tensor]:
    """Recursive down and up; the first stack's output is fed back into the stream."""

    def residual(x: Tensor, width: int) -> Tensor:
        y = net.conv(net.bn(x).relu(), 12, 1)
        y = net.conv(net.bn(net.conv(net.bn(y).relu(), 12)).relu(), width, 1)
        return y + (x if x.shape[1] == width else net.conv(x, width, 1))

    def sand(x: Tensor, depth: int) -> Tensor:
        up, low = residual(x, 22), residual(F.max_pool2d(x, 2), 22)
        low = residual(sand(low, depth - 1) if depth > 1 else residual(low, 22), 22)
        return up + F.interpolate(low, scale_factor=2.0, mode="nearest")

    x = residual(net.conv(x, 16), 22)
    y = cbr(net, sand(x, 2), 18, 1)
    heat = net.conv(y, 4, 1)
    x = x + net.conv(y, 22, 1) + net.conv(heat, 22, 1)
    return heat, net.conv(cbr(net, sand(x, 1), 14, 1), 4, 1)


@network("soft_argmax", x=floats(2, 3, 16, 16))
def soft_argmax(net: Net, x: Tensor) -> Tensor:
    """Keypoints are the mean position under a softmax of each heat map."""
    x = net.deconv(backbone(net, x, 16, 26)[-1], 20).relu()
    heat = net.conv(x, 5, 1).flatten(2).softmax(-1).reshape(2, 5, 8, 8)
    line = net.const(lambda: torch.linspace(-1, 1, 8))
    return torch.stack([(heat.sum(2) * line).sum(-1), (heat.sum(3) * line).sum(-1)], -1)


@network("region_proposals", tags=("freezes",), x=floats(1, 3, 16, 16))
def region_proposals(net: Net, x: Tensor) -> tuple[Tensor, Tensor]:
    """The best eight places are picked by TopK and their features gathered; then a small head."""
    x = cbr(net, cbr(net, x, 16, 3, 2), 24)
    score = net.conv(x, 1, 1).flatten(1)
    best, where = score.topk(8, 1)
    rows = x.flatten(2).transpose(1, 2).gather(1, where.unsqueeze(-1).expand(-1, -1, 24))
    return best.sigmoid(), net.linear(net.linear(rows, 20).relu(), 4)


@network("text_detector", x=floats(1, 3, 16, 16))
def text_detector(net: Net, x: Tensor) -> Tensor:
    """Probability and threshold maps by two transposed convolutions each, joined by a steep sigmoid (DB)."""
    x = cbr(net, cbr(net, x, 16, 3, 2), 24, 3, 2)

    def head() -> Tensor:
        y = net.bn(net.deconv(net.bn(net.conv(x, 14)).relu(), 10, 2, 2, 0)).relu()
        return net.deconv(y, 1, 2, 2, 0).sigmoid()

    probability, threshold = head(), head()
    return torch.cat([probability, threshold, (10 * (probability - threshold)).sigmoid()], 1)


@network("face_landmarks", x=floats(1, 3, 32, 32))
def face_landmarks(net: Net, x: Tensor) -> tuple[Tensor, Tensor]:
    """Multi-scale features: three poolings of different maps flattened and concatenated, PReLU everywhere (PFLD)."""
    a = net.apply(net.conv(x, 14, 3, 2), nn.PReLU, 14)
    b = net.apply(net.conv(a, 22, 3, 2), nn.PReLU, 22)
    c = net.apply(net.conv(b, 30, 8, padding=0), nn.PReLU, 30)
    joined = torch.cat([F.avg_pool2d(a, 16).flatten(1), F.avg_pool2d(b, 8).flatten(1), c.flatten(1)], 1)
    return net.linear(joined, 10), net.linear(net.linear(b.mean((2, 3)), 12).relu(), 3)
