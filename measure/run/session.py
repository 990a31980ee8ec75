"""ONNX Runtime sessions: opened quietly, run with errors that name the operator."""

from __future__ import annotations

import re
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from ...graph.errors import BadModel
from ...graph.io.canonicalize import NAMED, SPELLED
from ...graph.io.ends import with_ends
from ...graph.io.load import load, load_exact
from ...graph.io.save import save, to_bytes
from ...graph.model import Model
from ...graph.nodes import refill
from ...kernels import loader
from ...kernels.register import register
from .guards import guarded, may_end
from .native import holds_bits
from .released import give_back, relieve

_IN_MEMORY_BYTES = 1 << 30
"""Above this the weights go through a file: a protobuf holds 2 GB, and a copy in memory is a waste long before."""
_ROOM = 1 << 20
"""Bytes of a small file, such as a graph without weights."""
_FED_BYTES, _LARGE = 1 << 27, 1 << 20
"""Bytes of weights from which on large ones, of so many bytes, are handed to a lean session in every run: it would copy
them."""
_FLOATS: dict[str, np.dtype] = {
    "tensor(float16)": np.dtype("f2"),
    "tensor(float)": np.dtype("f4"),
    "tensor(double)": np.dtype("f8"),
}
_SHARED = {*_FLOATS.values(), *map(np.dtype, ("i1", "u1", "i4", "i8"))}


def open_session(
    model: Model | Path | str,
    *,
    threads: int = 1,
    optimize: bool = True,
    outputs: Sequence[str] | None = None,
    spin: bool = True,
    lean: bool = False,
    once: bool = False,
    optimized: Path | None = None,
    profile: Path | None = None,
    native: bool = True,
) -> Any:
    """An ``onnxruntime.InferenceSession`` on the CPU.

    ``outputs`` replaces what the model gives: any tensor names, in this order. ``optimize=False`` runs the nodes as
    they stand. ``spin=False`` lets idle threads sleep, so that two sessions do not steal each other's cores.
    With ``lean`` memory goes back to the system: what is free now, and after every run, which takes a little longer.
    A session that runs ``once`` reads large weights where they lie, as to copy them would take longer.
    ``optimized`` is a file to write the graph to that ONNX Runtime makes of the model, ``profile`` the beginning of the
    name of one for its profile. ``native`` computes operators on
    bits by the library of kernels where it was built; without it, or False, ONNX Runtime computes their definitions.

    Raises:
        BadModel: ONNX Runtime cannot load the model; says which operator.
    """
    if outputs is not None:
        model = _with_outputs(model if isinstance(model, Model) else load(model), outputs)
    if isinstance(model, Model):
        model = guarded(with_ends(model, dict.fromkeys(bfloat16_ends(model), onnx.TensorProto.FLOAT)))
    if lean:
        give_back()
    options = _options(threads, optimize, spin)
    options.enable_cpu_mem_arena = not lean
    if profile is not None:
        options.enable_profiling, options.profile_file_prefix = True, str(profile)
    if native and holds_bits(model) and loader.available():
        register(options)
    if optimized is not None:
        options.optimized_model_filepath = str(optimized)
    if not isinstance(model, Model):
        return _start(str(model), options, str(model))
    name, size = str(model.source or "the model"), sum(w.nbytes for w in model.weights.values())
    if once or (lean and size > _FED_BYTES):
        return _Fed.of(model, options, name)
    shared = _shared(model) if optimized is None else {}
    if size - sum(w.nbytes for w in shared.values()) <= _IN_MEMORY_BYTES:
        try:
            return _beside(model, shared, options, name)
        except BadModel:
            if optimized is not None:  # it says alike of a full disk
                require_room(optimized.parent, 2 * size)
            raise
    return _from_file(model, options, name)


def _from_file(model: Model, options: Any, name: str) -> Any:
    with tempfile.TemporaryDirectory(prefix="intaglio-") as folder:
        path = Path(folder) / "model.onnx"
        save(model, path, external_data=True)
        return _start(str(path), options, name)


def _shared(model: Model) -> dict[str, np.ndarray]:
    """Large constants of types that NumPy has, as ONNX Runtime takes them without a file or a message around them."""
    ends = {value.name for value in (*model.graph.input, *model.graph.output)}
    return {
        name: weight
        for name, weight in model.weights.items()
        if weight.nbytes >= _LARGE and weight.dtype in _SHARED and weight.flags.c_contiguous and weight.flags.aligned
        if name not in ends
    }


def _beside(model: Model, shared: Mapping[str, np.ndarray], options: Any, name: str) -> Any:
    """A session on the model with some constants as they lie in memory; its options keep them there."""
    import onnxruntime as ort

    if shared:
        values = [ort.OrtValue.ortvalue_from_numpy(weight) for weight in shared.values()]
        options.add_external_initializers(list(shared), values)
    return _start(to_bytes(model, outside=shared), options, name)


def require_room(folder: Path, size: int = 0) -> None:
    """Raises OSError, which says why, where a temporary folder does not take so many bytes and some more: others that
    write there do not tell.
    """
    place = folder / "room"
    try:
        with place.open("wb") as file:
            for _ in range(-_ROOM, size, _ROOM):
                file.write(bytes(_ROOM))
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(folder.parent)) from error
    finally:
        place.unlink(missing_ok=True)


class _Fed:
    """A session whose large weights are inputs, which it reads where they lie."""

    def __init__(self, session: Any, weights: Mapping[str, np.ndarray]) -> None:
        self._session, self._weights = session, weights

    @classmethod
    def of(cls, model: Model, options: Any, name: str) -> _Fed:
        """Integers stay with the session: kernels want them constant."""
        shared = _shared(model)
        large = {n: w for n, w in shared.items() if w.dtype in _FLOATS.values()}
        others = {n: w for n, w in shared.items() if n not in large}
        fed = model.copy()
        for name_, weight in large.items():
            del fed.weights[name_]
            kind = onnx.helper.np_dtype_to_tensor_dtype(weight.dtype)
            fed.graph.input.append(onnx.helper.make_tensor_value_info(name_, kind, weight.shape))
        return cls(_beside(fed, others, options, name), large)

    def get_inputs(self) -> list[Any]:
        """Those that are no weights."""
        return [one for one in self._session.get_inputs() if one.name not in self._weights]

    def get_outputs(self) -> Any:
        """As of a session."""
        return self._session.get_outputs()

    def run(self, names: Sequence[str], inputs: Mapping[str, np.ndarray], options: Any = None) -> Any:
        """As of a session."""
        return self._session.run(names, {**inputs, **self._weights}, options)


def as_file(path: Path, model: Model) -> Path | Model:
    """What to open of a file that ``model`` was read from or written to: the file, but where that might end the process."""
    if {NAMED, SPELLED}.intersection(model.notes) or bfloat16_ends(model):
        return model
    try:
        exact = load_exact(path, model)
    except (BadModel, OSError):  # of another framework, or of a kind that only loading puts right
        return path
    return exact if may_end(exact) else path


def session_as_given(
    path: Path, model: Model, *, pinned: bool, threads: int = 1, spin: bool = True
) -> tuple[Any, list[str]]:
    """A session on a file as it is; on the model that was read from it where its inputs are ``pinned``, or the file is
    too old to run, and then a note of that.
    """
    file = model if pinned else as_file(path, model)
    try:
        return open_session(file, threads=threads, spin=spin), []
    except BadModel as error:
        if file is model:
            raise
        session = open_session(model, threads=threads, spin=spin)
        return session, [f"{path} runs only as loaded here ({'; '.join(model.notes)}): {error.why}"]


def bfloat16_ends(model: Model) -> list[str]:
    """Inputs and outputs of a type that NumPy does not have."""
    ends = (v for v in (*model.graph.input, *model.graph.output) if v.name not in model.weights)
    return [v.name for v in ends if v.type.tensor_type.elem_type == onnx.TensorProto.BFLOAT16]


def fed(session: Any, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The inputs as the session takes them: floats in its types, as a model's ends may be narrower than another's, and
    caches of nothing with as many heads as it has."""
    ports = {port.name: port for port in session.get_inputs()}
    kinds = {name: _FLOATS.get(port.type) for name, port in ports.items()}
    return {name: _as(kinds.get(name), _of_nothing(ports.get(name), value)) for name, value in inputs.items()}


def _of_nothing(port: Any, value: np.ndarray) -> np.ndarray:
    if port is None or not isinstance(value, np.ndarray) or value.size or len(port.shape) != value.ndim:
        return value
    return np.zeros([d if isinstance(d, int) else n for d, n in zip(port.shape, value.shape, strict=True)], value.dtype)


def _as(kind: np.dtype | None, value: np.ndarray) -> np.ndarray:
    floats = isinstance(value, np.ndarray) and value.dtype.kind in "fV"
    return value.astype(kind, copy=False) if kind is not None and floats else value


def run(
    session: Any,
    inputs: Mapping[str, np.ndarray],
    outputs: Sequence[str] | None = None,
    *,
    seconds: float | None = None,
) -> dict[str, Any]:
    """Run once, and end a run that takes more ``seconds``. Values are arrays, or lists where an output is a sequence.

    Raises:
        BadModel: ONNX Runtime fails; says in which operator. TooSlow where it took too long.
    """
    names = list(outputs) if outputs is not None else [o.name for o in session.get_outputs()]
    feed = fed(session, inputs)
    relieve()
    if seconds is not None:
        return dict(zip(names, _timed(session, names, feed, seconds), strict=True))
    try:
        values = session.run(names, feed)
    except Exception as error:
        raise run_error(error, inputs) from error
    return dict(zip(names, values, strict=True))


class TooSlow(BadModel):
    """A run that took longer than it was given."""


def _timed(session: Any, names: Sequence[str], inputs: Mapping[str, np.ndarray], seconds: float) -> Any:
    import onnxruntime as ort

    options, ended = ort.RunOptions(), threading.Event()

    def end() -> None:
        ended.set()
        options.terminate = True  # looked at before every node, in bodies too

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        return session.run(names, inputs, options)
    except Exception as error:
        failed = run_error(error, inputs)
        if ended.is_set() and isinstance(failed, BadModel):
            raise TooSlow(
                failed.what, why=f"it takes more than {seconds:g} s, as where a Loop turns without end"
            ) from error
        raise failed from error
    finally:
        timer.cancel()


def read_by(session: Any, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Of the inputs, those that the session takes: a part of a model may not read all."""
    return {port.name: inputs[port.name] for port in session.get_inputs() if port.name in inputs}


def explain(error: BaseException) -> str:
    """ONNX Runtime's message without its file names and codes, the operator first."""
    text = " ".join(str(error).split())
    text = re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : (?:Exception during initialization: )?", "", text)
    node = re.search(r"running (\w+) node\. Name:'([^']*)'(?: Status Message: )?(.*)", text)
    if node:
        op, name, message = node.groups()
        return f"{op} {name!r}: {_strip_source(message)}"
    return _strip_source(text)


def _strip_source(message: str) -> str:
    """Drop where in ONNX Runtime's C++ it happened: ``/.../conv.cc:123 Compute``, ``Status onnxruntime::f(int) const``."""
    message = re.sub(r"\S+\.(?:cc|h|cpp|hpp):\d+ (?:[\w:~<>]+ )?", "", message)
    message = re.sub(r"^[\w:<>{}*&,~ ]*onnxruntime::[^()]*\([^)]*\)(?: const)?(?: \[with [^\]]*\])?\s*", "", message)
    if message.startswith("Numpy_type"):
        return "ONNX Runtime's Python interface does not take this type (bfloat16, float8, 4-bit) as an input"
    return message.strip() or "no message"


def _options(threads: int, optimize: bool, spin: bool) -> Any:
    import onnxruntime as ort

    ort.set_default_logger_severity(4)
    options = ort.SessionOptions()
    options.log_severity_level = 4  # fatal only: errors arrive as exceptions, and are told once
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    level = ort.GraphOptimizationLevel
    options.graph_optimization_level = level.ORT_ENABLE_ALL if optimize else level.ORT_DISABLE_ALL
    options.add_session_config_entry("session.intra_op.allow_spinning", "1" if spin else "0")
    return options


def _start(source: str | bytes, options: Any, name: str) -> Any:
    import onnxruntime as ort

    try:
        return ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        if isinstance(error, MemoryError) or "bad_alloc" in str(error):
            raise MemoryError(f"loading {name}") from error
        raise BadModel(f"ONNX Runtime cannot load {name}", why=explain(error), fix=_load_fix(str(error))) from error


def _load_fix(message: str) -> str:
    if "is not a registered function/op" in message or "No Op registered" in message:
        return (
            "the operator is a custom one, or newer than this ONNX Runtime: upgrade onnxruntime, or replace it; to change "
            "a model that cannot run here, add --no-verify and --no-measure"
        )
    if "NOT_IMPLEMENTED" in message:
        return "ONNX Runtime has no CPU kernel for it: use another element type or opset"
    return "check the file with: intaglio check MODEL"


def run_error(error: Exception, inputs: Mapping[str, np.ndarray]) -> Exception:
    """What to raise of a failed run."""
    if isinstance(error, MemoryError) or "bad_alloc" in str(error) or "Failed to allocate" in str(error):
        return MemoryError("running the model")
    if not inputs:
        fix = "export the model again; see what is wrong with its file: intaglio check MODEL"
        return BadModel("what the model computes from its weights alone fails", why=explain(error), fix=fix)
    shapes = ", ".join(f"{name} {tuple(np.shape(value))}" for name, value in inputs.items())
    return BadModel(
        f"the model fails to run on {shapes}",
        why=explain(error),
        fix="check the shapes of the data; a model that was exported for one sample takes one at a time",
    )


def _with_outputs(model: Model, outputs: Sequence[str]) -> Model:
    changed = model.copy()
    known = {v.name: v for v in (*model.graph.output, *model.graph.value_info, *model.graph.input)}
    refill(changed.graph.output, (known.get(name) or onnx.ValueInfoProto(name=name) for name in outputs))
    return changed
