"""Any source as a model: read by the importer that takes it, and compared with the framework that it comes from."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

from ..graph.errors import BadModel, NothingChanged, UsageError
from ..graph.io.branches import pin_inputs
from ..graph.io.load import load
from ..graph.io.quants import standard_quants
from ..graph.lazy import from_file, release, require
from ..graph.lazy import imported as named
from ..graph.model import Model
from ..graph.spec import Spec, in_a_file, split
from ..importers.base import IMPORTERS, Imported, Importer, Source
from ..measure.difference import Difference, add_outputs
from ..measure.run.inputs import runnable_inputs
from ..measure.run.session import open_session, run

_MADE_UP = 3
_FACTORY = r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*"


@dataclass(frozen=True)
class Read:
    """What was read, by which importer, and how its outputs differ from the framework's; empty where nothing was compared."""

    model: Model
    importer: str
    outputs: Mapping[str, Difference]
    notes: Sequence[str]
    package: str = ""


def read_source(
    source: str | PathLike[str],
    *,
    shapes: Mapping[str, Sequence[int]] | None = None,
    values: Mapping[str, Any] | None = None,
    by: Spec | None = None,
    seed: int = 0,
) -> Read:
    """Read what any importer reads: a file, a folder, or ``package.module:factory`` or ``file.py:factory``, which is run.

    ``by`` names the importer, with its options; without a name the source tells. ``shapes`` are of inputs: they pin free
    dimensions, and describe inputs where the framework does not.

    Raises:
        BadModel: it cannot be read, or the result does not compute the same.
    """
    text = str(source)
    name, options = ("", {}) if by is None else split(by, "importer")
    thing = _made(text, options.get("backend")) if _is_factory(text) else None
    found: Importer = IMPORTERS[{**options, "name": name or _importer_of(text, thing)}]
    if found.name == "onnx":
        model = load(_file_of(text), shapes=shapes, values=values)
        standard_quants(model)
        return Read(model, "onnx", {}, ())
    require(f"importer {found.name}", found.extra, found.imports)
    made = found.read(Source(text, shapes or {}, thing))
    model = _standard(made.model)
    outputs = _checked(replace(made, model=model), found, text, seed)
    pin_inputs(model, values or {})
    return Read(model, found.name, outputs, made.notes, release(found.package))


def read_model(
    source: str | PathLike[str],
    *,
    shapes: Mapping[str, Sequence[int]] | None = None,
    values: Mapping[str, Any] | None = None,
) -> Model:
    """The model alone; what reading changed, and what the importer says, are in its ``notes``."""
    read = read_source(source, shapes=shapes, values=values)
    read.model.notes += [note for note in read.notes if note not in read.model.notes]
    return read.model


def _file_of(text: str) -> str:
    """A folder stands for the one ONNX file in it."""
    found = sorted(Path(text).glob("*.onnx")) if Path(text).is_dir() else []
    return str(found[0]) if len(found) == 1 else text


def _importer_of(text: str, thing: Any) -> str:
    """By what a factory gave, what a folder holds, or the suffix; what nobody claims is taken for ONNX, which says what is wrong."""
    if thing is not None:
        return _importer_of_thing(thing, text)
    if Path(text).is_dir():
        marks = {name: _kind(name).holds for name in IMPORTERS if _kind(name).holds}
        return next((name for name, mark in marks.items() if (Path(text) / mark).is_file()), "onnx")
    suffix = Path(text).suffix.lower()
    if suffix in ("", ".onnx"):
        return "onnx"
    return next((name for name in IMPORTERS if suffix in _kind(name).suffixes), "onnx")


def _importer_of_thing(thing: Any, text: str) -> str:
    inner = thing[0] if isinstance(thing, tuple) and thing else thing
    packages = {kind.__module__.partition(".")[0] for kind in type(inner).__mro__}
    for name in IMPORTERS:
        if packages & {*_kind(name).modules}:
            return name
    raise UsageError(
        f"no importer takes what {text} gives, a {type(inner).__name__}",
        fix="name one with --from; intaglio import --sources lists them",
    )


def _kind(name: str) -> type[Importer]:
    kind: type[Importer] = IMPORTERS.entry(name).thing
    return kind


def _is_factory(text: str) -> bool:
    return (in_a_file(text) or bool(re.fullmatch(_FACTORY, text))) and not Path(text).exists()


def _made(text: str, backend: str | None) -> Any:
    """What a factory gives; it is run, as any code that is imported. Keras looks for its backend when that happens."""
    os.environ["KERAS_BACKEND"] = backend or os.environ.get("KERAS_BACKEND", "torch")
    try:
        factory = from_file(text, "source", function=False) if in_a_file(text) else named(text, BadModel)
    except (UsageError, BadModel) as error:
        if isinstance(error.__cause__, ModuleNotFoundError) and (fix := _install(error.__cause__.name)):
            raise UsageError(error.what, why=error.why, fix=fix) from error
        raise
    try:
        return (
            factory() if callable(factory) and (isinstance(factory, type) or hasattr(factory, "__code__")) else factory
        )
    except (Exception, SystemExit) as error:  # one that exits must not end the command as if all were done
        raise BadModel(f"{text} failed", why=f"{type(error).__name__}: {error}") from error


def _install(module: str | None) -> str:
    """What installs a framework that code of a source imports; empty for what is none of an importer's."""
    package = (module or "").partition(".")[0]
    kinds = [_kind(name) for name in IMPORTERS]
    extra = next((kind.extra for kind in kinds if package in kind.modules), "")
    return f"pip install 'intaglio[{extra}]'" if extra else ""


def _checked(made: Imported, by: Importer, text: str, seed: int) -> dict[str, Difference]:
    """Outputs against the framework's on made-up inputs. Raises BadModel where they differ."""
    if made.reference is None:
        return {}
    session, found = open_session(made.model), dict[str, Difference]()
    for k in range(_MADE_UP):
        feeds = runnable_inputs(made.model, seed=seed + k, batches=(3, 1))
        wanted = made.reference(feeds)
        add_outputs(found, wanted, run(session, feeds, list(wanted)))
    for name, one in found.items():
        if one.sqnr_db < made.sqnr_db or one.not_finite:
            raise BadModel(
                f"{text} was not imported: output {name!r} differs from {by.name}'s",
                why=f"by up to {one.max_abs:.3g} on random inputs, {one.sqnr_db:.1f} dB",
                fix="report it; export the model to ONNX by the framework's own means meanwhile",
            )
    return found


def _standard(model: Model) -> Model:
    """The same with less: what constants decide is computed, casts that change nothing go."""
    from ..passes.simplify import Simplify

    try:
        change = Simplify(fold=False, merge=False, verify=False).run(model)
    except NothingChanged:
        return model
    gone = len(model.graph.node) - len(change.model.graph.node)
    change.model.notes[:] = [*model.notes, f"{gone} nodes that constants decide, or that change nothing, went"]
    return change.model if change.changed and gone else model
