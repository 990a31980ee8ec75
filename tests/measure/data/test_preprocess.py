"""What ``--preprocess`` says is what happens to the data, and what it cannot mean is refused."""

from __future__ import annotations

from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from intaglio.graph.errors import BadData, IntaglioError, UsageError
from intaglio.measure.data.preprocess import Preprocess, parse_preprocess
from intaglio.measure.data.preprocess_steps import EXAMPLES, PRESETS, parse_steps

MEAN, STD = np.array([0.485, 0.456, 0.406], np.float32), np.array([0.229, 0.224, 0.225], np.float32)


def apply(text: str, array: np.ndarray) -> np.ndarray:
    return Preprocess(text, parse_steps(text))(array)


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (2, 6, 7, 3)).astype(np.uint8)


def test_steps_are_applied_from_left_to_right() -> None:
    x = np.array([[10.0]], np.float32)
    assert apply("offset=2,scale=3", x) == 36
    assert apply("scale=3,offset=2", x) == 32


def test_dividing_by_255_gives_the_same_bits_as_numpy(pixels: np.ndarray) -> None:
    np.testing.assert_array_equal(apply("scale=1/255", pixels), pixels.astype(np.float32) / np.float32(255))


def test_channels_are_normalized_before_and_after_a_change_of_layout(pixels: np.ndarray) -> None:
    wanted = ((pixels.astype(np.float32) / 255 - MEAN) / STD).transpose(0, 3, 1, 2)
    before = apply("scale=1/255,mean=0.485:0.456:0.406,std=0.229:0.224:0.225,layout=nchw", pixels)
    after = apply("layout=nchw,scale=1/255,mean=0.485:0.456:0.406,std=0.229:0.224:0.225", pixels)
    np.testing.assert_allclose(before, wanted, rtol=1e-5)
    np.testing.assert_array_equal(before, after)


def test_the_cifar10_preset_is_the_published_preprocessing(pixels: np.ndarray) -> None:
    np.testing.assert_allclose(
        apply("cifar10", pixels),
        ((pixels.astype(np.float32) / 255 - MEAN) / STD).transpose(0, 3, 1, 2),
        rtol=1e-5,
    )


def test_layouts_undo_each_other(pixels: np.ndarray) -> None:
    assert apply("layout=nchw", pixels).shape == (2, 3, 6, 7)
    np.testing.assert_array_equal(apply("layout=nhwc", apply("layout=nchw", pixels)), pixels)


def test_an_affine_map_and_a_shape_fit_any_tensor() -> None:
    q = np.arange(-128, 128, dtype=np.int8).reshape(2, 8, 16)
    got = apply("offset=-83,scale=0.5847029,shape=1x8x16", q)
    np.testing.assert_allclose(got, ((q.astype(np.float32) - 83) * 0.5847029)[:, None], rtol=1e-6)
    assert got.dtype == np.float32


def test_bgr_reverses_the_channels_wherever_they_are(pixels: np.ndarray) -> None:
    np.testing.assert_array_equal(apply("channels=bgr", pixels), pixels[..., ::-1])
    np.testing.assert_array_equal(apply("layout=nchw,channels=bgr", pixels), pixels[..., ::-1].transpose(0, 3, 1, 2))


def test_a_type_is_converted_where_it_is_said() -> None:
    assert apply("scale=0.5,dtype=int64", np.array([[5]], np.uint8)).tolist() == [[2]]


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_every_preset_parses(preset: str) -> None:
    parse_steps(preset)


@pytest.mark.parametrize("step", sorted(EXAMPLES))
def test_every_example_in_an_error_message_parses(step: str) -> None:
    assert parse_steps(EXAMPLES[step].split(" ")[0])[0].key == step


@pytest.mark.parametrize(
    "text",
    [
        "scale",
        "scale=",
        "scale=two",
        "scale=1/0",
        "scale=__import__('os')",
        "scale=1e999",
        "std=0",
        "std=0.2:0",
        "mean=1::2",
        "layout=chwn",
        "shape=0x3",
        "shape=1x-3",
        "dtype=object",
        "resize=1x2x3",
        "unit,nothing",
        "std=2,mean=1",
        "layout=nchw,layout=nhwc",
    ],
)
def test_what_cannot_be_meant_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_steps(text)


@given(st.text(max_size=40) | st.from_regex(r"(scale|mean|std|shape|offset)=[-0-9./:xe]{0,12}", fullmatch=True))
def test_any_text_is_read_or_refused_with_a_reason(text: str) -> None:
    with suppress(IntaglioError):
        parse_preprocess(text, ["x"])["x"](np.ones((2, 3, 4, 4), np.uint8))


def test_values_for_the_wrong_number_of_channels_are_refused(pixels: np.ndarray) -> None:
    with pytest.raises(BadData, match="4 channels"):
        apply("mean=1:2:3:4", pixels)


def test_several_inputs_are_told_apart_by_name() -> None:
    steps = parse_preprocess("image:0:unit;size:dtype=int64", ["image:0", "size", "other"])
    assert [s.key for s in steps["image:0"].steps] == ["scale"]
    assert [s.key for s in steps["size"].steps] == ["dtype"]
    assert not steps["other"].steps


@pytest.mark.parametrize("text", ["unit", "nobody:unit", "a:unit;a:unit"])
def test_a_description_that_names_no_one_input_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_preprocess(text, ["a", "b"])


@given(st.sampled_from(["layout=nchw", "layout=nhwc", "shape=2x30", "unit", "layout=nchw,shape=60"]))
def test_the_shape_foretold_is_the_shape_that_comes(text: str) -> None:
    array = np.zeros((2, 4, 5, 3), np.float32)
    assert Preprocess(text, parse_steps(text)).shape_after(array.shape) == apply(text, array).shape
