"""Train the bundled example of a binary network: ReActNet blocks on scikit-learn's 1,797 handwritten digits.

    python examples/train_binary_digits.py                           # rewrites binary_digits.onnx beside it
    python examples/train_binary_digits.py --float-twin twin.onnx    # the same network in floats, untrained, to time

Activations and weights of the four inner convolutions are signs; the first convolution and the last layer are floats.
The network is trained from scratch by stochastic gradient descent on float weights that stand behind the signs, with
the gradients of Liu et al., "ReActNet: Towards Precise Binary Neural Network with Generalized Activation Functions",
ECCV 2020, arXiv:2003.03488: a piecewise polynomial for activations, the identity on [-1, 1] for weights.

The written file holds the signs of the weights as int8, cast to float in the graph: a quarter of the size of floats.
One seed and one thread: the same machine and library versions give the same bytes.
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from train_digits import accuracy, shifted, split

SEED = 0
EPOCHS = 16
BATCH = 64
PEAK_LEARNING_RATE = 1e-2
OPSET = 17
WIDTHS = ((64, 64), (64, 128), (128, 128), (128, 128))
"""Channels into and out of each binary convolution."""


def sign(x: Tensor) -> Tensor:
    """-1 below 0, else +1: what is written to the file. Unlike torch.sign it has no third value."""
    return torch.where(x < 0, -1.0, 1.0)


class SignActivation(torch.autograd.Function):
    """Signs with the gradient of the polynomial that approximates them on [-1, 1]."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return sign(x)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors  # type: ignore[attr-defined]
        return grad * torch.clamp(2 - 2 * x.abs(), min=0)


class BinaryConv(nn.Module):
    """3x3 convolution of signs with signs, times one scale a filter: the mean magnitude of its float weights.

    Zeros surround the image. Shapes: x (N, I, H, W), result (N, O, H, W).
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.real = nn.Parameter(0.1 * torch.randn(outputs, inputs, 3, 3))
        self.register_buffer("signs", torch.empty(0, dtype=torch.int8))
        self.register_buffer("scale", torch.empty(0))

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return F.conv2d(sign(x), self.get_buffer("signs").to(torch.float32), padding=1) * self.scale
        scale = self.real.abs().mean(dim=(1, 2, 3)).detach()[:, None, None]
        near = self.real.clamp(-1, 1)
        signs = (sign(self.real) - near).detach() + near
        activations: Tensor = SignActivation.apply(x)  # type: ignore[no-untyped-call]
        return F.conv2d(activations, signs, padding=1) * scale

    def store(self) -> None:
        """Take down the signs and scales of the float weights, as they are written to the file."""
        self.signs = sign(self.real.detach()).to(torch.int8)
        self.scale = self.real.abs().mean(dim=(1, 2, 3)).detach()[:, None, None]


class Block(nn.Module):
    """Signs above a learned threshold, convolution, shortcut, and a PReLU whose kink is free to move.

    Where channels double, the shortcut is the input twice. ``binary=False`` makes the float twin, without signs.
    """

    def __init__(self, inputs: int, outputs: int, binary: bool = True) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(inputs, 1, 1))
        self.conv = BinaryConv(inputs, outputs) if binary else nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(outputs)
        self.before = nn.Parameter(torch.zeros(outputs, 1, 1))
        self.slope = nn.Parameter(torch.full((outputs,), 0.25))
        self.after = nn.Parameter(torch.zeros(outputs, 1, 1))
        self.twice = outputs == 2 * inputs

    def forward(self, x: Tensor) -> Tensor:
        shortcut = torch.cat([x, x], dim=1) if self.twice else x
        y = self.norm(self.conv(x + self.shift)) + shortcut
        return F.prelu(y - self.before, self.slope) + self.after


class BinaryDigits(nn.Module):
    """The image twice as large, a float convolution, four binary blocks, means over pixels and a float layer.

    Shapes: image (N, 1, 8, 8) in [0, 1], logits (N, 10).
    """

    def __init__(self, binary: bool = True) -> None:
        super().__init__()
        self.register_buffer("square", torch.ones(1, 1, 2, 2))
        self.stem = nn.Conv2d(1, WIDTHS[0][0], 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(WIDTHS[0][0])
        self.blocks = nn.Sequential(*(Block(i, o, binary) for i, o in WIDTHS))
        self.head = nn.Linear(WIDTHS[-1][1], 10)

    def forward(self, image: Tensor) -> Tensor:
        x = F.conv_transpose2d(image, self.get_buffer("square"), stride=2)  # every pixel becomes a square of four
        x = self.blocks(self.norm(self.stem(x)))
        logits: Tensor = self.head(x.mean(dim=(2, 3)))
        return logits


def train(image: Tensor, labels: Tensor, epochs: int) -> BinaryDigits:
    """Adam with one learning-rate cycle; the running means of normalizations are of the last epochs."""
    torch.manual_seed(SEED)
    source = torch.Generator().manual_seed(SEED)
    network = BinaryDigits()
    batches = len(image) // BATCH
    optimizer = torch.optim.Adam(network.parameters(), PEAK_LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_LEARNING_RATE, epochs * batches, pct_start=0.2)
    for _ in range(epochs):
        order = torch.randperm(len(image), generator=source)
        for chosen in order[: batches * BATCH].view(batches, BATCH):
            loss = F.cross_entropy(network(shifted(image[chosen], source)), labels[chosen])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
    for module in network.modules():
        if isinstance(module, BinaryConv):
            module.store()
    return network.eval()


def export(network: nn.Module, path: Path) -> None:
    """Write ONNX; the signs stay int8 with a Cast behind them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter that keeps layer names is the older one
        torch.onnx.export(
            network,
            (torch.zeros(1, 1, 8, 8),),
            str(path),
            dynamo=False,
            do_constant_folding=False,
            opset_version=OPSET,
            input_names=["image"],
            output_names=["logits"],
            dynamic_axes={"image": {0: "batch"}, "logits": {0: "batch"}},
        )


def main() -> None:
    parser = argparse.ArgumentParser(description="Train and write the bundled binary network.")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder to write to")
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="passes over the training images")
    parser.add_argument(
        "--float-twin", type=Path, help="only write the same network in floats, untrained, to this file"
    )
    options = parser.parse_args()

    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    if options.float_twin:
        torch.manual_seed(SEED)
        export(BinaryDigits(binary=False).eval(), options.float_twin)
        return
    train_image, train_labels, test_image, test_labels = split()
    network = train(torch.from_numpy(train_image), torch.from_numpy(train_labels), options.epochs)
    export(network, options.out / "binary_digits.onnx")
    print(f"test accuracy {accuracy(network, test_image, test_labels):.2%} on {len(test_labels)} images")


if __name__ == "__main__":
    main()
