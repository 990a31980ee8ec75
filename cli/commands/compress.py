"""``intaglio compress``: a recipe, or limits to search within, carried out into a folder."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any

import typer

from ...graph.errors import UsageError
from ...passes.options import reworded
from ...passes.quantize.options import QuantizeOptions
from .. import console
from ..before_after import amounts_table, decibels, emit
from ..mode import mode
from ..options import Debug, DryRun, Json, Metrics, Preprocess, Samples, Shapes, Values, option, read_model
from ..parameters import takes
from ..run import Fits, Outlets, judged, tell_plan

_LIMIT = "fraction|amount".upper()
_TARGETS = str(QuantizeOptions.model_fields["target"].description)


@dataclass(frozen=True)
class _What:
    """What is to be done: a recipe, or limits."""

    recipe: Annotated[
        str | None,
        option(
            "--recipe --method FILE|PRESET",
            "What to do: a YAML file, a preset (see --presets), or a model that intaglio wrote.",
            "method",
        ),
    ] = None
    settings: Annotated[
        list[str] | None, option("--set NAME=VALUE", "Value of a variable of the recipe. Repeatable.", "method")
    ] = None
    size: Annotated[
        str | None, option(_LIMIT, "Search: keep this many bytes of the file, 0.25 or 500KB.", "target")
    ] = None
    macs: Annotated[str | None, option(_LIMIT, "Keep this many MACs, 0.5 or 30M.", "target")] = None
    params: Annotated[str | None, option(_LIMIT, "Keep this many parameters, 0.5 or 200K.", "target")] = None
    latency: Annotated[str | None, option(_LIMIT, "Take this much of the time of a run, 0.5 or 5ms.", "target")] = None
    max_drop: Annotated[
        float | None, option("POINTS", "Lose no more accuracy. Needs labelled data.", "target", min=0)
    ] = None
    target: Annotated[str | None, option("NAME", _TARGETS, "target")] = None


@dataclass(frozen=True, kw_only=True)
class _Job(Outlets, Fits):
    """The data, and how it is done. What the recipe says counts where nothing is given."""

    data: Annotated[str | None, option("SOURCE", "Real inputs, unlabelled: see intaglio quantize.", "data")] = None
    preprocess: Preprocess = None
    samples: Samples = None
    shape: Shapes = None
    value: Values = None
    eval_data: Annotated[str | None, option("SOURCE", "Labelled data: measure the accuracy.", "accuracy")] = None
    exports: Annotated[
        list[str] | None,
        option(
            "--export TARGET",
            "Also write the result for this runtime, and check it there: see intaglio export --targets. Repeatable.",
            "output",
        ),
    ] = None
    metric: Metrics = None
    keep_steps: Annotated[
        bool,
        option(
            "--keep-steps/--no-keep-steps",
            "Keep each step's model: a run goes on where one stopped, and does anew only what changed.",
            "output",
        ),
    ] = True
    measure: Annotated[bool, option("--measure/--no-measure", "Time both models here, in turn.", "output")] = True
    force: Annotated[bool, option("--force", "Write what a pass advises against.", "output")] = False
    dry_run: DryRun = False
    memory: Annotated[str | None, option("SIZE", "Tensors held at once, such as 256MB.", "advanced")] = None
    seed: Annotated[int | None, option("N", "Seed of everything random.", "output", min=0)] = None
    json: Json = False
    debug: Debug = False


@takes
def compress(
    what: _What,
    job: _Job,
    model: Annotated[
        Path | None,
        typer.Argument(metavar="MODEL", help="ONNX file to read; a recipe may name it.", show_default=False),
    ] = None,
    out: Annotated[Path | None, option("--out -o DIR", "Folder to write.", "output")] = None,
    presets: Annotated[
        bool, option("--presets", "List the recipes that come with intaglio, and stop.", "method")
    ] = False,
) -> None:
    """Make a model small and fast, by a recipe or within limits: measured, gated, reported.

    Example: intaglio compress model.onnx -o out --size 0.25 --data images.npz
    """
    if presets:
        _list_presets()
        return
    from ...pipeline.compress import Compression
    from ...pipeline.recipe.load import parse_settings
    from ...pipeline.units import parse_size

    if out is None:
        raise UsageError("no folder to write is named", fix="add -o DIR")
    given = {**vars(what), **{key: value for key, value in vars(job).items() if key not in _HERE}}
    given["metrics"] = given.pop("metric") or ()
    given |= {
        "settings": parse_settings(what.settings),
        "gates": job.gate or (),
        "exports": job.exports or (),
        "view": console,
    }
    given["memory"] = parse_size(job.memory) if job.memory else None
    if model:
        mode.models.append((model, job.shape, job.value))
    try:
        named = read_model(model, job.shape, job.value) if model and (job.shape or job.value) else model
        whole = Compression(named, out, what.recipe, **{key: one for key, one in given.items() if key != "recipe"})
        if job.dry_run:
            tell_plan(whole.plan())
        with job.telling(model or Path(what.recipe or "")):
            report = judged(whole.run)
            job.tell(report.as_dict())
    except UsageError as error:
        raise reworded(error, lambda name: f"--{name.replace('_', '-')}") from error
    emit(report, _show)


def _show(result: dict[str, Any]) -> None:
    from ...pipeline.formats.rows import listed

    if points := result.get("points"):
        console.table(
            "tried", ("passes", "file", "MACs", "time", "SQNR", "accuracy", ""), [_row(one, result) for one in points]
        )
        console.line()
    amounts_table(result)
    for heads, rows in listed(result):
        console.table("", heads, rows)
        console.line()


def _row(point: dict[str, Any], result: dict[str, Any]) -> tuple[str, ...]:
    kept = point["kept"]
    accuracy = next((console.metric(result, *one) for one in (point["accuracy"] or {}).items()), "")
    shares = kept.get("size_bytes"), kept.get("macs"), point["latency_ratio"]
    told = "chosen" if point["chosen"] else "within the limits" if point["meets"] else point["told"]
    cells = ["" if share is None else f"{share:.1%}" for share in shares]
    return point["name"], *cells, decibels(point["sqnr_db"]), accuracy, told


_HERE = {"shape", "value", "memory", "dry_run", "json", "debug", *(one.name for one in fields(Outlets))}
"""What is read on the command line alone."""


def _list_presets() -> None:
    from ...pipeline.recipe.load import load_recipe
    from ...pipeline.recipe.presets import presets

    found = {name: load_recipe(name).about for name in presets()}
    console.emit({"presets": found}, lambda: console.table("", ("preset", "what it does"), list(found.items())))
