"""Write down what was done, as a recipe that does it again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

from ...graph.io.fit import Fit
from ...graph.model import Model
from ...graph.version import VERSION
from ...passes.base import PASSES, Pass
from ...passes.change import Change
from ...passes.options import Option, options_of
from ..data import Data, Named
from ..plugins import plugins_of
from ..text import harmless, plain
from .text import scalar


def recorded(
    original: Model,
    passes: Sequence[Pass],
    changes: Sequence[Change],
    data: Data,
    force: bool,
    fit: Fit,
    target: str | None = None,
) -> dict[str, Any]:
    """All that decides the bytes of a result, with every option: what a file says of how it was made.

    ``target`` is what the whole is for, where that was said: whether it is timed here hangs on it.
    """
    named = {
        "calibration": _name(data.calibration),
        "evaluation": _name(data.labelled),
        "preprocess": data.preprocess,
        "samples": data.samples,
        "metrics": list(data.metrics) or None,
    }
    pins = {"shapes": original.file.shapes, "inputs": original.file.values} if original.file else {}
    plugins = {one["package"]: one["version"] for one in plugins_of(passes)}
    told: dict[str, Any] = {
        **pins,
        "target": target,
        "data": {key: value for key, value in named.items() if value is not None},
        "passes": [{"pass": p.name, **p.recipe(change)} for p, change in zip(passes, changes, strict=True)],
        "seed": data.seed,
        "force": force or None,
        **fit.as_dict(),
        "made_by": {"intaglio": VERSION, **({"plugins": plugins} if plugins else {})},
    }
    found: dict[str, Any] = plain({key: value for key, value in told.items() if value not in (None, {})})
    return found


def portable(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """The same for a file that travels: names of data without the folders of this machine."""
    data = dict(recipe.get("data", {}))
    for key in ("calibration", "evaluation"):
        if key in data:
            data[key] = PurePath(data[key]).name
    return {**recipe, **({"data": data} if data else {})}


def as_yaml(recipe: Mapping[str, Any]) -> str:
    """As a file to read and run: options that every pass of its kind has by default are left out.

    Where a name would steer a terminal or a reader, all but ASCII is escaped.
    """
    import yaml

    def text(dumper: Any, value: str) -> Any:
        """Words that recipes would read as numbers stand in quotes."""
        plain = isinstance(scalar(value), str)
        return dumper.represent_scalar("tag:yaml.org,2002:str", value.replace("$", "$$"), None if plain else "'")

    dumper: Any = type("Dumper", (yaml.SafeDumper,), {"ignore_aliases": lambda *_: True})
    dumper.add_representer(str, text)
    told = {**recipe, "passes": [shortened(one) for one in recipe["passes"]]}
    written, escaped = (
        str(yaml.dump(told, Dumper=dumper, sort_keys=False, allow_unicode=unicode, width=100))
        for unicode in (True, False)
    )
    return written if harmless(written) == written else escaped


def shortened(told: Mapping[str, Any]) -> dict[str, Any]:
    """A pass without what every one of its kind has by default."""
    kind = PASSES.get(told["pass"])
    fields = {one.name: one for one in options_of(kind)} if kind else {}
    return {key: value for key, value in told.items() if key not in fields or _worth_telling(fields[key], value)}


def _worth_telling(one: Option, value: Any) -> bool:
    """What is to be reached always is."""
    return value != plain(one.field.get_default()) or (one.spelling.panel == "target" and bool(value))


def _name(named: Named | None) -> str | None:
    return None if named is None else getattr(named, "name", None) or str(named)
