"""Data of every kind reaches the model as it was stored, in order, whatever the batch; misfits are told."""

from __future__ import annotations

import io
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from intaglio.graph.errors import BadData, UsageError
from intaglio.graph.model import Model
from intaglio.measure.data.source import DataSource, open_data
from tests.passes.parsed import parsed

from ..conftest import MakeModel

IMAGES = np.random.default_rng(1).standard_normal((7, 3, 4, 5)).astype(np.float32)
LABELS = np.arange(7)


def all_of(source: DataSource, size: int = 3) -> dict[str, np.ndarray]:
    """The real rows of all batches, joined."""
    pieces = [{n: a[: b.count] for n, a in b.inputs.items()} for b in source.batches(size)]
    return {name: np.concatenate([p[name] for p in pieces]) for name in pieces[0]}


def labels_of(source: DataSource) -> list[int]:
    return [int(v) for b in source.batches(3) for v in (b.labels if b.labels is not None else ())]


@given(rows=st.integers(1, 9), size=st.integers(1, 10), limit=st.none() | st.integers(1, 12), packed=st.booleans())
def test_batches_put_together_are_the_stored_arrays(
    images: Model, tmp_path_factory: pytest.TempPathFactory, rows: int, size: int, limit: int | None, packed: bool
) -> None:
    path = tmp_path_factory.getbasetemp() / "batches.npz"
    stored = np.random.default_rng(rows).standard_normal((rows, 3, 4, 5)).astype(np.float32)
    save = np.savez_compressed if packed else np.savez
    save(path, image=stored, labels=np.arange(rows))
    source = open_data(str(path), images, samples=limit)
    kept = min(rows, limit or rows)
    assert source.samples == kept
    assert [b.count for b in source.batches(size)][:-1] == [size] * ((kept - 1) // size)
    np.testing.assert_array_equal(all_of(source, size)["image"], stored[:kept])
    assert labels_of(source) == list(range(kept))


def test_a_source_can_be_read_again(images: Model, tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", image=IMAGES)
    source = open_data(str(tmp_path / "d.npz"), images)
    np.testing.assert_array_equal(all_of(source, 2)["image"], all_of(source, 5)["image"])


def test_arrays_in_fortran_order_are_read_right(images: Model, tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", image=np.asfortranarray(IMAGES))
    np.testing.assert_array_equal(all_of(open_data(str(tmp_path / "d.npz"), images))["image"], IMAGES)


@pytest.mark.parametrize(("data", "labels"), [("x", "y"), ("images", "targets"), ("anything", "label")])
def test_one_array_of_another_name_serves_the_only_input_and_that_is_said(
    images: Model, tmp_path: Path, data: str, labels: str
) -> None:
    arrays: dict[str, Any] = {data: IMAGES, labels: LABELS}
    np.savez(tmp_path / "d.npz", **arrays)
    source = open_data(str(tmp_path / "d.npz"), images)
    assert labels_of(source) == list(range(7))
    assert any(data in note for note in source.notes)


def test_an_input_called_y_is_an_input(make_model: MakeModel, tmp_path: Path) -> None:
    model = make_model("float[N,2] y", "float[N,2] z", "z = Relu(y)")
    np.savez(tmp_path / "d.npz", y=np.ones((3, 2), np.float32))
    source = open_data(str(tmp_path / "d.npz"), model)
    assert source.samples == 3
    assert not source.labelled


def test_the_last_batch_of_a_fixed_size_is_filled_up_and_says_so(make_model: MakeModel, tmp_path: Path) -> None:
    model = make_model("float[4,3] x", "float[4,3] y", "y = Relu(x)")
    np.savez(tmp_path / "d.npz", x=np.arange(21, dtype=np.float32).reshape(7, 3))
    batches = list(open_data(str(tmp_path / "d.npz"), model).batches(64))
    assert [(b.inputs["x"].shape, b.count) for b in batches] == [((4, 3), 4), ((4, 3), 3)]


def test_a_single_sample_without_a_sample_axis_gets_one(images: Model, tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", image=IMAGES[0])
    source = open_data(str(tmp_path / "d.npz"), images)
    np.testing.assert_array_equal(all_of(source)["image"], IMAGES[:1])
    assert any("one sample" in note for note in source.notes)


def test_a_single_image_with_its_channels_last_gets_a_sample_axis_too(images: Model, tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", image=IMAGES[0].transpose(1, 2, 0))
    source = open_data(str(tmp_path / "d.npz"), images, preprocess="layout=nchw")
    np.testing.assert_array_equal(all_of(source)["image"], IMAGES[:1])


def test_axes_of_length_one_come_and_go(make_model: MakeModel, tmp_path: Path) -> None:
    model = make_model("float[N,1,4,5] x", "float[N,1,4,5] y", "y = Relu(x)")
    np.savez(tmp_path / "d.npz", x=IMAGES[:, 0])
    np.testing.assert_array_equal(all_of(open_data(str(tmp_path / "d.npz"), model))["x"], IMAGES[:, :1])


def test_one_more_axis_makes_every_sample_a_whole_run(make_model: MakeModel, tmp_path: Path) -> None:
    model = make_model("float[2,3] x, float s", "float[2,3] y", "y = Mul(x, s)")
    x = np.arange(30, dtype=np.float32).reshape(5, 2, 3)
    np.savez(tmp_path / "d.npz", x=x, s=np.arange(5, dtype=np.float32))
    batches = list(open_data(str(tmp_path / "d.npz"), model).batches(64))
    assert [b.inputs["x"].shape for b in batches] == [(2, 3)] * 5
    assert [float(b.inputs["s"]) for b in batches] == [0, 1, 2, 3, 4]


def test_a_lone_value_holds_for_every_sample(make_model: MakeModel, tmp_path: Path) -> None:
    model = make_model("float[N,3] x, float s", "float[N,3] y", "y = Mul(x, s)")
    np.savez(tmp_path / "d.npz", x=np.ones((5, 3), np.float32), s=np.float32(2))
    assert [float(b.inputs["s"]) for b in open_data(str(tmp_path / "d.npz"), model).batches(2)] == [2, 2, 2]


def test_whole_bytes_go_into_a_float_input_and_that_is_said(images: Model, tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", image=np.full((2, 3, 4, 5), 255, np.uint8))
    source = open_data(str(tmp_path / "d.npz"), images)
    assert all_of(source)["image"].max() == 255
    assert any("unscaled" in note for note in source.notes)
    assert not open_data(str(tmp_path / "d.npz"), images, preprocess="none").notes


def test_a_layout_says_nothing_of_scales(images: Model, tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", image=np.full((2, 4, 5, 3), 255, np.uint8))
    for steps, warned in (("layout=nchw", True), ("unit,layout=nchw", False), ("layout=nchw,dtype=float32", False)):
        notes = open_data(str(tmp_path / "d.npz"), images, preprocess=steps).notes
        assert any("unscaled" in note for note in notes) == warned


def test_data_in_nhwc_is_turned_with_a_note(images: Model, tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", image=IMAGES.transpose(0, 2, 3, 1))
    for steps in (None, "mean=1:2:3", "layout=nchw"):
        source = open_data(str(tmp_path / "d.npz"), images, preprocess=steps)
        shift = np.array([1, 2, 3]).reshape(3, 1, 1) if steps == "mean=1:2:3" else 0
        np.testing.assert_allclose(all_of(source)["image"], IMAGES - shift, rtol=1e-5, atol=1e-6)
        told = "'image' is NHWC and the model takes NCHW: the channels are moved; layout=nchw in --preprocess says so"
        assert (told in source.notes) == (steps != "layout=nchw")


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_a_layout_step_that_spoils_what_fitted_is_to_be_left_out(images: Model, tmp_path: Path, layout: str) -> None:
    np.savez(tmp_path / "d.npz", image=IMAGES)
    with pytest.raises(BadData) as caught:
        open_data(str(tmp_path / "d.npz"), images, preprocess=f"layout={layout}")
    assert f"leave layout={layout} out" in caught.value.fix
    assert "(7, 3, 4, 5), after --preprocess" in caught.value.why


def test_a_layout_step_the_wrong_way_is_told_the_other(images: Model, tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", image=IMAGES.transpose(0, 2, 3, 1))
    with pytest.raises(BadData) as caught:
        open_data(str(tmp_path / "d.npz"), images, preprocess="layout=nhwc")
    assert "say layout=nchw" in caught.value.fix


def test_arrays_of_another_size_are_told_the_shape_and_that_none_are_resized(images: Model, tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", image=IMAGES[:, :, :3])
    with pytest.raises(BadData) as caught:
        open_data(str(tmp_path / "d.npz"), images)
    assert "(samples, 3, 4, 5)" in caught.value.fix


@pytest.mark.parametrize(
    ("array", "told"),
    [
        (np.full((7, 3, 4, 5), "a"), "holds text"),
        (IMAGES.astype(complex), "complex128"),
        (np.zeros(7, [("a", "f4"), ("b", "i4")]), "fields a, b"),
    ],
)
def test_what_is_no_plain_number_is_refused(images: Model, tmp_path: Path, array: np.ndarray, told: str) -> None:
    np.savez(tmp_path / "d.npz", image=array)
    with pytest.raises(BadData, match=told) as caught:
        open_data(str(tmp_path / "d.npz"), images)
    assert caught.value.fix


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("d.npz", b"", "empty"),
        ("d.npz", b"\x93NUMPY\x01\x00 more", "as an .npy file does"),
        ("d.npy", b"PK\x03\x04 more", "as an .npz file is"),
        ("d.npz", b"PK\x03\x04 more", "cut short"),
    ],
)
def test_a_broken_file_is_told_what_it_looks_like(
    images: Model, tmp_path: Path, name: str, content: bytes, why: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BadData, match="cannot read") as caught:
        open_data(str(tmp_path / name), images)
    assert why in caught.value.why
    assert caught.value.fix


def test_flattened_data_is_told_the_shape_to_ask_for(images: Model, tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", image=IMAGES.reshape(7, 60))
    with pytest.raises(BadData) as caught:
        open_data(str(tmp_path / "d.npz"), images)
    assert "shape=3x4x5" in caught.value.fix


def test_a_missing_input_is_named_with_what_there_is(make_model: MakeModel, tmp_path: Path) -> None:
    model = make_model("float[N,3] left, float[N,3] right", "float[N,3] y", "y = Add(left, right)")
    np.savez(tmp_path / "d.npz", left=np.ones((2, 3)), wrong=np.ones((2, 3)))
    with pytest.raises(BadData, match="'right'") as caught:
        open_data(str(tmp_path / "d.npz"), model)
    assert "wrong" in caught.value.why


@pytest.mark.parametrize("name", ["labels", "y"])
def test_labels_alone_are_told_to_be_no_input(images: Model, tmp_path: Path, name: str) -> None:
    np.savez(tmp_path / "d.npz", **{name: LABELS})  # type: ignore[arg-type]
    with pytest.raises(BadData, match="'image'") as caught:
        open_data(str(tmp_path / "d.npz"), images)
    assert caught.value.why.endswith("which are labels")
    assert "image float32 (N, 3, 4, 5)" in caught.value.fix


def test_arrays_without_rows_are_refused_when_opened(images: Model, tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", image=IMAGES[:0], labels=LABELS[:0])
    with pytest.raises(BadData, match="holds no samples") as caught:
        open_data(str(tmp_path / "d.npz"), images)
    assert "image has shape (0, 3, 4, 5)" in caught.value.why


def test_arrays_of_different_lengths_are_refused(images: Model, tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", image=IMAGES, labels=np.arange(6))
    with pytest.raises(BadData, match="same number of samples"):
        list(open_data(str(tmp_path / "d.npz"), images).batches())


def test_floats_do_not_become_integers_in_silence(make_model: MakeModel, tmp_path: Path) -> None:
    model = make_model("int64[N,3] ids", "int64[N,3] y", "y = Add(ids, ids)")
    np.savez(tmp_path / "d.npz", ids=np.full((2, 3), 1.5))
    with pytest.raises(BadData, match="float64"):
        open_data(str(tmp_path / "d.npz"), model)
    source = open_data(str(tmp_path / "d.npz"), model, preprocess="dtype=int64")
    assert all_of(source)["ids"].tolist() == [[1, 1, 1]] * 2


def test_an_integer_that_does_not_fit_its_input_is_refused(make_model: MakeModel, tmp_path: Path) -> None:
    model = make_model("int8[N,3] ids", "float[N,3] y", "y = Cast <to = 1> (ids)")
    np.savez(tmp_path / "d.npz", ids=np.full((2, 3), 200))
    with pytest.raises(BadData, match="200"):
        list(open_data(str(tmp_path / "d.npz"), model).batches())


def test_a_pickle_in_an_archive_is_refused_and_not_run(images: Model, tmp_path: Path) -> None:
    trap = np.empty(1, dtype=object)
    trap[0] = Path("x")
    np.savez(tmp_path / "d.npz", image=trap, allow_pickle=True)
    with pytest.raises(BadData, match="Python objects"):
        open_data(str(tmp_path / "d.npz"), images)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no", b"\x93NUMPY\x01\x00", b"hello" * 99])
def test_a_file_of_another_kind_is_refused(images: Model, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "d.npz").write_bytes(content)
    with pytest.raises(BadData, match="cannot read"):
        open_data(str(tmp_path / "d.npz"), images)


@pytest.mark.parametrize("name", ["d.npz", "d.npy"])
@pytest.mark.parametrize("kept", [0.05, 0.4, 0.95])
def test_a_truncated_file_is_refused(images: Model, tmp_path: Path, name: str, kept: float) -> None:
    path = tmp_path / name
    np.savez(path, image=IMAGES) if name.endswith("z") else np.save(path, IMAGES)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * kept)])
    with pytest.raises(BadData):
        list(open_data(str(path), images).batches())


def test_a_header_that_promises_too_much_is_refused_before_it_is_believed(images: Model, tmp_path: Path) -> None:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "<f4", "fortran_order": False, "shape": (1, 3, 1 << 20, 1 << 20)}
    )
    with zipfile.ZipFile(tmp_path / "d.npz", "w") as archive:
        archive.writestr("image.npy", header.getvalue())
    with pytest.raises(BadData, match="one sample"):
        open_data(str(tmp_path / "d.npz"), images)


def test_an_npy_file_serves_the_only_input(images: Model, tmp_path: Path) -> None:
    np.save(tmp_path / "d.npy", IMAGES)
    np.testing.assert_array_equal(all_of(open_data(str(tmp_path / "d.npy"), images))["image"], IMAGES)


def test_a_folder_of_npy_samples_is_read_in_the_order_of_names(images: Model, tmp_path: Path) -> None:
    for i, image in enumerate(IMAGES):
        np.save(tmp_path / f"sample{i}.npy", image)
    np.save(tmp_path / "labels.npy", LABELS)
    source = open_data(str(tmp_path), images)
    np.testing.assert_array_equal(all_of(source)["image"], IMAGES)
    assert labels_of(source) == list(range(7))


def test_npy_files_named_after_the_inputs_hold_all_samples(make_model: MakeModel, tmp_path: Path) -> None:
    model = make_model("float[N,3] a, float[N,3] b", "float[N,3] y", "y = Sub(a, b)")
    np.save(tmp_path / "a.npy", np.ones((4, 3), np.float32))
    np.save(tmp_path / "b.npy", np.zeros((4, 3), np.float32))
    np.save(tmp_path / "labels.npy", np.arange(4))
    source = open_data(str(tmp_path), model)
    assert (source.samples, source.labelled) == (4, True)


def save_images(folder: Path, pixels: np.ndarray) -> None:
    image = pytest.importorskip("PIL.Image")
    folder.mkdir(parents=True, exist_ok=True)
    for i, p in enumerate(pixels):
        image.fromarray(p).save(folder / f"{i:03}.png")


def test_a_folder_of_images_is_read_as_rgb(images: Model, tmp_path: Path) -> None:
    pixels = np.random.default_rng(2).integers(0, 256, (5, 4, 5, 3)).astype(np.uint8)
    save_images(tmp_path, pixels)
    source = open_data(str(tmp_path), images, preprocess="unit,layout=nchw")
    np.testing.assert_allclose(all_of(source)["image"], pixels.transpose(0, 3, 1, 2) / 255, rtol=1e-6)


@pytest.mark.parametrize(("names", "labels"), [(("cat", "dog"), [0, 0, 1, 1]), (("2", "10"), [10, 10, 2, 2])])
def test_subfolders_are_classes_and_numbers_keep_their_meaning(
    images: Model, tmp_path: Path, names: tuple[str, str], labels: list[int]
) -> None:
    for name in names:
        save_images(tmp_path / name, np.zeros((2, 4, 5, 3), np.uint8))
    assert labels_of(open_data(str(tmp_path), images, preprocess="unit,layout=nchw")) == labels


def test_images_of_the_wrong_size_are_told_to_be_resized_and_then_fit(images: Model, tmp_path: Path) -> None:
    save_images(tmp_path, np.zeros((2, 20, 30, 3), np.uint8))
    with pytest.raises(BadData) as caught:
        open_data(str(tmp_path), images, preprocess="unit,layout=nchw")
    assert "resize=" in caught.value.fix
    exact = open_data(str(tmp_path), images, preprocess="resize=4x5,unit,layout=nchw")
    assert all_of(exact)["image"].shape == (2, 3, 4, 5)
    cut = open_data(str(tmp_path), images, preprocess="resize=8,crop=4x5,unit,layout=nchw")
    assert all_of(cut)["image"].shape == (2, 3, 4, 5)


def test_resizing_arrays_is_not_done_and_said(images: Model, tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", image=IMAGES)
    source = open_data(str(tmp_path / "d.npz"), images, preprocess="resize=8")
    np.testing.assert_array_equal(all_of(source)["image"], IMAGES)
    assert any("resize" in note for note in source.notes)


def test_images_become_gray_for_a_model_with_one_channel(make_model: MakeModel, tmp_path: Path) -> None:
    model = make_model("float[N,1,4,5] x", "float[N,1,4,5] y", "y = Relu(x)")
    save_images(tmp_path, np.full((2, 4, 5, 3), 51, np.uint8))
    np.testing.assert_allclose(all_of(open_data(str(tmp_path), model, preprocess="unit"))["x"], 0.2, rtol=1e-6)


def test_a_broken_image_is_named(images: Model, tmp_path: Path) -> None:
    pytest.importorskip("PIL")
    (tmp_path / "bad.png").write_bytes(b"no image")
    with pytest.raises(BadData, match=r"bad\.png"):
        open_data(str(tmp_path), images, preprocess="unit,layout=nchw")


def save_tensor(path: Path, array: np.ndarray, name: str = "") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(onnx.numpy_helper.from_array(array, name).SerializeToString())


@pytest.mark.parametrize("names", [("", ""), ("b", "a")])
def test_onnx_test_sets_are_whole_runs_with_expected_outputs(
    make_model: MakeModel, tmp_path: Path, names: tuple[str, str]
) -> None:
    model = make_model("float[R,3] a, float[R,3] b", "float[R,3] y", "y = Sub(a, b)")
    for i in range(11):
        first, second = np.full((i + 1, 3), 5.0 + i, np.float32), np.full((i + 1, 3), 2.0, np.float32)
        stored = (first, second) if names[0] != "b" else (second, first)
        for k, array in enumerate(stored):
            save_tensor(tmp_path / f"test_data_set_{i}" / f"input_{k}.pb", array, names[k])
        save_tensor(tmp_path / f"test_data_set_{i}" / "output_0.pb", first - second)
    batches = list(open_data(str(tmp_path), model).batches(64))
    assert [b.inputs["a"].shape for b in batches] == [(i + 1, 3) for i in range(11)]
    assert all((b.inputs["a"] - b.inputs["b"] == b.expected["y"]).all() for b in batches)
    with pytest.raises(UsageError, match="test data set"):
        open_data(str(tmp_path), model, preprocess="a:unit")


def test_a_broken_test_set_is_refused(images: Model, tmp_path: Path) -> None:
    (tmp_path / "input_0.pb").write_bytes(b"\xff\xff\xff")
    with pytest.raises(BadData, match=r"input_0\.pb"):
        open_data(str(tmp_path), images)


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module that users could have written."""
    monkeypatch.syspath_prepend(str(tmp_path))
    path = tmp_path / "loader_for_test.py"
    path.write_text(
        "import numpy as np\n"
        "def batches():\n"
        "    for start in range(0, 10, 4):\n"
        "        rows = np.arange(start, min(start + 4, 10))\n"
        "        yield {'x': np.float32([[r, r, r] for r in rows]), 'labels': rows}\n"
        "def samples():\n"
        "    for r in range(3):\n"
        "        yield {'x': np.float32([r, r, r]), 'labels': r}\n"
        "def one(): return {'x': np.zeros((2, 3), np.float32)}\n"
        "def nothing(): return []\n"
        "def fails(): yield {'x': np.zeros((2, 3), np.float32)}; raise ValueError('oh no')\n"
        "def numbers(): return 7\n"
    )
    sys.modules.pop("loader_for_test", None)
    return path


@pytest.fixture(scope="session")
def rows_of_three(make_model: MakeModel) -> Model:
    return make_model("float[N,3] x", "float[N,3] y", "y = Relu(x)")


@pytest.mark.usefixtures("script")
@pytest.mark.parametrize("size", [1, 3, 4, 7, 64])
def test_a_callable_is_batched_anew(rows_of_three: Model, size: int) -> None:
    source = open_data("loader_for_test:batches", rows_of_three)
    assert all_of(source, size)["x"][:, 0].tolist() == list(range(10))
    assert [b.count for b in source.batches(size)][:-1] == [size] * ((10 - 1) // size)
    assert labels_of(open_data("loader_for_test:batches", rows_of_three, samples=5)) == [0, 1, 2, 3, 4]


@pytest.mark.usefixtures("script")
def test_a_callable_may_yield_single_samples_or_return_all(rows_of_three: Model) -> None:
    source = open_data("loader_for_test:samples", rows_of_three)
    assert all_of(source, 2)["x"][:, 0].tolist() == [0, 1, 2]
    assert labels_of(source) == [0, 1, 2]
    assert all_of(open_data("loader_for_test:one", rows_of_three))["x"].shape == (2, 3)


@pytest.mark.usefixtures("script")
@pytest.mark.parametrize("name", ["nothing", "fails", "numbers", "absent"])
def test_a_callable_that_fails_is_named(rows_of_three: Model, name: str) -> None:
    with pytest.raises(BadData, match=name):
        list(open_data(f"loader_for_test:{name}", rows_of_three).batches())


@pytest.mark.parametrize("spec", ["nowhere.npz", "no.such.module:thing", "a b", ""])
def test_data_that_is_not_there_is_refused(images: Model, spec: str) -> None:
    with pytest.raises(BadData):
        list(open_data(spec, images).batches())


def test_an_empty_folder_is_refused(images: Model, tmp_path: Path) -> None:
    with pytest.raises(BadData, match="no data"):
        open_data(str(tmp_path), images)


def test_lengths_of_0_go_where_the_runtime_lives_through_them(tmp_path: Path) -> None:
    """ONNX Runtime divides by zero in a Scan over nothing."""
    np.savez(tmp_path / "d.npz", x=np.zeros((4, 0, 6), np.float32))
    plain = parsed("float[N, T, 6] x", "float[N, T, 3] y", "float[6, 3] w", "y = MatMul(x, w)")
    assert all_of(open_data(str(tmp_path / "d.npz"), plain))["x"].shape == (4, 0, 6)
    body = "g (float[6] s, float[6] v) => (float[6] sum) { sum = Add(s, v) }"
    text = f"first = Squeeze(w, zero) y = Scan <num_scan_inputs = 1, body = {body}> (first, x)"
    scans = parsed("float[T, 6] x", "float[6] y", "float[1, 6] w, int64[1] zero", text, zero=np.array([0]))
    np.savez(tmp_path / "d.npz", x=np.zeros((1, 0, 6), np.float32))
    with pytest.raises(BadData, match="length 0"):
        open_data(str(tmp_path / "d.npz"), scans)
