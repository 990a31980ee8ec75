"""How long single operators take on this machine, each measured once and remembered by what it is."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

from ...kernels.operators import DOMAIN
from ..run.latency import machine
from ..run.native import kernels
from .cache import add_numbers, read_numbers
from .probe import Layer, time_layers

Timer = Callable[[Sequence[Layer], int], list[float | None]]
"""Times layers with a number of threads: see ``layer_probe.time_layers``."""
_FILE = "layer_times.json"
_METHOD = 1
"""Counts up when times are taken in another way, so that old ones are not mixed with new ones."""


class LayerTimes:
    """Times of layers in runs of a fixed reference (``layer_probe.REFERENCE``), from memory, from the disk, or measured.

    ``folder`` keeps them between runs (``layer_cache.cache_folder`` finds the usual one), None does not.
    """

    def __init__(self, threads: int = 1, *, folder: Path | None = None, timer: Timer = time_layers) -> None:
        self.threads = threads
        self._path = folder / _FILE if folder else None
        self._timer = timer
        self._known: dict[str, float | None] | None = None
        self.measured = 0
        """How many of the times were taken by this object, the others being remembered."""

    def of(self, layers: Sequence[Layer]) -> list[float | None]:
        """The time of each; None where ONNX Runtime cannot run it."""
        if self._known is None:
            self._known = read_numbers(self._path) if self._path else {}
        keys = [self.key(layer) for layer in layers]
        missing = {key: layer for key, layer in zip(keys, layers, strict=True) if key not in self._known}
        if missing:
            fresh = dict(zip(missing, self._timer(list(missing.values()), self.threads), strict=True))
            self._known.update(fresh)
            self.measured += len(fresh)
            if self._path:
                add_numbers(self._path, fresh)
        return [self._known[key] for key in keys]

    @property
    def count(self) -> int:
        """How many layers' times are known by now."""
        return len(self._known or ())

    def key(self, layer: Layer) -> str:
        """A hash of everything that decides the time: the layer, the threads, the machine and the runtime."""
        operands = [o and (o.dims, o.dtype, o.constant) for o in layer.operands]
        parts = [_METHOD, layer.node.hex(), operands, layer.opsets, self.threads, _machine()]
        if any(domain == DOMAIN for domain, _ in layer.opsets):
            parts.append(kernels().isa)
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


@cache
def _machine() -> str:
    return machine()  # names the runtime's version too
