"""An exporter: the way back from the standard graph to NumPy arrays."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from intaglio.exporters import EXPORTERS
from intaglio.graph.errors import IntaglioError
from intaglio.graph.model import Model


@EXPORTERS.register("mlp")
def write_mlp(model: Model, path: Path, /) -> None:
    """The .npz that the importer of the same name reads; Gemm and Relu in turn are all it can say."""
    operators = [node.op_type for node in model.graph.node]
    layers = [node for node in model.graph.node if node.op_type == "Gemm"]
    if operators != ["Gemm", "Relu"] * (len(layers) - 1) + ["Gemm"]:
        raise IntaglioError(
            f"cannot write {path}",
            why=f"a multilayer perceptron is Gemm and Relu in turn, this model is {', '.join(operators)}",
            fix="choose another exporter: intaglio passes lists them",
        )
    arrays: dict[str, Any] = {}
    for number, layer in enumerate(layers):
        arrays[f"weight{number}"], arrays[f"bias{number}"] = (model.weights[name] for name in layer.input[1:3])
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.npz")
    np.savez(unfinished, **arrays)
    unfinished.replace(path)
