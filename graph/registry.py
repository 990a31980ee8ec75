"""One registry for everything that can be plugged in: a name, the thing it stands for, its options and what it needs."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import redirect_stdout
from functools import partial, update_wrapper
from importlib import import_module
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from .errors import UsageError
from .lazy import entry_points, from_file
from .spec import Spec, in_a_file, near, split

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from pydantic import BaseModel

T = TypeVar("T")
Thing = TypeVar("Thing")
OWN = __name__.partition(".")[0]


class Entry(NamedTuple):
    """A registered thing. ``module`` is the one whose body registered it; see ``Registry.register`` for the rest."""

    thing: Any
    module: str
    options: type[BaseModel] | None = None
    needs: tuple[str, ...] = ()

    @property
    def builtin(self) -> bool:
        return self.module.partition(".")[0] == OWN


def registers(table: dict[str, Thing]) -> Callable[..., Callable[[Thing], Thing]]:
    """A decorator that puts what it decorates into a table of our own, under each name that it is given."""

    def under(*names: str) -> Callable[[Thing], Thing]:
        def add(thing: Thing) -> Thing:
            if twice := table.keys() & set(names):
                raise ValueError(f"{', '.join(sorted(twice))} stands in the table already")
            table.update(dict.fromkeys(names, thing))
            return thing

        return add

    return under


class Registry(Generic[T]):
    """Names and the things they stand for; other packages join through an entry point group.

    ``kind`` is what users call such a thing, ``group`` the entry point group, such as ``intaglio.criteria``. ``home`` is
    the package whose modules register the built-in ones: they are imported at the first look. ``of`` is what a thing
    must be an instance of, ``offers`` are the names of what it may need, ``taken`` are names that no plug-in gets. Where
    there is ``adapted``, which makes such a thing of a function and its name, ``file.py:function`` names one of a user's.

    Plug-ins are imported when they are named, or all are listed. One that fails to import stays listed in ``broken`` with
    its reason and never stops the others.
    """

    def __init__(
        self,
        kind: str,
        group: str,
        home: str = "",
        *,
        of: Any = Callable,
        offers: Collection[str] = (),
        taken: Collection[str] = (),
        meant: Callable[[str], str] = lambda name: "",
        flat: bool = False,
        adapted: Callable[[Any, str], T] | None = None,
    ) -> None:
        """``meant`` says what a name stands for elsewhere, in words that are ours. Of a ``flat`` home, modules in folders
        below it are not imported."""
        self.meant, self._flat, self._adapted = meant, flat, adapted
        self.kind, self.group, self.home = kind, group, home
        self._of, self._offers, self._taken = of, offers, taken
        self._found: dict[str, Entry] = {}
        self._broken: dict[str, str] = {}
        self._waiting: list[EntryPoint] | None = None

    def register(
        self, name: str, *, options: type[BaseModel] | None = None, needs: tuple[str, ...] = ()
    ) -> Callable[[Thing], Thing]:
        """Decorate the thing that ``name`` stands for.

        ``options`` is a model of its own options. A function with options takes them by the keyword ``options``; any
        other thing has a method ``with_options`` that gives the thing to use. ``needs`` names what it must be handed.

        Raises:
            ValueError: the name is taken, or something is needed that nobody offers.
        """

        def add(thing: Thing) -> Thing:
            if name in self._found:
                raise ValueError(f"{self.kind} {name!r} is registered twice")
            for need in needs:
                if need not in self._offers:
                    raise ValueError(f"{self.kind} {name!r} needs {need!r}: {near(need, self._offers)}")
            self._found[name] = Entry(thing, _registering_module(), options, needs)
            return thing

        return add

    def __getitem__(self, spec: Spec) -> T:
        """What ``name``, ``name:option=value,...`` or ``{"name": name, option: value}`` stands for, options bound.

        Raises:
            UsageError: there is no such thing, or an option of it is wrong.
        """
        name, values = self._split(spec)
        entry = self.entry(name)
        return _bound(entry, values, f"{self.kind} {name}")

    def entry(self, spec: Spec) -> Entry:
        """All that is known of a thing. Raises UsageError."""
        return owner(spec, self)._found[self._split(spec)[0]]

    def get(self, name: str) -> T | None:
        """What ``name`` stands for, or None."""
        self._load(name)
        return self._found[name].thing if name in self._found else None

    def registered(self, name: str) -> T:
        """What has been registered by now, for modules that are being imported."""
        return self._found[name].thing

    def here(self, name: str) -> Entry | None:
        """The entry of what has been registered by now, or None: nothing is imported to find out."""
        return self._found.get(name)

    def __contains__(self, spec: Spec) -> bool:
        name = self._split(spec)[0]
        self._load(name)
        return name in self._found

    def __iter__(self) -> Iterator[str]:
        self._load(None)
        return iter(sorted(name for name in self._found if not in_a_file(name)))

    @property
    def builtin(self) -> list[str]:
        """Names of what comes with the package: nothing becomes a default by being installed."""
        self._load_builtin()
        return sorted(name for name, entry in self._found.items() if entry.builtin)

    @property
    def joined(self) -> list[str]:
        """Names of other packages' things that something has asked for by now."""
        return sorted(name for name, entry in self._found.items() if not entry.builtin and not in_a_file(name))

    @property
    def broken(self) -> dict[str, str]:
        """Why plug-ins cannot be used, by their names."""
        self._load(None)
        return self._broken

    def _split(self, spec: Spec) -> tuple[str, dict[str, Any]]:
        """A name may have a colon in it, as those of operators have."""
        if isinstance(spec, str):
            self._load(spec)
        return (spec, {}) if isinstance(spec, str) and spec in self._found else split(spec, self.kind)

    def _load_builtin(self) -> list[EntryPoint]:
        """Import what registers built-in things; returns the entry points that nobody has asked for yet."""
        if self._waiting is None:
            self._waiting = []  # modules of the home may look here while they are imported
            if self.home:
                import_all(self.home, deep=not self._flat)
            self._waiting = list(entry_points(self.group, tuple(sys.path)))
        return self._waiting

    def _load(self, name: str | None) -> None:
        """Let plug-ins of that name join, or all of them; or what a file of the user's defines."""
        if name and self._adapted and in_a_file(name):
            self._found[name] = self._of_file(name, self._adapted)
        for point in [p for p in self._load_builtin() if name in (p.name, None)]:
            self._load_builtin().remove(point)
            try:
                self._join(point)
            except (Exception, SystemExit) as error:  # whatever a plug-in does must not stop the others
                self._broken[point.name] = error.args[0] if isinstance(error, _Refused) else _reason(error)

    def _of_file(self, name: str, adapted: Callable[[Any, str], T]) -> Entry:
        """What a function of the user's stands for; its attribute ``needs`` says what it must be handed."""
        function = from_file(name, self.kind)
        needs = tuple(getattr(function, "needs", ()))
        for need in needs:
            if need not in self._offers:
                raise UsageError(f"{self.kind} {name!r} needs {need!r}", fix=near(need, self._offers))
        return Entry(adapted(function, name), f"<{name.rpartition(':')[0]}>", None, needs)

    def _join(self, point: EntryPoint) -> None:
        """A plug-in may have registered itself while it was imported; else what its entry point names is registered."""
        if point.name in self._taken:
            raise _Refused(f"the name is taken by {OWN} itself")
        before = self._found.get(point.name)
        with redirect_stdout(sys.stderr):
            thing = point.load()
        if before is not None and before.module.partition(".")[0] != point.module.partition(".")[0]:
            raise _Refused(f"the name is taken by {before.module}")
        if point.name in self._found:
            return
        if not isinstance(thing, self._of):
            raise _Refused(f"{point.value} is no {self.kind}: it is a {type(thing).__name__}")
        self._found[point.name] = Entry(thing, point.module)


class _Refused(Exception):
    """A plug-in that loads, but cannot join."""


def owner(spec: Spec, *registries: Registry[Any]) -> Registry[Any]:
    """Which of some registries has what is named. Raises UsageError that tells the names of all."""
    for registry in registries:
        if spec in registry:
            return registry
    kind = registries[0].kind
    name = split(spec, kind)[0]
    for registry in registries:
        if name in registry.broken:
            raise UsageError(f"{kind} {name!r} could not be loaded", why=registry.broken[name])
    meant = next((word for registry in registries if (word := registry.meant(name))), "")
    written = f"write {name}:FUNCTION" if name.endswith(".py") else ""
    fix = written or (f"did you mean {meant}?" if meant else near(name, {n for r in registries for n in r}))
    raise UsageError(f"there is no {kind} {name!r}", fix=fix)


def import_all(package: str, *, deep: bool = True) -> None:
    """Import a package and every module in it, and where ``deep`` every module below it; a package that says that it is
    ``ON_DEMAND`` stays as it is."""
    from pkgutil import iter_modules

    found = import_module(package)
    if getattr(found, "ON_DEMAND", False):
        return
    for module in iter_modules(found.__path__, f"{package}."):
        import_all(module.name) if module.ispkg and deep else import_module(module.name)


def _bound(entry: Entry, values: Mapping[str, Any], whose: str) -> Any:
    if entry.options is None:
        if values:
            raise UsageError(f"{whose} takes no options", fix=f"leave out {', '.join(values)}")
        return entry.thing
    from .options import checked  # pydantic takes long to import, and most things have no options

    thing, options = entry.thing, checked(entry.options, values, whose)
    if hasattr(thing, "with_options"):
        return thing.with_options(options)
    return update_wrapper(partial(thing, options=options), thing)


def _registering_module() -> str:
    """The module whose body is running."""
    frame = sys._getframe(2)
    while frame.f_code.co_name != "<module>" and frame.f_back is not None:
        frame = frame.f_back
    return str(frame.f_globals.get("__name__", ""))


def _reason(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
