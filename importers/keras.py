"""Keras 3, with its torch or its jax backend."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import Field

from ..graph.errors import BadModel, UsageError
from ..graph.lazy import require
from .base import IMPORTERS, Imported, Importer, Source, importer
from .jax import reference, traced


@importer("keras")
class Keras(Importer):
    """A Keras 3 model: a .keras file, read in safe mode, or what package.module:factory gives."""

    extra = "keras"
    imports = ("keras",)
    package = "keras"
    suffixes = (".keras",)
    modules = ("keras",)

    backend: Literal["torch", "jax"] | None = Field(
        None, description="what Keras computes with; KERAS_BACKEND, else torch"
    )

    def read(self, source: Source) -> Imported:
        keras = self._loaded()
        found = source.thing if source.thing is not None else _opened(keras, source)
        shapes = source.shapes or _shapes(found)
        backend = keras.backend.backend()
        if backend == "torch":
            return IMPORTERS["torch:through=legacy"].read(Source(source.text, shapes, found))
        if backend == "jax":
            require("a Keras model on JAX", "jax", ("jax2onnx",))
            model = traced(found, shapes)
            return Imported(model, reference(found, [value.name for value in model.graph.output], model))
        raise UsageError(f"Keras computes with {backend} here", fix="set KERAS_BACKEND to torch or jax")

    def _loaded(self) -> Any:
        wanted = self.backend or os.environ.get("KERAS_BACKEND", "torch")
        if "keras" not in sys.modules:
            os.environ["KERAS_BACKEND"] = wanted
        import keras

        if self.backend and keras.backend.backend() != self.backend:
            raise UsageError(
                f"Keras computes with {keras.backend.backend()} already", fix=f"set KERAS_BACKEND={self.backend}"
            )
        return keras


def _opened(keras: Any, source: Source) -> Any:
    """In safe mode no code of the file runs."""
    try:
        return keras.saving.load_model(str(source.path), compile=False, safe_mode=True)
    except Exception as error:
        raise BadModel(f"Keras does not read {source.text}", why=(str(error).splitlines() or [""])[0]) from error


def _shapes(found: Any) -> Mapping[str, Sequence[int]]:
    """Of the inputs that the model declares."""
    return {one.name: [-1 if n is None else n for n in one.shape] for one in found.inputs}
