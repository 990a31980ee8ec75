"""An exported folder, compiled by this machine's compiler and run."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx

from ...graph.index import index_of
from ...graph.model import Model
from ...measure.run.tensor_specs import input_specs
from ..base import CannotExport, Runner

FLAGS = (
    "-std=c99",
    "-O3",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-ffp-contract=fast",
    "-fno-math-errno",
    "-fno-trapping-math",
)
_SECONDS = 600


def compiler() -> str:
    """The C compiler of this machine: what ``CC`` names, or the usual ones. Raises CannotExport."""
    for name in (os.environ.get("CC", ""), "cc", "gcc", "clang"):
        if name and (found := shutil.which(name)):
            return found
    raise CannotExport(
        "there is no C compiler to check what is written",
        why="neither CC nor cc, gcc or clang name one",
        fix="install gcc or clang, on Debian: apt-get install gcc",
    )


def compile_c(sources: Sequence[Path], out: Path, *flags: str) -> None:
    """Compile and link, without a warning. Raises CannotExport with what the compiler says."""
    command = [compiler(), *FLAGS, *flags, *map(str, sources), "-o", str(out), "-lm"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False)
    if done.returncode:
        told = (done.stderr.strip().splitlines() or ["no message"])[0]
        raise CannotExport("the compiler does not take what was written", why=told)


class Native(Runner):
    """The function of a folder, called by pointers. Its test vector has passed."""

    def __init__(self, folder: Path, model: Model) -> None:
        (source,) = [file for file in folder.glob("*.c") if file.name != "main.c"]
        self._folder = tempfile.TemporaryDirectory(prefix="intaglio-c-")
        work = Path(self._folder.name)
        compile_c([source], work / "model.o", "-march=native", "-fPIC", "-c")
        compile_c([work / "model.o", folder / "main.c"], work / "example", f"-I{folder}")
        done = subprocess.run([work / "example", "1"], capture_output=True, text=True, timeout=_SECONDS, check=False)
        if done.returncode:
            raise CannotExport("the test vector fails", why=done.stdout.strip().replace("\n", "; "))
        compile_c([work / "model.o"], work / "model.so", "-shared")
        self._run = getattr(ctypes.CDLL(str(work / "model.so")), f"{source.stem}_run")
        self._run.restype = None
        self._inputs = [spec.name for spec in input_specs(model)]
        self._outputs = _kinds(model)

    def run(self, inputs: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        call, made = self._prepared(inputs)
        call()
        return made

    def timed(self, inputs: Mapping[str, np.ndarray]) -> Callable[[], object]:
        return self._prepared(inputs)[0]

    def _prepared(self, inputs: Mapping[str, np.ndarray]) -> tuple[Callable[[], object], dict[str, np.ndarray]]:
        given = [np.ascontiguousarray(inputs[name]) for name in self._inputs]
        made = {name: np.empty(dims, dtype) for name, (dims, dtype) in self._outputs.items()}
        pointers = [ctypes.c_void_p(array.ctypes.data) for array in (*given, *made.values())]
        keep = given, made

        def call() -> object:
            self._run(*pointers)
            return keep

        return call, made


def _kinds(model: Model) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
    shapes = index_of(model).shapes
    kind = onnx.helper.tensor_dtype_to_np_dtype
    return {v.name: (shapes.dims[v.name], np.dtype(kind(shapes.dtypes[v.name]))) for v in model.graph.output}
