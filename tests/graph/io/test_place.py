"""A model and its data file appear together, whatever kills the writer and whoever writes beside it."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper, parser

from intaglio.graph.io import place
from intaglio.graph.io.load import from_proto, load
from intaglio.graph.io.save import CannotWrite, File, save, save_all
from intaglio.graph.model import Model

TEXT = '<ir_version: 8, opset_import: ["" : 17]> g (float[N,64] x) => (float[N,64] y) { y = MatMul (x, w) }'
WRITER = """
import os, signal, sys, time
import numpy as np
from intaglio.graph.io.load import load
from intaglio.graph.io.save import save

def die_at(point):
    calls = 0
    def counted(call):
        def dying(*args, **others):
            nonlocal calls
            calls += 1
            if calls == point:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*args, **others)
        return dying
    for name in ("fsync", "replace", "unlink", "chmod", "open"):
        setattr(os, name, counted(getattr(os, name)))

model = load(sys.argv[1])
print("ready", flush=True)
for line in sys.stdin:
    kind, number, *values = line.split()
    child = os.fork()
    if not child:
        if kind == "at":
            die_at(int(number))
        for value in map(float, values):
            model.weights["w"] = np.broadcast_to(np.float32(value), (4096, 64))
            save(model, sys.argv[2], external_data=True, recipe={"value": value})
        os._exit(0)
    if kind == "after":
        time.sleep(float(number))
        os.kill(child, signal.SIGKILL)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Writer:
    """A process that forks one that saves: killed at a step, or after a time, or never."""

    def __init__(self, folder: Path) -> None:
        (folder / "in").mkdir(exist_ok=True)
        (folder / "out").mkdir(exist_ok=True)
        self.target = folder / "out" / "m.onnx"
        save(filled(0), folder / "in" / "source.onnx")
        command = [sys.executable, "-c", WRITER, str(folder / "in" / "source.onnx"), str(self.target)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.heard() == "ready"

    def tell(self, kind: str, number: float, *values: float) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(" ".join([kind, str(number), *map(str, values)]) + "\n")
        self.process.stdin.flush()

    def heard(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def close(self) -> None:
        self.process.communicate()


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[Writer]:
    one = Writer(tmp_path)
    yield one
    one.close()


def filled(value: float) -> Model:
    proto = parser.parse_model(TEXT)
    proto.graph.initializer.append(numpy_helper.from_array(np.full((64, 64), value, np.float32), "w"))
    return from_proto(proto)


def value_of(path: Path) -> float:
    """The one value of all weights, which the recipe of the same file tells too."""
    model = load(path)
    (value,) = np.unique(model.weights["w"])
    told = {p.key: p.value for p in model.proto.metadata_props}
    assert told["intaglio.recipe"] == f'{{"value":{float(value)}}}'
    return float(value)


def names(folder: Path) -> list[str]:
    return sorted(p.name.split(".")[-1] for p in folder.iterdir())


def test_a_run_killed_at_any_step_leaves_the_old_model_or_the_new_one(writer: Writer) -> None:
    path, ended, left = writer.target, "-9", set()
    for point in itertools.count(1):
        save(filled(1), path, external_data=True, recipe={"value": 1.0})
        writer.tell("at", point, 2.0)
        ended = writer.heard()
        left.add(value_of(path))
        save(filled(3), path, external_data=True, recipe={"value": 3.0})
        assert names(path.parent) == ["data", "onnx"]
        if ended != "-9":
            break
    assert ended == "0"
    assert point > 8
    assert left == {1.0, 2.0}


def test_kills_at_any_time_lose_nothing_and_leave_nothing(writer: Writer) -> None:
    path = writer.target
    save(filled(1), path, external_data=True, recipe={"value": 1.0})
    for delay in np.linspace(0, 0.1, int(os.environ.get("INTAGLIO_KILLS", "40"))):
        writer.tell("after", delay, *range(2, 500))
        assert writer.heard() == "-9"
        value_of(path)
    save(filled(1), path, external_data=True, recipe={"value": 1.0})
    assert names(path.parent) == ["data", "onnx"]


def test_two_writers_at_once_leave_one_whole_pair(writer: Writer, tmp_path: Path) -> None:
    other = Writer(tmp_path)
    writer.tell("never", 0, *range(1, 26))
    other.tell("never", 0, *range(101, 126))
    assert [writer.heard(), other.heard()] == ["0", "0"]
    other.close()
    assert value_of(writer.target) in (25.0, 125.0)
    assert names(writer.target.parent) == ["data", "onnx"]


def test_files_that_are_not_the_models_own_stay(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    (tmp_path / "m.onnx.data").write_bytes(b"somebody's")
    (tmp_path / ".intaglio-notes.tmp").write_bytes(b"somebody's")
    os.mkfifo(tmp_path / ".intaglio-0123456789abcdef.tmp")
    for value in (1.0, 2.0):
        save(filled(value), path, external_data=True)
    assert (tmp_path / "m.onnx.data").read_bytes() == b"somebody's"
    assert (tmp_path / ".intaglio-notes.tmp").exists()
    assert (tmp_path / ".intaglio-0123456789abcdef.tmp").exists()


def test_data_that_a_copy_of_the_model_needs_stay(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    save(filled(1), path, external_data=True)
    (tmp_path / "copy.onnx").write_bytes(path.read_bytes())
    save(filled(2), path, external_data=True)
    assert load(tmp_path / "copy.onnx").weights["w"][0, 0] == 1
    (tmp_path / "copy.onnx").unlink()
    save(filled(3), path)
    assert names(tmp_path) == ["onnx"]


def test_the_data_of_a_replaced_model_of_another_program_go(tmp_path: Path) -> None:
    weight = numpy_helper.from_array(np.ones((64, 64), np.float32), "w")
    proto = parser.parse_model(TEXT)
    proto.graph.initializer.append(weight)
    onnx.save(proto, tmp_path / "m.onnx", save_as_external_data=True, location="m.onnx.data")
    save(filled(2), tmp_path / "m.onnx", external_data=True)
    assert not (tmp_path / "m.onnx.data").exists()
    assert load(tmp_path / "m.onnx").weights["w"][0, 0] == 2


def test_leftovers_go_and_files_of_living_writers_stay(tmp_path: Path) -> None:
    left = tmp_path / ".intaglio-00000000000000aa.tmp"
    left.write_bytes(b"half a mod")
    with place.temporary(tmp_path) as living:
        save(filled(1), tmp_path / "m.onnx")
        assert Path(living.name).exists()
        assert not left.exists()
    assert names(tmp_path) == ["onnx"]


def test_permissions_of_the_replaced_model_are_those_of_its_data(tmp_path: Path) -> None:
    save(filled(1), tmp_path / "m.onnx", external_data=True)
    (tmp_path / "m.onnx").chmod(0o600)
    save(filled(2), tmp_path / "m.onnx", external_data=True)
    assert {p.stat().st_mode & 0o777 for p in tmp_path.iterdir()} == {0o600}


@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1", "/dev/null"])
def test_streams_and_devices_are_refused(name: str) -> None:
    with pytest.raises(CannotWrite, match="cannot write"):
        save(filled(1), name)


def test_a_link_to_a_stream_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").symlink_to("/dev/stdout")
    with pytest.raises(CannotWrite, match="is a device"):
        save(filled(1), tmp_path / "m.onnx")


def test_two_models_never_go_to_one_file(tmp_path: Path) -> None:
    (tmp_path / "link.onnx").symlink_to("m.onnx")
    with pytest.raises(CannotWrite, match="one name"):
        save_all([File(filled(1), tmp_path / "m.onnx"), File(filled(2), tmp_path / "link.onnx")])
    assert not (tmp_path / "m.onnx").exists()


@pytest.mark.parametrize("history", ["[" * 100_000, "[[[]]]", '[{"a": [[]]}]', "{", "3"])
def test_a_history_that_is_none_is_no_obstacle(history: str, tmp_path: Path) -> None:
    model = filled(1)
    helper.set_model_props(model.proto, {"intaglio.recipe": "{}", "intaglio.history": history})
    save(model, tmp_path / "m.onnx", recipe={})
    assert load(tmp_path / "m.onnx").weights["w"][0, 0] == 1
