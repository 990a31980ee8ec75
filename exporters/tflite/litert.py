"""Running a TFLite file in LiteRT, on what the ONNX model is fed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from ...graph.errors import BadModel
from .flatbuffer import LAYOUT
from .quiet import errors_apart
from .schema import need_schema


class Session:
    """A file that is ready to run; names and axes are those of the ONNX model."""

    def __init__(self, content: bytes, *, threads: int = 1) -> None:
        need_schema()
        from ai_edge_litert.interpreter import Interpreter

        try:
            with errors_apart():
                self.interpreter: Any = Interpreter(model_content=content, num_threads=threads)
                self.interpreter.allocate_tensors()
        except (RuntimeError, ValueError) as error:
            raise BadModel("LiteRT does not load the file", why=str(error).strip()) from error
        self.orders = orders_in(content)
        signature = self.interpreter._get_full_signature_list()["serving_default"]  # names of our own, not of tensors
        self.inputs, self.outputs = (
            {name: self._detail(index) for name, index in signature[side].items()} for side in ("inputs", "outputs")
        )

    def _detail(self, index: int) -> Mapping[str, Any]:
        details = (*self.interpreter.get_input_details(), *self.interpreter.get_output_details())
        return next(one for one in details if one["index"] == index)

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """One run, of a batch that the file was written for."""
        for name, detail in self.inputs.items():
            value = feeds[name].transpose(self.orders[name])
            self.interpreter.set_tensor(detail["index"], _as_stored(value, detail))
        self.interpreter.invoke()
        return {name: self._output(name, detail) for name, detail in self.outputs.items()}

    def _output(self, name: str, detail: Mapping[str, Any]) -> np.ndarray:
        value = _as_real(self.interpreter.get_tensor(detail["index"]), detail)
        return value.transpose(np.argsort(self.orders[name])) if value.ndim else value


def orders_in(content: bytes) -> dict[str, list[int]]:
    """Which ONNX axes the axes of a file's ends are, as it was written down in it."""
    model = need_schema().Model.GetRootAs(content, 0)
    for k in range(model.MetadataLength()):
        entry = model.Metadata(k)
        if entry.Name() == LAYOUT.encode():
            found: dict[str, list[int]] = json.loads(model.Buffers(entry.Buffer()).DataAsNumpy().tobytes())
            return found
    return {}


def _as_stored(value: np.ndarray, detail: Mapping[str, Any]) -> np.ndarray:
    scale, zero = detail["quantization"]
    if not scale or value.dtype.kind != "f":
        return np.ascontiguousarray(value, detail["dtype"])
    limits = np.iinfo(detail["dtype"])
    made = np.rint(value.astype(np.float64) / scale) + zero
    return np.ascontiguousarray(np.clip(made, limits.min, limits.max), detail["dtype"])


def _as_real(value: np.ndarray, detail: Mapping[str, Any]) -> np.ndarray:
    scale, zero = detail["quantization"]
    if not scale:
        return value
    return np.asarray((value.astype(np.int64) - zero) * np.float64(scale), np.float32)
