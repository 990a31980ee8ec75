"""transformers: models in folders as save_pretrained writes them, through torch."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from inspect import signature
from pathlib import Path
from typing import Any

from pydantic import Field

from ..graph.errors import BadModel, UsageError
from .base import Imported, Importer, Source, importer
from .torch import AXES, OUTPUTS, Torch

_TOKENS, _PIXELS, _WAVE, _MELS = "input_ids", "pixel_values", "input_values", "input_features"
_DECODED, _MASK = "decoder_input_ids", "decoder_attention_mask"
_BATCH, _LENGTH, _SAMPLES, _SIDE = 2, 12, 4000, 224
"""Sizes of the example that the network is traced with: tokens, samples of sound, pixels where the configuration says none."""
_CALLED: dict[int | tuple[str, int], str] = {1: "sequence", (_DECODED, 1): "decoded"}
_FACTORY = "write a factory that gives (module, inputs): intaglio import FILE.py:factory"


@importer("transformers")
class Transformers(Importer):
    """A folder of transformers' save_pretrained: config.json and weights in safetensors; nothing is fetched or unpickled.

    Text models take ``input_ids`` and ``attention_mask`` of any batch and length, those with a decoder ``decoder_input_ids``,
    too; images and sound are as their configuration says, or ``--shape``. Caches of keys and values are left out.
    """

    extra = "transformers"
    imports = ("torch", "onnxscript", "transformers")
    package = "transformers"
    holds = "config.json"

    as_class: str | None = Field(
        None, description="class of transformers to load it as; by itself what config.json names"
    )

    def read(self, source: Source) -> Imported:
        module, names, example = _Loaded(source.path, self.as_class).parts(source.shapes)
        free = {
            name: [-1, -1] if value.ndim == 2 else [-1, *value.shape[1:]]
            for name, value in zip(names, example, strict=True)
        }
        shapes = {name: source.shapes.get(name, free[name]) for name in names}
        return Torch.model_validate({}).read(Source(source.text, shapes, (module, example)))


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

    def parts(self, shapes: Mapping[str, Sequence[int]]) -> tuple[Any, list[str], tuple[Any, ...]]:
        """A module that takes tensors in order and gives them in order, the inputs' names, an example of given ``shapes``."""
        main = self.network.main_input_name
        usual = _usual(self.network.config, main)
        if not usual:
            raise UsageError(f"it is not known how to feed {main!r}", fix=_FACTORY)
        unknown = [name for name in shapes if name not in usual]
        if unknown:
            raise UsageError(f"there is no input {unknown[0]!r}", fix=f"inputs are {', '.join(usual)}")
        sizes = {name: _sized(name, shapes.get(name, ()), dims) for name, dims in usual.items()}
        example = tuple(_drawn(name, dims, self.network.config) for name, dims in sizes.items())
        return _ordered(self.network, list(usual), example), list(usual), example


def _usual(config: Any, main: str) -> dict[str, tuple[int, ...]]:
    """What a network takes, and of which sizes; empty for one whose inputs are not known."""
    told: dict[str, tuple[int, ...]] = {_TOKENS: (_BATCH, _LENGTH), "attention_mask": (_BATCH, _LENGTH)}
    if main == _PIXELS:
        size = getattr(config, "image_size", _SIDE)
        sides = size if isinstance(size, (list, tuple)) else (size, size)
        told = {_PIXELS: (_BATCH, config.num_channels, *sides)}
    elif main == _WAVE:
        told = {_WAVE: (_BATCH, _SAMPLES)}
    elif main == _MELS and hasattr(config, "num_mel_bins") and hasattr(config, "max_source_positions"):
        told = {_MELS: (_BATCH, config.num_mel_bins, 2 * config.max_source_positions)}
    elif main != _TOKENS:
        return {}
    return {**told, _DECODED: (_BATCH, _LENGTH)} if config.is_encoder_decoder else told


def _sized(name: str, given: Sequence[int], usual: tuple[int, ...]) -> tuple[int, ...]:
    if given and len(given) != len(usual):
        raise UsageError(f"input {name} has {len(usual)} axes, not {len(given)}")
    return tuple(n if n != -1 else known for n, known in zip(given or usual, usual, strict=True))


def _drawn(name: str, dims: tuple[int, ...], config: Any) -> Any:
    import torch

    if name == "attention_mask":
        return torch.ones(dims, dtype=torch.int64)
    if name in (_TOKENS, _DECODED):
        return torch.arange(dims[0] * dims[1]).reshape(dims) % max(config.get_text_config().vocab_size, 1)
    return torch.randn(dims, generator=torch.Generator().manual_seed(0))


def _config(folder: Path) -> dict[str, Any]:
    try:
        found = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadModel(f"{folder} holds no configuration", why=str(error)) from error
    return found if isinstance(found, dict) else {}


def _ordered(network: Any, names: list[str], example: tuple[Any, ...]) -> Any:
    import torch

    tokens = any(name in (_TOKENS, _DECODED) for name in names)
    caches = {"use_cache": False} if getattr(network.config, "use_cache", None) is not None and tokens else {}
    masked = _DECODED in names and _MASK in signature(network.forward).parameters

    def called(*tensors: Any) -> Any:
        given = dict(zip(names, tensors, strict=True))
        masks = {_MASK: torch.ones_like(given[_DECODED])} if masked else {}  # as none, without a look for packed texts
        return network(**given, **masks, **caches, return_dict=True)

    try:
        with torch.no_grad():
            outputs = [key for key, value in called(*example).items() if isinstance(value, torch.Tensor)]
    except Exception as error:
        why = str(error).strip().split("\n")[0]
        raise UsageError(
            f"{type(network).__name__} does not run on {', '.join(names)}", why=why, fix=_FACTORY
        ) from error

    class Ordered(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, *tensors: Any) -> tuple[Any, ...]:
            found = called(*tensors)
            return tuple(found[key] for key in outputs)

    ordered = Ordered()
    setattr(ordered, OUTPUTS, outputs)
    setattr(ordered, AXES, _CALLED if names[0] == _TOKENS else {})
    return ordered
