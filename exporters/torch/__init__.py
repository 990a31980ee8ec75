"""A torch module: a Python file that says every step, and the weights in safetensors."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..base import Artifact, CannotExport, Exporter, Runner, exporter

if TYPE_CHECKING:
    import numpy as np

    from ...graph.model import Model

_CODE, _WEIGHTS = "model.py", "model.safetensors"


@exporter("torch")
class Torch(Exporter):
    """A folder with the network as a torch module, model.py, and its weights in model.safetensors, under their names."""

    extra = "torch"
    imports = ("torch",)
    package = "torch"

    def write(self, model: Model, path: Path) -> Artifact:
        from ...graph.io.safetensors import to_bytes
        from .code import Writer

        writer = Writer(model)
        code = writer.module()
        path.mkdir()
        (path / _CODE).write_text(code, encoding="utf-8")
        (path / _WEIGHTS).write_bytes(to_bytes(writer.weights))
        return Artifact(path, figures={"trainable": len(writer.trained)})

    def open(self, artifact: Artifact, model: Model, threads: int) -> Runner:
        spec = spec_from_file_location("intaglio_exported", artifact.path / _CODE)
        if spec is None or spec.loader is None:
            raise CannotExport("model.py is no module")
        module = module_from_spec(spec)
        spec.loader.exec_module(module)
        return _Module(module.Model().eval(), model, threads)


class _Module(Runner):
    """In inference mode of the module, without gradients."""

    def __init__(self, module: Any, model: Model, threads: int) -> None:
        self._module, self._threads = module, threads
        self._inputs = [value.name for value in model.graph.input if value.name not in model.weights]
        self._outputs = [value.name for value in model.graph.output]

    def run(self, inputs: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        import torch

        torch.set_num_threads(self._threads)
        with torch.no_grad():
            found = self._module(*(torch.from_numpy(inputs[name].copy()) for name in self._inputs))
        values = found if isinstance(found, tuple) else (found,)
        return {name: value.numpy() for name, value in zip(self._outputs, values, strict=True)}
