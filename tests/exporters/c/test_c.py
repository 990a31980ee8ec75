"""Exported C, compiled and run: equal to ONNX Runtime, of the memory that was planned, refused where it must be."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from intaglio import load
from intaglio import run as run_passes
from intaglio.exporters.base import EXPORTERS, CannotExport
from intaglio.exporters.c.planning import Work, plan
from intaglio.graph.errors import BadModel, UsageError
from intaglio.graph.io.fix_dims import pin_shapes
from intaglio.graph.io.load import from_proto
from intaglio.graph.io.save import save
from intaglio.graph.model import Model
from intaglio.measure.run.inputs import runnable_inputs
from intaglio.measure.run.session import open_session, run
from intaglio.passes.binarize import Binarize
from intaglio.passes.quantize import Quantize
from intaglio.pipeline.exporting import export
from tests.passes.parsed import parsed

EXAMPLES = Path(__file__).parents[3] / "examples"


def fixed(model: Model) -> Model:
    """The model for one sample."""
    pinned = model.copy()
    ends = [v for v in model.graph.input if v.name not in model.weights]
    pin_shapes(pinned, {v.name: [d.dim_value or 1 for d in v.type.tensor_type.shape.dim] for v in ends})
    return pinned


def differences(model: Model, folder: Path, **options: str) -> dict[str, float]:
    """How far outputs are from ONNX Runtime's, of the largest, over three inputs."""
    exporter = EXPORTERS["c"] if not options else type(EXPORTERS["c"])(**options)
    runner = exporter.open(exporter.write(model, folder), model, 1)
    session = open_session(model)
    worst: dict[str, float] = {}
    for seed in range(3):
        inputs = runnable_inputs(model, seed=seed, batches=(1,))
        found = runner.run(inputs)
        for name, value in run(session, inputs).items():
            off = float(np.abs(value.astype("f8") - found[name]).max() / np.abs(value).max())
            worst[name] = max(worst.get(name, 0.0), off)
    return worst


def test_constants_that_onnx_runtime_cannot_compute_are_one_error(tmp_path: Path) -> None:
    """One scale for each channel of an axis that is not said, as the default is another."""
    q, z = np.ones((3, 4), np.int8), np.zeros(3, np.int8)
    text = "w = DequantizeLinear(q, s, z) y = Gemm <transB = 1> (x, w)"
    model = parsed("float[1, 4] x", "float[1, 3] y", "int8[3, 4] q, float[3] s, int8[3] z", text, q=q, z=z)
    save(model, tmp_path / "m.onnx")
    with pytest.raises(BadModel, match="from its weights alone fails") as caught:
        export(tmp_path / "m.onnx", "c", tmp_path / "c", measure=False)
    assert caught.value.why.startswith("DequantizeLinear")


@pytest.mark.parametrize("name", ["residual", "attention"])
def test_networks_of_floats_equal_those_of_onnx_runtime(name: str, tmp_path: Path) -> None:
    worst = differences(fixed(load(EXAMPLES / f"{name}.onnx")), tmp_path / name)
    assert max(worst.values()) < 2e-6


@pytest.fixture(scope="module")
def integers() -> Model:
    """A network in integers: convolutions, additions, pools, a concatenation."""
    return fixed(Quantize(input_ranges=(("image", 0.0, 16.0),)).run(load(EXAMPLES / "digits.onnx")).model)


@pytest.fixture(scope="module")
def packed() -> Model:
    """A network on bits."""
    return fixed(Binarize().run(load(EXAMPLES / "binary_digits.onnx")).model)


def test_integers_come_out_as_those_of_onnx_runtime(integers: Model, tmp_path: Path) -> None:
    assert max(differences(integers, tmp_path / "digits").values()) < 1e-6


def test_networks_on_bits_equal_those_of_onnx_runtime(packed: Model, tmp_path: Path) -> None:
    assert max(differences(packed, tmp_path / "bits").values()) < 2e-6


SYSTEMS: Mapping[str, tuple[str, list[str], list[str]]] = {
    "sanitizers": ("cc", [], ["-O0", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]),
    "aarch64": ("aarch64-linux-gnu-gcc", ["qemu-aarch64"], ["-O1", "-static"]),
}


@pytest.mark.parametrize("kind", ["integers", "packed"])
@pytest.mark.parametrize("system", sorted(SYSTEMS))
def test_test_vectors_pass(kind: str, system: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """By an ordinary compiler, without a warning, with every access watched; and on another processor, emulated."""
    passes_on(system, request.getfixturevalue(kind), tmp_path)


REAL = {
    "ResNet-8": ("mlperf-resnet8.onnx", "cifar10_train_calib2000.npz"),
    "DS-CNN": ("kws_dscnn_from_drq_tflite.onnx", "kws01_even500.npz"),
}


@pytest.mark.parametrize("name", REAL)
def test_real_networks_in_integers_pass_on_another_processor(name: str, shared_data: Path, tmp_path: Path) -> None:
    model, data = (shared_data / file for file in REAL[name])
    run_passes(model, Quantize(scheme="int8"), data=data, samples=32, out=tmp_path / "q.onnx", measure=False)
    passes_on("aarch64", fixed(load(tmp_path / "q.onnx")), tmp_path)


def passes_on(system: str, model: Model, tmp_path: Path) -> None:
    """Compile and run the test vector, in little more memory than what is alive at once."""
    name, run_by, flags = SYSTEMS[system]
    if not all(shutil.which(one) for one in (name, *run_by)):
        pytest.skip(f"there is no {name}, or nothing that runs what it makes")
    folder = tmp_path / "net"
    figures: Mapping[str, int] = EXPORTERS["c"].write(model, folder).figures
    strict = ["-std=c99", "-Wall", "-Wextra", "-Werror"]
    files = [str(folder / file) for file in ("net.c", "main.c")]
    subprocess.run([name, *strict, *flags, *files, "-o", str(tmp_path / "run"), "-lm"], check=True)
    done = subprocess.run([*run_by, str(tmp_path / "run"), "1"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "passed" in done.stdout
    assert figures["live_bytes"] <= figures["arena_bytes"] <= 1.1 * figures["live_bytes"]


@pytest.mark.parametrize("kind", ["integers", "packed"])
@pytest.mark.parametrize("core", ["m0plus", "m4", "m7", "m55"])
def test_it_compiles_for_microcontrollers(kind: str, core: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Without a warning, the example with it; what is static is the arena and nothing else."""
    if not shutil.which("arm-none-eabi-gcc"):
        pytest.skip("there is no arm-none-eabi-gcc")
    EXPORTERS["c"].write(request.getfixturevalue(kind), tmp_path / "net")
    strict = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-O1", "-mthumb", f"-mcpu=cortex-{core}", "-c"]
    for file in ("net", "main"):
        source, out = (str(tmp_path / one) for one in (f"net/{file}.c", f"{file}.o"))
        subprocess.run(["arm-none-eabi-gcc", *strict, source, "-o", out], check=True)
    told = subprocess.run(["arm-none-eabi-size", str(tmp_path / "net.o")], capture_output=True, text=True, check=True)
    data, bss = map(int, told.stdout.splitlines()[1].split()[1:3])
    arena = int((tmp_path / "net" / "net.h").read_text().split("NET_ARENA_BYTES")[1].split()[0])
    assert (data, bss) == (0, arena)


def test_the_same_model_makes_the_same_bytes(packed: Model, tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        EXPORTERS["c"].write(packed, tmp_path / folder / "net")
    for file in (tmp_path / "one" / "net").iterdir():
        assert file.read_bytes() == (tmp_path / "two" / "net" / file.name).read_bytes()


def test_without_a_compiler_nothing_is_said_to_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    with pytest.raises(CannotExport, match="no C compiler"):
        differences(fixed(load(EXAMPLES / "residual.onnx")), tmp_path / "net")


def test_the_vector_draws_what_is_true_or_false_as_c_does(tmp_path: Path) -> None:
    """A number between 0 and 1 is true to NumPy, and 0 as a byte."""
    text = "n = Where(mask, low, x) y = Softmax(n)"
    model = parsed(
        "float[1, 64] x, bool[1, 64] mask", "float[1, 64] y", "float low", text, low=np.array(-1e9, np.float32)
    )
    save(model, tmp_path / "m.onnx")
    done = export(tmp_path / "m.onnx", "c", tmp_path / "out", measure=False)
    assert done.failed is None


def test_all_that_cannot_be_written_is_named_at_once(tmp_path: Path) -> None:
    nodes = [helper.make_node("NonZero", ["x"], ["n"], "first"), helper.make_node("Det", ["x"], ["d"], "second")]
    ends = [helper.make_tensor_value_info(n, k, s) for n, k, s in (("x", 1, [2, 2]), ("n", 7, None), ("d", 1, []))]
    graph = helper.make_graph(nodes, "strange", ends[:1], ends[1:])
    model = from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))
    with pytest.raises(CannotExport, match="NonZero, Det"):
        EXPORTERS["c"].write(model, tmp_path / "net")
    assert not (tmp_path / "net").exists()


@pytest.mark.parametrize("text", ["h = Reshape (x, s) g = Relu (h) y = Neg (g)", "h = local.Odd (x) y = Add (h, x)"])
def test_what_has_no_known_shape_or_type_is_named(tmp_path: Path, text: str) -> None:
    head = '<ir_version: 8, opset_import: ["" : 17, "local" : 1]> net (float[2, 2] x, int64[n] s) => (float[a] y)'
    with pytest.raises(CannotExport, match="the shape or type of 'h' is not known"):
        EXPORTERS["c"].write(from_proto(onnx.parser.parse_model(f"{head} {{ {text} }}")), tmp_path / "net")
    assert not (tmp_path / "net").exists()


def test_a_constant_of_a_type_that_c_does_not_have_is_named(tmp_path: Path) -> None:
    head = '<ir_version: 8, opset_import: ["" : 17]> net (float[2] x) => (float[2] y) <float16[2] h = {1, 2}>'
    with pytest.raises(CannotExport, match="C has no float16"):
        EXPORTERS["c"].write(from_proto(onnx.parser.parse_model(f"{head} {{ y = Add (x, h) }}")), tmp_path / "net")


def test_a_tensor_of_nothing_is_named(tmp_path: Path) -> None:
    head = '<ir_version: 8, opset_import: ["" : 17]> net (float[2, 4] x) => (float[2, 0] y, int64[2, 0] z) <int64[1] k = {0}>'
    with pytest.raises(CannotExport, match="c cannot hold TopK") as told:
        EXPORTERS["c"].write(from_proto(onnx.parser.parse_model(f"{head} {{ y, z = TopK (x, k) }}")), tmp_path / "net")
    assert "holds no number" in told.value.why


@pytest.mark.parametrize("seed", range(20))
def test_buffers_that_live_together_do_not_overlap(seed: int) -> None:
    """Random chains with side branches: no two of them share bytes, and orders keep what is read before it is written."""
    rng = np.random.default_rng(seed)
    count = 9
    reads = [frozenset(f"b{m}" for m in {k - 1, int(rng.integers(0, k))}) if k else frozenset() for k in range(count)]
    works = [Work(r, frozenset({f"b{k}"}), int(rng.integers(0, 2)) * 48) for k, r in enumerate(reads)]
    sizes = {f"b{k}": int(rng.integers(1, 9)) * 64 for k in range(count)}
    made = plan(works, sizes)
    at = {k: place for place, k in enumerate(made.order)}
    last = {n: max(at[k] for k, w in enumerate(works) if n in w.reads | w.writes) for n in sizes}
    assert all(at[int(name[1:])] < at[k] for k, w in enumerate(works) for name in w.reads)
    for a in range(count):
        for b in range(a):
            together = at[a] <= last[f"b{b}"] and at[b] <= last[f"b{a}"]
            apart = (
                made.offsets[f"b{a}"] + sizes[f"b{a}"] <= made.offsets[f"b{b}"]
                or made.offsets[f"b{b}"] + sizes[f"b{b}"] <= made.offsets[f"b{a}"]
            )
            assert apart or not together
    assert made.live_bytes <= made.arena_bytes <= 1.1 * made.live_bytes


def test_what_needs_more_memory_than_allowed_is_refused(tmp_path: Path) -> None:
    model = fixed(load(EXAMPLES / "residual.onnx"))
    with pytest.raises(CannotExport, match="the arena takes"):
        differences(model, tmp_path / "small", memory="1KB")
    with pytest.raises(UsageError, match="no number of bytes"):
        differences(model, tmp_path / "small", memory="lots")


def test_free_axes_are_told_with_as_many_numbers_as_the_input_has(tmp_path: Path) -> None:
    ids = helper.make_tensor_value_info("ids", TensorProto.INT64, ["B", "S"])
    out = helper.make_tensor_value_info("y", TensorProto.INT64, ["B", "S"])
    graph = helper.make_graph([helper.make_node("Add", ["ids", "ids"], ["y"])], "g", [ids], [out])
    save(from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])), tmp_path / "text.onnx")
    with pytest.raises(UsageError) as refused:
        export(tmp_path / "text.onnx", "c", tmp_path / "net")
    assert refused.value.fix == "give them, such as --shape ids:1,32"


def test_the_command_writes_checks_and_tells_of_memory(packed: Model, tmp_path: Path) -> None:
    save(packed, tmp_path / "bits.onnx")
    done = export(tmp_path / "bits.onnx", "c:memory=300KB", tmp_path / "net", measure=False).as_dict()
    assert done["passed"]
    assert 0 < done["figures"]["live_bytes"] <= done["figures"]["arena_bytes"] <= 300 * 1024
    assert sorted(file.name for file in (tmp_path / "net").iterdir()) == [
        "CMakeLists.txt",
        "main.c",
        "net.c",
        "net.h",
        "test_vector.h",
    ]
