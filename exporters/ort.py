"""Files in ONNX Runtime's own format, for its builds on small devices, which read no ONNX."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

from .base import Artifact, CannotExport, Exporter, Runner, exporter
from .onnx import SessionRunner

if TYPE_CHECKING:
    from ..graph.model import Model

_CONFIG = "required_operators.config"


@exporter("ort")
class Ort(Exporter):
    """A file in ONNX Runtime's own format for reduced and mobile builds, with the list of operators that it needs."""

    package = "onnxruntime"
    suffix = ".ort"
    by_name = True
    learners = True

    @property
    def keeps_functions(self) -> bool:
        return True

    def write(self, model: Model, path: Path) -> Artifact:
        import onnx

        from ..graph.io.save import to_bytes
        from ..measure.run.guards import guarded

        _refuse_packed(model)
        content, plain = to_bytes(guarded(model)), path.with_name(f"{path.name}.onnx")
        for place, form in ((plain, "ONNX"), (path, "ORT")):
            _optimized(content, place, form)
        needed = defaultdict(set)
        for node in onnx.load(plain, load_external_data=False).graph.node:
            needed[node.domain or "ai.onnx"].add(node.op_type)
        plain.unlink()
        versions = {one.domain or "ai.onnx": one.version for one in model.proto.opset_import}
        lines = [f"{name};{versions.get(name, 1)};{','.join(sorted(ops))}" for name, ops in sorted(needed.items())]
        beside = path.with_name(f"{path.stem}.{_CONFIG}")
        beside.write_text("\n".join(lines) + "\n")
        return Artifact(path, (f"{beside.name} lists the operators that a reduced build needs",))

    def open(self, artifact: Artifact, model: Model, threads: int) -> Runner:
        from ..measure.run.session import open_session

        return SessionRunner(open_session(artifact.path, threads=threads, spin=False))


def _optimized(content: bytes, place: Path, form: str) -> None:
    """Save what ONNX Runtime makes of a model. Constants stay as they are stored: computed, packed weights are large."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(place)
    options.add_session_config_entry("session.save_model_format", form)
    providers = ["CPUExecutionProvider"]
    onnxruntime.InferenceSession(content, options, providers=providers, disabled_optimizers=["ConstantFolding"])


def _refuse_packed(model: Model) -> None:
    """ONNX Runtime writes integers of 2 and 4 bits into such files, and does not read them."""
    from onnx import helper

    from ..graph.dtypes import is_packed

    named = [name for name, value in model.weights.items() if is_packed(helper.np_dtype_to_tensor_dtype(value.dtype))]
    if named:
        more = f" and {len(named) - 1} more" if named[1:] else ""
        raise CannotExport(
            "ort cannot hold integers of 2 or 4 bits",
            why=f"ONNX Runtime does not read them from this format: {named[0]!r}{more}",
            fix="export to onnx, or quantize with --scheme int8 or w8",
        )
