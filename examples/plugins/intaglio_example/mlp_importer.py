"""An importer: a multilayer perceptron kept as NumPy arrays."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from intaglio.graph.errors import BadModel
from intaglio.graph.io.load import from_proto
from intaglio.graph.model import Model
from intaglio.importers import Imported, Importer, Source, importer


@importer("mlp")
class Mlp(Importer):
    """An .npz of weight0 (in, out), bias0 (out), weight1 and so on, with a ReLU between layers."""

    suffixes = (".npz",)

    def read(self, source: Source) -> Imported:
        arrays = _arrays(source.path)
        return Imported(_model(arrays), lambda feeds: {"y": computed(arrays, feeds["x"])})


def computed(arrays: Mapping[str, np.ndarray], x: np.ndarray) -> np.ndarray:
    """What the network is, without ONNX: the result of the import is compared with it."""
    depth = len(arrays) // 2
    for layer in range(depth):
        x = x @ arrays[f"weight{layer}"] + arrays[f"bias{layer}"]
        x = x if layer == depth - 1 else np.maximum(x, 0)
    return x


def _model(arrays: dict[str, np.ndarray]) -> Model:
    depth = len(arrays) // 2
    nodes, name = [], "x"
    for layer in range(depth):
        out = "y" if layer == depth - 1 else f"sum{layer}"
        nodes.append(helper.make_node("Gemm", [name, f"weight{layer}", f"bias{layer}"], [out], f"layer{layer}"))
        if layer < depth - 1:
            name = f"hidden{layer}"
            nodes.append(helper.make_node("Relu", [out], [name], f"relu{layer}"))
    widths = arrays["weight0"].shape[0], arrays[f"weight{depth - 1}"].shape[1]
    ends = [
        helper.make_tensor_value_info(n, TensorProto.FLOAT, ["batch", w]) for n, w in zip("xy", widths, strict=True)
    ]
    weights = [numpy_helper.from_array(array, key) for key, array in arrays.items()]
    graph = helper.make_graph(nodes, "mlp", ends[:1], ends[1:], weights)
    return from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10))


def _arrays(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: file[key].astype(np.float32) for key in file.files}
    except (OSError, ValueError, AttributeError, BadZipFile) as error:
        raise BadModel(f"{path} is no .npz file", why=str(error)) from error
    wanted = {f"{kind}{layer}" for layer in range(max(1, len(arrays) // 2)) for kind in ("weight", "bias")}
    if set(arrays) != wanted:
        raise BadModel(f"{path} is no multilayer perceptron", why=f"it holds {', '.join(arrays) or 'nothing'}")
    return arrays
