"""The networks that benchmarks of the analysis run on: a long chain, networks of full size and the zoo of the tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from tests import zoo
from tests.zoo.net import Net, module

CHAIN_BLOCKS, CHAIN_WIDTH = 2000, 64  # five nodes a block


@dataclass(frozen=True)
class Subject:
    """A network: how to write it into a folder, and how to make its torch original with inputs, if there is one."""

    name: str
    write: Callable[[Path], Path]
    original: Callable[[], tuple[Any, Any]] | None = None


def subjects() -> Iterator[Subject]:
    """The chain, networks of full size, then the zoo of the tests."""
    yield Subject("chain of 10,000 nodes", write_chain)
    for name, function, shape in FULL_SIZE:
        yield full_size(name, function, shape)
    for name in zoo.names():
        yield Subject(name, lambda folder, name=name: zoo.build(name, zoo.entry(name).exporters[-1], folder))  # type: ignore[misc]


def write_chain(folder: Path) -> Path:
    """Blocks of Conv, Relu, Conv, Add and Relu: every block has a width of its own, the sum has one for all."""
    random = np.random.default_rng(0)
    nodes, weights, stream = [], [], "x0"
    shape = (CHAIN_WIDTH, CHAIN_WIDTH, 1, 1)
    for name in [f"{k}{side}" for k in range(CHAIN_BLOCKS) for side in "ab"] + ["stem", "head"]:
        weights.append(onnx.numpy_helper.from_array(random.standard_normal(shape, np.float32), f"w{name}"))
    make = onnx.helper.make_node
    nodes.append(make("Conv", ["image", "wstem"], [stream]))
    for k in range(CHAIN_BLOCKS):
        nodes += [
            make("Conv", [stream, f"w{k}a"], [f"a{k}"]),
            make("Relu", [f"a{k}"], [f"b{k}"]),
            make("Conv", [f"b{k}", f"w{k}b"], [f"c{k}"]),
            make("Add", [stream, f"c{k}"], [f"d{k}"]),
            make("Relu", [f"d{k}"], [f"x{k + 1}"]),
        ]
        stream = f"x{k + 1}"
    nodes.append(make("Conv", [stream, "whead"], ["y"]))
    ends = [onnx.helper.make_tensor_value_info(name, 1, (1, CHAIN_WIDTH, 8, 8)) for name in ("image", "y")]
    graph = onnx.helper.make_graph(nodes, "chain", ends[:1], ends[1:], weights)
    path = folder / "chain.onnx"
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def full_size(name: str, function: Callable[[Net, Any], Any], shape: tuple[int, ...]) -> Subject:
    """A torch network by its function; made once, when first needed."""

    def original() -> tuple[Any, Any]:
        import torch

        inputs = torch.zeros(shape)
        return module(name, function, [inputs]), inputs

    def write(folder: Path) -> Path:
        import torch

        network, inputs = original()
        path = folder / f"{name}.onnx"
        preserve = torch.onnx.TrainingMode.PRESERVE
        torch.onnx.export(network, (inputs,), str(path), dynamo=False, training=preserve, opset_version=17)
        return path

    return Subject(name, write, original)


def cifar_resnet(blocks: int) -> Callable[[Net, Any], Any]:
    """Three stages of 16, 32 and 64 channels; He et al., CVPR 2016, section 4.2, with projection shortcuts."""

    def network(net: Net, x: Any) -> Any:
        x = net.bn(net.conv(x, 16, bias=False)).relu()
        for width in (16, 32, 64):
            for k in range(blocks):
                stride = 2 if width > 16 and k == 0 else 1
                inner = net.bn(net.conv(x, width, stride=stride, bias=False)).relu()
                inner = net.bn(net.conv(inner, width, bias=False))
                x = (inner + (x if stride == 1 else net.bn(net.conv(x, width, 1, stride, bias=False)))).relu()
        return net.linear(x.mean((2, 3)), 10)

    return network


def mobilenet_v2(net: Net, x: Any) -> Any:
    """Inverted residuals; table 2 of Sandler et al., CVPR 2018."""
    x = net.bn(net.conv(x, 32, stride=2, bias=False)).clamp(0, 6)
    stages = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
    for expand, width, count, first in stages:
        for k in range(count):
            stride, inner = first if k == 0 else 1, x
            if expand > 1:
                inner = net.bn(net.conv(inner, expand * x.shape[1], 1, bias=False)).clamp(0, 6)
            inner = net.conv(inner, inner.shape[1], stride=stride, groups=inner.shape[1], bias=False)
            inner = net.bn(net.conv(net.bn(inner).clamp(0, 6), width, 1, bias=False))
            x = x + inner if inner.shape == x.shape else inner
    x = net.bn(net.conv(x, 1280, 1, bias=False)).clamp(0, 6)
    return net.linear(x.mean((2, 3)), 1000)


def vision_transformer(net: Net, x: Any) -> Any:
    """ViT-Tiny of Touvron et al., ICML 2021: 12 blocks, width 192, 3 heads, 16 x 16 patches."""
    width, heads = 192, 3
    x = net.conv(x, width, 16, 16, padding=0).flatten(2).transpose(1, 2)
    x = x + net.param(1, x.shape[1], width)
    for _ in range(12):
        batch, count = x.shape[:2]
        packed = net.linear(net.layer_norm(x), 3 * width).reshape(batch, count, 3, heads, width // heads)
        query, key, value = packed.permute(2, 0, 3, 1, 4).unbind(0)
        weight = (query @ key.transpose(-1, -2) * (width // heads) ** -0.5).softmax(-1)
        x = x + net.linear((weight @ value).transpose(1, 2).reshape(batch, count, width), width)
        inner = net.linear(net.layer_norm(x), 4 * width)
        x = x + net.linear(inner * inner.sigmoid(), width)
    return net.linear(net.layer_norm(x).mean(1), 1000)


FULL_SIZE: tuple[tuple[str, Callable[[Net, Any], Any], tuple[int, ...]], ...] = (
    ("ResNet-20 (CIFAR)", cifar_resnet(3), (1, 3, 32, 32)),
    ("ResNet-56 (CIFAR)", cifar_resnet(9), (1, 3, 32, 32)),
    ("MobileNetV2", mobilenet_v2, (1, 3, 96, 96)),
    ("ViT-Tiny", vision_transformer, (1, 3, 96, 96)),
)
