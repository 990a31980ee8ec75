"""ONNX files, which ONNX Runtime and many others run as they are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from .base import Artifact, Exporter, Runner, exporter

if TYPE_CHECKING:
    import numpy as np

    from ..graph.model import Model

_HALF_DB = 40.0
"""What rounding inputs to half precision leaves."""


@exporter("onnx")
class Onnx(Exporter):
    """An ONNX file, for ONNX Runtime and all that reads such files."""

    package = "onnxruntime"
    suffix = ".onnx"
    learners = True

    io: Literal["float32", "float16"] | None = Field(None, description="element type of float inputs and outputs")
    functions: Literal["keep", "inline"] = Field(
        "keep",
        description="what becomes of operators that the model defines itself: inline is for runtimes without functions",
    )
    opset: int | None = Field(None, description="operator set of the file")
    ir: int | None = Field(None, description="IR version of the file")
    runtime: str | None = Field(None, description="oldest ONNX Runtime that must read the file, such as ort>=1.20")

    @property
    def keeps_functions(self) -> bool:
        return self.functions == "keep"

    def write(self, model: Model, path: Path) -> Artifact:
        from ..graph.io.fit import Fit, fitted
        from ..graph.io.save import save

        made, notes = fitted(self._with_ends(model), Fit.of(self.opset, self.ir, self.runtime))
        save(made, path)
        return Artifact(path, tuple(notes), sqnr_db=_HALF_DB if made.graph.input != model.graph.input else None)

    def _with_ends(self, model: Model) -> Model:
        from onnx import TensorProto

        from ..graph.dtypes import is_float
        from ..graph.io.ends import with_ends

        if self.io is None:
            return model
        kind = TensorProto.FLOAT if self.io == "float32" else TensorProto.FLOAT16
        ends = [value for value in (*model.graph.input, *model.graph.output) if value.name not in model.weights]
        told = {value.name: value.type.tensor_type.elem_type for value in ends}
        return with_ends(model, {name: kind for name, one in told.items() if is_float(one) and one != kind})

    def open(self, artifact: Artifact, model: Model, threads: int) -> Runner:
        from ..measure.run.session import as_file, open_session

        return SessionRunner(open_session(as_file(artifact.path, model), threads=threads, spin=False))


class SessionRunner(Runner):
    """A session of ONNX Runtime."""

    def __init__(self, session: Any) -> None:
        self._session = session

    def run(self, inputs: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        from ..measure.run.session import run

        return run(self._session, inputs)

    def timed(self, inputs: Mapping[str, np.ndarray]) -> Callable[[], object]:
        from ..measure.run.session import fed

        feed = fed(self._session, inputs)
        return lambda: self._session.run(None, feed)
