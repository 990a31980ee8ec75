"""Decoders in onnxruntime-genai: the folder that is written generates what ONNX Runtime does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from intaglio.exporters.base import CannotExport
from intaglio.graph.coupling.caches import caches
from intaglio.graph.io.load import load
from intaglio.graph.io.save import save
from intaglio.measure.run.session import open_session, run
from intaglio.passes.base import PASSES
from intaglio.pipeline.exporting import export
from tests.graph.coupling.test_caches import joined
from tests.test_language_example import EXAMPLES, MODEL, script


@pytest.fixture(scope="module")
def decoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of two layers with caches, quantized to 4 bits."""
    made = script()
    size = made.Size(width=64, wide=64, depth=2, heads=2, context=16, steps=1, rate=1e-3)
    folder = tmp_path_factory.mktemp("decoder")
    made.export(made.train([np.arange(200, dtype=np.uint8)], size, 1), size, folder / "decoder.onnx", cache=True)
    done = PASSES["quantize"].model_validate({"scheme": "w4", "method": "nearest"}).run(load(folder / "decoder.onnx"))
    save(done.model, folder / "w4.onnx")
    return folder / "w4.onnx"


def test_a_quantized_decoder_generates_the_same_tokens(decoder: Path, tmp_path: Path) -> None:
    genai = pytest.importorskip("onnxruntime_genai", reason="onnxruntime-genai is not installed")
    data = str(EXAMPLES / "language_calib.npz")
    done = export(decoder, "genai", tmp_path / "out", data=data, samples=4, seconds=0)
    assert done.failed is None
    settings = genai.GeneratorParams(model := genai.Model(str(tmp_path / "out")))
    settings.set_search_options(max_length=12, do_sample=False)
    generator = genai.Generator(model, settings)
    generator.append_tokens(np.array([[10, 20, 30]], np.int32))
    while not generator.is_done():
        generator.generate_next_token()
    told, session = [10, 20, 30], open_session(load(decoder))
    nothing = {name: np.zeros((1, 2, 0, 32), np.float32) for name in caches(load(decoder))}
    while len(told) < 12:
        told.append(int(run(session, {"tokens": np.array([told]), **nothing})["logits"][0, -1].argmax()))
    assert generator.get_sequence(0).tolist() == told


def test_what_keeps_no_keys_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime_genai", reason="onnxruntime-genai is not installed")
    with pytest.raises(CannotExport, match="genai cannot hold the model") as told:
        export(MODEL, "genai", tmp_path / "out", seconds=0)
    assert "there are 0 caches" in (told.value.why or "")


def test_inputs_that_it_does_not_know_are_named(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime_genai", reason="onnxruntime-genai is not installed")
    save(joined(), tmp_path / "joined.onnx")
    with pytest.raises(CannotExport, match="genai cannot hold the model") as told:
        export(tmp_path / "joined.onnx", "genai", tmp_path / "out", seconds=0)
    assert "there are x" in (told.value.why or "")
    assert not (tmp_path / "out").exists()
