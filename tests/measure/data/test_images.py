"""Image files give the pixels that a viewer shows, or are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from intaglio.graph.errors import BadData
from intaglio.measure.data.source import open_data
from tests.passes.parsed import parsed

GRAY = parsed("float[N, 1, 4, 6] x", "float[N, 1, 4, 6] y", "float[1] w", "y = Mul(x, w)")
RAMP = np.arange(24, dtype=np.uint16).reshape(4, 6) * 2849  # up to 65527


def pixels(folder: Path) -> np.ndarray:
    source = open_data(str(folder), GRAY, preprocess="layout=nchw")
    return next(iter(source.batches(1))).inputs["x"][0, 0]


@pytest.mark.parametrize("ending", ["png", "tiff"])
def test_16_bit_gray_keeps_its_shades(tmp_path: Path, ending: str) -> None:
    Image.fromarray(RAMP).save(tmp_path / f"a.{ending}")
    np.testing.assert_allclose(pixels(tmp_path), RAMP / 257, atol=0.51)


@pytest.mark.parametrize("kind", [np.float32, np.int32])
def test_numbers_without_a_white_are_refused(tmp_path: Path, kind: type) -> None:
    Image.fromarray((RAMP / 70000).astype(kind)).save(tmp_path / "a.tiff")
    with pytest.raises(BadData, match=r"a\.tiff holds") as caught:
        pixels(tmp_path)
    assert ".npy" in caught.value.fix


def test_pictures_taken_with_a_turned_camera_are_upright(tmp_path: Path) -> None:
    upright = (RAMP // 257).astype(np.uint8)
    told = Image.Exif()
    told[274] = 6  # to be turned right by a quarter
    Image.fromarray(np.rot90(upright)).save(tmp_path / "a.png", exif=told)
    np.testing.assert_array_equal(pixels(tmp_path), upright)
