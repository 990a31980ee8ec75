"""Read a recipe: from a YAML file, a preset, the metadata of a model, or plain data; with includes and variables."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from os import PathLike
from pathlib import Path
from typing import Any

from ...graph.errors import UsageError
from ...graph.io.fit import Fit
from ...graph.options import checked
from ...graph.registry import OWN
from ...graph.spec import near
from ...graph.version import VERSION
from ..gates import Gate
from ..search.limits import Limits
from ..units import parse_size
from .presets import preset_text, presets
from .recipe import MadeBy, Recipe, RecipeData, RecipeLimits, pass_of
from .text import MOST_BYTES, Tree, dotted, parse, scalar
from .text import Path as Keys

_MOST_INCLUDES = 16
_VARIABLE = re.compile(r"\$(?:\$|\{([A-Za-z_]\w*)\})")
_CODE = re.compile(r"[\w.]+:[\w.]+|.+\.py:\w+")
"""``package.module:callable``, or ``file.py:function``"""


def load_recipe(
    named: str | PathLike[str] | Mapping[str, Any] | Recipe, settings: Mapping[str, Any] | None = None
) -> Recipe:
    """The recipe that a file, a preset or a model's metadata holds; ``settings`` are values of its variables.

    Raises:
        UsageError: it cannot be read, or says something that means nothing: with file, line, key and what is allowed.
    """
    return located_recipe(named, settings)[0]


def located_recipe(
    named: str | PathLike[str] | Mapping[str, Any] | Recipe, settings: Mapping[str, Any] | None = None
) -> tuple[Recipe, Tree]:
    """The same, and where each of its values stands."""
    if isinstance(named, Recipe):
        return named, Tree({})
    tree = read_tree(named, settings)
    return _checked(tree), tree


def read_tree(named: str | PathLike[str] | Mapping[str, Any], settings: Mapping[str, Any] | None = None) -> Tree:
    """What a recipe says, its variables filled in, before anybody looks whether that means something."""
    if isinstance(named, Mapping):
        tree = Tree(dict(named))
    elif (path := Path(named)).suffix == ".onnx":
        tree = _of_model(path)
    else:
        tree = _read(str(named), ())
    return _filled(tree, {key: _typed(value) for key, value in (settings or {}).items()})


def parse_settings(texts: list[str] | None) -> dict[str, Any]:
    """``["keep=0.5"]`` as ``{"keep": 0.5}``. Raises UsageError on anything else."""
    found: dict[str, Any] = {}
    for text in texts or ():
        name, equals, value = text.partition("=")
        if not equals or not name.isidentifier():
            raise UsageError(f"cannot read --set {text!r}", fix="write it like --set keep=0.5")
        if name in found:
            raise UsageError(f"--set gives {name!r} twice")
        found[name] = scalar(value)
    return found


def _typed(value: Any) -> Any:
    return os.fspath(value) if isinstance(value, PathLike) else value


def _read(name: str, chain: tuple[str, ...], where: str = "") -> Tree:
    """A file or preset with what it includes underneath it."""
    path = Path(name)
    if path.is_file():
        tree = parse(_text(path), name)
    elif name in presets():
        tree = parse(preset_text(name), name)
    else:
        fix = near(name, presets(), f"give a file, or a preset: {', '.join(presets())}")
        raise UsageError(f"{where}there is no recipe {name!r}", why="it is no file and no preset", fix=fix)
    if not isinstance(tree.value, dict):
        raise UsageError(f"{tree.place(())}: a recipe is a mapping", fix="start it with passes:")
    for included in reversed(list(_included(tree))):
        found = included if included in presets() else os.path.normpath(path.parent / included)
        if found in (*chain, name) or len(chain) >= _MOST_INCLUDES:
            raise tree.error(("include",), f"{found} is included by itself", fix="leave one include out")
        tree = _over(tree, _read(found, (*chain, name), f"{tree.place(('include',))}: "))
    return tree


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(MOST_BYTES + 1).decode()
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is no recipe", why="it is no text in UTF-8") from error


def _of_model(path: Path) -> Tree:
    """What a model's metadata says of how it was made. It may come from a stranger, so it names no code."""
    from ...graph.io.load import load

    told = {p.key: p.value for p in load(path).proto.metadata_props}.get("intaglio.recipe")
    if told is None:
        raise UsageError(f"{path} holds no recipe", why="no intaglio command wrote it", fix="give a recipe file")
    try:
        tree = Tree(json.loads(told[:MOST_BYTES]), {(): str(path)})
        strange = not isinstance(tree.value, dict) or "passes" not in tree.value
    except (ValueError, RecursionError):
        strange = True
    if strange:
        raise UsageError(f"what {path} holds is no recipe of this version", fix="give a recipe file")
    for keys in (one for one, text in tree.texts.items() if _CODE.fullmatch(text)):
        raise tree.error(keys, f"{dotted(keys)} names code to run", fix="write the recipe to a file of its own")
    return tree


def _included(tree: Tree) -> Iterator[str]:
    given = tree.value.pop("include", ())
    for one in given if isinstance(given, list) else [given] if given else ():
        if not isinstance(one, str):
            raise tree.error(("include",), "include names files or presets", fix="write include: base.yaml")
        yield one


def _over(tree: Tree, base: Tree) -> Tree:
    """What both say; mappings are joined key by key, of all else the first counts."""
    value, places = dict(base.value), dict(base.places)
    for key, own in tree.value.items():
        joined = isinstance(own, dict) and isinstance(value.get(key), dict)
        value[key] = {**value[key], **own} if joined else own
        if not joined:
            places = {path: place for path, place in places.items() if path[:1] != (key,)}
    return Tree(value, {**places, **tree.places})


def _filled(tree: Tree, settings: Mapping[str, Any]) -> Tree:
    """Values in the places of variables."""
    value = dict(tree.value)
    defaults = value.pop("variables", None) or {}
    if not isinstance(defaults, dict) or any(isinstance(one, (dict, list)) for one in defaults.values()):
        raise tree.error(("variables",), "variables are names and plain values", fix="write variables: {keep: 0.5}")
    used = {name for text in Tree(value).texts.values() for name in _VARIABLE.findall(text) if name}
    known = used | defaults.keys()
    for name in settings.keys() - known:
        fix = near(name, known) if known else "it has none: leave --set out"
        raise UsageError(f"the recipe has no variable {name!r}", fix=fix)
    return Tree(_replaced(value, {**defaults, **settings}, tree, ()), tree.places)


def _replaced(value: Any, given: Mapping[str, Any], tree: Tree, path: Keys) -> Any:
    if isinstance(value, dict):
        return {key: _replaced(one, given, tree, (*path, key)) for key, one in value.items()}
    if isinstance(value, list):
        return [_replaced(one, given, tree, (*path, place)) for place, one in enumerate(value)]
    if not isinstance(value, str):
        return value

    def put(found: re.Match[str]) -> str:
        return "$" if found[1] is None else str(_value(found[1], given, tree, path))

    alone = _VARIABLE.fullmatch(value)
    return _value(alone[1], given, tree, path) if alone and alone[1] else _VARIABLE.sub(put, value)


def _value(name: str, given: Mapping[str, Any], tree: Tree, path: Keys) -> Any:
    if name not in given:
        fix = f"give it with --set {name}=VALUE, or a default under variables:"
        raise tree.error(path, f"{dotted(path)}: variable {name!r} has no value", fix=fix)
    return given[name]


def _checked(tree: Tree) -> Recipe:
    values = {key: value for key, value in tree.value.items() if value is not None}
    for key in values.keys() - Recipe.model_fields.keys():
        known = [*Recipe.model_fields, "include", "variables"]
        raise tree.error((key,), f"a recipe has no key {key!r}", fix=near(key, known))
    for key, kind in (("data", RecipeData), ("limits", RecipeLimits), ("made_by", MadeBy)):
        if key in values:
            values[key] = _section(tree, key, kind)
    try:
        if "passes" in values:
            values["passes"] = _passes(tree, values["passes"])
        with tree.at():
            recipe = Recipe(**values)
        for place, gate in enumerate(recipe.gates):
            with tree.at("gates", place):
                Gate.read(gate)
        for key in ("opset", "ir", "runtime"):
            with tree.at(key):
                Fit.of(**{key: getattr(recipe, key)})
        with tree.at():
            parse_size(recipe.memory or "512MB", "`memory`")
        if recipe.limits:
            with tree.at("limits"):
                Limits.read(**dict(recipe.limits))
        return recipe
    except UsageError as error:
        error.why = "; ".join(filter(None, (error.why, *otherwise_made(values.get("made_by")))))
        raise


def otherwise_made(told: Any) -> list[str]:
    """What is not here, or in another version, of what a recipe was made with: bytes may differ then."""
    from importlib.metadata import PackageNotFoundError, version

    found = []
    made = told.model_dump() if isinstance(told, MadeBy) else told if isinstance(told, dict) else {}
    plugins = made.get("plugins") if isinstance(made.get("plugins"), dict) else {}
    for name, wanted in {OWN: made.get("intaglio", VERSION), **(plugins or {})}.items():
        try:
            here = VERSION if name == OWN else version(str(name))
        except (PackageNotFoundError, ValueError):
            here = ""
        if here != wanted:
            found.append(f"the recipe was made with {name} {wanted}, here is {here or 'none'}")
    return found


def _section(tree: Tree, key: str, kind: Any) -> Any:
    if not isinstance(tree.value[key], dict):
        raise tree.error((key,), f"{key} is a mapping", fix=f"write {key}: {{{next(iter(kind.model_fields))}: ...}}")
    with tree.at(key):
        return checked(kind, tree.value[key], "")


def _passes(tree: Tree, given: Any) -> list[Any]:
    if not isinstance(given, list):
        raise tree.error(("passes",), "passes are a list", fix="write - pass: NAME for each, options under it")
    made = []
    for place, one in enumerate(given):
        if not isinstance(one, str) and not (isinstance(one, dict) and isinstance(one.get("pass"), str)):
            fix = "write - pass: NAME, and its options under it"
            raise tree.error(("passes", place), f"{dotted(('passes', place))} names no pass", fix=fix)
        with tree.at("passes", place):
            made.append(pass_of(one))
    return made
