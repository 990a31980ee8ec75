"""A recipe, or limits to search within, carried out into a folder that holds all that a team and a device need."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any

from ..graph.errors import UsageError
from ..graph.io.load import load
from ..graph.io.save import CannotWrite, Document
from ..graph.model import Model
from ..passes.base import MEMORY, Pass
from .data import Data, Named
from .formats import markdown
from .gates import Gate, read_gates
from .html import render
from .outputs import Outputs
from .recipe.load import load_recipe
from .recipe.recipe import Recipe, RecipeLimits, has_target
from .recipe.write import as_yaml
from .report import Report
from .run import Logged, Run, View, carried_out, loaded, ready
from .steps import Steps, starting_key
from .text import plain

MODEL, RECIPE, REPORT, PAGE, WORDS = "model.onnx", "recipe.yaml", "report.json", "report.html", "report.md"
_NAMES = (MODEL, RECIPE, REPORT, PAGE, WORDS, "steps")


def compress(
    model: Model | str | PathLike[str] | None,
    out: str | PathLike[str],
    recipe: str | PathLike[str] | Mapping[str, Any] | Recipe | None = None,
    *,
    settings: Mapping[str, Any] | None = None,
    size: float | str | None = None,
    macs: float | str | None = None,
    params: float | str | None = None,
    latency: float | str | None = None,
    max_drop: float | None = None,
    target: str | None = None,
    data: Named | None = None,
    eval_data: Named | None = None,
    preprocess: str | None = None,
    samples: int | None = None,
    seed: int | None = None,
    memory: int | None = None,
    gates: Sequence[str | Gate] = (),
    keep_steps: bool = True,
    measure: bool = True,
    force: bool = False,
    view: View | None = None,
) -> Report:
    """Make a model small by a recipe, or search within limits, and write all that is known of it into the folder ``out``.

    ``recipe`` is a file, a preset, a model that holds one, or plain data; ``settings`` are values of its variables. What
    is given beside it counts more than what it says. ``model`` may be None where the recipe names it.

    Raises:
        IntaglioError: what the recipe, a pass, the data or a gate says; the folder holds no new result then.
    """
    limits = RecipeLimits(size=size, macs=macs, params=params, latency=latency, max_drop=max_drop)
    asked = _asked(recipe, settings, limits)
    original = _original(model, asked)
    named = Data(
        asked.data.calibration if data is None else data,
        asked.data.evaluation if eval_data is None else eval_data,
        preprocess or asked.data.preprocess,
        samples or asked.data.samples,
        asked.seed if seed is None else seed,
    )
    held = read_gates([*asked.gates, *gates])
    read, steps = ready(original, _steps(asked, target), named)
    view, forced, held_bytes = view or Logged(), force or asked.force, memory or MEMORY
    job = Run(steps, named, measure, forced, held_bytes, view, held, command="compress")
    folder = Path(out)
    with _prepared(folder):
        kept = Steps(folder / "steps", "", view.notes)
        if keep_steps:
            kept.key = starting_key(read, named, held_bytes, forced)
            job = replace(job, each=kept)
        outputs = Outputs(folder / MODEL, beside=partial(_beside, folder, asked, [one.text for one in held]))
        report = carried_out(job, read, outputs)
        if keep_steps:
            kept.sweep()
        return report


def _asked(recipe: Any, settings: Mapping[str, Any] | None, limits: RecipeLimits) -> Recipe:
    """Raises UsageError where it is not clear what is to be done."""
    given = [name for name, value in limits if value is not None]
    if recipe is None:
        if settings:
            raise UsageError("settings are of a recipe, and there is none", fix="add `recipe`")
        if not given:
            flags = ", ".join(f"`{name}`" for name, _ in limits)
            raise UsageError("nothing was asked for", fix=f"give a `recipe`, or limits: {flags}")
        return Recipe(limits=limits)
    if given:
        raise UsageError(f"a recipe and `{given[0]}` exclude each other", fix="put limits into the recipe: limits:")
    return load_recipe(recipe, settings)


def _original(model: Model | str | PathLike[str] | None, asked: Recipe) -> Model:
    if model is None and asked.model is None:
        raise UsageError("no model is named", fix="give MODEL, or say model: in the recipe")
    if isinstance(model, (str, PathLike)) or model is None:
        return load(model or str(asked.model), shapes=asked.shapes or None, values=asked.inputs or None)
    return loaded(model)


def _steps(asked: Recipe, target: str | None) -> tuple[Pass, ...]:
    if target is None:
        return asked.steps()
    return tuple(p.model_copy(update={"target": target}) if has_target(type(p)) else p for p in asked.passes)


@contextmanager
def _prepared(folder: Path) -> Iterator[None]:
    """The folder is there; it goes again if nothing came of it.

    Raises:
        CannotWrite: it cannot be made, or holds files of these names that no such run wrote.
    """
    taken = [name for name in _NAMES if (folder / name).exists()]
    if taken and not (folder / RECIPE).is_file() and taken != ["steps"]:
        why = f"it holds {', '.join(taken)}, which no such run wrote"
        raise CannotWrite(f"cannot write into {folder}", why=why, fix="choose another folder")
    made = [one for one in (folder, *folder.parents) if not one.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CannotWrite(f"cannot make the folder {folder}", why=(error.strerror or str(error)).lower()) from error
    try:
        yield
    finally:
        for one in made:
            if not os.listdir(one):
                one.rmdir()


def _beside(folder: Path, asked: Recipe, gates: Sequence[str], report: Report) -> list[Document]:
    source = report.change.original.source
    told = {
        "about": asked.about,
        "model": str(source) if source else None,
        **report.recipe,
        "gates": list(gates),
        "exports": list(asked.exports) if asked.exports != ("onnx",) else None,
    }
    recipe = as_yaml({key: value for key, value in told.items() if value})
    plain_report = plain(report.as_dict())
    return [
        Document(folder / RECIPE, recipe),
        Document(folder / REPORT, json.dumps(plain_report, indent=2, ensure_ascii=False) + "\n"),
        Document(folder / PAGE, render(plain_report)),
        Document(folder / WORDS, markdown.render(plain_report)),
    ]
