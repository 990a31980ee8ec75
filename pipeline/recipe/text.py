"""YAML as recipes use it: plain data and where each value stands. No tags, no aliases, nothing is constructed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from ...graph.errors import IntaglioError, UsageError
from ...passes.options import reworded

MOST_BYTES = 1 << 18
_DEEPEST = 24
_FLOAT = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?", re.IGNORECASE)
_WORDS = {"": None, "~": None, "null": None, "true": True, "false": False}
Path = tuple[str | int, ...]


@dataclass(frozen=True)
class Tree:
    """Plain data, and the file and line of each value by its path."""

    value: Any
    places: Mapping[Path, str] = field(default_factory=dict)

    @property
    def texts(self) -> dict[Path, str]:
        """Every plain value by its path, as text."""
        return dict(_texts(self.value, ()))

    def place(self, path: Path) -> str:
        """Where a value stands, or what it stands in."""
        return next((self.places[path[:n]] for n in range(len(path), -1, -1) if path[:n] in self.places), "recipe")

    def error(self, path: Path, what: str, *, why: str = "", fix: str = "") -> UsageError:
        return UsageError(f"{self.place(path)}: {what}", why=why, fix=fix)

    @contextmanager
    def at(self, *path: str | int) -> Iterator[None]:
        """Errors tell where the option stands that they name in backquotes, or all that was checked."""
        try:
            yield
        except UsageError as error:
            told = reworded(error, lambda name: dotted((*path, name)))
            what = re.sub(r"^\w+ has no option", "there is no option", told.what)
            within = "" if "`" in error.what or not path else f"{dotted(path)}: "
            told.what = f"{self.place(self._meant(error, path))}: {within}{what}"
            raise told from error

    def locate(self, error: IntaglioError) -> None:
        """Put into an error that came up later where the value or input stands that it names in quotes."""
        said, texts = error.what, self.texts.items()
        values = [one for one, text in texts if f"'{text}'" in said or (one == ("model",) and text in said)]
        names = [one for one in self.places if one[:-1] in (("shapes",), ("inputs",)) and f"'{one[-1]}'" in said]
        if path := next(iter(values + names), None):
            error.what = f"{self.place(path)}: {dotted(path)}: {said}"

    def _meant(self, error: UsageError, path: Path) -> Path:
        """The option that an error names in backquotes or quotes, or whose value it quotes."""
        words = re.findall(r"[`'](.+?)[`']", f"{error.what} {error.fix}")
        below = [one for one in self.places if one[: len(path)] == path]
        keys = [one for word in words for one in below if one == (*path, word)]
        values = [one for word in words for one in below if self.texts.get(one, "").startswith(word)]
        return next(iter(keys + values), path)


def dotted(path: Path) -> str:
    """``passes[1].keep``"""
    return "".join(f"[{one}]" if isinstance(one, int) else f".{one}" for one in path).lstrip(".")


def _texts(value: Any, path: Path) -> Iterator[tuple[Path, str]]:
    if isinstance(value, (dict, list)):
        for key, one in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _texts(one, (*path, key))
    else:
        yield path, str(value)


def scalar(text: str) -> Any:
    """What a plain word stands for, as YAML 1.2 has it: ``no`` is a word, ``1e-3`` a number."""
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    if re.fullmatch(r"[-+]?\d{1,18}", text):
        return int(text)
    return float(text) if _FLOAT.fullmatch(text) else text


def parse(text: str, file: str) -> Tree:
    """Raises UsageError for what is no YAML, or more than recipes need of it."""
    import yaml

    if len(text) > MOST_BYTES:
        raise UsageError(f"{file} is too large for a recipe", why=f"it has more than {MOST_BYTES >> 10} KB")
    places: dict[Path, str] = {}
    try:
        events = yaml.parse(text, Loader=yaml.SafeLoader)
        next(events)
        if isinstance(next(events), yaml.StreamEndEvent):
            raise UsageError(f"{file} is empty", fix="list passes in it: intaglio passes edge-int8 shows a recipe")
        value = _Builder(events, file, places).value(next(events), ())
        next(events)
        if not isinstance(after := next(events), yaml.StreamEndEvent):
            raise UsageError(f"{_place(file, after)}: a second document starts", fix="keep one recipe in a file")
    except yaml.YAMLError as error:
        mark, told = (
            getattr(error, "problem_mark", None),
            getattr(error, "problem", None) or getattr(error, "reason", ""),
        )
        where = f"{file}:{mark.line + 1}" if mark else file
        fix = "indent with spaces, not tabs" if r"'\t'" in (told or "") else ""
        raise UsageError(f"{where}: is no YAML", why=told or "it cannot be read", fix=fix) from error
    return Tree(value, places)


@dataclass(frozen=True)
class _Builder:
    """Data from the parser's events; what could grow or run code is refused as it comes."""

    events: Iterator[Any]
    file: str
    places: dict[Path, str]

    def value(self, event: Any, path: Path) -> Any:
        import yaml

        where = _place(self.file, event)
        self.places.setdefault(path, where)
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise UsageError(f"{where}: recipes have no anchors and aliases", fix="use variables: ${name}")
        if getattr(event, "tag", None) not in (None, "!"):
            raise UsageError(f"{where}: recipes have no tags such as {event.tag}", fix="leave it out")
        if len(path) > _DEEPEST:
            raise UsageError(f"{where}: values are nested deeper than any recipe is")
        if isinstance(event, yaml.ScalarEvent):
            return scalar(event.value) if event.implicit[0] else str(event.value)
        if isinstance(event, yaml.SequenceStartEvent):
            return [self.value(one, (*path, place)) for place, one in enumerate(self._until(yaml.SequenceEndEvent))]
        return self._mapping(path)

    def _mapping(self, path: Path) -> dict[str, Any]:
        import yaml

        found: dict[str, Any] = {}
        for event in self._until(yaml.MappingEndEvent):
            where = _place(self.file, event)
            if not isinstance(event, yaml.ScalarEvent):
                raise UsageError(f"{where}: a key is no plain word")
            key = str(event.value)
            if key in found:
                raise UsageError(f"{where}: {dotted((*path, key))} stands twice")
            self.places[(*path, key)] = where
            found[key] = self.value(next(self.events), (*path, key))
        return found

    def _until(self, end: type) -> Iterator[Any]:
        while not isinstance(event := next(self.events), end):
            yield event


def _place(file: str, event: Any) -> str:
    return f"{file}:{event.start_mark.line + 1}"
