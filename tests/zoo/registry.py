"""The list of networks, filled by the files in `families/`."""

from __future__ import annotations

import inspect
import pkgutil
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from typing import Any, TypeVar

from .inputs import Input

TORCH_EXPORTERS = ("dynamo18", "dynamo20", "legacy17", "raw17")
TURNS = ("dynamo18", "legacy17", "raw17", "legacy17", "dynamo20", "raw17", "legacy17", "raw17")
"""Whose turn it is when a network is exported once: the dynamo exporter takes ten times as long as the other."""

Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True)
class Entry:
    """One network: how to make it, what it takes, and what may be asked of it.

    `function` takes a `Net` (torch) or a `Graph` (hand-made) and one argument per input, and returns its output or
    a tuple of them. `tags` say what a test may want to know: "freezes" (part of it must stay whole, because places
    come from data or from an input), "control-flow" (subgraphs), "quantized", "half" (16-bit numbers).
    """

    name: str
    function: Callable[..., Any] = field(repr=False)
    inputs: dict[str, Input]
    exporters: tuple[str, ...]
    opset: int
    tolerance: float
    tags: frozenset[str]

    @property
    def dynamic(self) -> frozenset[str]:
        """Names of the dynamic dimensions."""
        return frozenset(d for spec in self.inputs.values() for d in spec.shape if isinstance(d, str))

    @property
    def exporter(self) -> str:
        """One of the exporters, chosen by name, so that over the zoo all get their turns."""
        turns = [exporter for exporter in TURNS if exporter in self.exporters] or self.exporters
        return turns[zlib.crc32(self.name.encode()) % len(turns)]

    @property
    def source(self) -> str:
        """The file that defines the network."""
        return inspect.getfile(self.function)

    @property
    def about(self) -> str:
        """What is peculiar about the network."""
        return inspect.getdoc(self.function) or ""


_entries: dict[str, Entry] = {}


def network(
    name: str,
    *,
    exporters: tuple[str, ...] = TORCH_EXPORTERS,
    tolerance: float = 1e-4,
    tags: tuple[str, ...] = (),
    **inputs: Input,
) -> Callable[[Function], Function]:
    """Register a torch network, written as one function of a `Net` and its inputs."""
    return _register(name, inputs, exporters, 0, tolerance, tags)


def handmade(
    name: str, *, opset: int = 17, tolerance: float = 1e-4, tags: tuple[str, ...] = (), **inputs: Input
) -> Callable[[Function], Function]:
    """Register an ONNX graph, written as one function of a `Graph` and the names of its inputs."""
    return _register(name, inputs, ("onnx",), opset, tolerance, tags)


def _register(
    name: str, inputs: dict[str, Input], exporters: tuple[str, ...], opset: int, tolerance: float, tags: tuple[str, ...]
) -> Callable[[Function], Function]:
    def add(function: Function) -> Function:
        if name in _entries:
            raise ValueError(f"two networks are called {name!r}")
        _entries[name] = Entry(name, function, inputs, exporters, opset, tolerance, frozenset(tags))
        return function

    return add


@cache
def _load_families() -> None:
    folder = import_module(".families", __package__)
    for module in pkgutil.iter_modules(folder.__path__):
        import_module(f".families.{module.name}", __package__)


def names(tag: str | None = None) -> list[str]:
    """All networks, or those with a tag, sorted by name."""
    _load_families()
    return sorted(name for name, e in _entries.items() if tag is None or tag in e.tags)


def entry(name: str) -> Entry:
    """The network of that name."""
    _load_families()
    return _entries[name]
