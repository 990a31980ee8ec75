"""Every unusable file gets one clear error, whatever is wrong with it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper, parser

from intaglio.graph.errors import BadModel, Exit, IntaglioError, UsageError
from intaglio.graph.io.load import from_proto, load
from intaglio.graph.io.save import CannotWrite, save
from tests.graph.bodies import BODIES

NOBODY = 65534


def small_model() -> onnx.ModelProto:
    """A model with everything that loading handles: old operators, constants, a subgraph, a large weight."""
    model = parser.parse_model("""
        <ir_version: 4, opset_import: ["" : 9]>
        net (float[N, 32] x, float[32, 32] w, bool c) => (float[N, 32] y)
        <int64[2] s = {-1, 32}>
        {
            h = MatMul (x, w)
            i = Identity (h)
            d = Dropout (i)
            zero = Constant <value = float[1] {0.0}> ()
            a = Add (d, zero)
            r = Reshape (a, s)
            y = If (c) <then_branch = t () => (float[N, 32] u) { u = Relu (r) },
                        else_branch = e () => (float[N, 32] v) { v = Softmax (r) }>
        }
    """)
    weight = np.random.default_rng(0).standard_normal((32, 32), dtype=np.float32)
    model.graph.initializer.append(numpy_helper.from_array(weight, "w"))
    return model


SERIALIZED = small_model().SerializeToString()


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


NOT_MODELS = {
    "zip": (b"PK\x03\x04" + bytes(100), "zip archive"),
    "pickle": (b"\x80\x02}q\x00.", "pickle"),
    "html": (b"\n<!DOCTYPE html><html>404</html>", "web page"),
    "lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS"),
    "tflite": (b"\x1c\x00\x00\x00TFL3" + bytes(100), "TensorFlow Lite"),
    "ort": (b"\x1c\x00\x00\x00ORTM" + bytes(100), "ONNX Runtime"),
    "safetensors": ((120).to_bytes(8, "little") + b'{"weight":{"dtype":"F32"}}', "safetensors"),
    "keras": (b"\x89HDF\r\n\x1a\n" + bytes(100), "HDF5"),
    "gguf": (b"GGUF" + bytes(100), "GGUF"),
    "gzip": (b"\x1f\x8b\x08" + bytes(100), "gzip"),
    "numpy": (b"\x93NUMPY\x01\x00" + bytes(100), "numpy"),
    "openvino": (b'<?xml version="1.0"?><net/>', "XML"),
    "text": (b"import torch\n", "text"),
    "noise": (bytes(range(7, 250)), "ONNX"),
    "zeros": (bytes(1000), "ONNX"),
    "another protobuf": (b"\x0a\x03\x0a\x01x", "ONNX"),
}


@pytest.mark.parametrize("kind", NOT_MODELS)
def test_a_file_of_another_kind_is_named(kind: str, tmp_path: Path) -> None:
    content, word = NOT_MODELS[kind]
    with pytest.raises(BadModel, match=word) as caught:
        load(write(tmp_path / "model.onnx", content))
    assert caught.value.exit_code == Exit.BAD_INPUT


def test_a_missing_file_a_folder_and_an_empty_file_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(BadModel, match="does not exist"):
        load(tmp_path / "model.onnx")
    with pytest.raises(BadModel, match="a folder"):
        load(tmp_path)
    with pytest.raises(BadModel, match="is empty"):
        load(write(tmp_path / "model.onnx", b""))


def test_a_named_pipe_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "model.onnx")
    with pytest.raises(BadModel, match="no regular file"):
        load(tmp_path / "model.onnx")


@pytest.mark.parametrize("part", [0.01, 0.3, 0.5, 0.9, 0.999])
def test_a_truncated_file_is_called_cut_short(part: float, tmp_path: Path) -> None:
    content = SERIALIZED[: int(len(SERIALIZED) * part)]
    with pytest.raises(BadModel, match="cut short"):
        load(write(tmp_path / "model.onnx", content))


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_damaged_files_load_or_give_a_clear_error(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    content = bytearray(SERIALIZED)
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = write(tmp_path_factory.getbasetemp() / "damaged.onnx", bytes(content))
    with suppress(IntaglioError):
        load(path)


Damage = Callable[[onnx.ModelProto], None]


def no_opset(model: onnx.ModelProto) -> None:
    del model.opset_import[:]


def future_opset(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 1000


def future_ir(model: onnx.ModelProto) -> None:
    model.ir_version = 1000


def no_outputs(model: onnx.ModelProto) -> None:
    del model.graph.output[:]


def nothing_inside(model: onnx.ModelProto) -> None:
    model.graph.Clear()


def undefined_input(model: onnx.ModelProto) -> None:
    model.graph.node[0].input[0] = "ghost"


def undefined_in_subgraph(model: onnx.ModelProto) -> None:
    model.graph.node[-1].attribute[0].g.node[0].input[0] = "ghost"


def unsorted(model: onnx.ModelProto) -> None:
    nodes = list(model.graph.node)[::-1]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def undefined_output(model: onnx.ModelProto) -> None:
    model.graph.output[0].name = "ghost"


def output_made_twice(model: onnx.ModelProto) -> None:
    model.graph.node[1].output[0] = "h"


def weight_twice(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(model.graph.initializer[0])


def weight_without_name(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].name = ""


def negative_dimension(model: onnx.ModelProto) -> None:
    model.graph.initializer[-1].dims[0] = -32


def absurd_shape(model: onnx.ModelProto) -> None:
    model.graph.initializer[-1].dims[:] = [2**40, 2**40]


def larger_than_its_data(model: onnx.ModelProto) -> None:
    model.graph.initializer[-1].dims[:] = [33, 32]


def absurd_constant(model: onnx.ModelProto) -> None:
    constant = next(n for n in model.graph.node if n.op_type == "Constant")
    constant.attribute[0].t.dims[:] = [2**40, 2**40]


def unknown_type(model: onnx.ModelProto) -> None:
    model.graph.initializer[-1].data_type = 99


def no_operator(model: onnx.ModelProto) -> None:
    model.graph.node[0].op_type = ""


def too_few_inputs(model: onnx.ModelProto) -> None:
    del model.graph.node[0].input[1]


def input_left_out(model: onnx.ModelProto) -> None:
    model.graph.node[0].input[1] = ""


def subgraph_output_undefined(model: onnx.ModelProto) -> None:
    model.graph.node[-1].attribute[0].g.output[0].name = "ghost"


def cast_to_nothing(model: onnx.ModelProto) -> None:
    made = model.graph.node[0].output[0]
    model.graph.node.insert(1, onnx.helper.make_node("Cast", [made], [f"{made}/cast"], to=0))


def body_with_an_input(model: onnx.ModelProto) -> None:
    model.graph.node[-1].attribute[0].g.input.add().CopyFrom(model.graph.input[0])


def body_without_an_output(model: onnx.ModelProto) -> None:
    del model.graph.node[-1].attribute[1].g.output[:]


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (no_opset, "no operator set"),
        (future_opset, "operator set 1000"),
        (future_ir, "IR version 1000"),
        (no_outputs, "no outputs"),
        (nothing_inside, "empty"),
        (undefined_input, "'ghost'.*nothing makes"),
        (undefined_in_subgraph, "'ghost'.*nothing makes"),
        (unsorted, "not sorted"),
        (undefined_output, "nothing makes graph output 'ghost'"),
        (output_made_twice, "'h' has the name of another tensor"),
        (weight_twice, "two initializers"),
        (weight_without_name, "no name"),
        (negative_dimension, "negative dimension"),
        (absurd_shape, "needs [0-9]+ bytes"),
        (larger_than_its_data, "needs 4224 bytes, 4096 are there"),
        (absurd_constant, "cannot"),
        (unknown_type, "element type 99"),
        (no_operator, "no operator"),
        (too_few_inputs, "1 inputs, the operator takes 2 to 2"),
        (input_left_out, "input that it needs is left out"),
        (subgraph_output_undefined, "nothing makes graph output 'ghost'"),
        (cast_to_nothing, "attribute 'to' is 0, which the installed onnx knows no element type by"),
        (body_with_an_input, "body has 1 inputs and 1 outputs, the operator takes 0 and 1"),
        (body_without_an_output, "body has 0 inputs and 0 outputs, the operator takes 0 and 1"),
    ],
)
def test_a_damaged_structure_is_explained(damage: Damage, words: str, tmp_path: Path) -> None:
    model = small_model()
    damage(model)
    with pytest.raises(BadModel, match=f"(?s){words}") as from_file:
        load(write(tmp_path / "model.onnx", model.SerializeToString()))
    assert "model.onnx" in from_file.value.what
    with pytest.raises(BadModel, match=f"(?s){words}"):
        from_proto(model)


@pytest.mark.parametrize("count", [0, -1, 3, 2**62])
def test_a_scan_over_more_than_it_is_given_is_told(count: int) -> None:
    model, _ = BODIES["Scan"]()
    node = next(one for one in model.graph.node if one.op_type == "Scan")
    given = next(one for one in node.attribute if one.name == "num_scan_inputs")
    given.i = count + (len(node.input) if count == 3 else 0)
    with pytest.raises(BadModel, match="is wrong") as told:
        from_proto(model)
    assert "num_scan_inputs" in told.value.why


@pytest.mark.parametrize("end", ["input", "output"])
@pytest.mark.parametrize("what", ["axes", "directions"])
def test_what_a_scan_says_of_its_ends_is_of_all_of_them(end: str, what: str) -> None:
    model, _ = BODIES["Scan"]()
    node = next(one for one in model.graph.node if one.op_type == "Scan")
    name = f"scan_{end}_{what}"
    for one in [one for one in node.attribute if one.name == name]:
        node.attribute.remove(one)
    node.attribute.append(helper.make_attribute(name, [0] * 5))
    with pytest.raises(BadModel, match="is wrong") as told:
        from_proto(model)
    assert f"{name!r} has 5 numbers for" in told.value.why


def external_model(location: str, length: int = 4096, offset: int = 0) -> onnx.ModelProto:
    model = small_model()
    weight = model.graph.initializer[-1]
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", str(offset)), ("length", str(length))):
        weight.external_data.add(key=key, value=value)
    return model


@pytest.mark.parametrize(
    "location", ["/etc/passwd", "../w.data", "sub/../../w.data", "C:\\w.data", "..\\w.data", "", "a\0b"]
)
def test_external_data_outside_the_folder_is_refused(location: str, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    write(tmp_path / "w.data", bytes(4096))
    path = write(folder / "model.onnx", external_model(location).SerializeToString())
    with pytest.raises(BadModel, match="not a path inside the model's folder"):
        load(path)


def test_external_data_behind_a_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "w.data").symlink_to(write(tmp_path / "w.data", bytes(4096)))
    path = write(folder / "model.onnx", external_model("w.data").SerializeToString())
    with pytest.raises(BadModel, match="leads out of the model's folder"):
        load(path)


@pytest.mark.parametrize(
    ("length", "offset", "words"),
    [(4096, 0, "does not exist"), (4096, 64, "bytes 64 to 4160"), (4096, -4096, "bytes -4096"), (4000, 0, "says 4000")],
)
def test_external_data_that_is_missing_or_too_short_is_explained(
    length: int, offset: int, words: str, tmp_path: Path
) -> None:
    if offset:
        write(tmp_path / "w.data", bytes(4096))
    path = write(tmp_path / "model.onnx", external_model("w.data", length, offset).SerializeToString())
    with pytest.raises(BadModel, match=words):
        load(path)


@contextmanager
def unprivileged() -> Iterator[None]:
    """Root may do everything; become nobody for a while."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


def test_unreadable_and_read_only_paths_are_explained_and_nothing_is_written(tmp_path: Path) -> None:
    model = from_proto(small_model())
    folder = tmp_path / "locked"
    folder.mkdir()
    path = write(folder / "model.onnx", SERIALIZED)
    path.chmod(0o000)
    folder.chmod(0o555)
    try:
        with unprivileged(), pytest.raises(BadModel, match="permission denied"):
            load(path)
        with unprivileged(), pytest.raises(CannotWrite, match="permission denied") as caught:
            save(model, folder / "new.onnx")
        assert caught.value.exit_code == Exit.BAD_INPUT
        assert [p.name for p in folder.iterdir()] == ["model.onnx"]
    finally:
        folder.chmod(0o755)


@pytest.mark.parametrize(
    ("shapes", "words"),
    [
        ({"z": [1, 32]}, "no graph input 'z'"),
        ({"x": [1, 32, 1]}, "it has 2 dimensions"),
        ({"x": [1, 33]}, "fixes its shape as N,32"),
        ({"x": [0, 32]}, "1 or more"),
    ],
)
def test_shapes_that_do_not_fit_are_wrong_usage(shapes: dict[str, list[int]], words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        from_proto(small_model(), shapes=shapes)
    assert caught.value.exit_code == Exit.USAGE


def test_one_symbol_cannot_have_two_values() -> None:
    value = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["N", 4]) for n in "aby"]
    graph = helper.make_graph([helper.make_node("Add", ["a", "b"], ["y"])], "g", value[:2], value[2:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    with pytest.raises(UsageError, match="'N' would be both 1 and 2"):
        from_proto(model, shapes={"a": [1, 4], "b": [2, 4]})
