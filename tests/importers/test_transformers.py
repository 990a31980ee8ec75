"""Folders of transformers are read without fetching or unpickling, right at every length."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from intaglio.graph.errors import BadModel, UsageError
from intaglio.graph.io.save import save
from intaglio.pipeline.importing import read_source

torch = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("onnxscript", reason="onnxscript is not installed")
transformers: Any = pytest.importorskip("transformers", reason="transformers is not installed")
COMMON = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24}
TEXT = {**COMMON, "vocab_size": 50, "max_position_embeddings": 32}


def network(name: str) -> Any:
    torch.manual_seed(0)
    made = {
        "bert": lambda: transformers.BertForSequenceClassification(transformers.BertConfig(**TEXT)),
        "llama": lambda: transformers.LlamaForCausalLM(
            transformers.LlamaConfig(**TEXT, num_key_value_heads=1, bos_token_id=1, eos_token_id=2)
        ),
        "vit": lambda: transformers.ViTForImageClassification(
            transformers.ViTConfig(**COMMON, image_size=16, patch_size=8)
        ),
    }
    return made[name]().eval()


@pytest.mark.parametrize("name", ["bert", "llama"])
def test_text_models_keep_a_free_batch_and_length(name: str, tmp_path: Path) -> None:
    made = network(name)
    made.save_pretrained(tmp_path / "given")
    read = read_source(tmp_path / "given")
    assert read.importer == "transformers"
    save(read.model, tmp_path / "m.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx")
    for batch, length in ((1, 1), (3, 7), (2, 29)):
        tokens = torch.randint(0, 50, (batch, length))
        mask = torch.ones_like(tokens)
        mask[0, length // 2 + 1 :] = 0
        with torch.no_grad():
            wanted = made(input_ids=tokens, attention_mask=mask).logits.numpy()
        found = session.run(["logits"], {"input_ids": tokens.numpy(), "attention_mask": mask.numpy()})[0]
        assert np.abs(found - wanted).max() < 1e-5


def test_an_image_model_is_read(tmp_path: Path) -> None:
    network("vit").save_pretrained(tmp_path / "given")
    read = read_source(tmp_path / "given")
    assert read.outputs["logits"].sqnr_db > 100
    assert [value.name for value in read.model.graph.input] == ["pixel_values"]


def test_what_would_be_unpickled_or_is_unknown_is_refused(tmp_path: Path) -> None:
    network("bert").save_pretrained(tmp_path / "given")
    weights = next((tmp_path / "given").glob("*.safetensors"))
    weights.rename(tmp_path / "given" / "pytorch_model.bin")
    with pytest.raises(BadModel, match="no weights in safetensors"):
        read_source(tmp_path / "given")
    (tmp_path / "given" / "pytorch_model.bin").rename(weights)
    (tmp_path / "given" / "config.json").write_text(json.dumps({"architectures": ["NoSuchThing"]}))
    with pytest.raises(UsageError, match="NoSuchThing"):
        read_source(tmp_path / "given")
    (tmp_path / "given" / "config.json").write_text("{")
    with pytest.raises(BadModel, match="no configuration"):
        read_source(tmp_path / "given")
