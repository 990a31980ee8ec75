"""transformers: models in folders as save_pretrained writes them, through torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import Field

from ..graph.errors import BadModel, UsageError
from .base import Imported, Importer, Source, importer
from .torch import AXES, OUTPUTS, Torch

_TOKENS, _PIXELS = "input_ids", "pixel_values"
_LENGTH = 12
"""Tokens of the example that the network is traced with."""


@importer("transformers")
class Transformers(Importer):
    """A folder of transformers' save_pretrained: config.json and weights in safetensors; nothing is fetched or unpickled.

    Text models take ``input_ids`` and ``attention_mask`` of any batch and length, others what their configuration says.
    Caches of keys and values are left out.
    """

    extra = "transformers"
    imports = ("torch", "onnxscript", "transformers")
    package = "transformers"
    holds = "config.json"

    as_class: str | None = Field(
        None, description="class of transformers to load it as; by itself what config.json names"
    )

    def read(self, source: Source) -> Imported:
        module, names, example = _Loaded(source.path, self.as_class).parts()
        axes = {
            name: [-1, -1] if value.ndim == 2 else [-1, *value.shape[1:]]
            for name, value in zip(names, example, strict=True)
        }
        shapes = {**axes, **source.shapes}
        return Torch.model_validate({}).read(
            Source(source.text, {name: shapes[name] for name in names}, (module, example))
        )


class _Loaded:
    """A network in a folder. Raises BadModel where transformers cannot load it as it stands."""

    def __init__(self, folder: Path, as_class: str | None) -> None:
        import torch
        import transformers

        config = _config(folder)
        name = as_class or next(iter(config.get("architectures") or ()), "AutoModel")
        kind: Any = getattr(transformers, name, None)
        if not hasattr(kind, "from_pretrained"):
            raise UsageError(
                f"transformers {transformers.__version__} has no model {name!r}", fix="name one with as_class="
            )
        if not any(folder.glob("*.safetensors")):
            raise BadModel(
                f"{folder} holds no weights in safetensors", fix="save it with model.save_pretrained(FOLDER)"
            )
        quiet: Any = transformers.utils.logging
        quiet.disable_progress_bar()
        quiet.set_verbosity_error()
        try:
            self.network = kind.from_pretrained(
                folder,
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=True,
                attn_implementation="eager",
                dtype=torch.float32,
            ).eval()
        except Exception as error:
            raise BadModel(f"transformers does not load {folder}", why=str(error).strip().split("\n")[0]) from error

    def parts(self) -> tuple[Any, list[str], tuple[Any, ...]]:
        """A module that takes tensors in order and gives them in order, the inputs' names, an example."""
        import torch

        config, main = self.network.config, self.network.main_input_name
        names: list[str]
        example: tuple[Any, ...]
        if main == _TOKENS:
            tokens = torch.arange(2 * _LENGTH).reshape(2, _LENGTH) % max(config.vocab_size, 1)
            names, example = [_TOKENS, "attention_mask"], (tokens, torch.ones_like(tokens))
        elif main == _PIXELS:
            size = config.image_size
            sides = list(size) if isinstance(size, (list, tuple)) else [size, size]
            random = torch.Generator().manual_seed(0)
            names, example = [_PIXELS], (torch.randn(2, config.num_channels, *sides, generator=random),)
        else:
            raise UsageError(f"it is not known how to feed {main!r}", fix="write a factory that gives (module, inputs)")
        return _ordered(self.network, names, example), names, example


def _config(folder: Path) -> dict[str, Any]:
    try:
        found = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadModel(f"{folder} holds no configuration", why=str(error)) from error
    return found if isinstance(found, dict) else {}


def _ordered(network: Any, names: list[str], example: tuple[Any, ...]) -> Any:
    import torch

    caches = (
        {"use_cache": False} if getattr(network.config, "use_cache", None) is not None and names[0] == _TOKENS else {}
    )
    given = {**dict(zip(names, example, strict=True)), **caches, "return_dict": True}
    with torch.no_grad():
        outputs = [key for key, value in network(**given).items() if isinstance(value, torch.Tensor)]

    class Ordered(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, *tensors: Any) -> tuple[Any, ...]:
            found = self.network(**dict(zip(names, tensors, strict=True)), **caches, return_dict=True)
            return tuple(found[key] for key in outputs)

    ordered = Ordered()
    setattr(ordered, OUTPUTS, outputs)
    setattr(ordered, AXES, {1: "sequence"} if names[0] == _TOKENS else {})
    return ordered
