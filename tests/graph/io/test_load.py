"""What loading makes of a model: mapped weights, a standard graph, and a note of every change."""

from __future__ import annotations

import os
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper, parser

from intaglio.graph.io.load import from_proto, load
from intaglio.graph.io.save import save
from intaglio.graph.model import Model
from intaglio.graph.shapes import symbols
from intaglio.measure.run.inputs import runnable_inputs

MIB = 1 << 20


def text_model(text: str, **weights: np.ndarray) -> onnx.ModelProto:
    """A model from its textual form, and initializers from arrays."""
    model = parser.parse_model(text)
    model.graph.initializer.extend(numpy_helper.from_array(w, name) for name, w in weights.items())
    return model


def written(model: onnx.ModelProto, folder: Path) -> Path:
    path = folder / "model.onnx"
    onnx.save(model, path)
    return path


def ops(model: Model) -> list[str]:
    return [node.op_type for node in model.graph.node]


def lies_in_file(array: np.ndarray) -> bool:
    """Whether an array is a view on a mapped file rather than a copy."""
    base: object = array
    while isinstance(base, np.ndarray) and base.base is not None:
        base = base.base
    return isinstance(base, memoryview) and type(base.obj).__name__ == "mmap"


def test_large_weights_are_read_only_views_on_the_file(tmp_path: Path) -> None:
    w = np.random.default_rng(0).standard_normal((64, 64), dtype=np.float32)
    model = load(written(text_model(MATMUL, w=w), tmp_path))
    assert lies_in_file(model.weights["w"])
    assert not model.weights["w"].flags.writeable
    assert np.array_equal(model.weights["w"], w)
    assert len(model.graph.initializer) == 0


MATMUL = '<ir_version: 8, opset_import: ["" : 17]> g (float[N,64] x) => (float[N,64] y) { y = MatMul (x, w) }'
FLOAT_DATA = (TensorProto.FLOAT, "float_data", np.float32)
DOUBLE_DATA = (TensorProto.DOUBLE, "double_data", np.float64)


@pytest.mark.parametrize(("kind", "field", "dtype"), [FLOAT_DATA, DOUBLE_DATA])
def test_packed_typed_fields_are_mapped_too(kind: int, field: str, dtype: type, tmp_path: Path) -> None:
    values: np.ndarray = np.random.default_rng(0).standard_normal(4096).astype(dtype)
    model = text_model(MATMUL)
    tensor = model.graph.initializer.add(name="w", data_type=kind, dims=[64, 64])
    getattr(tensor, field).extend(values.tolist())
    loaded = load(written(model, tmp_path)).weights["w"]
    assert lies_in_file(loaded)
    assert np.array_equal(loaded, values.reshape(64, 64))


DTYPES = [
    *(np.float32, np.float16, np.float64, np.int64, np.int32, np.int16, np.int8, np.uint8, np.uint16, np.uint32),
    *(np.uint64, np.bool_, np.complex64, np.complex128, ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn),
    *(ml_dtypes.float8_e5m2, ml_dtypes.int4, ml_dtypes.uint4, ml_dtypes.float4_e2m1fn),
]


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: str(np.dtype(dtype)))
@pytest.mark.parametrize("shape", [(), (0,), (3,), (41, 37)], ids=str)
def test_every_element_type_survives_load_and_save(dtype: type, shape: tuple[int, ...], tmp_path: Path) -> None:
    values: np.ndarray = np.random.default_rng(0).integers(0, 2, shape).astype(dtype)
    path = written(text_model(MATMUL, w=np.ones((64, 64), np.float32), v=values), tmp_path)
    for external in (False, True):
        model = load(path)
        assert model.weights["v"].dtype == values.dtype
        assert model.weights["v"].shape == shape
        assert (model.weights["v"] == values).all()
        save(model, path, external_data=external)
    assert numpy_helper.to_array(onnx.load(path).graph.initializer[1]).tobytes() == values.tobytes()


def test_strings_that_are_no_utf8_survive(tmp_path: Path) -> None:
    model = text_model(MATMUL, w=np.ones((64, 64), np.float32))
    model.graph.initializer.add(name="words", data_type=TensorProto.STRING, dims=[2], string_data=[b"\xff", b"ok"])
    path = written(model, tmp_path)
    save(load(path), path)
    assert list(onnx.load(path).graph.initializer[1].string_data) == [b"\xff", b"ok"]


def test_external_data_is_mapped_from_the_models_folder(tmp_path: Path) -> None:
    w = np.random.default_rng(0).standard_normal((64, 64), dtype=np.float32)
    path = tmp_path / "model.onnx"
    onnx.save(text_model(MATMUL, w=w, v=w + 1), path, save_as_external_data=True, location="weights.bin")
    model = load(path)
    assert lies_in_file(model.weights["v"])
    assert np.array_equal(model.weights["v"], w + 1)
    assert model.file is not None
    assert [p.name for p in model.file.data_files] == ["weights.bin"]


def test_external_values_of_inner_tensors_are_brought_inside(tmp_path: Path) -> None:
    model = text_model("""
        <ir_version: 8, opset_import: ["" : 17]> g (bool c) => (float[4] y) {
            y = If (c) <then_branch = t () => (float[4] u) { u = Constant <value = float[4] {1.0, 2.0, 3.0, 4.0}> () },
                        else_branch = e () => (float[4] v) { v = Constant <value = float[4] {5.0, 6.0, 7.0, 8.0}> () }>
        }""")
    path = tmp_path / "model.onnx"
    onnx.save(model, path, save_as_external_data=True, location="w.bin", size_threshold=0, convert_attribute=True)
    (tmp_path / "elsewhere").mkdir()
    save(load(path), tmp_path / "elsewhere" / "model.onnx")
    again = onnx.load(tmp_path / "elsewhere" / "model.onnx")
    branch = next(a.g for a in again.graph.node[0].attribute if a.name == "else_branch")
    assert numpy_helper.to_array(branch.node[0].attribute[0].t).tolist() == [5, 6, 7, 8]


def test_loading_a_large_file_reads_hardly_any_of_it(tmp_path: Path) -> None:
    graph = text_model(MATMUL, w=np.zeros((64 * MIB // 256, 64), np.float32))
    path = written(graph, tmp_path)
    code = (
        "import sys, resource; from intaglio.graph.io.load import load; import intaglio.graph.io.save;"
        "load(sys.argv[1].replace('model', 'tiny'));"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss;"
        "before = peak(); load(sys.argv[1]); print(peak() - before)"
    )
    onnx.save(text_model(MATMUL, w=np.zeros((64, 64), np.float32)), tmp_path / "tiny.onnx")
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 8 * 1024  # KiB, of 64 MiB


def test_the_hash_of_the_source_is_that_of_the_file(tmp_path: Path) -> None:
    path = written(text_model(MATMUL, w=np.ones((64, 64), np.float32)), tmp_path)
    model = load(path)
    assert model.source == path
    assert model.copy().source_sha256 == sha256(path.read_bytes()).hexdigest()


def test_weights_listed_as_inputs_are_no_inputs() -> None:
    model = from_proto(
        text_model(
            '<ir_version: 3, opset_import: ["" : 13]> g (float[N,4] x, float[4] b) => (float[N,4] y) { y = Add (x, b) }',
            b=np.ones(4, np.float32),
        )
    )
    assert [i.name for i in model.graph.input] == ["x"]
    assert model.proto.ir_version >= 4
    assert model.notes == ["1 graph inputs that have an initializer are weights, no longer inputs"]


def test_constants_become_weights_and_idle_nodes_go() -> None:
    model = from_proto(
        parser.parse_model("""
        <ir_version: 8, opset_import: ["" : 17]> g (float[N,4] x) => (float[N,4] y) {
            half = Constant <value_float = 0.5> ()
            pair = Constant <value_ints = [1, 1, 1, 1]> ()
            cast = Cast <to = 1> (pair)
            a = Mul (x, half)
            b = Identity (a)
            c = Dropout (b)
            d = Add (c, cast)
            y = Identity (d)
        }""")
    )
    assert ops(model) == ["Mul", "Add", "Identity"]
    assert list(model.graph.node[1].input) == ["a", "cast"]
    assert model.weights["half"] == np.float32(0.5)
    assert model.notes == [
        "2 Constant nodes became weights",
        "1 Identity node dropped",
        "1 Dropout node dropped, idle at inference",
        "1 node between weights and their readers carried out",
    ]


def test_an_identity_between_weights_ties_them() -> None:
    model = from_proto(
        text_model(
            """<ir_version: 8, opset_import: ["" : 17]> g (float[N,4] x) => (float[N,4] y) {
            copy = Identity (w)
            h = MatMul (x, w)
            y = MatMul (h, copy)
        }""",
            w=np.eye(4, dtype=np.float32),
        )
    )
    assert [list(n.input) for n in model.graph.node] == [["x", "w"], ["h", "w"]]


def test_dropout_that_trains_or_whose_mask_is_used_stays() -> None:
    model = from_proto(
        text_model(
            """<ir_version: 8, opset_import: ["" : 17]> g (float[N,4] x) => (float[N,4] y, bool[N,4] m) {
            a = Dropout (x, r, t)
            y, m = Dropout (a)
        }""",
            r=np.array(0.5, np.float32),
            t=np.array(True),
        )
    )
    assert ops(model) == ["Dropout", "Dropout"]


def test_dropout_whose_mask_nobody_reads_goes() -> None:
    model = from_proto(
        parser.parse_model(
            '<ir_version: 8, opset_import: ["" : 17]> g (float[4] x) => (float[4] y) { d, m = Dropout (x) y = Relu (d) }'
        )
    )
    assert ops(model) == ["Relu"]


def test_names_that_subgraphs_capture_stay() -> None:
    model = from_proto(
        parser.parse_model("""
        <ir_version: 8, opset_import: ["" : 17]> g (bool c, float[4] x) => (float[4] y) {
            same = Identity (x)
            one = Constant <value_float = 1.0> ()
            y = If (c) <then_branch = t () => (float[4] u) { u = Add (same, one) },
                        else_branch = e () => (float[4] v) { v = Neg (same) }>
        }""")
    )
    assert ops(model) == ["Identity", "If"]
    assert model.graph.node[0].output == ["same"]
    assert model.weights["one"] == 1


def test_integer_arithmetic_on_constants_is_done_and_float_arithmetic_is_not() -> None:
    model = from_proto(
        text_model(
            """<ir_version: 8, opset_import: ["" : 17]> g (float[6] x) => (float[3,2] y) {
            two = Constant <value_ints = [2]> ()
            six = Constant <value_ints = [6]> ()
            three = Div (six, two)
            shape = Concat <axis = 0> (three, two)
            large = Mul (w, w)
            r = Reshape (x, shape)
            y = Add (r, large)
        }""",
            w=np.ones((3, 2), np.float32),
        )
    )
    assert ops(model) == ["Mul", "Reshape", "Add"]
    assert model.weights["shape"].tolist() == [3, 2]
    assert set(model.weights) == {"shape", "w"}


def test_division_by_zero_is_left_to_the_runtime() -> None:
    zero, six = np.array([0]), np.array([6])
    model = from_proto(
        text_model(
            '<ir_version: 8, opset_import: ["" : 17]> g () => (int64[1] y) { d = Div (a, b) y = Add (d, a) }',
            a=six,
            b=zero,
        )
    )
    assert ops(model) == ["Div", "Add"]


def test_the_shape_of_a_weight_stays_computed() -> None:
    model = from_proto(
        text_model(
            '<ir_version: 8, opset_import: ["" : 17]> g () => (int64[2] y) { s = Shape (w) y = Add (s, s) }',
            w=np.ones((2, 3), np.float32),
        )
    )
    assert ops(model) == ["Shape", "Add"]


def test_unused_weights_and_custom_domains_stay() -> None:
    model = from_proto(
        text_model(
            '<ir_version: 8, opset_import: ["" : 17, "mine" : 1]> g (float[4] x) => (float[4] y) { y = mine.Identity (x) }',
            unused=np.ones(3, np.float32),
        )
    )
    assert ops(model) == ["Identity"]
    assert list(model.weights) == ["unused"]


def test_a_pinned_symbol_is_pinned_everywhere() -> None:
    value = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["N", 4, "T"]) for n in "aby"]
    graph = helper.make_graph([helper.make_node("Add", ["a", "b"], ["y"])], "g", value[:2], value[2:])
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    model = from_proto(proto, shapes={"a": [2, 4, -1]})
    for v in (*model.graph.input, *model.graph.output):
        dims = v.type.tensor_type.shape.dim
        assert [d.dim_value or d.dim_param for d in dims] == [2, 4, "T"]


def test_lengths_below_zero_are_free() -> None:
    """As older exporters write them; ONNX Runtime takes them so too."""
    proto = parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> g (float[N, 3] x) => (float[N, 3] y) { y = Relu (x) }'
    )
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = -1
    model = from_proto(proto)
    assert symbols(model) == ["x.0"]
    assert model.notes == ["2 lengths below 0 read as free"]
    assert runnable_inputs(model)["x"].shape == (2, 3)
    pinned = from_proto(proto, shapes={"x": [4, 3]})
    assert runnable_inputs(pinned)["x"].shape == (4, 3)


def test_real_models_load_with_the_weights_onnx_sees(shared_data: Path) -> None:
    for path in sorted(shared_data.glob("*.onnx")):
        model = load(path)
        for tensor in onnx.load(path).graph.initializer:
            if tensor.name in model.weights:
                assert np.array_equal(model.weights[tensor.name], numpy_helper.to_array(tensor))


def test_a_model_in_memory_is_not_changed() -> None:
    proto = parser.parse_model(
        '<ir_version: 4, opset_import: ["" : 9]> g (float[N,4] x) => (float[N,4] y) { i = Identity (x) y = Relu (i) }'
    )
    before = proto.SerializeToString()
    from_proto(proto)
    assert proto.SerializeToString() == before


def test_a_mapped_model_survives_the_deletion_of_its_file(tmp_path: Path) -> None:
    path = written(text_model(MATMUL, w=np.ones((64, 64), np.float32)), tmp_path)
    model = load(path)
    os.unlink(path)
    assert model.weights["w"].sum() == 64 * 64
