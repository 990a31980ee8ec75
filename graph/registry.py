"""One registry for everything that can be plugged in: criteria, passes, importers, exporters, metrics."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from difflib import get_close_matches
from importlib import import_module
from importlib.metadata import entry_points
from pkgutil import iter_modules
from typing import Generic, TypeVar

from .errors import UsageError

T = TypeVar("T")


class Registry(Generic[T]):
    """Names and the objects they stand for; third parties join through an entry point group.

    ``group`` is the entry point group, such as ``intaglio.criteria``; ``home`` the package whose modules register the
    built-in ones: they are imported at the first look. A plugin that fails to import stays listed in
    ``broken`` with its reason and never stops the others.
    """

    def __init__(self, kind: str, group: str, home: str = "") -> None:
        self.kind, self.group, self.home = kind, group, home
        self.broken: dict[str, str] = {}
        self._found: dict[str, T] = {}
        self._scanned = False

    def register(self, name: str) -> Callable[[T], T]:
        """Decorate the object that ``name`` stands for. Raises ValueError on a second one of that name."""

        def add(thing: T) -> T:
            if name in self._found:
                raise ValueError(f"{self.kind} {name!r} is registered twice")
            self._found[name] = thing
            return thing

        return add

    def __getitem__(self, name: str) -> T:
        self._scan()
        if name in self._found:
            return self._found[name]
        if name in self.broken:
            raise UsageError(f"{self.kind} {name!r} could not be loaded", why=self.broken[name])
        near = get_close_matches(name, self._found, n=3)
        raise UsageError(
            f"there is no {self.kind} {name!r}",
            fix=f"did you mean {', '.join(near)}?" if near else f"choose one of {', '.join(sorted(self._found))}",
        )

    def get(self, name: str) -> T | None:
        """What ``name`` stands for, or None."""
        self._scan()
        return self._found.get(name)

    def __contains__(self, name: str) -> bool:
        self._scan()
        return name in self._found

    def __iter__(self) -> Iterator[str]:
        self._scan()
        return iter(sorted(self._found))

    def _scan(self) -> None:
        if self._scanned:
            return
        self._scanned = True  # first: modules of the home may look here while they are imported
        if self.home:
            import_all(self.home)
        for point in entry_points(group=self.group):
            try:
                thing = point.load()
            except Exception as error:
                self.broken[point.name] = f"{type(error).__name__}: {error}"
                continue
            if self._found.get(point.name, thing) is not thing:
                self.broken[point.name] = f"the name is taken by {self._found[point.name]!r}"
                continue
            self._found[point.name] = thing


def import_all(package: str) -> None:
    """Import a package and every module below it."""
    for module in iter_modules(import_module(package).__path__, f"{package}."):
        if module.ispkg:
            import_all(module.name)
        else:
            import_module(module.name)
