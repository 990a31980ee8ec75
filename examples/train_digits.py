"""Train the bundled example: a small residual network on scikit-learn's 1,797 handwritten digits.

    python examples/train_digits.py            # rewrites digits.onnx, digits_calib.npz and digits_test.npz beside it

The network is deliberately too wide for its task, and its normalization layers are trained under an L1 penalty (Liu
et al., "Learning Efficient Convolutional Networks through Network Slimming", ICCV 2017, arXiv:1708.06519), so that
it has channels to spare. A network trained without such a penalty loses more when it is pruned without retraining.

One seed and one thread: the same machine and library versions give the same bytes.
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn
from torch.nn import functional as F

SEED = 0
EPOCHS = 60
BATCH = 64
PEAK_LEARNING_RATE = 0.1
WEIGHT_DECAY = 1e-2
SPARSITY = 1e-2  # strength of the L1 penalty on the scale and shift of every normalization
TEST_IMAGES = 600
CALIBRATION_IMAGES = 512
OPSET = 17

Split = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


class Digits(nn.Module):
    """Two residual stages, a depthwise separable step between them and two joined branches.

    Shapes: image (N, 1, 8, 8) in [0, 1], logits (N, 10).
    """

    def __init__(self, early: int = 24, late: int = 40, branch: int = 24) -> None:
        super().__init__()
        self.stem = convolution(1, early, 3)
        self.first = nn.Sequential(convolution(early, early, 3), nn.ReLU(), convolution(early, early, 3))
        self.depthwise = convolution(early, early, 3, groups=early)
        self.pointwise = convolution(early, late, 1)
        self.second = nn.Sequential(convolution(late, late, 3), nn.ReLU(), convolution(late, late, 3))
        self.narrow = convolution(late, branch, 1)
        self.wide = convolution(late, branch, 3)
        self.head = nn.Linear(2 * branch, 10)

    def forward(self, image: Tensor) -> Tensor:
        x = F.relu(self.stem(image))
        x = F.relu(x + self.first(x))
        x = F.relu(self.pointwise(F.relu(self.depthwise(x))))
        x = F.max_pool2d(x, 2)
        x = F.relu(x + self.second(x))
        x = torch.cat([F.relu(self.narrow(x)), F.relu(self.wide(x))], dim=1)
        logits: Tensor = self.head(torch.flatten(F.adaptive_avg_pool2d(x, 1), 1))
        return logits


def convolution(inputs: int, outputs: int, kernel: int, groups: int = 1) -> nn.Sequential:
    """A convolution that keeps height and width, and its normalization."""
    conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs))


def split() -> Split:
    """Training images and labels, then test images and labels; every digit in proportion on both sides."""
    digits = load_digits()
    image = (digits.images / 16.0).astype(np.float32)[:, None]
    labels = digits.target.astype(np.int64)
    train_image, test_image, train_labels, test_labels = train_test_split(
        image, labels, test_size=TEST_IMAGES, stratify=labels, random_state=SEED
    )
    return train_image, train_labels, test_image, test_labels


def shifted(image: Tensor, source: torch.Generator) -> Tensor:
    """Every image moved by -1, 0 or 1 pixels on both axes, zeros moving in."""
    count, _, height, width = image.shape
    padded = F.pad(image, (1, 1, 1, 1))
    down, right = torch.randint(0, 3, (2, count, 1), generator=source)
    rows, columns = down + torch.arange(height), right + torch.arange(width)
    return padded[torch.arange(count)[:, None, None], 0, rows[:, :, None], columns[:, None, :]][:, None]


def train(image: Tensor, labels: Tensor, epochs: int) -> Digits:
    """Stochastic gradient descent with one learning-rate cycle."""
    torch.manual_seed(SEED)
    source = torch.Generator().manual_seed(SEED)
    network = Digits()
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    batches = len(image) // BATCH
    optimizer = torch.optim.SGD(
        network.parameters(), PEAK_LEARNING_RATE, momentum=0.9, weight_decay=WEIGHT_DECAY, nesterov=True
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_LEARNING_RATE, epochs * batches, pct_start=0.2)
    for _ in range(epochs):
        order = torch.randperm(len(image), generator=source)
        for chosen in order[: batches * BATCH].view(batches, BATCH):
            logits = network(shifted(image[chosen], source))
            penalty = torch.stack([norm.weight.abs().sum() + norm.bias.abs().sum() for norm in norms]).sum()
            loss = F.cross_entropy(logits, labels[chosen]) + SPARSITY * penalty
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
    return network.eval()


def export(network: Digits, path: Path) -> None:
    """Write ONNX with BatchNormalization kept: a pruned model may still want its statistics."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the exporter that keeps layer names is the older one
        torch.onnx.export(
            network,
            (torch.zeros(1, 1, 8, 8),),
            str(path),
            dynamo=False,
            training=torch.onnx.TrainingMode.PRESERVE,
            do_constant_folding=False,
            opset_version=OPSET,
            input_names=["image"],
            output_names=["logits"],
            dynamic_axes={"image": {0: "batch"}, "logits": {0: "batch"}},
        )


def accuracy(network: nn.Module, image: np.ndarray, labels: np.ndarray) -> float:
    """Fraction of images given their label."""
    with torch.no_grad():
        found = network(torch.from_numpy(image)).argmax(1).numpy()
    return float((found == labels).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description="Train and write the bundled example.")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder to write to")
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="passes over the training images")
    options = parser.parse_args()

    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    train_image, train_labels, test_image, test_labels = split()
    network = train(torch.from_numpy(train_image), torch.from_numpy(train_labels), options.epochs)
    export(network, options.out / "digits.onnx")
    np.savez_compressed(options.out / "digits_calib.npz", image=train_image[:CALIBRATION_IMAGES])
    np.savez_compressed(options.out / "digits_test.npz", image=test_image, labels=test_labels)
    print(f"test accuracy {accuracy(network, test_image, test_labels):.2%} on {len(test_labels)} images")


if __name__ == "__main__":
    main()
