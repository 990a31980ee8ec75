"""Train the bundled transformer: a small vision transformer on the same digits as the bundled network.

    python examples/train_vit_digits.py        # rewrites vit_digits.onnx beside it, in two or three minutes

It reads images as ``train_digits.py`` writes them, so ``digits_calib.npz`` and ``digits_test.npz`` are its data too.
Queries, keys and values have projections of their own that read one normalized tensor, and all widths are multiples of
32, as quantized kernels like them.

Source: Dosovitskiy et al., "An Image is Worth 16x16 Words", ICLR 2021, arXiv:2010.11929.
Differs: tokens are averaged, there is no class token.

One seed and one thread: the same machine and library versions give the same bytes.
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from train_digits import OPSET, SEED, accuracy, shifted, split

EPOCHS = 300
BATCH = 64
PEAK_LEARNING_RATE = 4e-3
WEIGHT_DECAY = 0.05
PATCH = 2
TOKENS = (8 // PATCH) ** 2


class VisionTransformer(nn.Module):
    """Patches of 2x2 pixels, and blocks of attention and a perceptron, each behind a normalization.

    Shapes: image (N, 1, 8, 8) in [0, 1], logits (N, 10).
    """

    def __init__(self, width: int = 64, depth: int = 2, heads: int = 4) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, width, PATCH, stride=PATCH)
        self.position = nn.Parameter(0.02 * torch.randn(1, TOKENS, width))
        self.blocks = nn.ModuleList([Block(width, heads) for _ in range(depth)])
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 10)

    def forward(self, image: Tensor) -> Tensor:
        x = self.patches(image).reshape(-1, self.head.in_features, TOKENS).transpose(1, 2) + self.position
        for block in self.blocks:
            x = block(x)
        logits: Tensor = self.head(self.norm(x).mean(dim=1))
        return logits


class Block(nn.Module):
    """Attention and a perceptron, each added to what it reads. Shapes: (N, tokens, width) -> the same."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.width, self.heads = width, heads
        self.before, self.between = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.out = nn.Linear(width, width)
        self.wide, self.narrow = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        y = self.before(x)
        query, key, value = (self.split(f(y)) for f in (self.query, self.key, self.value))
        weights = torch.softmax(query @ key.transpose(-1, -2) * (self.width // self.heads) ** -0.5, dim=-1)
        x = x + self.out((weights @ value).transpose(1, 2).reshape(-1, TOKENS, self.width))
        changed: Tensor = x + self.narrow(F.gelu(self.wide(self.between(x))))
        return changed

    def split(self, x: Tensor) -> Tensor:
        """Shapes: (N, tokens, width) -> (N, heads, tokens, width / heads)."""
        return x.reshape(-1, TOKENS, self.heads, self.width // self.heads).transpose(1, 2)


def train(image: Tensor, labels: Tensor, epochs: int) -> VisionTransformer:
    """AdamW with one learning-rate cycle."""
    torch.manual_seed(SEED)
    source = torch.Generator().manual_seed(SEED)
    network = VisionTransformer()
    batches = len(image) // BATCH
    optimizer = torch.optim.AdamW(network.parameters(), PEAK_LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_LEARNING_RATE, epochs * batches, pct_start=0.2)
    for _ in range(epochs):
        order = torch.randperm(len(image), generator=source)
        for chosen in order[: batches * BATCH].view(batches, BATCH):
            loss = F.cross_entropy(network(shifted(image[chosen], source)), labels[chosen], label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
    return network.eval()


def export(network: VisionTransformer, path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the exporter that keeps layer names is the older one
        torch.onnx.export(
            network,
            (torch.zeros(2, 1, 8, 8),),
            str(path),
            dynamo=False,
            opset_version=OPSET,
            input_names=["image"],
            output_names=["logits"],
            dynamic_axes={"image": {0: "batch"}, "logits": {0: "batch"}},
        )


def main() -> None:
    parser = argparse.ArgumentParser(description="Train and write the bundled transformer.")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder to write to")
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="passes over the training images")
    options = parser.parse_args()

    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    train_image, train_labels, test_image, test_labels = split()
    network = train(torch.from_numpy(train_image), torch.from_numpy(train_labels), options.epochs)
    export(network, options.out / "vit_digits.onnx")
    print(f"test accuracy {accuracy(network, test_image, test_labels):.2%} on {len(test_labels)} images")


if __name__ == "__main__":
    main()
