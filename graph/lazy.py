"""Names that are imported when they are first asked for: of a package, so that it is light, of users, and of plug-ins."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from functools import cache
from importlib import import_module
from os import getcwd, scandir, stat
from os.path import dirname, isfile, join, realpath
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from .errors import IntaglioError


def lazily(package: str, where: Mapping[str, str]) -> tuple[Callable[[str], Any], list[str]]:
    """A package's ``__getattr__`` and ``__all__``: ``where`` maps modules, relative to it, to the names they define."""
    modules = {name: module for module, names in where.items() for name in names.split()}

    def find(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(modules[name], package), name)

    return find, list(modules)


def imported(name: str, error: type[IntaglioError]) -> Any:
    """What ``package.module:name`` stands for. Raises ``error`` where it cannot be imported."""
    module, _, attribute = name.partition(":")
    if not module or not attribute:
        raise error(f"{name!r} does not say what to call", fix="write it like package.module:callable")
    try:
        with _from_here():
            return getattr(import_module(module), attribute)
    except (Exception, SystemExit) as problem:
        raise error(
            f"cannot import {name!r}",
            why=f"{type(problem).__name__}: {problem}",
            fix="the module must be importable from here: install it, or set PYTHONPATH",
        ) from problem


@contextmanager
def _from_here() -> Iterator[None]:
    """The working directory is looked into, after all that is installed: nothing in it hides a package."""
    here = getcwd()
    sys.path.append(here)
    try:
        with redirect_stdout(sys.stderr):  # stdout is for results
            yield
    finally:
        sys.path.remove(here)


def from_file(name: str, what: str, *, function: bool = True) -> Any:
    """What ``file.py:function`` names, as seen from the working directory; a file is run once as it stands.

    Raises:
        UsageError: there is no such file or function, or running the file fails; ``what`` is what it was to be.
    """
    from .errors import UsageError

    path, _, attribute = name.rpartition(":")
    if not isfile(path):
        raise UsageError(f"{what} {name!r}: there is no file {path}", why=f"looked for in {getcwd()}")
    try:
        found = getattr(_module(realpath(path), stat(path).st_mtime_ns), attribute, None)
    except (Exception, SystemExit) as error:
        raise UsageError(f"{what} {name!r}: running {path} failed", why=f"{type(error).__name__}: {error}") from error
    if not callable(found) and (function or found is None):
        raise UsageError(
            f"{what} {name!r}: {path} defines no {'function ' if function else ''}{attribute!r}", fix="check the name"
        )
    return found


@cache
def _module(path: str, stamp: int) -> Any:
    """The file run as a module of its own, which finds what lies beside it."""
    from importlib.util import module_from_spec, spec_from_file_location

    spec = spec_from_file_location(f"<{path}>", path)
    assert spec
    assert spec.loader
    module = sys.modules[spec.name] = module_from_spec(spec)
    sys.path.insert(0, dirname(path))
    try:
        with redirect_stdout(sys.stderr):  # stdout is for results
            spec.loader.exec_module(module)
    finally:
        sys.path.remove(dirname(path))
    return module


@cache
def entry_points(group: str, path: tuple[str, ...]) -> tuple[EntryPoint, ...]:
    """Of all that is installed on ``path``, which is the interpreter's: a path that has changed is read anew."""
    if not any(f"[{group}]".encode() in text for text in _declared(path)):
        return ()  # asking importlib takes longer than the rest of --help
    from importlib import metadata

    return tuple(metadata.entry_points(group=group))


@cache
def _declared(path: tuple[str, ...]) -> tuple[bytes, ...]:
    """What installed packages declare, as it stands in their files."""
    found: list[bytes] = []
    for folder in path:
        with suppress(OSError):  # no such folder, or an archive, which holds no plug-in that could be looked into
            infos = [entry.path for entry in scandir(folder or ".") if entry.name.endswith("-info")]
            for info in sorted(infos):
                with suppress(OSError), open(join(info, "entry_points.txt"), "rb") as file:
                    found.append(file.read())
    return tuple(found)


def absent(modules: Sequence[str]) -> list[str]:
    """Which of the modules cannot be imported here; none is imported."""
    from importlib.util import find_spec

    return [name for name in modules if find_spec(name) is None]


def told_missing(extra: str, modules: Sequence[str]) -> str:
    """What to install; empty where nothing is missing."""
    gone = absent(modules)
    if not gone:
        return ""
    return f"pip install 'intaglio[{extra}]'" if extra else f"pip install {' '.join(gone)}"


def require(what: str, extra: str, modules: Sequence[str]) -> None:
    """Raises UsageError where a module is missing; ``what`` needs it."""
    from .errors import UsageError

    if fix := told_missing(extra, modules):
        raise UsageError(f"{what} needs {', '.join(absent(modules))}, which is not installed", fix=fix)


def release(package: str) -> str:
    """Name and version of an installed package; empty for none."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return f"{package} {version(package)}" if package else ""
    except PackageNotFoundError:
        return ""
