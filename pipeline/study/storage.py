"""Where a study's trials are kept: a file of lines, or whatever Optuna writes to: SQLite, PostgreSQL, its journal."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from ...graph.errors import IntaglioError, UsageError
from ...graph.lazy import absent, require
from .objectives import Objective
from .record import Record

_KEY = "intaglio"
_TRIALS = """
SELECT told.value_json FROM trial_user_attributes AS told JOIN trials ON trials.trial_id = told.trial_id
WHERE trials.study_id = :study AND told.key = :key ORDER BY trials.trial_id
"""


class Storage(Protocol):
    """One study. Trials with a number that is there already are the same, and count once."""

    def read(self) -> list[Record]: ...
    def add(self, records: Sequence[Record]) -> None: ...


class CannotKeep(IntaglioError):
    """A storage that cannot be reached, or holds something else."""


def open_storage(where: str | None, folder: Path, name: str, about: str, objectives: Sequence[Objective]) -> Storage:
    """``where`` is a URL such as ``sqlite:///studies.db``, ``journal:FILE`` or ``lines:FILE``.

    Without it that is ``study.db`` in the folder, or, where Optuna is not there, ``study.jsonl``. ``about`` is a hash of
    what the study is of. Raises CannotKeep where there is another of that name.
    """
    lines = folder / "study.jsonl"
    if where is None:
        where = f"lines:{lines}" if lines.exists() or absent(["optuna"]) else f"sqlite:///{folder / 'study.db'}"
    kind, _, place = where.partition(":")
    if kind == "lines":
        return Lines(Path(place), name, about)
    if "://" not in where and kind != "journal":
        raise UsageError(
            f"storage {where!r} is no place", fix="write sqlite:///FILE, postgresql://..., or journal:FILE"
        )
    require(f"storage {kind}", "search", ["optuna"])
    return InOptuna(where, name, about, objectives)


class Lines:
    """A line a trial, and one that says what the study is of: several studies may share a file."""

    def __init__(self, path: Path, name: str, about: str) -> None:
        self.path, self.name, self.about = path, name, about

    def read(self) -> list[Record]:
        found = list[Record]()
        try:
            with self.path.open(encoding="utf-8") as file:
                for line in file:
                    if (told := _told(line)).get("study") == self.name:
                        _require_same(str(told.get("about")), self.about, self.name, str(self.path))
                        found.append(Record(**told["trial"]))
        except FileNotFoundError:
            return []
        except (OSError, TypeError, KeyError) as error:
            raise CannotKeep(f"{self.path} cannot be read", why=str(error)) from error
        return unique(found)

    def add(self, records: Sequence[Record]) -> None:
        text = "".join(
            json.dumps({"study": self.name, "about": self.about, "trial": one.as_dict()}) + "\n" for one in records
        )
        with self.path.open("a", encoding="utf-8") as file:
            file.write(text)


def _told(line: str) -> dict[str, Any]:
    """Nothing of the last line of a run that was killed while it wrote."""
    try:
        told = json.loads(line)
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}


class InOptuna:
    """A study of Optuna's, whose other tools can show it; all that we know of a trial is one attribute of it.

    Source: Akiba et al., "Optuna: A Next-generation Hyperparameter Optimization Framework", KDD 2019, arXiv:1907.10902.
    """

    def __init__(self, where: str, name: str, about: str, objectives: Sequence[Objective]) -> None:
        self._optuna: Any = import_module("optuna")
        self._optuna.logging.set_verbosity(self._optuna.logging.ERROR)
        self.name, self.objectives = name, objectives
        shown = re.sub(r"//[^/@]*@", "//", where)  # no password
        try:
            directions = ["maximize" if one.larger else "minimize" for one in objectives]
            self._storage = self._opened(where)
            self._study: Any = self._optuna.create_study(
                study_name=name, storage=self._storage, directions=directions, load_if_exists=True
            )
            if _KEY not in self._study.user_attrs:
                self._study.set_user_attr(_KEY, about)
        except Exception as error:
            why = str(error).split("\n")[0]
            raise CannotKeep(f"the storage {shown} cannot be used", why=f"{type(error).__name__}: {why}") from error
        _require_same(str(self._study.user_attrs[_KEY]), about, name, shown)

    def _opened(self, where: str) -> Any:
        kind, _, place = where.partition(":")
        storages = import_module("optuna.storages")
        if kind == "journal":
            return storages.JournalStorage(import_module("optuna.storages.journal").JournalFileBackend(place))
        if kind == "postgresql":  # of the drivers that SQLAlchemy knows, the one of the extra
            where = f"postgresql+psycopg:{place}"
        return storages.RDBStorage(where)

    def read(self) -> list[Record]:
        """From databases without Optuna's objects, which take seven times as long."""
        if engine := getattr(self._storage, "engine", None):
            text, study = import_module("sqlalchemy").text(_TRIALS), self._study._study_id
            with engine.connect() as connection:
                found = connection.execute(text, {"study": study, "key": _KEY})
                return unique(Record(**json.loads(told)) for (told,) in found)
        trials = self._study.get_trials(deepcopy=False)
        return unique(Record(**one.user_attrs[_KEY]) for one in trials if _KEY in one.user_attrs)

    def add(self, records: Sequence[Record]) -> None:
        make, states = self._optuna.trial.create_trial, self._optuna.trial.TrialState
        for one in records:
            figures = [objective.figure(one.figures) for objective in self.objectives]
            whole = one.usable and None not in figures
            told = {"values": figures, "state": states.COMPLETE} if whole else {"state": states.FAIL}
            self._study.add_trial(make(user_attrs={_KEY: one.as_dict()}, **told))


def _require_same(found: str, about: str, name: str, place: str) -> None:
    if found != about:
        raise CannotKeep(
            f"{place} has a study {name!r} of something else",
            why="another model, data, space, strategy or seed was asked about",
            fix="give this one another name with --study, or leave that out",
        )


def unique(records: Iterable[Record]) -> list[Record]:
    """One of each number, in order, up to the first that is missing."""
    found: Mapping[int, Record] = {one.number: one for one in reversed(list(records))}
    whole = list[Record]()
    while len(whole) in found:
        whole.append(replace(found[len(whole)], number=len(whole)))
    return whole
