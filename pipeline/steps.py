"""What each step of a run made, kept in a folder: a run goes on where one stopped, and does anew only what changed.

A step is known by a hash of all that decides its bytes: the model, the data, the options of the passes up to it, and the
versions of what computes. Its figures are written last, with the hash of its model, so a step is whole or counts as none.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ..graph import errors
from ..graph.errors import BadModel, IntaglioError, UsageError
from ..graph.io.fit import Fit
from ..graph.io.load import load_exact
from ..graph.io.place import alone
from ..graph.io.save import Document, File, pieces, save_all
from ..graph.model import Model
from ..graph.spec import in_a_file
from ..graph.version import VERSION
from ..measure.data.source import DataSource, open_data
from ..passes.base import Context, Pass
from ..passes.change import Change
from .data import Data, Named
from .plugins import plugins_of
from .recipe.recipe import pass_of
from .run import Found, Search
from .text import plain

MODEL, FIGURES, MEASURED, TRIES = "model.onnx", "figures.json", "measured.json", "tries"
SEARCH = "00-search"
_NAME = re.compile(r"\d\d+-")
_KEPT = ("units", "layers", "details", "notes", "proved", "advice", "stated", "seconds")
"""What is told of a change, and kept with its step."""


@dataclass(frozen=True)
class Known(Change):
    """A change that was done by an earlier run, or is held as one by this."""

    told: Mapping[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        return {
            **super().as_dict(),
            **{key: self.told[key] for key in ("verified", "latency_target") if key in self.told},
        }


@dataclass(frozen=True)
class KnownSearch:
    """What a search found before."""

    passes: Sequence[Pass]
    notes: Sequence[str]
    refusal: IntaglioError | None
    told: Mapping[str, Any]
    changes: Sequence[Change] = ()

    def as_dict(self) -> dict[str, Any]:
        return dict(self.told)


@dataclass
class Store:
    """A folder of what passes made, each known by its key: from there models are mapped, so that none is held."""

    folder: Path
    key: str
    used: set[str] = field(default_factory=set)
    shared: bool = False
    """Whether other processes work in the folder: then each step is done by one of them."""

    def after(self, passes: Sequence[Pass]) -> str:
        """The key of what passes in a row make."""
        key = self.key
        for one in passes:
            key = _after(key, one)
        return key

    def step(self, key: str, one: Pass, model: Model, do: Callable[[], Change]) -> Change:
        """What a pass makes of a model, or made of it before. Raises what it raises, or raised before."""
        with alone(self.folder / f".{key[:2]}.lock") if self.shared else nullcontext():
            return self._step(key, one, model, do)

    def _step(self, key: str, one: Pass, model: Model, do: Callable[[], Change]) -> Change:
        folder = self._folder(key)
        known = _known(folder, key, model) or _failed(folder, key)
        if known is None:
            try:
                _keep(folder, key, one, do())
            except IntaglioError as error:
                _write(folder / FIGURES, {"key": key, "failed": _refusal(error)})
            known = _known(folder, key, model) or _failed(folder, key)
        if isinstance(known, IntaglioError) or known is None:
            raise known or IntaglioError(f"{folder} cannot be read again")
        return known

    def measured(self, key: str) -> dict[str, Any]:
        """What was measured of it."""
        told = _told(self._folder(key), MEASURED)
        return told if told.get("key") == key else {}

    def note(self, key: str, **figures: Any) -> None:
        """Adds to what was measured of it."""
        _write(self._folder(key) / MEASURED, {**self.measured(key), "key": key, **figures})

    def _folder(self, key: str) -> Path:
        self.used.add(key[:16])
        return self.folder / key[:16]


@contextmanager
def passing_store(beside: Path | None = None) -> Iterator[Store]:
    """One that goes again; what was mapped from it stays."""
    with tempfile.TemporaryDirectory(prefix="intaglio-", dir=beside, ignore_cleanup_errors=True) as folder:
        yield Store(Path(folder), "")


@dataclass
class Steps:
    """The folder of the steps, and the hash of all that was done so far, which starts with what a run is given."""

    folder: Path
    key: str
    tell: Callable[[list[str]], None]
    used: list[str] = field(default_factory=list)

    def __call__(self, place: int, one: Pass, model: Model, do: Callable[[], Change]) -> Change:
        """What the step makes: read again where it is there, so that a run that goes on and one at a stretch are alike."""
        self.key = _after(self.key, one)
        folder = self.folder / f"{place + 1:02}-{one.name}"
        self.used.append(folder.name)
        known = _known(folder, self.key, model)
        if known is not None:
            self.tell([f"{folder.name} was done before and is taken as it is"])
            return known
        change = do()
        _keep(folder, self.key, one, change)
        return _known(folder, self.key, model) or change

    @cached_property
    def tries(self) -> Store:
        """Of what a search tried, which a later search may want again."""
        return Store(self.folder / TRIES, self.key)

    def searched(self, limits: Mapping[str, Any], search: Search) -> Search:
        """The same search, which knows what it found before."""

        def find(model: Model, context: Context, close: Callable[[Model], None]) -> Found:
            key, folder = hashed(self.key, "search", limits), self.folder / SEARCH
            self.used.append(folder.name)
            known = _found(folder, key)
            if known is not None:
                self.tell(["the search was done before, its result is taken as it is"])
                return known
            found = search(model, context, close)
            told = {
                "key": key,
                "passes": [{"pass": one.name, **one.model_dump(mode="json")} for one in found.passes],
                "notes": found.notes,
                "refusal": found.refusal and _refusal(found.refusal),
                "figures": found.as_dict(),
            }
            _write(folder / FIGURES, told)
            return found

        return find

    def sweep(self) -> None:
        """Steps of other runs go, and what their searches tried."""
        searched, tries = SEARCH in self.used, self.folder / TRIES
        for folder in _folders(self.folder):
            if folder.name not in self.used and _NAME.match(folder.name):
                _sweep(folder)
        if "tries" in vars(self) or not searched:
            for folder in _folders(tries):
                if not searched or folder.name not in self.tries.used:
                    _sweep(folder)
        with suppress(OSError):  # something is left
            tries.rmdir()


def _folders(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.is_dir() else []


def _sweep(folder: Path) -> None:
    if "key" not in {**_told(folder), **_told(folder, MEASURED)}:
        return
    for file in folder.iterdir():
        if file.name in (FIGURES, MEASURED) or file.name.startswith(MODEL):
            file.unlink()
    with suppress(OSError):  # it holds files of others
        folder.rmdir()


def _after(key: str, one: Pass) -> str:
    return hashed(key, one.name, one.model_dump(mode="json"), plugins_of([one]), _code(one))


def _known(folder: Path, key: str, model: Model) -> Change | None:
    try:
        told = _told(folder)
        if told["key"] != key or told["sha256"] != file_hash(folder / MODEL):
            return None
        made = load_exact(folder / MODEL, model) if told["changed"] else model
        kept = {name: told["change"][name] for name in _KEPT}
        return Known(model, made, **kept, refusal=_error(told["refusal"]), told=told["figures"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, BadModel):  # not whole, or somebody else's
        return None


def _failed(folder: Path, key: str) -> IntaglioError | None:
    try:
        told = _told(folder)
        return _error(told["failed"]) if told["key"] == key else None
    except (KeyError, TypeError, AttributeError):
        return None


def _keep(folder: Path, key: str, one: Pass, change: Change) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / FIGURES).unlink(missing_ok=True)
    save_all([File(change.model, folder / MODEL)])
    told = {
        "key": key,
        "sha256": file_hash(folder / MODEL),
        "pass": {"pass": one.name, **one.recipe(change)},
        "changed": change.changed,
        "refusal": change.refusal and _refusal(change.refusal),
        "change": {name: getattr(change, name) for name in _KEPT},
        "figures": change.as_dict(),
    }
    _write(folder / FIGURES, told)


def _write(path: Path, told: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_all([Document(path, json.dumps(plain(told), indent=1) + "\n")])


def starting_key(model: Model, data: Data, force: bool, fit: Fit) -> str:
    """A hash of all that a run is given, beside its passes."""
    import numpy
    import onnxruntime

    digest = hashlib.sha256()
    for piece in pieces(model):
        digest.update(piece)
    versions = VERSION, numpy.__version__, onnxruntime.__version__
    named = [_data_hash(data.calibration, model, data, data.samples), _data_hash(data.labelled, model, data)]
    metrics = [[name, _code_file(name) if in_a_file(name) else ""] for name in data.metrics]
    asked = data.preprocess, data.samples, data.seed, *metrics
    return hashed(digest.hexdigest(), versions, named, *asked, force, fit.as_dict())


def _data_hash(named: Named | None, model: Model, data: Data, samples: int | None = None) -> str:
    """Of a file its content, of a folder names, sizes and times, of all else what it gives."""
    if named is None:
        return ""
    path = "" if isinstance(named, DataSource) else str(named)
    if os.path.isfile(path):
        return file_hash(Path(path))
    if os.path.isdir(path):
        return hashed(sorted(_stamps(path)))
    source = (
        named if isinstance(named, DataSource) else open_data(path, model, preprocess=data.preprocess, samples=samples)
    )
    digest = hashlib.sha256()
    for batch in source.batches():
        for name, array in [*sorted(batch.inputs.items()), ("", batch.labels)]:
            digest.update(f"{name} {getattr(array, 'shape', None)}".encode())
            digest.update(b"" if array is None else array.tobytes())
    return digest.hexdigest()


def _stamps(folder: str) -> Iterator[tuple[str, int, int]]:
    for where, _, names in os.walk(folder, followlinks=True):
        for name in names:
            with suppress(OSError):
                found = os.stat(os.path.join(where, name))
                yield os.path.relpath(os.path.join(where, name), folder), found.st_size, found.st_mtime_ns


def _code(one: Pass) -> str:
    """Of a pass that calls functions of the user's, the files with them; what cannot be found is new every time."""
    named = [str(value) for _, value in one if in_a_file(str(value))]
    return hashed([_code_file(name) for name in (getattr(one, "function", None), *named) if name])


def _code_file(name: str) -> str:
    with suppress(ImportError, AttributeError, ValueError, OSError):
        file, spec = name.rpartition(":")[0], None if in_a_file(name) else find_spec(name.partition(":")[0])
        if origin := spec.origin if spec else file:
            return file_hash(Path(origin))
    return secrets.token_hex()


def _told(folder: Path, name: str = FIGURES) -> dict[str, Any]:
    """The figures of a step; empty where there are none that could be read."""
    try:
        told = json.loads((folder / name).read_text())
    except (OSError, ValueError, RecursionError):
        return {}
    return told if isinstance(told, dict) else {}


def _found(folder: Path, key: str) -> KnownSearch | None:
    try:
        told = _told(folder)
        if told["key"] != key:
            return None
        passes = [pass_of(one) for one in told["passes"]]
        return KnownSearch(passes, told["notes"], _error(told["refusal"]), told["figures"])
    except (OSError, ValueError, KeyError, TypeError, UsageError):
        return None


def _error(told: Mapping[str, str] | None) -> IntaglioError | None:
    if told is None:
        return None
    kind: type[IntaglioError] = getattr(errors, told["kind"], IntaglioError)
    return kind(told["what"], why=told["why"], fix=told["fix"])


def _refusal(error: IntaglioError) -> dict[str, str]:
    return {"kind": type(error).__name__, "what": error.what, "why": error.why, "fix": error.fix}


def file_hash(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 22):
            digest.update(piece)
    return digest.hexdigest()


def hashed(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(plain(parts), sort_keys=True).encode(errors="surrogatepass")).hexdigest()
