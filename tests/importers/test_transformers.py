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

WHISPER: dict[str, Any] = {
    **{f"{side}_{what}": n for side in ("encoder", "decoder") for what, n in (("layers", 1), ("attention_heads", 2))},
    "encoder_ffn_dim": 24,
    "decoder_ffn_dim": 24,
    "d_model": 16,
    "vocab_size": 50,
    "max_source_positions": 20,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 1,
}
SOUND: dict[str, Any] = {
    "conv_dim": (8, 8),
    "conv_stride": (5, 2),
    "conv_kernel": (10, 3),
    "num_feat_extract_layers": 2,
    "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 2,
}


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
        "t5": lambda: transformers.T5ForConditionalGeneration(
            transformers.T5Config(vocab_size=50, d_model=16, d_kv=8, d_ff=24, num_layers=1, num_heads=2)
        ),
        "whisper": lambda: transformers.WhisperForConditionalGeneration(transformers.WhisperConfig(**WHISPER)),
        "wav2vec2": lambda: transformers.Wav2Vec2Model(transformers.Wav2Vec2Config(**COMMON, **SOUND)),
        "resnet": lambda: transformers.ResNetForImageClassification(
            transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8], depths=[1], num_labels=3)
        ),
        "clip": lambda: transformers.CLIPModel(
            transformers.CLIPConfig(
                text_config={**TEXT, "projection_dim": 8},
                vision_config={**COMMON, "image_size": 16, "patch_size": 8},
                projection_dim=8,
            )
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


@pytest.mark.parametrize("name", ["t5", "whisper"])
def test_what_decodes_takes_what_it_decoded_of_any_length(name: str, tmp_path: Path) -> None:
    made = network(name)
    made.save_pretrained(tmp_path / "given")
    save(read_source(tmp_path / "given").model, tmp_path / "m.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx")
    for batch, decoded in ((1, 1), (3, 7)):
        heard = {"input_features": torch.randn(batch, 80, 40)}
        read = {
            "input_ids": torch.randint(0, 50, (batch, 9)),
            "attention_mask": torch.ones(batch, 9, dtype=torch.int64),
        }
        given = {**(read if name == "t5" else heard), "decoder_input_ids": torch.randint(0, 50, (batch, decoded))}
        with torch.no_grad():
            wanted = made(**given).logits.numpy()
        found = session.run(["logits"], {key: value.numpy() for key, value in given.items()})[0]
        assert np.abs(found - wanted).max() < 1e-5


def test_sound_of_any_length_is_read(tmp_path: Path) -> None:
    made = network("wav2vec2")
    made.save_pretrained(tmp_path / "given")
    save(read_source(tmp_path / "given").model, tmp_path / "m.onnx")
    sound = torch.randn(1, 777)
    with torch.no_grad():
        wanted = made(sound).last_hidden_state.numpy()
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx")
    assert np.abs(session.run(["last_hidden_state"], {"input_values": sound.numpy()})[0] - wanted).max() < 1e-4


def sizes(read: Any) -> list[Any]:
    return [dim.dim_value or dim.dim_param for dim in read.model.graph.input[0].type.tensor_type.shape.dim]


def test_sizes_that_are_given_are_those_of_the_model(tmp_path: Path) -> None:
    network("resnet").save_pretrained(tmp_path / "image")
    network("bert").save_pretrained(tmp_path / "text")
    image = {n: read_source(tmp_path / "image", shapes={"pixel_values": [n, 3, 32, 48]}) for n in (-1, 1)}
    assert [sizes(read) for read in image.values()] == [["batch", 3, 32, 48], [1, 3, 32, 48]]
    text = read_source(tmp_path / "text", shapes={"input_ids": [1, 16], "attention_mask": [1, 16]})
    assert sizes(text) == [1, 16]
    with pytest.raises(UsageError, match="no input 'tokens'"):
        read_source(tmp_path / "text", shapes={"tokens": [1, 16]})
    with pytest.raises(UsageError, match="has 2 axes, not 3"):
        read_source(tmp_path / "text", shapes={"input_ids": [1, 16, 2]})


def test_what_takes_more_is_refused_with_what_to_do(tmp_path: Path) -> None:
    network("clip").save_pretrained(tmp_path / "given")
    with pytest.raises(UsageError, match="CLIPModel does not run on input_ids, attention_mask") as caught:
        read_source(tmp_path / "given")
    assert "factory" in str(caught.value.fix)


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
