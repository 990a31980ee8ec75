"""What is collected over batches and sweeps equals what one direct run gives, within the memory that was stated."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from intaglio import Quantize
from intaglio import run as run_passes
from intaglio.graph.errors import BadData, BadModel, UsageError
from intaglio.graph.io.load import from_proto, load
from intaglio.graph.model import Model
from intaglio.measure.data.source import DataSource, open_data
from intaglio.measure.run.session import open_session, run
from intaglio.passes.base import Context
from intaglio.passes.calibration.runner import Sweep, collect, plan, require_data
from intaglio.passes.calibration.statistics import Histogram, Range, Statistic

X = np.random.default_rng(3).standard_normal((22, 3, 6)).astype(np.float32)


def make(inputs: str, outputs: str, body: str, weights: str = "") -> Model:
    held = f" <{weights}>" if weights else ""
    text = f'<ir_version: 8, opset_import: ["" : 17]> net ({inputs}) => ({outputs}){held} {{ {body} }}'
    return from_proto(onnx.parser.parse_model(text))


def source(folder: Path, model: Model, samples: int | None = None, **arrays: np.ndarray) -> DataSource:
    path = folder / "d.npz"
    np.savez(path, **arrays)  # type: ignore[arg-type]
    return open_data(str(path), model, samples=samples)


def small(batch: str = "N") -> Model:
    body = "a = Neg(x) b = Relu(a) c = Add(b, x) y = Tanh(c)"
    return make(f"float[{batch},3,6] x", f"float[{batch},3,6] y", body)


@dataclass
class Kept:
    """All that is given, to compare with."""

    parts: list[np.ndarray] = field(default_factory=list)

    def add(self, values: np.ndarray) -> None:
        self.parts.append(values.copy())

    @property
    def all(self) -> np.ndarray:
        return np.concatenate(self.parts)


def kept(model: Model, data: DataSource, names: Sequence[str], **options: int) -> dict[str, np.ndarray]:
    wanted = {name: [Kept()] for name in names}
    collect(model, data, wanted, **options)  # type: ignore[arg-type]
    return {name: keep.all for name, (keep,) in wanted.items()}


@settings(deadline=None)
@given(batch=st.integers(1, 30), budget=st.integers(1, 6000), samples=st.integers(1, 22))
def test_every_sample_is_added_once_whatever_the_batch_and_budget(
    tmp_path_factory: pytest.TempPathFactory, batch: int, budget: int, samples: int
) -> None:
    model = small()
    data = source(tmp_path_factory.getbasetemp(), model, samples, x=X)
    found = kept(model, data, ["y", "x", "b", "a"], batch=batch, budget_bytes=budget)
    direct = run(open_session(model, outputs=["y", "b", "a"]), {"x": X[:samples]})
    for name, expected in {**direct, "x": X[:samples]}.items():
        np.testing.assert_allclose(found[name], expected, rtol=1e-6, atol=1e-7)


@given(
    sizes=st.lists(st.integers(0, 1000), min_size=1, max_size=12), budget=st.integers(1, 5000), batch=st.integers(1, 64)
)
def test_sweeps_hold_every_tensor_once_and_keep_to_the_budget(sizes: list[int], budget: int, batch: int) -> None:
    run_bytes = {str(i): size for i, size in enumerate(sizes)}
    sweeps = plan(run_bytes, budget, batch)
    assert [name for sweep in sweeps for name in sweep.names] == list(run_bytes)
    for sweep in sweeps:
        held = sum(run_bytes[name] for name in sweep.names) * sweep.batch
        assert 1 <= sweep.batch <= batch
        assert held <= budget or (sweep.batch == 1 and len(sweep.names) == 1)


def test_smaller_batches_come_before_more_sweeps() -> None:
    sizes = {"a": 100, "b": 100, "c": 100}
    assert plan(sizes, 64 * 300, 64) == [Sweep(("a", "b", "c"), 64)]
    assert plan(sizes, 10 * 300, 64) == [Sweep(("a", "b", "c"), 10)]
    assert plan(sizes, 4 * 200, 64) == [Sweep(("a", "b"), 4), Sweep(("c",), 8)]
    assert plan(sizes, 200, 64) == [Sweep(("a",), 2), Sweep(("b",), 2), Sweep(("c",), 2)]


def test_a_small_budget_means_several_sweeps_of_the_same_data(tmp_path: Path) -> None:
    model = small()
    data = source(tmp_path, model, x=X)
    ticks: list[tuple[int, int | None]] = []
    wanted: dict[str, list[Statistic]] = {name: [Range(axis=1)] for name in "abcy"}
    one_sample = X[0].nbytes
    collect(model, data, wanted, budget_bytes=4 * 2 * one_sample, batch=16, tick=lambda *t: ticks.append(t))
    assert ticks == [(done, 44) for done in (4, 8, 12, 16, 20, 22, 26, 30, 34, 38, 42, 44)]


@pytest.fixture(scope="module")
def resnet(shared_data: Path) -> Model:
    return load(shared_data / "resnet20-bn.onnx")


@pytest.fixture(scope="module")
def cifar(shared_data: Path, resnet: Model) -> DataSource:
    spec = str(shared_data / "cifar10_train_calib2000.npz")
    return open_data(spec, resnet, preprocess="cifar10", samples=90)


def test_a_trained_network_has_the_statistics_of_a_direct_computation(resnet: Model, cifar: DataSource) -> None:
    nodes = [n for n in resnet.graph.node if n.op_type in ("Conv", "Relu", "Add", "BatchNormalization")]
    names = [n.output[0] for n in nodes[::5]]
    wanted: dict[str, list[Statistic]] = {n: [Range(axis=1), Range(), Histogram()] for n in names}
    collect(resnet, cifar, wanted, batch=32)
    images = np.concatenate([b.inputs["input"] for b in cifar.batches(50)])
    session = open_session(resnet, outputs=names)
    for name in names:
        exact = run(session, {"input": images}, [name])[name].astype(np.float64)
        channels, extent, histogram = wanted[name]
        assert isinstance(channels, Range)
        assert isinstance(extent, Range)
        assert isinstance(histogram, Histogram)
        most = np.abs(exact).max()
        np.testing.assert_allclose(channels.minimum, exact.min(axis=(0, 2, 3)), rtol=1e-4, atol=1e-5 * most)
        np.testing.assert_allclose(channels.maximum, exact.max(axis=(0, 2, 3)), rtol=1e-4, atol=1e-5 * most)
        np.testing.assert_allclose([extent.minimum, extent.maximum], [exact.min(), exact.max()], rtol=1e-4, atol=1e-4)
        ranked = np.sort(exact, axis=None)
        for share in (0.001, 0.5, 0.999):
            expected = ranked[int(np.ceil(share * exact.size)) - 1]
            assert abs(histogram.quantile(share) - expected) <= histogram.width + 1e-4 * most


def test_many_sweeps_tell_of_a_trained_network_what_one_tells(resnet: Model, cifar: DataSource) -> None:
    names = [n.output[0] for n in resnet.graph.node if n.op_type == "Conv"]
    told = []
    for budget in (1 << 28, 1 << 20):
        wanted: dict[str, list[Statistic]] = {name: [Histogram()] for name in names}
        collect(resnet, cifar, wanted, budget_bytes=budget)
        told.append([h for (h,) in wanted.values() if isinstance(h, Histogram)])
    for one, many in zip(*told, strict=True):
        assert one.count == many.count
        assert one.limit == many.limit
        assert np.abs(np.cumsum(one.counts - many.counts)).max() <= 1e-4 * one.count


WIDE = """
import sys
import numpy as np, onnx.parser
from intaglio.graph.io.load import from_proto
from intaglio.measure.data.source import open_data
from intaglio.measure.run.session import open_session, run
from intaglio.passes.calibration.runner import collect
from intaglio.passes.calibration.statistics import Histogram, Range

body = " ".join(f"t{i + 1} = {'Neg' if i % 2 else 'Tanh'}(t{i})" for i in range(24))
text = f'<ir_version: 8, opset_import: ["" : 17]> net (float[N,256] x) => (float[N,16,256,256] t24)'
weights = "int64[4] row = {-1, 1, 1, 256}, int64[4] all = {1, 16, 256, 256}"
model = from_proto(onnx.parser.parse_model(f"{text} <{weights}> {{ h = Reshape(x, row) t0 = Expand(h, all) {body} }}"))
np.savez(sys.argv[1], x=np.random.default_rng(0).standard_normal((8, 256)).astype(np.float32))
data = open_data(sys.argv[1], model)

def peak():
    return next(int(line.split()[1]) << 10 for line in open("/proc/self/status") if line.startswith("VmHWM"))

run(open_session(model), next(data.batches(1)).inputs)
before = peak()
wanted = {f"t{i}": [Range(axis=1), Histogram()] for i in range(24)}
collect(model, data, wanted, budget_bytes=int(sys.argv[2]))
print(peak() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of memory is read from /proc")
def test_memory_stays_near_the_budget_where_all_tensors_would_take_much_more(tmp_path: Path) -> None:
    budget, all_tensors = 100_000_000, 24 * 8 * 16 * 256 * 256 * 4
    command = [sys.executable, "-c", WIDE, str(tmp_path / "d.npz"), str(budget)]
    grown = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert grown < 3 * budget < all_tensors / 2  # what ONNX Runtime works in is no output, and comes on top


def test_rows_that_fill_up_a_fixed_batch_are_left_out(tmp_path: Path) -> None:
    body = """
        a = Relu(x)
        merged = Reshape(a, flat)
        rows = Reshape(a, two)
        turned = Transpose <perm = [1, 0, 2]> (a)
        inner = Reshape(turned, flat)
        y = Neg(a)
    """
    shapes = "int64[2] flat = {-1, 6}, int64[2] two = {-1, 9}"
    model = make("float[8,3,6] x", "float[8,3,6] y", body, shapes)
    data = source(tmp_path, model, x=X)  # 22 = 8 + 8 + 6
    found = kept(model, data, ["x", "a", "merged", "rows", "inner", "y"])
    real = np.maximum(X, 0)
    np.testing.assert_array_equal(found["x"], X)
    np.testing.assert_array_equal(found["a"], real)
    np.testing.assert_array_equal(found["y"], -real)
    np.testing.assert_array_equal(found["merged"], real.reshape(-1, 6))
    np.testing.assert_array_equal(found["rows"], real.reshape(-1, 9))
    parts = [real[:8], real[8:16], real[16:]]
    wanted: dict[str, list[Statistic]] = {"turned": [Histogram()], "inner": [Range(axis=1)]}
    collect(model, data, wanted)
    (turned,), (inner,) = wanted.values()
    assert isinstance(turned, Histogram)
    assert isinstance(inner, Range)
    np.testing.assert_array_equal(
        turned.counts, np.histogram(real, (np.arange(turned.bins + 1) - turned.bins // 2) * turned.width)[0]
    )
    expected = np.concatenate([p.transpose(1, 0, 2).reshape(-1, 6) for p in parts])
    np.testing.assert_array_equal(found["inner"], expected)
    np.testing.assert_array_equal(inner.maximum, expected.max(axis=0))


def test_filler_that_cannot_be_told_apart_is_refused_with_the_number_of_samples_to_give(tmp_path: Path) -> None:
    weights = ", ".join(map(str, range(64)))
    model = make("float[8,8] x", "float[8,8] y", "y = Mul(x, w)", f"float[8,8] w = {{{weights}}}")
    x = np.random.default_rng(0).standard_normal((13, 8)).astype(np.float32)
    with pytest.raises(BadData, match="'y'") as caught:
        kept(model, source(tmp_path, model, x=x), ["y"])
    assert "multiple of 8" in caught.value.fix
    assert kept(model, source(tmp_path, model, 8, x=x), ["y"])["y"].shape == (8, 8)
    all_of, short = Kept(), set[str]()
    collect(model, source(tmp_path, model, x=x), {"y": [all_of]}, short=short)
    assert short == {"y"}
    np.testing.assert_array_equal(all_of.all, kept(model, source(tmp_path, model, 8, x=x), ["y"])["y"])
    with pytest.raises(BadData, match="'y'"):  # not even one whole run
        collect(model, source(tmp_path, model, 7, x=x), {"y": [Kept()]}, short=set())


def test_tensors_without_samples_stay_whole_beside_filler(tmp_path: Path) -> None:
    model = make("float[8,3,6] x", "float[8,3,6] y", "s = Shape(x) f = Cast <to = 1> (s) y = Relu(x)")
    found = kept(model, source(tmp_path, model, x=X), ["f"])["f"]
    assert found.reshape(-1, 3).tolist() == [[8, 3, 6]] * 3


def test_each_sample_of_a_whole_run_is_added(tmp_path: Path) -> None:
    model = make("float[3,6] x, float s", "float[3,6] y", "a = Mul(x, s) y = Relu(a)")
    factors = np.arange(22, dtype=np.float32)
    found = kept(model, source(tmp_path, model, x=X, s=factors), ["a"])["a"]
    np.testing.assert_allclose(found, (X * factors[:, None, None]).reshape(-1, 6))


def test_tensors_whose_shape_shows_only_in_a_run_are_collected_too(tmp_path: Path) -> None:
    model = make(
        "float[N,6] x", "float[M,2] y", "p = Greater(x, zero) i = NonZero(p) f = Cast <to = 1> (i) y = Transpose(f)",
        "float zero = {0}",
    )  # fmt: skip
    x = X[:, 0]
    found = kept(model, source(tmp_path, model, x=x), ["y"], batch=22, budget_bytes=1 << 20)["y"]
    np.testing.assert_array_equal(found, np.argwhere(x > 0))


def test_graph_inputs_alone_need_no_run(tmp_path: Path) -> None:
    model = small()
    model.graph.node[0].op_type = "Unheard"
    np.testing.assert_array_equal(kept(model, source(tmp_path, model, x=X), ["x"])["x"], X)


def test_a_tensor_that_is_not_there_or_constant_is_told(tmp_path: Path) -> None:
    model = make(
        "float[N,3,6] x", "float[N,3,6] y", "hidden = Mul(x, w) y = Relu(hidden)", "float[6] w = {1,2,3,4,5,6}"
    )
    data = source(tmp_path, model, x=X)
    with pytest.raises(UsageError, match="no tensor 'hiden'") as caught:
        kept(model, data, ["hiden"])
    assert "'hidden'" in caught.value.fix
    with pytest.raises(UsageError, match="'w' is a constant"):
        kept(model, data, ["w"])


def test_data_with_nan_is_told_from_a_model_that_makes_them(tmp_path: Path) -> None:
    model = make("float[N,6] x", "float[N,6] y", "root = Sqrt(x) y = Neg(root)")
    wanted: dict[str, list[Statistic]] = {"root": [Range()]}
    with pytest.raises(BadModel, match=r"tensor 'root': 1 of its 12 values are NaN"):
        collect(model, source(tmp_path, model, x=np.array([[1, 2, 3, 4, 5, 6], [1, 2, -3, 4, 5, 6]])), wanted)
    x = np.ones((3, 6))
    x[2, 1] = np.nan
    with pytest.raises(BadData, match="input 'x' holds NaN"):
        collect(model, source(tmp_path, model, x=x), wanted)


def test_a_tensor_that_does_not_fit_its_statistic_is_named(tmp_path: Path) -> None:
    model = make("float[N,6] x", "float[N,6] y", "a = Neg(x) y = Neg(a)")
    with pytest.raises(BadModel, match=r"tensor 'a': .* no axis 2"):
        collect(model, source(tmp_path, model, x=X[:, 0]), {"a": [Range(axis=2)]})


def test_no_samples_are_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    lines = "import numpy as np", "def rows(): return {'x': np.zeros((0, 3, 6), np.float32)}"
    (tmp_path / "loader_of_nothing.py").write_text("\n".join(lines))
    model = small()
    with pytest.raises(BadData, match="no samples"):
        collect(model, open_data("loader_of_nothing:rows", model), {"y": [Range()]})


def test_missing_data_is_an_error_that_names_the_options(tmp_path: Path) -> None:
    data = source(tmp_path, small(), x=X)
    assert require_data(Context(data=data)) is data
    with pytest.raises(UsageError, match="calibration data is missing") as caught:
        require_data(Context())
    for option in ("--data", ".npz", "test_data_set", "module:callable", "--dialect noise", "dfpc", "udfc"):
        assert option in caught.value.fix
    with pytest.raises(UsageError) as caught:
        require_data(Context(), without="")
    assert "Without" not in caught.value.fix


def test_too_few_samples_for_the_last_run_are_a_note_of_quantize_with_the_numbers(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    scales, weights = (", ".join(map(str, one)) for one in (range(512), random.standard_normal(1024).tolist()))
    constants = f"float[8,64] s = {{{scales}}}, float[64,16] w = {{{weights}}}"
    model = make("float[8,64] x", "float[8,16] y", "a = Mul(x, s) y = MatMul(a, w)", constants)
    x = random.standard_normal((15, 64)).astype(np.float32)
    np.savez(tmp_path / "d.npz", x=x)
    told = run_passes(model, Quantize(), data=str(tmp_path / "d.npz"), measure=False, force=True).as_dict()
    (note,) = [one for one in told["notes"] if "left out" in one]
    assert note.startswith("the last 7 of 15 samples are left out of the ranges of 1 tensor, such as 'a'")
    assert "multiple of 8" in note
