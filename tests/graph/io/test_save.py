"""Saving: whole or not at all, the same bytes each time, nothing held twice."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper, parser

from intaglio import __version__
from intaglio.graph.io.load import from_proto, load
from intaglio.graph.io.save import CannotWrite, save, to_bytes, to_proto
from intaglio.graph.model import Model
from tests.conftest import hear_interrupts

MIB = 1 << 20
TEXT = '<ir_version: 8, opset_import: ["" : 17]> g (float[N,64] x) => (float[N,64] y) { y = MatMul (x, w) }'


def model_with(w: np.ndarray) -> Model:
    model = from_proto(make_proto(np.ones((64, 64), np.float32)))
    model.weights["w"] = w
    return model


def make_proto(w: np.ndarray) -> onnx.ModelProto:
    proto = parser.parse_model(TEXT)
    proto.graph.initializer.append(numpy_helper.from_array(w, "w"))
    return proto


def random_weight(rows: int = 64) -> np.ndarray:
    return np.random.default_rng(rows).standard_normal((rows, 64), dtype=np.float32)


def metadata(path: Path) -> dict[str, str]:
    props = [(p.key, p.value) for p in onnx.load(path, load_external_data=False).metadata_props]
    assert len(dict(props)) == len(props)
    return dict(props)


def test_files_in_memory_models_and_other_readers_agree(tmp_path: Path) -> None:
    w = random_weight()
    model = model_with(w)
    save(model, tmp_path / "m.onnx")
    onnx.checker.check_model(tmp_path / "m.onnx", full_check=True)
    assert to_bytes(model) == (tmp_path / "m.onnx").read_bytes()
    assert np.array_equal(numpy_helper.to_array(to_proto(model).graph.initializer[0]), w)
    assert np.array_equal(numpy_helper.to_array(onnx.load(tmp_path / "m.onnx").graph.initializer[0]), w)


def test_weights_that_lie_oddly_in_memory_are_written_in_order(tmp_path: Path) -> None:
    w = random_weight()
    for odd in (w.T, w[::-1], w.astype(">f4"), np.broadcast_to(w[0], (64, 64)), np.broadcast_to(w[0, 0], (64, 64))):
        save(model_with(odd), tmp_path / "m.onnx")
        assert np.array_equal(load(tmp_path / "m.onnx").weights["w"], odd)


@pytest.mark.parametrize("external", [False, True])
def test_the_same_model_gives_the_same_bytes(external: bool, tmp_path: Path) -> None:
    files: list[bytes] = []
    for folder in (tmp_path / "a", tmp_path / "b"):
        folder.mkdir()
        save(model_with(random_weight()), folder / "m.onnx", recipe={"b": 1, "a": [2]}, external_data=external)
        files.append(b"".join(p.read_bytes() for p in sorted(folder.iterdir())))
    assert files[0] == files[1]


def test_saving_what_was_loaded_and_saved_changes_nothing(shared_data: Path, tmp_path: Path) -> None:
    for path in sorted(shared_data.glob("*.onnx")):
        save(load(path), tmp_path / "one.onnx")
        save(load(tmp_path / "one.onnx"), tmp_path / "two.onnx")
        assert (tmp_path / "one.onnx").read_bytes() == (tmp_path / "two.onnx").read_bytes()


def test_external_data_is_one_aligned_file_that_onnx_reads(tmp_path: Path) -> None:
    model = from_proto(make_proto(np.ones((64, 64), np.float32)))
    model.weights |= {
        "v": random_weight(5),
        "tiny": np.ones(3, np.float32),
        "odd": np.ones(1501, np.int8),
        "u": random_weight(),
    }
    save(model, tmp_path / "m.onnx", external_data=True)
    data = next(p for p in tmp_path.iterdir() if p.suffix == ".data")
    digest = hashlib.sha256(data.read_bytes()).hexdigest()[:16]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.onnx", f"m.onnx.{digest}.data"]
    structure = onnx.load(tmp_path / "m.onnx", load_external_data=False)
    places = {t.name: {e.key: e.value for e in t.external_data} for t in structure.graph.initializer}
    assert all(int(p["offset"]) % 64 == 0 for p in places.values() if p)
    assert places["tiny"] == {}
    for tensor in onnx.load(tmp_path / "m.onnx").graph.initializer:
        assert np.array_equal(numpy_helper.to_array(tensor), model.weights[tensor.name])


@pytest.mark.parametrize("external", [False, True])
def test_a_model_can_replace_its_own_source(external: bool, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    save(model_with(random_weight()), path, external_data=external)
    model = load(path)
    model.weights["w"] = model.weights["w"] * 2
    save(model, path, external_data=external)
    assert np.array_equal(load(path).weights["w"], random_weight() * 2)
    assert np.array_equal(onnx.load(path).graph.initializer[0].dims, [64, 64])
    assert len(list(tmp_path.iterdir())) == 1 + external


def test_the_weights_of_another_model_are_never_overwritten(tmp_path: Path) -> None:
    onnx.save(make_proto(random_weight()), tmp_path / "a.onnx", save_as_external_data=True, location="b.onnx.data")
    model = load(tmp_path / "a.onnx")
    with pytest.raises(CannotWrite, match="would overwrite the weights"):
        save(model, tmp_path / "b.onnx.data", external_data=False)
    for _ in range(2):
        save(model, tmp_path / "b.onnx", external_data=True)
    assert np.array_equal(load(tmp_path / "a.onnx").weights["w"], random_weight())


def test_a_recipe_records_version_source_and_history(tmp_path: Path) -> None:
    a, b, c = (tmp_path / f"{name}.onnx" for name in "abc")
    proto = make_proto(random_weight())
    proto.metadata_props.add(key="author", value="me")
    onnx.save(proto, a)
    save(load(a), b, recipe={"pass": "prune"})
    assert metadata(b) == {
        "author": "me",
        "intaglio.version": __version__,
        "intaglio.source_sha256": load(a).source_sha256,
        "intaglio.recipe": '{"pass":"prune"}',
    }
    save(load(b), c, recipe={"pass": "quantize"})
    save(load(c), c, recipe={"pass": "export"})
    said = metadata(c)
    assert json.loads(said["intaglio.recipe"]) == {"pass": "export"}
    assert [json.loads(run["recipe"])["pass"] for run in json.loads(said["intaglio.history"])] == ["prune", "quantize"]
    save(load(c), b)
    assert metadata(b) == said


@pytest.mark.parametrize("path", ["missing/m.onnx", "", "pipe"])
def test_places_that_cannot_be_written_are_explained(path: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(CannotWrite, match="cannot write"):
        save(model_with(random_weight()), tmp_path / path)
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)
    assert [p.name for p in tmp_path.iterdir()] == ["pipe"]


@pytest.mark.parametrize("external", [False, True])
def test_a_full_disk_leaves_the_old_file_and_no_other(external: bool, tmp_path: Path) -> None:
    save(model_with(random_weight()), tmp_path / "m.onnx")
    before = (tmp_path / "m.onnx").read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (MIB, limits[1]))
    try:
        with pytest.raises(CannotWrite, match="file too large"):
            save(model_with(random_weight(8192)), tmp_path / "m.onnx", external_data=external)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == {"m.onnx": before}


def test_an_interrupt_leaves_nothing_behind(tmp_path: Path) -> None:
    code = (
        "import sys, numpy as np; from intaglio.graph.io.load import load; from intaglio.graph.io.save import save;"
        "m = load(sys.argv[1]); m.weights['w'] = np.broadcast_to(np.float32(1), (1 << 20, 64));"
        "print('ready', flush=True)\nwhile True: save(m, sys.argv[2])"
    )
    save(model_with(random_weight()), tmp_path / "m.onnx")
    (tmp_path / "out").mkdir()
    command = [sys.executable, "-c", code, str(tmp_path / "m.onnx"), str(tmp_path / "out" / "m.onnx")]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, preexec_fn=hear_interrupts)
    assert child.stdout is not None
    child.stdout.readline()
    deadline = time.monotonic() + 60
    while not any(p.suffix == ".tmp" for p in (tmp_path / "out").iterdir()):
        assert child.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.005)
    child.send_signal(signal.SIGINT)
    child.wait(60)
    assert [p.name for p in (tmp_path / "out").iterdir() if p.suffix == ".tmp"] == []


def test_saving_does_not_hold_the_weights_again(tmp_path: Path) -> None:
    code = (
        "import sys, resource; from intaglio.graph.io.load import load; from intaglio.graph.io.save import save;"
        "anonymous = lambda: int(next(l for l in open('/proc/self/status') if 'RssAnon' in l).split()[1]);"
        "m = load(sys.argv[1]); before = anonymous(); peak = []\n"
        "import threading; done = threading.Event()\n"
        "def watch():\n"
        "    while not done.wait(0.002): peak.append(anonymous())\n"
        "t = threading.Thread(target=watch); t.start(); save(m, sys.argv[2]); done.set(); t.join(); print(max(peak) - before)"
    )
    save(model_with(random_weight(64 * MIB // 256)), tmp_path / "m.onnx")
    command = [sys.executable, "-c", code, str(tmp_path / "m.onnx"), str(tmp_path / "out.onnx")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 8 * 1024  # KiB, of 64 MiB


def test_links_are_written_through_and_permissions_kept(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    save(model_with(random_weight()), tmp_path / "real" / "m.onnx")
    (tmp_path / "real" / "m.onnx").chmod(0o640)
    (tmp_path / "link.onnx").symlink_to("real/m.onnx")
    save(model_with(random_weight() * 2), tmp_path / "link.onnx")
    assert (tmp_path / "link.onnx").is_symlink()
    assert stat.S_IMODE((tmp_path / "real" / "m.onnx").stat().st_mode) == 0o640
    assert np.array_equal(load(tmp_path / "real" / "m.onnx").weights["w"], random_weight() * 2)


def test_a_model_above_two_gigabytes_needs_a_second_file(tmp_path: Path) -> None:
    w = np.broadcast_to(np.float32(1), (2**23 + 1, 64))  # costs no memory
    with pytest.raises(CannotWrite, match="above 2 GB"):
        to_bytes(model_with(w))
    with pytest.raises(CannotWrite, match="above 2 GB"):
        save(model_with(w), tmp_path / "m.onnx", external_data=False)
    assert list(tmp_path.iterdir()) == []


def test_functions_sparse_weights_and_value_info_survive(tmp_path: Path) -> None:
    proto = parser.parse_model("""
        <ir_version: 9, opset_import: ["" : 17, "mine" : 1]>
        g (float[N,4] x) => (float[N,4] y) <float[N,4] h> { h = mine.Twice (x) y = Add (h, s) }
        <domain: "mine", opset_import: ["" : 17]> Twice (a) => (b) { b = Add (a, a) }""")
    values = numpy_helper.from_array(np.ones(1, np.float32), "s")
    index = numpy_helper.from_array(np.array([2]), "")
    proto.graph.sparse_initializer.append(helper.make_sparse_tensor(values, index, [4]))
    for node in proto.graph.node:
        node.name = node.output[0]
    save(from_proto(proto), tmp_path / "m.onnx")
    assert onnx.load(tmp_path / "m.onnx") == proto


def test_every_node_of_a_file_has_a_name_of_its_own(tmp_path: Path) -> None:
    """ONNX Runtime before 1.22 refuses others once it adds nodes; what has a name keeps it."""
    text = TEXT.replace("y = MatMul (x, w)", "a = MatMul (x, w) b = Relu (a) c = Abs (b) d = Neg (c) y = Exp (d)")
    proto = parser.parse_model(text)
    proto.graph.initializer.append(numpy_helper.from_array(random_weight(), "w"))
    for node, name in zip(proto.graph.node, ("b", "", "twice", "twice", ""), strict=True):
        node.name = name
    model = from_proto(proto)
    save(model, tmp_path / "m.onnx")
    assert [node.name for node in onnx.load(tmp_path / "m.onnx").graph.node] == ["b", "b_1", "twice_1", "twice", "y"]
    assert [node.name for node in model.graph.node] == ["b", "", "twice", "twice", ""]
    save(load(tmp_path / "m.onnx"), tmp_path / "again.onnx")
    assert (tmp_path / "again.onnx").read_bytes() == (tmp_path / "m.onnx").read_bytes()
