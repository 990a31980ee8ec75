"""ncnn's files, made by pnnx."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .base import Artifact, CannotExport, Exporter, Runner, exporter, refuse

if TYPE_CHECKING:
    import numpy as np

    from ..graph.model import Model

_SECONDS = 600
_FILES = ("model.ncnn.param", "model.ncnn.bin")
_CLOSE_DB = 40.0
"""ncnn multiplies small convolutions by Winograd's method, which rounds more."""


@exporter("ncnn")
class Ncnn(Exporter):
    """A folder with ncnn's model.ncnn.param and model.ncnn.bin, in floats, for one sample."""

    extra = "ncnn"
    imports = ("ncnn", "pnnx")
    package = "ncnn"
    fixed = True
    halves = False

    def write(self, model: Model, path: Path) -> Artifact:
        from ..graph.io.save import save

        integers = (node for node in model.graph.node if node.op_type.endswith("QuantizeLinear"))
        refuse("ncnn", ((node, "pnnx reads floats alone") for node in integers), "export the float model, or to tflite")
        work = path.with_name(f"{path.name}.work")
        work.mkdir()
        save(model, work / "model.onnx")
        told = _converted(work, [_shape(value) for value in _inputs(model)])
        if not all((work / name).is_file() for name in _FILES):  # pnnx ends with 0 even so
            raise CannotExport("pnnx wrote no files", why=told, fix="write it for another target: onnx, openvino")
        path.mkdir()
        for name in _FILES:
            (work / name).rename(path / name)
        for rest in work.iterdir():
            rest.unlink()
        work.rmdir()
        return Artifact(path, sqnr_db=_CLOSE_DB)

    def open(self, artifact: Artifact, model: Model, threads: int) -> Runner:
        import ncnn

        net = ncnn.Net()
        net.opt.num_threads = threads
        for name in ("use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic", "use_bf16_storage"):
            setattr(net.opt, name, False)
        param, weights = (str(artifact.path / name) for name in _FILES)
        if net.load_param(param) or net.load_model(weights):
            why = _left_over(artifact.path / _FILES[0])
            fix = "write it for another target: onnx, openvino"
            raise CannotExport("ncnn does not load what pnnx wrote", why=why, fix=fix)
        shapes = {value.name: _dims(value) for value in model.graph.output}
        return _Net(net, [value.name for value in _inputs(model)], shapes)


class _Net(Runner):
    """Inputs and outputs are numbered, and have no axis for the batch."""

    def __init__(self, net: Any, inputs: Sequence[str], outputs: Mapping[str, Sequence[int]]) -> None:
        self._net, self._inputs, self._outputs = net, inputs, outputs

    def run(self, inputs: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        import ncnn
        import numpy as np

        found = {}
        with self._net.create_extractor() as extractor:
            for k, name in enumerate(self._inputs):
                extractor.input(f"in{k}", ncnn.Mat(np.ascontiguousarray(inputs[name][0])).clone())
            for k, (name, shape) in enumerate(self._outputs.items()):
                failed, value = extractor.extract(f"out{k}")
                if failed:
                    raise RuntimeError(f"ncnn does not compute {name}")
                found[name] = np.array(value).reshape(shape)
        return found


def _converted(work: Path, shapes: Sequence[str]) -> str:
    """Run pnnx; gives the last that it said. Python code that it writes beside is not run."""
    from importlib.util import find_spec
    from subprocess import PIPE, STDOUT, TimeoutExpired, run

    spec = find_spec("pnnx")
    program = Path((spec and spec.origin) or "").with_name("pnnx")
    try:
        done = run(
            [str(program), "model.onnx", f"inputshape={','.join(shapes)}", "fp16=0"],
            cwd=work,
            stdout=PIPE,
            stderr=STDOUT,
            timeout=_SECONDS,
            check=False,
        )
    except TimeoutExpired as error:
        raise CannotExport(f"pnnx did not end within {_SECONDS} seconds") from error
    lines = done.stdout.decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else f"it ended with {done.returncode}"


def _left_over(param: Path) -> str:
    """Operators of torch that pnnx found nothing for in ncnn: they stand in the file under torch's names."""
    kinds = [line.split()[0] for line in param.read_text(errors="replace").splitlines()[2:] if line.strip()]
    foreign = dict.fromkeys(kind for kind in kinds if "." in kind or "::" in kind)
    return (
        f"pnnx left operators that ncnn does not have: {', '.join(foreign)}"
        if foreign
        else "its weights do not fit its layers"
    )


def _inputs(model: Model) -> list[Any]:
    return [value for value in model.graph.input if value.name not in model.weights]


def _dims(value: Any) -> list[int]:
    return [dim.dim_value or -1 for dim in value.type.tensor_type.shape.dim]


def _shape(value: Any) -> str:
    """As pnnx reads it. Raises CannotExport for anything but floats."""
    from onnx import TensorProto

    if value.type.tensor_type.elem_type != TensorProto.FLOAT:
        raise CannotExport(f"ncnn takes floats, and input {value.name!r} is none")
    return f"{str(_dims(value)).replace(' ', '')}f32"
