"""Decoders of transformers, of random weights, with caches: every family of passes, and shapes that stay consistent."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from intaglio.graph.coupling.caches import caches
from intaglio.graph.errors import NothingChanged
from intaglio.graph.io.load import load
from intaglio.measure.run.session import open_session, run
from intaglio.passes.base import PASSES

SIZES: dict[str, Any] = {
    "vocab_size": 64,
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 64,
}
KINDS: dict[str, dict[str, Any]] = {
    "Llama": SIZES,
    "Qwen3": {**SIZES, "head_dim": 8},
    "Phi3": {**SIZES, "pad_token_id": 0},
    "GPT2": {"vocab_size": 64, "n_positions": 64, "n_embd": 32, "n_layer": 1, "n_head": 4},
}


def exported(kind: str, path: Path) -> Path:
    transformers = pytest.importorskip(
        "transformers", reason="transformers is not installed: its decoders are not made"
    )
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: decoders are not made")
    from transformers.cache_utils import DynamicCache

    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(**KINDS[kind])
    network = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()

    class Flat(torch.nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, ids: Any, mask: Any, places: Any, key: Any, value: Any) -> Any:
            kept = DynamicCache()
            kept.update(key, value, 0)
            made = self.network(
                input_ids=ids, attention_mask=mask, position_ids=places, past_key_values=kept, use_cache=True
            )
            return made.logits, made.past_key_values.layers[0].keys, made.past_key_values.layers[0].values

    heads = getattr(config, "num_key_value_heads", 4)
    ids, past = torch.ones(2, 5, dtype=torch.int64), torch.zeros(2, heads, 3, 8)
    arguments = (ids, torch.ones(2, 8, dtype=torch.int64), torch.arange(3, 8)[None].repeat(2, 1), past, past)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Flat(),
            arguments,
            str(path),
            dynamo=False,
            opset_version=17,
            input_names=["ids", "mask", "places", "past_k", "past_v"],
            output_names=["logits", "present_k", "present_v"],
            dynamic_axes={
                **{name: {0: "B", 1: "S"} for name in ("ids", "places")},
                "mask": {0: "B", 1: "T"},
                **{name: {0: "B", 2: "P"} for name in ("past_k", "past_v")},
            },
        )
    return path


@pytest.mark.parametrize("kind", KINDS)
def test_a_decoder_goes_through_every_family(kind: str, tmp_path: Path) -> None:
    """Keys of Phi-3 keep their width: a Slice whose end is computed cuts what is rotated."""
    model = load(exported(kind, tmp_path / "decoder.onnx"))
    assert caches(model) == {"past_k": "present_k", "past_v": "present_v"}
    for axis in ("heads", "width"):
        small = PASSES["prune"].model_validate({"target": "channels", "keep": 0.5, "axis": axis}).run(model)
        assert small.proof is not None
        shapes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in small.model.graph.input}
        heads, width = (4 if kind == "GPT2" else 2), 8
        left = [heads // 2, width] if axis == "heads" else [heads, width // 2]
        assert shapes["past_v"][1::2] == left
        assert shapes["past_k"][1::2] == ([heads, width] if (kind, axis) == ("Phi3", "width") else left)
    ids, nothing = np.arange(8).reshape(2, 4), np.zeros((2, 4 if kind == "GPT2" else 2, 0, 8), np.float32)
    feed: dict[str, np.ndarray] = {
        "ids": ids,
        "mask": np.ones_like(ids),
        "places": ids % 4,
        "past_k": nothing,
        "past_v": nothing,
    }
    exact, told = run(open_session(model), feed)["logits"], list[str | None]()
    for name, options in (
        ("quantize", {"scheme": "w8", "group_size": 0}),
        ("quantize", {"scheme": "dynamic"}),
        ("binarize", {"scheme": "planes"}),
        ("factorize", {"target": "params", "keep": 0.9, "min_gain": 1.0, "measure": False}),
    ):
        try:
            done = PASSES[name].model_validate(options).run(model)
        except NothingChanged as error:
            told.append(error.why)  # a layer may be too small to gain from it
            continue
        made = run(open_session(done.model), feed)["logits"]
        error_size = np.abs(made - exact).max() / np.abs(exact).max()
        assert error_size < {"quantize": 0.1}.get(name, 2.0)
    assert all(told)
