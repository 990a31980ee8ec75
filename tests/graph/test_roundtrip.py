"""Loading and saving changes no output bit of any model that ONNX Runtime can run."""

from __future__ import annotations

import ctypes
import math
import warnings
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, numpy_helper
from onnx.backend.test.case.test_case import TestCase as Case
from onnx.backend.test.loader import load_model_tests

from intaglio.graph.io.load import load
from intaglio.graph.io.save import save

KINDS = ("node", "simple", "pytorch-converted", "pytorch-operator")
CHUNKS = 8
LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
# The newest intermediate representation that this ONNX Runtime reads; older stamps mean the same to it.
READABLE_IR = 13
MESSAGES: dict[str, tuple[Any, Any]] = {
    "tensor_type": (onnx.TensorProto, numpy_helper.to_array),
    "sequence_type": (onnx.SequenceProto, numpy_helper.to_list),
    "optional_type": (onnx.OptionalProto, numpy_helper.to_optional),
}
RANDOM = ("Bernoulli", "Dropout", "Multinomial", "RandomNormal", "RandomUniform")


@cache
def all_cases() -> list[Case]:
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        return sorted((case for kind in KINDS for case in load_model_tests(kind=kind)), key=lambda case: str(case.name))


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_every_backend_case_gives_the_same_bits_after_load_and_save(
    chunk: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALLOW_RELEASED_ONNX_OPSET_ONLY", "0")
    cases = all_cases()[chunk::CHUNKS]
    ran = 0
    wrong: list[str] = []
    for case in cases:
        model, feeds = runnable(case)
        try:
            before = run(model, feeds)
        except Exception:  # whatever ONNX Runtime raises: it cannot run this case at all
            continue
        if not before:
            continue
        ran += 1
        if not same(before, run(round_trip(model, tmp_path), feeds)) and not is_random(model):
            wrong.append(str(case.name))
    assert wrong == []
    assert ran > 0.8 * len(cases)


@pytest.mark.parametrize("path", sorted(LIGHT.glob("*.onnx")), ids=lambda path: str(path.stem))
def test_every_light_model_gives_the_same_bits_after_load_and_save(path: Path, tmp_path: Path) -> None:
    model = onnx.load(path)
    weights = {t.name for t in model.graph.initializer}
    rng = np.random.default_rng(0)
    feed = {
        i.name: rng.standard_normal([d.dim_value for d in i.type.tensor_type.shape.dim], dtype=np.float32)
        for i in model.graph.input
        if i.name not in weights
    }
    assert same(run(model, [feed]), run(round_trip(model, tmp_path), [feed]))


def round_trip(model: onnx.ModelProto, folder: Path) -> onnx.ModelProto:
    before, after = folder / "before.onnx", folder / "after.onnx"
    before.write_bytes(model.SerializeToString())
    save(load(before), after)
    return onnx.load(after)


def runnable(case: Case) -> tuple[onnx.ModelProto, list[dict[str, Any]]]:
    """A case as a model and the inputs of its runs.

    Inputs of types that numpy cannot hand to ONNX Runtime become initializers: weights of that type are tested too.
    """
    if case.model is not None:
        model = onnx.ModelProto()
        model.CopyFrom(case.model)
        runs = [inputs for inputs, _ in case.data_sets or ()]
    else:
        model = onnx.load(Path(str(case.model_dir)) / "model.onnx")
        folders = sorted(Path(str(case.model_dir)).glob("test_data_set_*"))
        runs = [list(stored_inputs(model, folder)) for folder in folders]
    model.ir_version = min(model.ir_version, READABLE_IR)
    names = [i.name for i in model.graph.input]
    feeds: list[dict[str, Any]] = []
    for values in runs[:1] if any(is_exotic(v) for r in runs for v in r) else runs:
        feed: dict[str, Any] = {}
        for name, value in zip(names, values, strict=False):
            if is_exotic(value):
                model.graph.initializer.append(as_tensor(value, name))
                keep = [i for i in model.graph.input if i.name != name]
                del model.graph.input[:]
                model.graph.input.extend(keep)
            else:
                feed[name] = plain(value)
        feeds.append(feed)
    return model, feeds


def stored_inputs(model: onnx.ModelProto, folder: Path) -> Iterator[Any]:
    for position, value in enumerate(model.graph.input):
        path = folder / f"input_{position}.pb"
        if not path.exists():
            return
        message, convert = MESSAGES[value.type.WhichOneof("value")]
        proto = message()
        proto.ParseFromString(path.read_bytes())
        yield convert(proto)


def is_exotic(value: Any) -> bool:
    if isinstance(value, TensorProto):
        return is_exotic(numpy_helper.to_array(value))
    return isinstance(value, (np.ndarray, np.generic)) and value.dtype.isbuiltin != 1


def as_tensor(value: Any, name: str) -> TensorProto:
    tensor = TensorProto()
    tensor.CopyFrom(value if isinstance(value, TensorProto) else numpy_helper.from_array(np.asarray(value)))
    tensor.name = name
    return tensor


def plain(value: Any) -> Any:
    if isinstance(value, TensorProto):
        value = numpy_helper.to_array(value)
    if isinstance(value, (np.ndarray, np.generic)):
        return np.asarray(value, dtype=object if value.dtype.kind in "US" else value.dtype)
    return value


def run(model: onnx.ModelProto, feeds: list[dict[str, Any]]) -> list[list[Any]]:
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    quiet = ort.RunOptions()
    quiet.log_severity_level = 4
    if any(
        "float8" in o.type or "bfloat16" in o.type or "int4" in o.type or "int2)" in o.type for o in outputs(session)
    ):
        return [raw_outputs(session, feed, quiet) for feed in feeds]
    return [session.run(None, feed, quiet) for feed in feeds]


def outputs(session: ort.InferenceSession) -> list[Any]:
    return list(session.get_outputs())


def raw_outputs(session: ort.InferenceSession, feed: dict[str, Any], options: Any) -> list[Any]:
    """Outputs of types that numpy does not know, as their bytes."""
    values = {name: ort.OrtValue.ortvalue_from_numpy(value) for name, value in feed.items()}
    results: list[Any] = []
    names = [o.name for o in outputs(session)]
    for value in session.run_with_ort_values(names, values, options):
        kind = value.element_type()
        bits = {21: 4, 22: 4, 25: 2, 26: 2}.get(kind, onnx.helper.tensor_dtype_to_np_dtype(kind).itemsize * 8)
        length = math.ceil(math.prod(value.shape()) * bits / 8)
        results.append((value.shape(), kind, ctypes.string_at(value.data_ptr(), length)))
    return results


def same(a: Any, b: Any) -> bool:
    """Whether two results have equal bits; NaN equals NaN."""
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        if a.dtype != b.dtype or a.shape != b.shape:
            return False
        nan_equals = a.dtype.kind in "fc"
        return np.array_equal(a, b, equal_nan=nan_equals) and (not nan_equals or equal_signs(a, b))
    return bool(a == b)


def equal_signs(a: np.ndarray, b: np.ndarray) -> bool:
    """Tells -0.0 from 0.0."""
    return a.dtype.kind == "c" or np.array_equal(np.signbit(a[~np.isnan(a)]), np.signbit(b[~np.isnan(b)]))


def is_random(model: onnx.ModelProto) -> bool:
    return any(node.op_type.startswith(RANDOM) for node in model.graph.node)
