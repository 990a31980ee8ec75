"""One trial, wherever it runs: passes on a model that a task names, and what came of them."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, fields, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from threadpoolctl import threadpool_limits

from ...graph.cost import cost
from ...graph.errors import BadData, IntaglioError, NothingChanged, UsageError
from ...graph.io.fit import USUAL
from ...graph.io.place import alone
from ...graph.model import Model
from ...measure.data.drawn import drawn
from ...measure.executors.files import Named, located, private_folder, share
from ...passes.base import MEMORY, Context, Pass
from ..data import Data
from ..importing import read_model
from ..recipe.recipe import pass_of
from ..search.chains import Chains
from ..search.result import Point
from ..steps import file_hash, hashed, starting_key
from ..text import plain
from .cache import MOST, Cache
from .device import DeviceFailed, on_device
from .helping import files_of

FUNCTION = f"{__name__}:measured"
"""What executors call."""


@dataclass(frozen=True)
class Given:
    """What all trials of a study are given, by reference: ``files`` has the model and data by what is in them.

    ``samples`` of the calibration data are used, the first or, where ``drawn``, some by the seed, and ``scored`` of the
    labelled. ``key`` is a hash of all that decides the
    figures of a trial, content of data and versions of what computes, too: every worker must have the same. ``device`` is
    a command that measures times elsewhere: see ``on_device``.
    """

    model: str
    sha256: str
    shapes: Mapping[str, Sequence[int]] | None = None
    inputs: Mapping[str, Any] | None = None
    data: str | None = None
    eval_data: str | None = None
    preprocess: str | None = None
    samples: int | None = None
    scored: int | None = None
    metrics: Sequence[str] = ()
    seed: int = 0
    memory: int = MEMORY
    timed: bool = False
    drawn: bool = False
    key: str = ""
    cache: str = ""
    cache_bytes: int = MOST
    files: Mapping[str, Named] = field(default_factory=dict)
    device: str | None = None

    @property
    def named(self) -> Data:
        """Raises BadData where it is not found."""
        return Data(
            self._place("data"), self._place("eval_data"), self.preprocess, self.samples, self.seed, tuple(self.metrics)
        )

    def read(self) -> Model:
        """Raises BadData where the model is not found, or is another."""
        return read_model(self._place("model") or "", shapes=self.shapes, values=self.inputs)

    def _place(self, name: str) -> str | None:
        return str(located(self.files[name])) if name in self.files and getattr(self, name) else getattr(self, name)

    @property
    def folder(self) -> Path:
        """What trials share: where the folder of that is not seen, one of this machine."""
        wanted = Path(self.cache)
        return wanted if wanted.is_dir() else private_folder() / f"cache-{hashed(self.cache)[:16]}"

    def share(self, executor: object) -> None:
        """Let workers find all that."""
        Path(self.cache).mkdir(parents=True, exist_ok=True)
        share(executor, list(self.files.values()))

    def less(self, share: float) -> Given:
        """The same with fewer samples."""
        samples, scored = (None if one is None else max(1, round(one * share)) for one in (self.samples, self.scored))
        return replace(self, samples=samples, scored=scored, key="")


@dataclass(frozen=True)
class Bench:
    """A model and its data, opened once in a process."""

    model: Model
    close: Any
    context: Context
    data: Data
    cache: Cache
    device: str | None = None

    @classmethod
    def of(cls, given: Given) -> Bench:
        read, data = given.read(), given.named
        model, close = data.for_many_samples(read, ())
        labelled = data.open_labelled(model, ())
        if labelled is not None:
            labelled = replace(labelled, limit=given.scored)
        calibration = data.open_calibration(model)
        context = Context(
            drawn(calibration, given.seed) if calibration and given.drawn else calibration,
            labelled,
            metrics=data.metrics,
            seed=given.seed,
            memory=given.memory,
        )
        key = hashed(starting_key(read, data, False, USUAL), given.scored, given.drawn)
        if given.key not in ("", key):
            what = "the data, or a version of what computes, are not what the search was started with"
            raise BadData(what, fix="give all workers the same data under the same names, and the same packages")
        return cls(model, close, context, data, Cache(given.folder, key, given.cache_bytes), given.device)

    def chains(self, passes: Sequence[Pass] = ()) -> Chains:
        """For passes some of which may want made-up inputs in the place of data."""
        dialect = next(filter(None, (one.makes_noise for one in passes)), "")
        made_up = self.data.made_up(self.model, dialect) if dialect else None
        context = replace(self.context, data=made_up) if made_up else self.context
        return Chains(self.model, context, self.cache.store(), self.close, kept=self.cache.kept)

    def figures(self, passes: Sequence[Pass], *, timed: bool) -> dict[str, Any]:
        """What a chain gives, from before where it was tried."""
        store = self.cache.store()
        where = [self.device] if timed and self.device else []
        key = hashed(store.after(passes), timed, *where, [str(one) for one in self.context.metrics])
        known = self.cache.figures(key)
        if known is not None:
            return known
        with one_thread():
            found = self._worked_out(passes, timed)
        self.cache.keep(key, found)
        self.cache.trim()
        return found

    def _timed(self, chains: Chains, point: Point, passes: Sequence[Pass]) -> Point:
        if self.device:
            return chains.timed(point, passes, 1, elsewhere=on_device(self.device))
        with alone_on_machine():
            return chains.timed(point, passes)

    def _worked_out(self, passes: Sequence[Pass], timed: bool) -> dict[str, Any]:
        try:
            chains = self.chains(passes)
            done = effective(chains, passes)
        except IntaglioError as error:
            return {"told": error.what}
        quick = tuple(map(unproved, done))
        point = chains.point("", quick)
        if timed and not point.told:
            try:
                point = self._timed(chains, point, quick)
            except DeviceFailed as error:
                return {"told": f"{error.what}: {error.why}"}
        if point.told:
            return {"told": point.told}
        peaks = [cost(one).peak_activation_bytes for one in (self.model, chains.model(quick))]
        kept = {**point.kept, "memory": peaks[1] / peaks[0] if peaks[0] else 1.0}
        told: dict[str, Any] = plain({**point.as_dict(), "kept": kept, "passes": list(map(recipe_of, done))})
        return told


def effective(chains: Chains, passes: Sequence[Pass]) -> tuple[Pass, ...]:
    """The passes that find something to change. Raises IntaglioError where one of them cannot be run."""
    kept: tuple[Pass, ...] = ()
    for one in passes:
        with suppress(NothingChanged):
            chains.changes(tuple(map(unproved, (*kept, one))))
            kept = (*kept, one)
    return kept


def unproved(one: Pass) -> Pass:
    """The same, its result not proved: that is done of the models that are written."""
    return one.model_copy(update={"verify": False}) if "verify" in type(one).model_fields else one


def recipe_of(one: Pass) -> dict[str, Any]:
    """What was said of a pass, as a recipe has it."""
    return {"pass": one.name, **one.model_dump(mode="json", exclude_unset=True)}


def measured(task: Mapping[str, Any]) -> dict[str, Any]:
    """What a trial gives: the figures of a point, or in ``told`` why there are none."""
    try:
        passes = [pass_of(one) for one in task["passes"]]
        return bench(json.dumps(task["given"], sort_keys=True)).figures(passes, timed=task["given"]["timed"])
    except IntaglioError as error:
        return {"told": error.what}


def task_of(given: Given, passes: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {"given": plain(asdict(given)), "passes": plain(list(passes))}


def given_of(asked: Any, folder: Path) -> Given:
    """What a search or a sweep hands to its trials; ``folder`` has what they share. Raises UsageError."""
    path = Path(asked.model)
    if not path.is_file():
        raise UsageError(f"{path} is no file", why="workers read the model again", fix="give an ONNX file")
    files = files_of(path, data=asked.data, eval_data=asked.eval_data)
    taken = {one.name: getattr(asked, one.name) for one in fields(Given) if hasattr(asked, one.name)}
    cache = str(Path(asked.cache or folder / "cache").absolute())
    return Given(**{**taken, "model": str(path.absolute()), "sha256": file_hash(path), "files": files, "cache": cache})


@lru_cache(maxsize=4)
def bench(given: str) -> Bench:
    """Raises IntaglioError for a model or data that cannot be opened."""
    return Bench.of(Given(**json.loads(given)))


@contextmanager
def one_thread() -> Iterator[None]:
    """BLAS sums in an order that hangs on its threads: with one the same everywhere."""
    with threadpool_limits(limits=1, user_api="blas"):
        yield


@contextmanager
def alone_on_machine() -> Iterator[None]:
    """One at a time of all processes of this machine, on one core."""
    with alone(Path(tempfile.gettempdir()) / "intaglio-latency.lock"):
        if not hasattr(os, "sched_setaffinity"):
            yield
            return
        before = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {max(before)})
        try:
            yield
        finally:
            os.sched_setaffinity(0, before)
