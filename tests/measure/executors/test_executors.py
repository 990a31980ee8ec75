"""The same results wherever work runs, and a worker that dies costs its task alone."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from intaglio.measure.executors.executor import DIED, EXECUTORS, Executor, Outcome
from intaglio.pipeline.study.record import Told
from intaglio.pipeline.study.search import Searching
from intaglio.pipeline.study.strategies.strategy import STRATEGIES
from intaglio.pipeline.study.study import Study

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"

WORK = '''
import os, signal
from pathlib import Path

def squared(task):
    print("on stdout")
    return {"square": task["x"] ** 2, "third": task["x"] / 3}

def failing(task):
    if task["x"] == 2:
        raise ValueError("two")
    return task["x"]

def killed(task):
    """Ends its own process: at the first attempt, or at each."""
    mark = Path(task["folder"], f"tried-{task['x']}")
    if task["x"] == 1 and not (mark.exists() and not task["always"]):
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return task["x"]
'''


@pytest.fixture(params=["local", "processes:1", "processes:3", "ray"])
def executor(request: pytest.FixtureRequest, work: Path) -> Iterator[Executor]:
    name, _, workers = request.param.partition(":")
    if name == "ray":
        yield request.getfixturevalue("cluster")
        return
    with closing(EXECUTORS[name](int(workers or 1))) as made:
        yield made


@pytest.fixture
def work(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module of functions that workers can import."""
    folder = tmp_path_factory.getbasetemp() / "work"
    folder.mkdir(exist_ok=True)
    (folder / "some_work.py").write_text(WORK)
    monkeypatch.setenv("PYTHONPATH", str(folder))
    monkeypatch.syspath_prepend(str(folder))
    return folder


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Executor]:
    """A cluster of two nodes on this machine, reached by its address."""
    told = "Ray is not installed: pip install 'intaglio[ray]'"
    ray: Any = pytest.importorskip("ray.cluster_utils", reason=told, exc_type=ImportError)
    patch = pytest.MonkeyPatch()
    folder = tmp_path_factory.getbasetemp() / "work"
    folder.mkdir(exist_ok=True)
    (folder / "some_work.py").write_text(WORK)
    patch.setenv("PYTHONPATH", str(folder), prepend=":")
    patch.setenv("RAY_enable_metrics_collection", "0")
    nodes = {"num_cpus": 1, "object_store_memory": 80 << 20, "include_dashboard": False}
    found = ray.Cluster(initialize_head=True, head_node_args=nodes)
    found.add_node(num_cpus=1, object_store_memory=80 << 20)
    patch.setenv("RAY_ADDRESS", found.address)
    with closing(EXECUTORS["ray"](2)) as made:
        yield made
    found.shutdown()
    patch.undo()


def test_results_come_in_order_and_are_the_same(executor: Executor, capfd: pytest.CaptureFixture[str]) -> None:
    found = list(executor.each("some_work:squared", [{"x": x} for x in range(5)]))
    assert found == [Outcome({"square": x**2, "third": x / 3}) for x in range(5)]
    assert list(executor.each("some_work:squared", [])) == []


def test_what_fails_is_told_and_costs_itself_alone(executor: Executor) -> None:
    found = list(executor.each("some_work:failing", [{"x": x} for x in range(4)]))
    assert [one.value for one in found] == [0, 1, None, 3]
    assert found[2].lost == "ValueError: two"


@pytest.mark.parametrize("executor", ["processes:1", "processes:3", "ray"], indirect=True)
def test_a_worker_that_dies_costs_its_task_alone(executor: Executor, tmp_path: Path) -> None:
    tasks = [{"x": x, "folder": str(tmp_path), "always": False} for x in range(4)]
    assert [one.value for one in executor.each("some_work:killed", tasks)] == [0, 1, 2, 3]
    found = list(executor.each("some_work:killed", [{**one, "always": True} for one in tasks]))
    assert [one.value for one in found] == [0, None, 2, 3]
    assert found[1].lost == DIED


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Told:
    """A study in this process."""
    return study(tmp_path_factory.mktemp("alone")).tried()


def study(out: Path, **given: Any) -> Searching:
    labelled = str(EXAMPLES / "digits_test.npz")
    found = {"eval_data": labelled, "scored": 100, "trials": 9, "batch": 4, "strategy": "linas:population=4", **given}
    return Searching(EXAMPLES / "digits.onnx", out, ["widths", "bits"], storage=f"lines:{out / 'study.jsonl'}", **found)


def test_workers_that_do_not_see_a_folder_get_its_files(cluster: Executor, alone: Told, tmp_path: Path) -> None:
    """The driver has a file system of its own at a place where the nodes of the cluster see nothing."""
    if subprocess.run(["unshare", "-rm", "true"], capture_output=True, check=False).returncode:
        pytest.skip("a mount of one's own is not allowed here (unshare -rm)")
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    words = ["--space", "widths,bits", "--strategy", "linas:population=4", "--batch", "4", "--trials", "4"]
    words += ["--eval-data", f"{hidden}/digits_test.npz", "--eval-samples", "100", "--write", "1"]
    words += ["--storage", f"lines:{tmp_path}/study.jsonl", "--executor", "ray", "-o", f"{hidden}/out"]
    code = "import sys; from intaglio.cli.main import main; sys.exit(main(sys.argv[1:]))"
    files = shlex.join(str(EXAMPLES / name) for name in ("digits.onnx", "digits_test.npz"))
    line = shlex.join([sys.executable, "-c", code, "search", f"{hidden}/digits.onnx", *words])
    told = f"mount -t tmpfs none {hidden} && cp {files} {hidden} && {line}"
    done = subprocess.run(["unshare", "-rm", "sh", "-c", told], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not list(hidden.iterdir())
    found = [json.loads(one)["trial"] for one in (tmp_path / "study.jsonl").read_text().splitlines()]
    assert len(found) == 4
    for one, other in zip(found, alone.records, strict=False):
        assert one["values"] == other.values
        assert {**one["figures"], "seconds": 0} == {**other.figures, "seconds": 0}


@pytest.mark.parametrize("executor", ["processes:1", "processes:3", "ray"], indirect=True)
def test_a_study_is_the_same_bit_for_bit(executor: Executor, alone: Told, tmp_path: Path) -> None:
    searching = study(tmp_path)
    searching._check()
    told = Study(
        searching.given,
        searching.open_space,
        searching.judged_by,
        STRATEGIES[searching.strategy],
        searching._storage(tmp_path),
        executor,
        searching.batch,
        searching.seed,
    ).run(9)
    assert len(told) == 9
    for one, other in zip(told, alone.records, strict=True):
        assert one.values == other.values
        assert {**one.figures, "seconds": 0} == {**other.figures, "seconds": 0}
