"""Folders that onnxruntime-genai generates text with: a decoder with caches, and the file that says what its inputs are."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from .base import Artifact, CannotExport, Exporter, Runner, exporter

if TYPE_CHECKING:
    import numpy as np

    from ..graph.model import Model

_TOKENS, _RANK = 2, 4
_MASKS, _PLACES = ("attention_mask", "mask"), ("position_ids", "positions", "places", "pos")


@exporter("genai")
class GenAi(Exporter):
    """A folder with a decoder and genai_config.json, for onnxruntime-genai; add the files of your tokenizer to it."""

    extra = "genai"
    imports = ("onnxruntime_genai",)
    package = "onnxruntime-genai"
    learners = True

    bos: int = Field(0, ge=0, description="the token that texts begin with")
    eos: int = Field(0, ge=0, description="the token that texts end with")
    context: int = Field(512, ge=1, description="the most tokens of a text")
    kind: str = Field("llama", description="the kind of model that onnxruntime-genai takes it for")

    @property
    def keeps_functions(self) -> bool:
        return True

    def write(self, model: Model, path: Path) -> Artifact:
        from ..graph.io.save import save

        config = self._config(model)
        path.mkdir()
        save(model, path / "model.onnx")
        (path / "genai_config.json").write_text(json.dumps(config, indent=2) + "\n")
        return Artifact(path, ("texts need a tokenizer's files beside it; tokens do not",))

    def open(self, artifact: Artifact, model: Model, threads: int) -> Runner:
        return _Generator(artifact.path, model)

    def _config(self, model: Model) -> dict[str, Any]:
        from ..graph.coupling.caches import caches

        kept = caches(model)
        shapes = {value.name: value.type.tensor_type.shape.dim for value in (*model.graph.input, *model.graph.output)}
        before, after = (_templates(list(names)) for names in (kept.keys(), kept.values()))
        sizes = {tuple(shapes[name][axis].dim_value for axis in (1, 3)) for name in kept if len(shapes[name]) == _RANK}
        if len(before) != 2 or len(after) != 2 or len(sizes) != 1:
            raise CannotExport(
                "genai cannot hold the model",
                why=f"it wants a cache of keys and one of values in each layer, all of one shape; there are {len(kept)} "
                f"caches of (heads, width) {', '.join(map(str, sorted(sizes))) or 'none'}",
                fix="export the decoder with its caches as inputs and outputs; prune heads evenly: --scope group",
            )
        ((heads, width),) = sizes
        (logits,) = [value.name for value in model.graph.output if value.name not in kept.values()]
        names = _inputs({value.name: len(shapes[value.name]) for value in model.graph.input if value.name not in kept})
        decoder = {
            "session_options": {"provider_options": []},
            "filename": "model.onnx",
            "head_size": width,
            "hidden_size": heads * width,
            "num_attention_heads": heads,
            "num_key_value_heads": heads,
            "num_hidden_layers": len(kept) // 2,
            "inputs": {**names, "past_key_names": before[0], "past_value_names": before[1]},
            "outputs": {"logits": logits, "present_key_names": after[0], "present_value_names": after[1]},
        }
        vocabulary = shapes[logits][-1].dim_value
        tokens = {"bos_token_id": self.bos, "eos_token_id": self.eos, "pad_token_id": self.eos}
        whole = {
            "type": self.kind,
            **tokens,
            "vocab_size": vocabulary,
            "context_length": self.context,
            "decoder": decoder,
        }
        search = {"do_sample": False, "max_length": self.context, "past_present_share_buffer": False}
        return {"model": whole, "search": search}


def _templates(names: list[str]) -> list[str]:
    """``past.%d.key`` and ``past.%d.value`` of the names of all layers: the only number in them that counts up."""
    found = list(dict.fromkeys(re.sub(r"\d+", "%d", name) for name in names))
    return sorted(found, key=lambda one: "val" in one or one.endswith(".v"))


def _inputs(ranks: Mapping[str, int]) -> dict[str, str]:
    """What the inputs but for the caches are, by their names; the one that is left are the tokens."""
    masks, places = ([name for name in ranks if name in known] for known in (_MASKS, _PLACES))
    tokens = [name for name in ranks if name not in (*masks, *places)]
    if len(tokens) != 1 or ranks[tokens[0]] != _TOKENS:
        raise CannotExport(
            "genai cannot hold the model",
            why=f"it takes tokens, a mask and positions, and nothing else; there are {', '.join(ranks)}",
            fix=f"name them input_ids, {_MASKS[0]} and {_PLACES[0]}",
        )
    found = {"input_ids": tokens, "attention_mask": masks, "position_ids": places}
    return {name: given[0] for name, given in found.items() if given}


class _Generator(Runner):
    """What the runtime gives for tokens at the beginning of a text: its caches are its own."""

    def __init__(self, folder: Path, model: Model) -> None:
        import onnxruntime_genai

        self._genai, self._model = onnxruntime_genai, onnxruntime_genai.Model(str(folder))
        told = json.loads((folder / "genai_config.json").read_text())["model"]
        self._tokens = told["decoder"]["inputs"]["input_ids"]
        self._outputs = [value.name for value in model.graph.output]

    def run(self, inputs: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        if any(value.size and value.ndim == _RANK for value in inputs.values()):
            raise CannotExport(
                "onnxruntime-genai starts with empty caches", why="", fix="give tokens alone with --data"
            )
        tokens = inputs[self._tokens]
        settings = self._genai.GeneratorParams(self._model)
        settings.set_search_options(batch_size=len(tokens), max_length=tokens.shape[1] + 1)
        run = self._genai.Generator(self._model, settings)
        run.append_tokens(tokens.astype("int32"))
        return {name: run.get_output(name) for name in self._outputs}
