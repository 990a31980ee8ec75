"""Images made worse: the same by seed, at every layout and scale, worse with every step."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from intaglio.graph.errors import BadData
from intaglio.graph.io.load import load
from intaglio.measure.data.corruption import CORRUPTIONS, SEVERITIES, corrupted, find_pixels
from intaglio.measure.data.source import DataSource, open_data
from tests.cli.conftest import write_model


def pictures(count: int = 6, size: int = 24) -> np.ndarray:
    """Smooth ones, which reach from black to white."""
    rng = np.random.default_rng(0)
    rough = rng.random((count, 4, 4, 3))
    made = [np.asarray(Image.fromarray((one * 255).astype(np.uint8)).resize((size, size))) for one in rough]
    made[0] = made[0].copy()
    made[0][0, :2] = [[0, 0, 0], [255, 255, 255]]
    return np.stack(made)


def opened(folder: Path, stored: np.ndarray, *, nhwc: bool = False, preprocess: str | None = None) -> DataSource:
    shape = "N,24,24,3" if nhwc else "N,3,24,24"
    model = write_model(folder / "m.onnx", f"float[{shape}] x", f"float[{shape}] y", "y = Relu(x)")
    np.savez(folder / "d.npz", x=stored)
    return open_data(str(folder / "d.npz"), load(model), preprocess=preprocess)


def inputs(source: DataSource, kind: str, severity: int, seed: int = 0, size: int = 4) -> np.ndarray:
    worse = corrupted(source, find_pixels(source)[0], kind, severity, seed)
    return np.concatenate([batch.inputs["x"] for batch in worse.batches(size)])


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_every_layout_and_scale_gets_the_same_pixels(tmp_path: Path, kind: str) -> None:
    images = pictures()
    as_bytes = inputs(opened(tmp_path, images, nhwc=True), kind, 3)
    assert as_bytes.shape == images.shape
    to_nchw = inputs(opened(tmp_path, images, preprocess="layout=nchw"), kind, 3)
    assert np.array_equal(to_nchw.transpose(0, 2, 3, 1), as_bytes)
    stored = images.transpose(0, 3, 1, 2)
    assert np.array_equal(inputs(opened(tmp_path, stored), kind, 3).transpose(0, 2, 3, 1), as_bytes)
    shares = inputs(opened(tmp_path, (stored / 255).astype(np.float32)), kind, 3)
    assert np.allclose(shares.transpose(0, 2, 3, 1) * 255, as_bytes, atol=0.51)
    scale, shift = np.array([2.0, 3, 4]).reshape(3, 1, 1), np.array([-1.0, 0.5, 2]).reshape(3, 1, 1)
    normal = inputs(opened(tmp_path, (stored / 255 * scale + shift).astype(np.float32)), kind, 3)
    assert np.allclose(((normal - shift) / scale).transpose(0, 2, 3, 1) * 255, as_bytes, atol=0.6)


def test_what_was_normalized_is_said(tmp_path: Path) -> None:
    stored = pictures().transpose(0, 3, 1, 2)
    assert find_pixels(opened(tmp_path, stored))[1] == []
    (note,) = find_pixels(opened(tmp_path, (stored / 127.5 - 1).astype(np.float32)))[1]
    assert note == "'x' holds no pixels as they are: -1 to 1, -1 to 1, -1 to 1 count as black and white"


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_each_severity_is_worse_and_the_seed_decides(tmp_path: Path, kind: str) -> None:
    images = pictures()
    source = opened(tmp_path, images, nhwc=True)
    away = [float(np.square(inputs(source, kind, one) - images).mean()) for one in SEVERITIES]
    assert away[0] > 0
    assert away == sorted(away)
    assert np.array_equal(inputs(source, kind, 2, size=1), inputs(source, kind, 2, size=6))
    assert np.array_equal(inputs(source, kind, 2), inputs(source, kind, 2, seed=1)) == (kind != "noise")


def test_the_strengths_are_those_of_the_source(tmp_path: Path) -> None:
    gray = np.full((4, 24, 24, 3), 128, np.uint8)
    gray[0, 0, 0], gray[0, 0, 1] = 0, 255
    source = opened(tmp_path, gray, nhwc=True)
    assert (inputs(source, "noise", 1)[1:] / 255).std() == pytest.approx(0.04, rel=0.05)
    assert (inputs(source, "brightness", 2)[1:] / 255).mean() == pytest.approx(128 / 255 + 0.1, abs=0.003)
    edge = np.zeros((1, 24, 24, 3), np.uint8)
    edge[:, :, 12:] = 255
    source = opened(tmp_path, edge, nhwc=True)
    low, high = inputs(source, "contrast", 5)[0, 0, [0, 23], 0]
    assert (high - low) / 255 == pytest.approx(0.15, abs=0.005)
    held = BytesIO()
    Image.fromarray(edge[0]).save(held, "JPEG", quality=65)
    assert np.array_equal(inputs(source, "jpeg", 2)[0], np.asarray(Image.open(held)))


def test_large_images_are_made_worse_as_large_ones(tmp_path: Path) -> None:
    model = write_model(tmp_path / "m.onnx", "float[N,1,80,80] x", "float[N,1,80,80] y", "y = Relu(x)")
    np.savez(tmp_path / "d.npz", x=np.full((2, 1, 80, 80), 0.5, np.float32))
    worse = inputs(open_data(str(tmp_path / "d.npz"), load(model)), "noise", 1)
    assert worse.std() == pytest.approx(0.08, rel=0.05)


def test_what_is_no_image_is_refused(tmp_path: Path) -> None:
    model = write_model(tmp_path / "m.onnx", "float[N,9] x", "float[N,9] y", "y = Relu(x)")
    np.savez(tmp_path / "d.npz", x=np.zeros((2, 9), np.float32))
    with pytest.raises(BadData, match="--corruptions is for images"):
        find_pixels(open_data(str(tmp_path / "d.npz"), load(model)))
