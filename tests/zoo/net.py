"""Write a torch network as one function: layers are made where they are first used.

    def tiny(net: Net, x: Tensor) -> Tensor:
        x = net.conv(x, 12).relu()
        with net.shared("twice"):
            x = net.conv(x, 12)
        with net.shared("twice"):
            x = net.conv(x, 12)
        return net.linear(x.mean((2, 3)), 10)

The first forward pass creates every layer, with widths read from what comes in; later passes find them again by their
order. Weights are random but healthy: no zero bias, unit scale or tiny layer scale, which would hide errors.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn

Layer = TypeVar("Layer", bound=nn.Module)


class Body(nn.Module):
    """The torch module of one network function."""

    def __init__(self, name: str, function: Callable[..., Any]) -> None:
        super().__init__()
        self.layers = nn.ModuleList()
        self.function = function
        self.starts: dict[str, int] = {}
        self.random = torch.Generator().manual_seed(zlib.crc32(name.encode()))

    def forward(self, *inputs: Tensor) -> Any:
        return self.function(Net(self), *inputs)


class Holder(nn.Module):
    """One tensor that belongs to no layer."""

    def __init__(self, value: Tensor, trained: bool) -> None:
        super().__init__()
        if trained:
            self.value = nn.Parameter(value)
        else:
            self.register_buffer("value", value)


class Net:
    """One forward pass through a `Body`."""

    def __init__(self, body: Body) -> None:
        self.body = body
        self.at = 0

    def make(self, factory: Callable[..., Layer], *args: Any, **options: Any) -> Layer:
        """The next layer: created on the first pass, found again later."""
        if self.at == len(self.body.layers):
            layer = factory(*args, **options).eval()
            randomize(layer, self.body.random)
            self.body.layers.append(layer)
        self.at += 1
        return cast(Layer, self.body.layers[self.at - 1])

    def apply(self, x: Tensor, factory: Callable[..., nn.Module], *args: Any, **options: Any) -> Tensor:
        """The next layer's output for x."""
        return cast(Tensor, self.make(factory, *args, **options)(x))

    @contextmanager
    def shared(self, key: str) -> Iterator[None]:
        """Layers made in here are those of the first block with this key."""
        start = self.body.starts.setdefault(key, self.at)
        after, self.at = self.at, start
        yield
        self.at = max(self.at, after)

    def param(self, *shape: int, mean: float = 0.0, spread: float = 0.5) -> Tensor:
        """A trained tensor that belongs to no layer."""
        return self._held(lambda: mean + spread * torch.randn(shape, generator=self.body.random), trained=True)

    def const(self, value: Callable[[], Tensor]) -> Tensor:
        """A fixed tensor: a table, a mask, an index. Computed once, so that no exporter sees how."""
        return self._held(value, trained=False)

    def _held(self, value: Callable[[], Tensor], trained: bool) -> Tensor:
        if self.at == len(self.body.layers):
            self.body.layers.append(Holder(value(), trained))
        self.at += 1
        return cast(Tensor, self.body.layers[self.at - 1].value)

    def conv(
        self, x: Tensor, width: int, kernel: int | Sequence[int] = 3, stride: int | tuple[int, ...] = 1, *,
        groups: int = 1, dilation: int = 1, padding: int | tuple[int, ...] | None = None, bias: bool = True,
    ) -> Tensor:  # fmt: skip
        """1-, 2- or 3-D convolution, by the rank of x; padded to keep the size unless told otherwise."""
        kind = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[x.ndim - 3]
        sizes = (kernel,) * (x.ndim - 2) if isinstance(kernel, int) else tuple(kernel)
        pad = tuple(dilation * (k // 2) for k in sizes) if padding is None else padding
        options = {"groups": groups, "dilation": dilation, "padding": pad, "bias": bias}
        return self.apply(x, kind, x.shape[1], width, sizes, stride, **options)

    def deconv(
        self, x: Tensor, width: int, kernel: int = 4, stride: int = 2, padding: int = 1, **options: Any
    ) -> Tensor:
        """Transposed convolution; the defaults double the size."""
        kind = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)[x.ndim - 3]
        return self.apply(x, kind, x.shape[1], width, kernel, stride, padding, **options)

    def bn(self, x: Tensor) -> Tensor:
        """Batch normalization with running statistics."""
        kind = nn.BatchNorm1d if x.ndim < 4 else (nn.BatchNorm2d, nn.BatchNorm3d)[x.ndim - 4]
        return self.apply(x, kind, x.shape[1])

    def linear(self, x: Tensor, width: int, bias: bool = True) -> Tensor:
        """Linear map of the last axis."""
        return self.apply(x, nn.Linear, x.shape[-1], width, bias=bias)

    def layer_norm(self, x: Tensor) -> Tensor:
        """Layer normalization over the last axis."""
        return self.apply(x, nn.LayerNorm, x.shape[-1])

    def group_norm(self, x: Tensor, groups: int) -> Tensor:
        """Group normalization over axis 1."""
        return self.apply(x, nn.GroupNorm, groups, x.shape[1])

    def embed(self, ids: Tensor, vocabulary: int, width: int) -> Tensor:
        """Rows of a table."""
        return self.apply(ids, nn.Embedding, vocabulary, width)


def randomize(layer: nn.Module, random: torch.Generator) -> None:
    """Give every weight and statistic a value that hides nothing and lets nothing explode."""
    with torch.no_grad():
        for module in layer.modules():
            for name, value in [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]:
                if value.is_floating_point():
                    value.copy_(_healthy(module, name, value, random))


def _healthy(module: nn.Module, name: str, value: Tensor, random: torch.Generator) -> Tensor:
    def normal(spread: float) -> Tensor:
        return spread * torch.randn(value.shape, generator=random)

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(value.shape, generator=random)

    if "PReLU" in type(module).__name__:
        return uniform(0.05, 0.45)
    if name == "running_var" or (value.ndim == 1 and "weight" in name):
        return uniform(0.5, 1.5)
    if value.ndim == 1:
        return 0.15 + normal(0.25)  # above zero, so that few ReLUs die
    if isinstance(module, nn.Embedding):
        return normal(1.0)
    return normal(1.3 / math.sqrt(_fan_in(module, value)))


def _fan_in(module: nn.Module, weight: Tensor) -> float:
    if isinstance(module, (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)):
        return weight.numel() / weight.shape[1] / module.groups / math.prod(module.stride)
    return weight.numel() / weight.shape[0]


def module(name: str, function: Callable[..., Any], inputs: Sequence[Tensor]) -> Body:
    """Run the function once, so that all layers exist."""
    torch.backends.mha.set_fastpath_enabled(False)  # one fused operator that the legacy exporter does not know
    body = Body(name, function).eval()
    with torch.no_grad():
        body(*inputs)
    return body
