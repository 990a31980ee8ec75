"""Train a language model that reads bytes: a decoder like Llama's, small enough for one processor core.

    python examples/train_language_model.py TEXT...                 # rewrites language.onnx and its data beside it, in half a minute
    python examples/train_language_model.py TEXT... --large --out FOLDER     # 1.1 million parameters, in 15 minutes

The last tenth of every text is held out: nothing is trained on it, and ``language_test.npz`` is taken from there,
``language_calib.npz`` from what was trained on. Both hold windows of bytes and, as labels, the byte after each. The
bundled files are of tinyshakespeare (Karpathy, char-rnn; the text is in the public domain).

``--cache`` also writes the same weights as a decoder that takes and gives keys and values, ``language-cache.onnx``.

Source: Touvron et al., "LLaMA: Open and Efficient Foundation Language Models", 2023, arXiv:2302.13971.
Differs: tokens are bytes.

One seed and one thread: the same machine and library versions give the same bytes.
"""

from __future__ import annotations

import argparse
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

SEED = 0
OPSET = 17
TOKENS = 256
HELD_OUT = 0.1
TEST_WINDOWS, CALIBRATION_WINDOWS = 64, 64
BATCH = 16
WEIGHT_DECAY = 0.1
WARM_UP = 50
EPSILON = 1e-5
ROTATION_BASE = 10_000.0

Caches = list[tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Size:
    """``wide`` is the width between the two layers of a perceptron, ``context`` how many bytes are seen in training."""

    width: int
    wide: int
    depth: int
    heads: int
    context: int
    steps: int
    rate: float


SMALL = Size(width=96, wide=192, depth=2, heads=3, context=128, steps=550, rate=4e-3)
LARGE = Size(width=128, wide=384, depth=5, heads=4, context=128, steps=3000, rate=3e-3)


class RMSNorm(nn.Module):
    """Zhang and Sennrich, "Root Mean Square Layer Normalization", NeurIPS 2019, arXiv:1910.07467."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        scaled: Tensor = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + EPSILON) * self.weight
        return scaled


class Block(nn.Module):
    """Attention to what came before and a gated perceptron, each added to what it reads.

    Source: Su et al., "RoFormer: Enhanced Transformer with Rotary Position Embedding", 2021, arXiv:2104.09864; Shazeer,
    "GLU Variants Improve Transformer", 2020, arXiv:2002.05202.
    """

    def __init__(self, size: Size) -> None:
        super().__init__()
        width = size.width
        self.heads, self.head = size.heads, width // size.heads
        self.before, self.between = RMSNorm(width), RMSNorm(width)
        self.query, self.key, self.value, self.out = (nn.Linear(width, width, bias=False) for _ in range(4))
        self.gate, self.up = (nn.Linear(width, size.wide, bias=False) for _ in range(2))
        self.down = nn.Linear(size.wide, width, bias=False)

    def forward(
        self, x: Tensor, angles: Tensor, mask: Tensor, cache: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        y = self.before(x)
        query, key, value = (self.split(f(y)) for f in (self.query, self.key, self.value))
        query, key = rotated(query, angles), rotated(key, angles)
        if cache is not None:
            key, value = torch.cat([cache[0], key], 2), torch.cat([cache[1], value], 2)
        scores = query @ key.transpose(-1, -2) * self.head**-0.5 + mask
        seen = (torch.softmax(scores, dim=-1) @ value).transpose(1, 2)
        x = x + self.out(seen.reshape(seen.shape[0], seen.shape[1], self.heads * self.head))
        y = self.between(x)
        return x + self.down(F.silu(self.gate(y)) * self.up(y)), (key, value)

    def split(self, x: Tensor) -> Tensor:
        """Shapes: (N, tokens, width) -> (N, heads, tokens, width / heads)."""
        return x.reshape(x.shape[0], x.shape[1], self.heads, self.head).transpose(1, 2)


def rotated(x: Tensor, angles: Tensor) -> Tensor:
    """Shapes: x (N, heads, tokens, width), angles (tokens, width / 2)."""
    low, high = x.chunk(2, dim=-1)
    cosine, sine = angles.cos(), angles.sin()
    return torch.cat([low * cosine - high * sine, low * sine + high * cosine], dim=-1)


class Decoder(nn.Module):
    """Shapes: tokens (N, places), caches (N, heads, places before, width), logits (N, places, 256)."""

    turn: Tensor

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.table = nn.Embedding(TOKENS, size.width)
        self.blocks = nn.ModuleList([Block(size) for _ in range(size.depth)])
        self.norm = RMSNorm(size.width)
        self.head = nn.Linear(size.width, TOKENS, bias=False)
        half = size.width // size.heads // 2
        self.register_buffer("turn", ROTATION_BASE ** (-torch.arange(half) / half), persistent=False)
        for name, weight in self.named_parameters():
            if weight.ndim == 2:
                last = name.endswith(("out.weight", "down.weight"))
                nn.init.normal_(weight, std=0.06 / (2 * size.depth) ** 0.5 if last else 0.06)

    def forward(self, tokens: Tensor, *caches: Tensor) -> tuple[Tensor, ...]:
        before = caches[0].shape[2] if caches else 0
        places = torch.arange(before + tokens.shape[1], device=tokens.device)
        now = places[before:]
        mask = torch.where(places[None, :] > now[:, None], -1e4, 0.0)
        x, angles = self.table(tokens), now[:, None] * self.turn
        given: list[Tensor] = []
        for number, block in enumerate(self.blocks):
            cache = (caches[2 * number], caches[2 * number + 1]) if caches else None
            x, kept = block(x, angles, mask, cache)
            given += kept
        logits: Tensor = self.head(self.norm(x))
        return (logits, *given) if caches else (logits,)


def split(texts: list[Path]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The first nine tenths of each text, and the last."""
    read = [np.frombuffer(path.read_bytes(), np.uint8) for path in texts]
    cuts = [len(text) - round(HELD_OUT * len(text)) for text in read]
    return [a[:cut] for a, cut in zip(read, cuts, strict=True)], [a[cut:] for a, cut in zip(read, cuts, strict=True)]


def windows(texts: list[np.ndarray], count: int, context: int) -> tuple[np.ndarray, np.ndarray]:
    """Windows at even distances over all texts, and the byte after each of theirs. Shapes: (count, context), twice."""
    parts = []
    for number, text in enumerate(texts):
        wanted = count * (number + 1) // len(texts) - count * number // len(texts)
        starts = np.linspace(0, len(text) - context - 1, wanted).astype(np.int64)
        parts.append(text[starts[:, None] + np.arange(context + 1)])
    together = np.concatenate(parts).astype(np.int64)
    return together[:, :-1], together[:, 1:]


def train(texts: list[np.ndarray], size: Size, steps: int) -> Decoder:
    """AdamW on windows at random, the learning rate rising at first and then falling as a cosine."""
    torch.manual_seed(SEED)
    source = np.random.default_rng(SEED)
    network = Decoder(size)
    text = np.concatenate(texts)
    optimizer = torch.optim.AdamW(network.parameters(), size.rate, betas=(0.9, 0.95), weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: cosine(step, steps))
    began = time.process_time()
    for step in range(steps):
        starts = source.integers(0, len(text) - size.context - 1, BATCH)
        batch = torch.from_numpy(text[starts[:, None] + np.arange(size.context + 1)].astype(np.int64))
        with torch.autocast("cpu", torch.bfloat16):
            (logits,) = network(batch[:, :-1])
        loss = F.cross_entropy(logits.float().reshape(-1, TOKENS), batch[:, 1:].reshape(-1))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 250 == 249:
            print(f"step {step + 1}: {loss.item():.3f} nats, {time.process_time() - began:.0f} s", flush=True)
    return network.eval()


def cosine(step: int, steps: int) -> float:
    done = step / steps
    return float(min(1.0, (step + 1) / WARM_UP) * (0.05 + 0.95 * 0.5 * (1 + np.cos(np.pi * done))))


def perplexity(network: Decoder, tokens: np.ndarray, labels: np.ndarray) -> float:
    with torch.no_grad():
        (logits,) = network(torch.from_numpy(tokens))
    return float(F.cross_entropy(logits.reshape(-1, TOKENS), torch.from_numpy(labels).reshape(-1)).exp())


def export(network: Decoder, size: Size, path: Path, cache: bool = False) -> None:
    names = [f"{kind}.{number}" for number in range(size.depth) for kind in ("key", "value")] if cache else []
    past, present = [f"past.{name}" for name in names], [f"present.{name}" for name in names]
    kept = {0: "batch", 2: "past"}
    axes = {"tokens": {0: "batch", 1: "places"}, "logits": {0: "batch", 1: "places"}}
    axes |= {name: kept for name in past} | {name: {0: "batch", 2: "places_so_far"} for name in present}
    caches = [torch.zeros(2, size.heads, 5, size.width // size.heads) for _ in names]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter that keeps layer names is the older one
        torch.onnx.export(
            network,
            (torch.zeros(2, 7, dtype=torch.int64), *caches),
            str(path),
            dynamo=False,
            opset_version=OPSET,
            input_names=["tokens", *past],
            output_names=["logits", *present],
            dynamic_axes=axes,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description="Train and write a language model of bytes.")
    parser.add_argument("texts", type=Path, nargs="+", help="text files; the last tenth of each is held out")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder to write to")
    parser.add_argument("--large", action="store_true", help="1.1 million parameters in place of 230 thousand")
    parser.add_argument("--steps", type=int, help="steps of training")
    parser.add_argument("--cache", action="store_true", help="also write it with keys and values as inputs and outputs")
    options = parser.parse_args()

    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    size = LARGE if options.large else SMALL
    seen, held_out = split(options.texts)
    test = windows(held_out, TEST_WINDOWS, size.context)
    calibration = windows(seen, CALIBRATION_WINDOWS, size.context)
    network = train(seen, size, options.steps or size.steps)
    export(network, size, options.out / "language.onnx")
    if options.cache:
        export(network, size, options.out / "language-cache.onnx", cache=True)
    for name, (tokens, labels) in (("test", test), ("calib", calibration)):
        np.savez_compressed(options.out / f"language_{name}.npz", tokens=tokens, labels=labels)
    print(f"perplexity of a byte {perplexity(network, *test):.3f} on {test[1].size} held out")


if __name__ == "__main__":
    main()
