"""Names that are imported when they are first asked for: of a package, so that importing it is light, and of users."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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
        return getattr(import_module(module), attribute)
    except (Exception, SystemExit) as problem:
        raise error(
            f"cannot import {name!r}",
            why=f"{type(problem).__name__}: {problem}",
            fix="the module must be importable from here: install it, or set PYTHONPATH",
        ) from problem
