"""OpenVINO's intermediate representation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from .base import Artifact, CannotExport, Exporter, Runner, exporter

if TYPE_CHECKING:
    import numpy as np

    from ..graph.model import Model

_HALF_DB = 40.0


@exporter("openvino")
class OpenVino(Exporter):
    """A folder with OpenVINO's model.xml and model.bin; integers and their scales stay."""

    extra = "openvino"
    imports = ("openvino",)
    package = "openvino"

    weights: Literal["float32", "float16"] = Field("float32", description="element type of float weights in the file")

    def write(self, model: Model, path: Path) -> Artifact:
        import openvino

        from ..graph.io.save import save

        path.mkdir()
        plain = path / "model.onnx"
        save(model, plain)
        try:
            made = openvino.convert_model(plain)
        except Exception as error:
            told = [line.strip() for line in str(error).splitlines() if line.strip()]
            fix = "export to onnx, which ONNX Runtime runs on the same machines"
            raise CannotExport("OpenVINO does not take the model", why="; ".join(told[-3:]), fix=fix) from error
        openvino.save_model(made, path / "model.xml", compress_to_fp16=self.weights == "float16")
        del made
        plain.unlink()
        return Artifact(path, sqnr_db=_HALF_DB if self.weights == "float16" else None)

    def open(self, artifact: Artifact, model: Model, threads: int) -> Runner:
        import openvino

        how = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}
        compiled = openvino.Core().compile_model(artifact.path / "model.xml", "CPU", how)
        return _Compiled(compiled, [value.name for value in model.graph.output])


class _Compiled(Runner):
    """A model compiled for this processor; in 32 bit, for elsewhere it may compute floats in 16."""

    def __init__(self, compiled: Any, outputs: list[str]) -> None:
        self._request, self._outputs = compiled.create_infer_request(), outputs

    def run(self, inputs: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        found = self._request.infer(dict(inputs))
        return {name: value.copy() for name, value in zip(self._outputs, found.values(), strict=True)}

    def timed(self, inputs: Mapping[str, np.ndarray]) -> Callable[[], object]:
        self._request.infer(dict(inputs))
        return self._request.infer
