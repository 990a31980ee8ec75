"""Single operators are told apart by what they are, timed once, and remembered as long as the memory can be read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from intaglio.kernels import loader
from intaglio.kernels.operators import DOMAIN
from intaglio.measure.optime.block import channel_block
from intaglio.measure.optime.cache import LARGEST, add_numbers, cache_folder, read_numbers
from intaglio.measure.optime.probe import Layer, Operand, describe, time_layers
from intaglio.measure.optime.times import LayerTimes
from intaglio.measure.run.rounds import typical_times
from tests.kernels import library

FLOAT = TensorProto.FLOAT


def conv(
    channels: int = 8, size: int = 6, *, name: str = "", pads: int = 1, tensors: Sequence[str] = ("x", "w", "y")
) -> Layer:
    node = helper.make_node("Conv", tensors[:2], tensors[2:], name, pads=[pads] * 4)
    weight = Operand((channels, channels, 3, 3), FLOAT, True)
    return describe(node, [Operand((1, channels, size, size), FLOAT, False), weight], {"": 17})


class Clock:
    """Says that every layer takes as long as its input has elements, and counts what it was asked."""

    def __init__(self) -> None:
        self.asked: list[Layer] = []

    def __call__(self, layers: Sequence[Layer], threads: int) -> list[float | None]:
        self.asked += layers
        return [float(np.prod(layer.operands[0].dims)) if layer.operands[0] else None for layer in layers]


def test_the_names_of_nodes_and_tensors_do_not_matter() -> None:
    times = LayerTimes()
    assert times.key(conv(name="first")) == times.key(conv(name="second", tensors=["a", "b", "c"]))


def test_everything_that_decides_the_time_does() -> None:
    layer = conv()
    data, weight = layer.operands
    assert data is not None
    assert weight is not None
    others = [
        conv(16),
        conv(size=7),
        conv(pads=0),
        replace(layer, opsets=(("", 18),)),
        replace(layer, operands=(data, replace(weight, constant=False))),
        replace(layer, operands=(replace(data, dtype=TensorProto.DOUBLE), weight)),
    ]
    keys = {LayerTimes().key(other) for other in others} | {LayerTimes(2).key(layer), LayerTimes().key(layer)}
    assert len(keys) == len(others) + 2


def test_a_layer_is_measured_once_and_never_again_where_its_time_is_kept(tmp_path: Path) -> None:
    clock = Clock()
    first = LayerTimes(folder=tmp_path, timer=clock)
    assert first.of([conv(8), conv(16), conv(8, name="twin")]) == [288, 576, 288]
    assert first.of([conv(16)]) == [576]
    assert clock.asked == [conv(8), conv(16)]
    again = LayerTimes(folder=tmp_path, timer=clock)
    assert again.of([conv(8), conv(16), conv(24)]) == [288, 576, 864]
    assert clock.asked == [conv(8), conv(16), conv(24)]


def test_what_cannot_run_is_remembered_too(tmp_path: Path) -> None:
    asked: list[Layer] = []

    def fails(layers: Sequence[Layer], threads: int) -> list[float | None]:
        asked.extend(layers)
        return [None] * len(layers)

    for _ in range(2):
        assert LayerTimes(folder=tmp_path, timer=fails).of([conv()]) == [None]
    assert len(asked) == 1


@pytest.mark.parametrize("content", [b"", b"[1, 2]", b'{"a": 1', b"\xff\xfe\x00", b"[" * 100_000, b'"text"'])
def test_a_corrupt_memory_is_as_good_as_none(tmp_path: Path, content: bytes) -> None:
    times = LayerTimes(folder=tmp_path, timer=Clock())
    times.of([conv()])
    (file,) = tmp_path.iterdir()
    file.write_bytes(content)
    assert read_numbers(file) == {}
    assert LayerTimes(folder=tmp_path, timer=Clock()).of([conv()]) == [288]
    assert list(read_numbers(file).values()) == [288]


def test_values_that_are_no_times_are_dropped(tmp_path: Path) -> None:
    file = tmp_path / "numbers.json"
    file.write_text('{"a": 1.5, "b": "2", "c": -1, "d": NaN, "e": Infinity, "f": null, "g": true, "h": [3], "i": 0}')
    assert read_numbers(file) == {"a": 1.5, "f": None}


def test_a_folder_that_cannot_be_written_is_no_failure(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file where the folder should be")
    assert LayerTimes(folder=tmp_path / "taken", timer=Clock()).of([conv()]) == [288]


def test_the_memory_holds_no_more_than_it_should_and_forgets_the_oldest(tmp_path: Path) -> None:
    file = tmp_path / "numbers.json"
    add_numbers(file, {str(k): k + 1.0 for k in range(LARGEST)})
    add_numbers(file, {"new": 5.0})
    held = read_numbers(file)
    assert len(held) == LARGEST
    assert "0" not in held
    assert held["new"] == 5.0
    assert [p.name for p in tmp_path.iterdir()] == ["numbers.json"]


def test_the_users_folder_is_found_by_three_ways(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INTAGLIO_CACHE", str(tmp_path / "own"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_folder() == tmp_path / "own"
    monkeypatch.delenv("INTAGLIO_CACHE")
    assert cache_folder() == tmp_path / "xdg" / "intaglio"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == tmp_path / "home" / ".cache" / "intaglio"


def test_an_operator_that_does_hundreds_of_times_as_much_takes_longer() -> None:
    small, large = time_layers([conv(8, 6), conv(64, 32)], threads=1)
    assert small is not None
    assert large is not None
    assert 0 < small < large


def test_an_operator_that_the_runtime_does_not_know_has_no_time() -> None:
    unknown = describe(onnx.NodeProto(op_type="Nonsense", output=["y"]), [Operand((1,), FLOAT, False)], {"": 17})
    bad_shapes = replace(conv(), operands=(Operand((1, 5, 6, 6), FLOAT, False), conv().operands[1]))
    assert time_layers([unknown, bad_shapes], threads=1) == [None, None]


def test_operators_of_integers_and_of_two_tensors_are_timed_too() -> None:
    int8 = [Operand(d, t, c) for d, t, c in (((1, 8), TensorProto.UINT8, False), ((8, 8), TensorProto.INT8, True))]
    integers = describe(helper.make_node("MatMulInteger", ["a", "b"], ["y"]), int8, {"": 17})
    tensors = [Operand((2, 5, 6), FLOAT, False), Operand((2, 6, 7), FLOAT, False)]
    product = describe(helper.make_node("MatMul", ["a", "b"], ["y"]), tensors, {"": 17})
    left_out = describe(
        helper.make_node("Clip", ["x", "", "high"], ["y"]),
        [Operand((4, 4), FLOAT, False), None, Operand((), FLOAT, True)],
        {"": 17},
    )
    assert all(value is not None and value > 0 for value in time_layers([integers, product, left_out], threads=1))


@settings(deadline=None)
@given(
    st.lists(st.floats(1e-5, 1e-1), min_size=3, max_size=12),
    st.lists(st.floats(0.5, 3), min_size=8, max_size=25),
    st.integers(0, 2**32),
)
def test_moods_of_the_machine_and_interruptions_do_not_change_what_runs_take(
    own: list[float], moods: list[float], seed: int
) -> None:
    times = np.outer(moods, own)
    rng = np.random.default_rng(seed)
    disturbed = times.copy()
    rounds = rng.choice(len(moods), len(moods) // 4, replace=False)
    disturbed[rounds, rng.integers(len(own), size=len(rounds))] *= 5
    typical = typical_times(disturbed)
    np.testing.assert_allclose(typical / typical[0], np.array(own) / own[0], rtol=0.02)


def test_the_block_of_channels_is_one_that_processors_have() -> None:
    assert channel_block() in (1, 4, 8, 16)


def test_operators_on_bits_take_another_time_with_other_kernels() -> None:
    if not loader.available():
        pytest.skip(str(loader.why_absent()))
    bits = replace(conv(), opsets=(("", 17), (DOMAIN, 1)))
    times = LayerTimes()
    with library.forced("portable"):
        slow = [times.key(layer) for layer in (bits, conv())]
    with library.forced(None):
        fast = [times.key(layer) for layer in (bits, conv())]
    assert slow[1] == fast[1]
    assert (slow[0] == fast[0]) == (loader.isa() == "portable")
