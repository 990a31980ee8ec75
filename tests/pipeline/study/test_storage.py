"""Studies are kept, go on, and do not disturb each other: in lines, in Optuna's journal, SQLite and PostgreSQL."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from intaglio.graph.errors import UsageError
from intaglio.pipeline.study.objectives import objectives
from intaglio.pipeline.study.record import Record
from intaglio.pipeline.study.storage import CannotKeep, open_storage, unique

OBJECTIVES = objectives(["accuracy", "size"])
NOBODY = "nobody"


def record(number: int, **more: object) -> Record:
    figures = {"accuracy": {"top1": number / 10}, "kept": {"size_bytes": 0.5}, **more}
    return Record(number, {"bits conv1": 4, "share": 0.1 * number}, figures, memo={"generation": number})


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """A PostgreSQL server of our own, without a network, started as a user that it accepts."""
    pytest.importorskip("psycopg", reason="psycopg is not installed: pip install 'intaglio[search]'")
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin")) + [Path(p).parent for p in [shutil.which("initdb")] if p]
    if not found:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    folder = Path(tempfile.mkdtemp(prefix="intaglio-pg-"))  # others may enter none of pytest's folders
    who: dict[str, str] = {}
    if os.geteuid() == 0:
        who = {"user": NOBODY}
        shutil.chown(folder, NOBODY)

    def run(tool: str, *words: str) -> None:
        subprocess.run([found[-1] / tool, *words], check=True, capture_output=True, cwd=folder, timeout=60, **who)  # type: ignore[call-overload]

    data = folder / "data"
    run("initdb", "-D", str(data), "-U", "intaglio", "-A", "trust", "--no-sync")
    run(
        "pg_ctl",
        "-D",
        str(data),
        "-l",
        str(folder / "log"),
        "-w",
        "-o",
        f"-c listen_addresses='' -k {folder} -F",
        "start",
    )
    yield f"postgresql://intaglio@/postgres?host={folder}"
    run("pg_ctl", "-D", str(data), "-m", "immediate", "stop")
    shutil.rmtree(folder)


@pytest.fixture(params=["lines", "journal", "sqlite", "postgresql"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "lines":
        return f"lines:{tmp_path / 'study.jsonl'}"
    pytest.importorskip("optuna", reason="Optuna is not installed: pip install 'intaglio[search]'")
    if request.param == "postgresql":
        return str(request.getfixturevalue("server"))
    return {"journal": f"journal:{tmp_path / 'study.log'}", "sqlite": f"sqlite:///{tmp_path / 'study.db'}"}[
        request.param
    ]


def test_trials_are_read_again_as_they_were(where: str, tmp_path: Path) -> None:
    written = [record(0), record(1, told="it failed"), record(2, accuracy=None), record(3)]
    storage = open_storage(where, tmp_path, "a", "about", OBJECTIVES)
    assert storage.read() == []
    storage.add(written[:2])
    storage.add(written[2:])
    assert open_storage(where, tmp_path, "a", "about", OBJECTIVES).read() == written


def test_two_studies_do_not_disturb_each_other(where: str, tmp_path: Path) -> None:
    one, two = (open_storage(where, tmp_path, name, name, OBJECTIVES) for name in ("one", "two"))
    one.add([record(0)])
    two.add([record(0, told="another")])
    one.add([record(1)])
    assert one.read() == [record(0), record(1)]
    assert two.read() == [record(0, told="another")]


def test_a_study_of_something_else_is_refused(where: str, tmp_path: Path) -> None:
    open_storage(where, tmp_path, "same", "digits", OBJECTIVES).add([record(0)])
    with pytest.raises(CannotKeep, match="something else") as raised:
        open_storage(where, tmp_path, "same", "letters", OBJECTIVES).read()
    assert "--study" in raised.value.fix


def test_the_same_trial_of_two_drivers_counts_once() -> None:
    assert unique([record(0), record(2), record(1), record(0), record(4)]) == [record(0), record(1), record(2)]


def test_half_a_line_of_a_killed_run_is_left_out(tmp_path: Path) -> None:
    where = f"lines:{tmp_path / 'study.jsonl'}"
    open_storage(where, tmp_path, "a", "about", OBJECTIVES).add([record(0), record(1)])
    text = (tmp_path / "study.jsonl").read_text()
    (tmp_path / "study.jsonl").write_text(text[:-20])
    assert open_storage(where, tmp_path, "a", "about", OBJECTIVES).read() == [record(0)]


def test_what_cannot_be_reached_is_told_without_its_password(tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    where = "postgresql://me:secret@localhost:1/nothing"
    pytest.importorskip("psycopg")
    with pytest.raises(CannotKeep) as raised:
        open_storage(where, tmp_path, "a", "about", OBJECTIVES)
    assert "secret" not in str(raised.value)
    with pytest.raises(UsageError, match="is no place"):
        open_storage("study.db", tmp_path, "a", "about", OBJECTIVES)


def test_without_optuna_lines_are_kept_and_one_line_says_what_is_missing(tmp_path: Path) -> None:
    code = """
import sys
sys.modules["optuna"] = None
import importlib.util as util
found = util.find_spec
util.find_spec = lambda name, *more: None if name == "optuna" else found(name, *more)
from pathlib import Path
from intaglio.pipeline.study.objectives import objectives
from intaglio.pipeline.study.storage import open_storage
print(open_storage(None, Path(sys.argv[1]), "a", "b", objectives(["size"])).path)
try:
    open_storage("sqlite:///x.db", Path(sys.argv[1]), "a", "b", objectives(["size"]))
except Exception as error:
    print(error.what, "|", error.fix)
"""
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        str(tmp_path / "study.jsonl"),
        "storage sqlite needs optuna, which is not installed | pip install 'intaglio[search]'",
    ]
