"""The operators as native code in ONNX Runtime: the same results as their definitions, and errors that name the node."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper

import intaglio
from intaglio.kernels.operators import DOMAIN, OPERATORS, attach
from intaglio.kernels.packing import pack

from . import library
from .cases import Case, cases, run, session
from .signs import EVERY_ISA, needs_library

NATIVE = [op for op in OPERATORS if op != "UnpackWeight"]  # ONNX Runtime folds that one: it has only constants

pytestmark = needs_library


@pytest.fixture(scope="module")
def file() -> str:
    return str(intaglio.ops_library())


@pytest.mark.parametrize("op", NATIVE)
@pytest.mark.parametrize("isa", EVERY_ISA)
@given(data=st.data(), opset=st.sampled_from([13, 17, 21, 23]), threads=st.integers(1, 2), optimize=st.booleans())
@settings(max_examples=12, deadline=None)
def test_native_code_computes_the_definition(
    file: str, isa: str, op: str, data: st.DataObject, opset: int, threads: int, optimize: bool
) -> None:
    case: Case = data.draw(cases(op))
    model = case.model(opset)
    with library.forced(isa):
        case.check(run(model, case.feed(), file, threads=threads, optimize=optimize))
    case.check(run(model, case.feed(), threads=threads, optimize=optimize))


@pytest.mark.parametrize("op", NATIVE)
@given(data=st.data())
@settings(max_examples=5, deadline=None)
def test_weights_may_change_between_runs(file: str, op: str, data: st.DataObject) -> None:
    case: Case = data.draw(cases(op))
    everything = tuple(case.inputs)
    opened = session(case.model(fed=everything), file)
    for _ in range(2):
        case.check(opened.run(None, case.feed(everything))[0])


@pytest.mark.parametrize("op", OPERATORS)
def test_native_code_is_used_when_it_is_there(file: str, op: str, tmp_path: Path) -> None:
    model = _first(op).model(fed=tuple(_first(op).inputs))
    ran = {True: set(), False: set()}  # type: dict[bool, set[str]]
    for native in ran:
        options = _options(tmp_path)
        if native:
            intaglio.register(options)
        opened = _open(model, options)
        opened.run(None, _first(op).feed(tuple(_first(op).inputs)))
        events = json.loads(Path(opened.end_profiling()).read_text())
        ran[native] = {e["args"]["op_name"] for e in events if "op_name" in e.get("args", {})}
    assert op not in ran[False]
    assert (op in ran[True]) == (op in NATIVE)


@pytest.mark.parametrize("count", [1, 3, 1024])
def test_work_is_cut_for_as_many_threads_as_the_options_say(count: int, tmp_path: Path) -> None:
    options = _options(tmp_path)
    options.intra_op_num_threads = min(count, 3)
    options.add_session_config_entry("intaglio.threads", str(count))
    options.register_custom_ops_library(str(intaglio.ops_library()))
    rng = np.random.default_rng(0)
    weights, scale = pack(rng.standard_normal((2, 200, 300))), rng.standard_normal((2, 200, 3)).astype(np.float32)
    model, feed = _matrix_chain(weights, scale, constant=True), {"x": rng.standard_normal((70, 300)).astype(np.float32)}
    wanted = session(model, str(intaglio.ops_library())).run(None, feed)
    assert _same(_open(model, options).run(None, feed), wanted)


@pytest.mark.parametrize("text", ["0", "-1", "1025", "two", "2 ", "9" * 40])
def test_a_number_of_threads_that_is_none_is_refused(text: str, tmp_path: Path) -> None:
    options = _options(tmp_path)
    options.add_session_config_entry("intaglio.threads", text)
    with pytest.raises(Exception, match=r"intaglio\.threads is not from 1 to 1024|buffer is not large enough"):
        options.register_custom_ops_library(str(intaglio.ops_library()))


def test_registering_twice_changes_nothing(tmp_path: Path) -> None:
    case, options = _first("BGemm"), _options(tmp_path)
    intaglio.register(options)
    intaglio.register(options)
    for _ in range(2):
        case.check(_open(case.model(), options).run(None, case.feed())[0])


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("constant", [True, False])
def test_one_session_runs_in_many_threads_at_once(file: str, threads: int, constant: bool) -> None:
    """Nothing that a run writes is shared with another: results of different inputs never mix."""
    rng = np.random.default_rng(0)
    weights, scale = pack(rng.standard_normal((2, 200, 300))), rng.standard_normal((2, 200, 3)).astype(np.float32)
    model = _matrix_chain(weights, scale, constant=constant)
    rest = {} if constant else {"W": weights, "scale": scale}
    opened = session(model, file, threads=threads)
    feeds = [{"x": rng.standard_normal((rows, 300)).astype(np.float32), **rest} for rows in (1, 2, 9, 40)]
    wanted = [opened.run(None, feed) for feed in feeds]
    begin = threading.Barrier(len(feeds))

    def work(index: int) -> bool:
        begin.wait()
        return all(_same(opened.run(None, feeds[index]), wanted[index]) for _ in range(30))

    with ThreadPoolExecutor(len(feeds)) as pool:
        assert list(pool.map(work, range(len(feeds)))) == [True] * len(feeds)


def test_sessions_open_and_close_in_many_threads_at_once(file: str) -> None:
    found = [_first(op) for op in NATIVE]

    def work(index: int) -> None:
        for case in found[index:] + found[:index]:
            case.check(run(case.model(), case.feed(), file))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))


def test_ort_format_keeps_the_operators(file: str, tmp_path: Path) -> None:
    import onnxruntime as ort

    case = _first("BGemm")
    saved = tmp_path / "model.ort"
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(saved)
    options.add_session_config_entry("session.save_model_format", "ORT")
    intaglio.register(options)
    _open(case.model(), options)
    case.check(run_bytes(saved.read_bytes(), case, file))


def run_bytes(content: bytes, case: Case, file: str) -> Any:
    return session(content, file).run(None, case.feed())[0]


@pytest.mark.parametrize(
    ("op", "change", "message"),
    [
        ("BConv", {"pad_value": 0.5}, "attribute pad_value is 0.5; -1, 0 and 1 are known"),
        ("BConv", {"kernel": [3]}, "attribute kernel holds 1 numbers, not 2"),
        ("BConv", {"kernel": [0, 1]}, "attribute kernel holds 0, outside 1 to"),
        ("BConv", {"group": 1 << 40}, "attribute group holds 1099511627776, outside 1 to"),
        ("BConv", {"pads": None}, "attribute pads is missing or is not a list of integers"),
        ("BConv", {"channels": "many"}, "attribute channels is missing or is not an integer"),
        ("BConv", {"channels": 1000}, "W has rows of"),
        ("BConvBits", {"dilations": [1, -1]}, "attribute dilations holds -1"),
        ("BGemm", {"channels": 0}, "attribute channels holds 0"),
        ("BGemmBits", {"channels": 99999}, "W has rows of"),
        ("BMaxPool", {"strides": [1, 2, 3]}, "attribute strides holds 3 numbers, not 2"),
        ("BitPack", {"perm": [0, 0]}, "attribute perm is not a permutation"),
        ("BitPack", {"perm": list(range(9))}, "attribute perm holds 9 numbers, more than 8"),
        ("BitPack", {"perm": None}, "attribute perm is missing"),
        ("MatMul1Bit", {"block": -1}, "attribute block holds -1"),
        ("MatMul1Bit", {"channels": 7777}, "W has rows of"),
        ("MatMul1BitInt8", {"block": None}, "attribute block is missing"),
    ],
)
def test_bad_attributes_are_refused_when_the_model_is_opened(
    file: str, op: str, change: dict[str, Any], message: str
) -> None:
    case = _first(op)
    kept = {name: value for name, value in {**case.attributes, **change}.items() if value is not None}
    bad = Case(case.op, case.inputs, case.fed, kept, case.expected).model()
    with pytest.raises(Exception, match=f"{op} 'node': {message}"):
        session(bad, file)


@pytest.mark.parametrize(
    ("op", "change", "message"),
    [
        ("BConv", {"B": np.zeros((1, 4, 4, 99), np.uint8)}, "B has rows of 99 bytes"),
        ("BConv", {"B": np.zeros((4, 4), np.uint8)}, "input 0 has 2 dimensions, not 4"),
        ("BConv", {"W": np.zeros((3, 1, 1), np.uint8)}, "W has 3 planes; one and two are known"),
        ("BConv", {"scale": np.zeros(99, np.float32)}, "input 2 has 99 numbers for"),
        ("BConvBits", {"threshold": np.zeros((2, 2), np.int32)}, "input 2 has 2 dimensions, not 1"),
        ("BGemm", {"W": np.zeros((3, 2), np.uint8)}, "W has 2 dimensions, not 3"),
        ("BGemm", {"B": np.zeros((), np.uint8)}, "B has no dimension"),
        ("BGemm", {"bias": np.zeros(99, np.float32)}, "input 3 has 99 numbers for"),
        ("BMaxPool", {"B": np.zeros((1, 4, 4, 99), np.uint8)}, "B has rows of 99 bytes"),
        ("BMaxPool", {"B": np.zeros((1, 0, 4, 1), np.uint8)}, "the window does not fit into an image of 0 x 4"),
        ("BitPack", {"X": np.zeros((1,) * 9, np.float32)}, "input 0 has 9 dimensions, more than 8"),
        ("BitPack", {"threshold": np.zeros(99, np.float32)}, "threshold has 99 numbers for"),
        ("MatMul1Bit", {"X": np.zeros((2, 999), np.float32)}, "X has rows of 999 numbers"),
        ("MatMul1Bit", {"scale": np.zeros((1, 1, 99), np.float32)}, "scale is 1 x 1 x 99, but W and the blocks need"),
        ("MatMul1BitInt8", {"W": np.zeros((1, 2, 99), np.uint8)}, "W has rows of 99 bytes"),
    ],
)
def test_bad_shapes_are_refused_when_the_model_runs(
    file: str, op: str, change: dict[str, np.ndarray], message: str
) -> None:
    case = _first(op)
    everything = tuple(case.inputs)
    model = case.model(fed=everything)
    for value in model.graph.input:
        value.type.tensor_type.ClearField("shape")
    opened = session(model, file)
    with pytest.raises(Exception, match=f"{op} node.*{message}"):
        opened.run(None, {**case.feed(everything), **change})
    case.check(opened.run(None, case.feed(everything))[0])  # and the session still works


def test_wrong_element_types_are_refused(file: str) -> None:
    case = _first("MatMul1Bit")
    model = case.model()
    model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.DOUBLE
    with pytest.raises(Exception, match="MatMul1Bit"):
        session(model, file)


@pytest.mark.parametrize(("name", "message"), [("sse9", "no instruction set has that name"), ("neon", "lacks")])
def test_an_instruction_set_that_is_not_there_is_refused(
    file: str, name: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name in EVERY_ISA:
        pytest.skip(f"this processor has {name}")
    monkeypatch.setenv("INTAGLIO_KERNELS", name)
    case = _first("BGemm")
    with pytest.raises(Exception, match=message):
        session(case.model(), file)


@pytest.mark.parametrize("op", [op for op in NATIVE if op != "BitPack"])
def test_no_rows_are_none_to_compute(file: str, op: str) -> None:
    case = _first(op)
    model = case.model()
    model.graph.input[0].type.tensor_type.ClearField("shape")
    given_ = case.inputs[case.fed[0]]
    none = np.zeros((0, *given_.shape[1 - given_.ndim :]) if given_.ndim > 1 else (0, *given_.shape), given_.dtype)
    wanted = (0, *case.expected.shape[1:]) if given_.ndim > 1 else (0, *case.expected.shape)
    assert run(model, {case.fed[0]: none}, file).shape == wanted


@pytest.mark.parametrize(("perm", "shape"), [([0, 1], (0, 2)), ([1, 0], (9, 0))])
def test_nothing_packs_to_nothing(file: str, perm: list[int], shape: tuple[int, ...]) -> None:
    x = np.zeros((0, 9), np.float32)
    case = Case("BitPack", {"X": x, "t": np.zeros(1, np.float32)}, ("X",), {"perm": perm}, np.zeros(shape, np.uint8))
    case.check(run(case.model(), case.feed(), file))


@cache
def _first(op: str) -> Case:
    """A small case, always the same."""
    found: list[Case] = []

    @settings(max_examples=1, database=None, phases=[Phase.generate])
    @given(cases(op))
    def take(case: Case) -> None:
        found.append(case)

    take()
    return found[0]


def _matrix_chain(weights: np.ndarray, scale: np.ndarray, *, constant: bool) -> onnx.ModelProto:
    """Both products with real activations, and a product of bits, on the same weights."""
    nodes = [
        helper.make_node("MatMul1Bit", ["x", "W", "scale"], ["y"], domain=DOMAIN, channels=300, block=128),
        helper.make_node("MatMul1BitInt8", ["x", "W", "scale"], ["z"], domain=DOMAIN, channels=300, block=128),
        helper.make_node("BitPack", ["x", "zero"], ["b"], domain=DOMAIN, perm=[0, 1]),
        helper.make_node("BGemm", ["b", "W", "one", "one"], ["g"], domain=DOMAIN, channels=300),
    ]
    held = {"zero": np.zeros(1, np.float32), "one": np.ones(200, np.float32)}
    given_ = {"W": weights, "scale": scale}
    if constant:
        held, given_ = {**held, **given_}, {}
    inputs = [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["rows", 300])]
    inputs += [
        helper.make_tensor_value_info(k, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape) for k, v in given_.items()
    ]
    outputs = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["rows", 200]) for name in "yzg"]
    held_ = [numpy_helper.from_array(v, k) for k, v in held.items()]
    graph = helper.make_graph(nodes, "chain", inputs, outputs, held_)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    attach(model)
    return model


def _same(got: list[np.ndarray], wanted: list[np.ndarray]) -> bool:
    return all(a.tobytes() == b.tobytes() for a, b in zip(got, wanted, strict=True))


def _options(folder: Path) -> Any:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.enable_profiling = True
    options.profile_file_prefix = str(folder / "profile")
    return options


def _open(model: onnx.ModelProto, options: Any) -> Any:
    import onnxruntime as ort

    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
