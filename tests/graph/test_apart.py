"""What runs apart gives its result, its own error, or one that says how its process ended."""

from __future__ import annotations

import os
import resource
import signal
import time
from pathlib import Path

import onnx
import pytest

from intaglio.graph import apart as module
from intaglio.graph.apart import apart
from intaglio.graph.errors import BadModel

MODEL = onnx.ModelProto(producer_name="a" * 200_000)


def test_a_result_comes_back_whole() -> None:
    def work(model: onnx.ModelProto) -> onnx.ModelProto:
        return onnx.ModelProto(producer_name=model.producer_name + "b")

    assert apart("trying", work, MODEL).producer_name == MODEL.producer_name + "b"


def test_an_error_is_told_as_it_was() -> None:
    def work(model: onnx.ModelProto) -> onnx.ModelProto:
        raise ValueError("lengths do not fit")

    with pytest.raises(BadModel, match="trying failed") as caught:
        apart("trying", work, MODEL)
    assert caught.value.why == "lengths do not fit"


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT, signal.SIGFPE])
def test_a_crash_is_an_error(number: signal.Signals) -> None:
    def work(model: onnx.ModelProto) -> onnx.ModelProto:
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
        return model

    with pytest.raises(BadModel) as caught:
        apart("trying", work, MODEL)
    assert f"({number.value})" in caught.value.why


def test_what_never_ends_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    def work(model: onnx.ModelProto) -> onnx.ModelProto:
        while True:
            pass

    monkeypatch.setattr(module, "SECONDS", 1)
    with pytest.raises(BadModel) as caught:
        apart("trying", work, MODEL)
    assert "too long" in caught.value.why


def test_memory_without_end_is_an_error() -> None:
    def work(model: onnx.ModelProto) -> onnx.ModelProto:
        bytearray(1 << 40)
        return model

    with pytest.raises(BadModel):
        apart("trying", work, MODEL)


def test_stricter_limits_of_the_process_are_no_fault() -> None:
    def work(model: onnx.ModelProto) -> onnx.ModelProto:
        hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
        return onnx.ModelProto(producer_name=str(hard))

    def bounded(model: onnx.ModelProto) -> onnx.ModelProto:
        resource.setrlimit(resource.RLIMIT_CPU, (50, 50))
        return apart("trying", work, model)

    assert apart("trying", bounded, MODEL).producer_name == "50"


def test_a_fork_that_waits_before_it_begins_is_ended_and_there_is_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As for a lock of a library that a thread held while the process was copied."""
    once = tmp_path / "once"
    once.touch()

    def wait() -> None:
        if once.exists():
            once.unlink()
            time.sleep(600)

    os.register_at_fork(after_in_child=wait)
    monkeypatch.setattr(module, "_BEGINS", 1)
    assert apart("trying", lambda model: model, onnx.ModelProto(ir_version=8)).ir_version == 8
    assert not once.exists()
