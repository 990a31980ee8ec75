"""Running a TFLite file in LiteRT, on what the ONNX model is fed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx

from ...graph.apart import apart
from ...graph.errors import BadModel
from .quiet import errors_apart
from .schema import LAYOUT, schema


class Session:
    """A file that is ready to run; names and axes are those of the ONNX model.

    ``ends`` are numbers of the tensors that go in and come out, by name, where these are not those of the file's signature;
    ``orders`` the ONNX axes that their axes are.
    """

    def __init__(
        self,
        content: bytes,
        ends: Sequence[Mapping[str, int]] = (),
        orders: Mapping[str, Sequence[int]] | None = None,
        *,
        threads: int = 1,
    ) -> None:
        from ai_edge_litert.interpreter import Interpreter

        try:
            with errors_apart():
                self.interpreter: Any = Interpreter(model_content=content, num_threads=threads)
                self.interpreter.allocate_tensors()
        except (RuntimeError, ValueError) as error:
            raise BadModel("LiteRT does not load the file", why=str(error).strip()) from error
        self.orders = orders_in(content) if orders is None else orders
        if not ends:  # names of our own, not of tensors
            signature = self.interpreter._get_full_signature_list()["serving_default"]
            ends = [signature[side] for side in ("inputs", "outputs")]
        self.inputs, self.outputs = ({name: self._detail(index) for name, index in side.items()} for side in ends)

    def _detail(self, index: int) -> Mapping[str, Any]:
        details = (*self.interpreter.get_input_details(), *self.interpreter.get_output_details())
        return next(one for one in details if one["index"] == index)

    def run(self, feeds: Mapping[str, np.ndarray], *, raw: bool = False) -> dict[str, np.ndarray]:
        """One run, of a batch that the file was written for; integers come out as what they stand for unless ``raw``."""
        for name, detail in self.inputs.items():
            value = self._turned(name, feeds[name], back=False)
            self.interpreter.set_tensor(detail["index"], _as_stored(value, detail))
        self.interpreter.invoke()
        made = {name: self.interpreter.get_tensor(detail["index"]) for name, detail in self.outputs.items()}
        made = {name: value if raw else _as_real(value, self.outputs[name]) for name, value in made.items()}
        return {name: self._turned(name, value, back=True) for name, value in made.items()}

    def _turned(self, name: str, value: np.ndarray, *, back: bool) -> np.ndarray:
        """With axes as the file has them, or ``back`` as the ONNX model has."""
        order = self.orders.get(name) or range(value.ndim)
        return value.transpose(np.argsort(order) if back else order)


def open_apart(content: bytes, ends: Sequence[Mapping[str, int]], orders: Mapping[str, Sequence[int]]) -> Session:
    """A session of a file that somebody else wrote: it ran in a process of its own first, which it may have ended.

    Raises:
        BadModel: LiteRT does not run it.
    """

    def work(nothing: onnx.ModelProto) -> onnx.ModelProto:
        session = Session(content, ends, orders)
        session.interpreter.invoke()
        return nothing

    apart("running the file in LiteRT", work, onnx.ModelProto())
    return Session(content, ends, orders)


def orders_in(content: bytes) -> dict[str, list[int]]:
    """Which ONNX axes the axes of a file's ends are, as it was written down in it."""
    model = schema().Model.GetRootAs(content, 0)
    for k in range(model.MetadataLength()):
        entry = model.Metadata(k)
        if entry.Name() == LAYOUT.encode():
            found: dict[str, list[int]] = json.loads(model.Buffers(entry.Buffer()).DataAsNumpy().tobytes())
            return found
    return {}


def _as_stored(value: np.ndarray, detail: Mapping[str, Any]) -> np.ndarray:
    scale, zero = detail["quantization"]
    if not scale or value.dtype.kind != "f":
        return np.asarray(value, detail["dtype"], order="C")
    limits = np.iinfo(detail["dtype"])
    made = np.rint(value.astype(np.float64) / scale) + zero
    return np.asarray(np.clip(made, limits.min, limits.max), detail["dtype"], order="C")


def _as_real(value: np.ndarray, detail: Mapping[str, Any]) -> np.ndarray:
    scale, zero = detail["quantization"]
    if not scale:
        return value
    return np.asarray((value.astype(np.int64) - zero) * np.float64(scale), np.float32)
