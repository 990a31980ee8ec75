"""TFLite files of others, and broken ones."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from intaglio import load
from intaglio.exporters.tflite.convert import write
from intaglio.graph.errors import BadModel
from intaglio.importers import IMPORTERS, Source
from intaglio.importers.tflite.convert import model_of
from intaglio.importers.tflite.parse import parse
from intaglio.measure.run.session import open_session, run
from intaglio.pipeline.importing import read_source

pytest.importorskip("ai_edge_litert", reason="needs ai-edge-litert")

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"
REAL = {"resnet8_float": 100, "resnet8_int8": 45, "kws_int8": 60, "ad01_int8": 60, "kws_dynamic": 30}
"""Files as their authors ship them, and how close (dB) the models must come to LiteRT. A number of 8 bits that is rounded the
other way in one layer, by fixed point there and by floats here, moves all scores of its sample."""


@pytest.mark.parametrize("name", REAL)
def test_files_of_others_give_what_they_give_in_litert(name: str, shared_data: Path) -> None:
    read = read_source(shared_data / "tflite" / f"{name}.tflite")
    assert read.importer == "tflite"
    assert min(one.sqnr_db for one in read.outputs.values()) >= REAL[name]
    assert ("floats" in " ".join(read.notes)) == (name == "kws_dynamic")


def test_integers_keep_their_accuracy(shared_data: Path) -> None:
    """MLPerf Tiny's ResNet-8 in 8 bits, batches of any size: as in LiteRT, to the last step."""
    model = read_source(shared_data / "tflite" / "resnet8_int8.tflite").model
    data = np.load(shared_data / "cifar10_test_first2000.npz")
    images, labels = (data["x"][:500].astype(int) - 128).astype(np.int8), data["y"][:500]
    (name,) = [v.name for v in model.graph.input]
    scores = next(iter(run(open_session(model), {name: images}).values()))
    assert np.mean(scores.argmax(1) == labels) > 0.85


def test_a_free_batch_stays_free(shared_data: Path) -> None:
    model = read_source(shared_data / "tflite" / "kws_int8.tflite").model
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "N"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "does not begin"),
        (b"TFL3" * 4, "lead out of it"),
        (b"\xff\xff\xff\x7fTFL3" + bytes(40), "lead out of it"),
        (struct.pack("<I", 8) + b"TFL3" + bytes(8), ""),
    ],
)
def test_what_is_no_tflite_file_is_said_so(content: bytes, told: str, tmp_path: Path) -> None:
    (tmp_path / "x.tflite").write_bytes(content)
    with pytest.raises(BadModel) as error:
        read_source(tmp_path / "x.tflite")
    assert error.value.what == "not a usable TFLite file"
    assert told in error.value.why


def broken(content: bytes, seed: int) -> bytes:
    """A file with some bytes changed: single ones, whole numbers, stretches that are moved or gone."""
    dice, made = random.Random(seed), bytearray(content)
    structure = range(min(len(made), 4096)) if dice.random() < 0.5 else range(len(made) * 3 // 4, len(made))
    for _ in range(dice.choice((1, 1, 2, 5))):
        at = dice.choice(structure) % len(made)
        kind = dice.randrange(4)
        if kind == 0:
            made[at] = dice.randrange(256)
        elif kind == 1:
            made[at : at + 4] = struct.pack("<i", dice.choice((0, 1, -1, 2**31 - 1, -(2**31), 65536, len(made))))
        elif kind == 2:
            made[at : at + 16] = made[at + 16 : at + 32]
        else:
            del made[at : at + dice.choice((1, 4, 1000))]
    return bytes(made)


@pytest.fixture(scope="module")
def whole() -> list[bytes]:
    return [write(load(EXAMPLES / f"{name}.onnx")) for name in ("digits", "attention", "residual")]


def read_broken(whole: list[bytes], count: int) -> Iterator[tuple[bytes, bool]]:
    """Broken files, and whether they could be read all the same; whatever is raised but BadModel is a fault."""
    for seed in range(count):
        content = broken(whole[seed % len(whole)], seed)
        try:
            model_of(parse(content), Source("x.tflite", {}))
        except BadModel:
            yield content, False
        else:
            yield content, True


def test_broken_files_are_refused_or_read(whole: list[bytes]) -> None:
    ends = [good for _, good in read_broken(whole, 200)]
    assert 0 < sum(ends) < len(ends)


def test_what_reads_well_ends_no_process_when_it_runs(whole: list[bytes], tmp_path: Path) -> None:
    """What LiteRT does with such files is tried apart."""
    read = [content for content, good in read_broken(whole, 60) if good][:10]
    assert read
    for content in read:
        (tmp_path / "x.tflite").write_bytes(content)
        with suppress(BadModel):
            IMPORTERS["tflite"].read(Source(str(tmp_path / "x.tflite"), {}))
