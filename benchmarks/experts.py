"""Experts of a mixture that go, dropped or merged: perplexity of two small Mixtrals that read bytes.

    python -m benchmarks.experts tinyshakespeare.txt --folder FOLDER

Both have 567 thousand parameters, two layers of eight experts of which a token takes two, and are trained here, in some five
minutes of one core: one from random weights; one whose experts begin as copies of one perceptron, trained before
(Komatsuzaki et al., "Sparse Upcycling", ICLR 2023, arXiv:2212.05055). The last tenth of the text is held out.

"more" is by how much perplexity rises; models that are in FOLDER already are not trained again.
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F
from transformers import MixtralConfig, MixtralForCausalLM
from transformers.models.mixtral.modeling_mixtral import load_balancing_loss_func

from intaglio import PruneChannels, run

CONTEXT, BATCH, RATE, BALANCE = 128, 16, 4e-3, 0.01
EXPERTS, TAKEN = 8, 2
STEPS, DENSE_STEPS, COPIED_STEPS = 700, 500, 250
WINDOWS = 64
KEPT = (0.75, 0.5, 0.25)


def mixtral(experts: int, taken: int) -> Any:
    config = MixtralConfig(
        vocab_size=256, hidden_size=96, intermediate_size=96, num_hidden_layers=2, num_attention_heads=3,
        num_key_value_heads=3, head_dim=32, num_local_experts=experts, num_experts_per_tok=taken,
        max_position_embeddings=256, use_cache=False,
    )  # fmt: skip
    network = MixtralForCausalLM(config)
    network.set_experts_implementation("eager")
    return network


def train(network: Any, text: np.ndarray, steps: int, source: np.random.Generator) -> None:
    """AdamW on windows at random; tokens are spread over experts by the usual second loss."""
    config = network.config
    optimizer = torch.optim.AdamW(network.parameters(), RATE, betas=(0.9, 0.95), weight_decay=0.1)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps, pct_start=0.1)
    for _ in range(steps):
        starts = source.integers(0, len(text) - CONTEXT - 1, BATCH)
        batch = torch.from_numpy(text[starts[:, None] + np.arange(CONTEXT + 1)].astype(np.int64))
        with torch.autocast("cpu", torch.bfloat16):
            made = network(batch[:, :-1], output_router_logits=True)
        loss = F.cross_entropy(made.logits.float().reshape(-1, 256), batch[:, 1:].reshape(-1))
        uneven: Any = load_balancing_loss_func(made.router_logits, config.num_local_experts, config.num_experts_per_tok)
        optimizer.zero_grad()
        (loss + BALANCE * uneven).backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        schedule.step()


def from_random(text: np.ndarray) -> Any:
    network = mixtral(EXPERTS, TAKEN)
    train(network, text, STEPS, np.random.default_rng(0))
    return network


def from_copies(text: np.ndarray) -> Any:
    source, dense = np.random.default_rng(0), mixtral(1, 1)
    train(dense, text, DENSE_STEPS, source)
    network = mixtral(EXPERTS, TAKEN)
    own, known = network.state_dict(), dense.state_dict()
    for name in [name for name in own if not name.endswith("gate.weight")]:
        own[name] = known[name].expand(own[name].shape).clone()
    network.load_state_dict(own)
    train(network, text, COPIED_STEPS, source)
    return network


class Logits(torch.nn.Module):
    def __init__(self, network: Any) -> None:
        super().__init__()
        network.set_experts_implementation("batched_mm")
        self.network = network

    def forward(self, input_ids: torch.Tensor) -> Any:
        return self.network(input_ids, use_cache=False, output_router_logits=False).logits


def export(network: Any, path: Path) -> None:
    free = {0: torch.export.Dim("batch"), 1: torch.export.Dim("places")}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Logits(network).eval(), (torch.zeros(2, 7, dtype=torch.int64),), str(path), dynamo=True, external_data=False,
            input_names=["input_ids"], output_names=["logits"], dynamic_shapes=(free,), verbose=False,
        )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description="Perplexity of mixtures with fewer experts.")
    parser.add_argument("text", type=Path)
    parser.add_argument("--folder", type=Path, required=True, help="where models and data are kept")
    options = parser.parse_args()
    torch.set_num_threads(1)
    text = np.frombuffer(options.text.read_bytes(), np.uint8)
    seen, held_out = np.split(text, [len(text) * 9 // 10])
    data = {}
    for name, part in (("calib", seen), ("test", held_out)):
        starts = np.linspace(0, len(part) - CONTEXT - 1, WINDOWS).astype(np.int64)
        windows = part[starts[:, None] + np.arange(CONTEXT + 1)].astype(np.int64)
        data[name] = str(options.folder / f"{name}.npz")
        np.savez(data[name], input_ids=windows[:, :-1], labels=windows[:, 1:])
    print("| experts began as | kept | parameters | dropped: ppl | more | merged: ppl | more |")
    print("|---|--:|--:|--:|--:|--:|--:|")
    for told, make in (("random weights", from_random), ("copies of one", from_copies)):
        path = options.folder / f"{make.__name__}.onnx"
        if not path.exists():
            torch.manual_seed(0)
            export(make(seen), path)
        for keep in KEPT:
            cells = []
            for merge in (None, "msmoe"):
                wanted = PruneChannels(axis="experts", target="channels", keep=keep, merge=merge)
                found = run(str(path), wanted, data=data["calib"], eval_data=data["test"], metrics=["perplexity"])
                report = found.as_dict()
                before, after = (report["accuracy"][side]["perplexity"] for side in ("before", "after"))
                cells += [f"{after:.3f}", f"{after / before - 1:+.1%}"]
            kept = report["kept"]["params"]
            print(f"| {told}, {before:.3f} | {keep:.0%} | {kept:.1%} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
