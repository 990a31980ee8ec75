"""What the measuring commands share: a model to run, and inputs to run it on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..graph.errors import BadData
from . import console
from .before_after import needs_data
from .options import parse_values, read_model

if TYPE_CHECKING:
    import numpy as np

    from ..graph.model import Model
    from ..measure.data.source import Batch, DataSource


@dataclass(frozen=True)
class OpenedModel:
    """A model file that has been loaded, its inputs pinned if asked for."""

    path: Path
    model: Model
    pinned: bool

    @property
    def size_bytes(self) -> int:
        """On disk, external data included."""
        return self.model.file.size_bytes if self.model.file else 0

    @property
    def native(self) -> str | None:
        """The instruction set that its operators on bits run with; None where it has none or no kernels were built."""
        from ..measure.run.native import holds_bits, kernels

        return kernels().isa if holds_bits(self.model) else None

    def session(self, *, threads: int, spin: bool = True) -> Any:
        """A session on the file as it is; on the loaded model where inputs are pinned, or the file is too old to run."""
        from ..measure.run.native import holds_bits, kernels
        from ..measure.run.session import session_as_given

        if holds_bits(self.model) and not kernels().built:
            console.notes([f"{self.path}: its operators on bits run by their definitions; {kernels().why}"])
        session, notes = session_as_given(self.path, self.model, pinned=self.pinned, threads=threads, spin=spin)
        console.notes(notes)
        return session


def open_model(path: Path, shape: list[str] | None = None, value: list[str] | None = None) -> OpenedModel:
    """Load the model, its inputs as ``--shape`` and ``--input`` say."""
    return OpenedModel(path, read_model(path, shape, value), bool(shape or value))


def open_models(paths: Sequence[Path], shape: list[str] | None, value: list[str] | None) -> list[OpenedModel]:
    """The same for several; what ``--input`` names may be a constant already in some."""
    from ..graph.io.branches import pin_inputs

    opened_models, values = [open_model(path, shape) for path in paths], parse_values(value) or {}
    inputs = [{v.name for v in one.model.graph.input} for one in opened_models]
    for one, own in zip(opened_models, inputs, strict=True):
        pin_inputs(one.model, {k: v for k, v in values.items() if k in own or not any(k in other for other in inputs)})
    return [replace(one, pinned=bool(shape or value)) for one in opened_models]


def open_source(data: str | None, model: Model, preprocess: str | None, samples: int | None) -> DataSource | None:
    """The data that ``--data`` names, its notes told; None without it."""
    from ..measure.data.source import open_data

    if data is None:
        needs_data(preprocess, samples)
        return None
    source = open_data(data, model, preprocess=preprocess, samples=samples)
    console.notes(source.notes)
    return source


def first_batch(opened: OpenedModel, source: DataSource | None, *, size: int = 1, seed: int) -> Batch:
    """What one run takes: the first of the data, or made-up inputs that the model accepts."""
    from ..measure.data.source import Batch
    from ..measure.run.inputs import runnable_inputs

    if source is None:
        return Batch(runnable_inputs(opened.model, seed=seed, batches=(size, 1)), 1)
    first = next(source.batches(size), None)
    if first is None:
        raise BadData(f"{source.name} holds no samples")
    return first


def told_shapes(inputs: Mapping[str, np.ndarray]) -> dict[str, list[int]]:
    """Shapes by input, for reports."""
    return {name: list(value.shape) for name, value in inputs.items()}


def shape_text(shapes: Mapping[str, Any]) -> str:
    """Shapes as a reader wants them: ``image (1, 3, 32, 32)``."""
    return ", ".join(f"{name} ({', '.join(map(str, dims))})" for name, dims in shapes.items()) or "no input"


def dims_text(shape: Sequence[int] | None) -> str:
    """``1x3x32x32``"""
    return "?" if shape is None else "x".join(map(str, shape)) or "scalar"
