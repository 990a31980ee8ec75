"""An exporter: the way back from the standard graph to NumPy arrays."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from intaglio.exporters import Artifact, CannotExport, Exporter, Runner, exporter
from intaglio.graph.model import Model

from .mlp_importer import computed


@exporter("mlp")
class Mlp(Exporter):
    """The .npz that the importer of the same name reads; Gemm and Relu in turn are all it can say."""

    suffix = ".npz"

    def write(self, model: Model, path: Path) -> Artifact:
        operators = [node.op_type for node in model.graph.node]
        layers = [node for node in model.graph.node if node.op_type == "Gemm"]
        if operators != ["Gemm", "Relu"] * (len(layers) - 1) + ["Gemm"]:
            raise CannotExport(
                "mlp cannot hold this model",
                why=f"a multilayer perceptron is Gemm and Relu in turn, this model is {', '.join(operators)}",
                fix="choose another exporter: intaglio export --targets lists them",
            )
        arrays = {}
        for number, layer in enumerate(layers):
            arrays[f"weight{number}"], arrays[f"bias{number}"] = (model.weights[name] for name in layer.input[1:3])
        with path.open("wb") as file:
            np.savez(file, allow_pickle=False, **arrays)
        return Artifact(path)

    def open(self, artifact: Artifact, model: Model, threads: int) -> Runner:
        with np.load(artifact.path, allow_pickle=False) as file:
            return _Perceptron({name: file[name] for name in file.files}, model.graph.output[0].name)


class _Perceptron(Runner):
    """In NumPy."""

    def __init__(self, arrays: Mapping[str, np.ndarray], output: str) -> None:
        self._arrays, self._output = arrays, output

    def run(self, inputs: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        return {self._output: computed(self._arrays, next(iter(inputs.values())))}
