"""Workers of a Ray cluster: the one at ``RAY_ADDRESS``, else one of this machine's own.

Source: Moritz et al., "Ray: A Distributed Framework for Emerging AI Applications", OSDI 2018, arXiv:1712.05889.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from ...graph.errors import IntaglioError
from ...graph.lazy import require
from . import files
from .executor import ATTEMPTS, DIED, EXECUTORS, Outcome, Task, done

_PIECE = 1 << 26
"""Bytes of a file in one object of the store."""
_ANSWERS_S = 10.0
"""Ray itself asks an address where nothing listens for minutes."""


@EXECUTORS.register("ray")
class Ray:
    """A task takes one core. Ray begins a task anew whose worker died, on another node if need be.

    Files that a node does not see go through the object store, as bytes: a worker takes them by their hash.
    """

    def __init__(self, workers: int) -> None:
        require("executor ray", "ray", ["ray"])
        self._ray: Any = import_module("ray")
        self._began = not self._ray.is_initialized()
        if self._began:  # heeds RAY_ADDRESS itself
            own = {} if os.environ.get("RAY_ADDRESS") else {"num_cpus": workers, "include_dashboard": False}
            self._start(own)
        remote = self._ray.remote(num_cpus=1, max_retries=ATTEMPTS - 1, scheduling_strategy="SPREAD")
        self._done, self._lacking = remote(done_with), remote(lacking)
        self._files: dict[str, Path] = {}
        self._store: dict[str, list[Any]] = {}
        self._asked: set[str] = set()

    def _start(self, own: Mapping[str, Any]) -> None:
        try:
            if not own:
                _ask(os.environ["RAY_ADDRESS"])
            self._ray.init(log_to_driver=False, logging_level="ERROR", **own)
        except Exception as error:  # of many classes, RuntimeError and Exception itself among them
            self._ray.shutdown()
            raise IntaglioError(
                "Ray does not start" if own else "no Ray cluster answers at RAY_ADDRESS",
                why=str(error).split("\n")[0],
                fix="try again when the machine has less to do, or take --executor processes"
                if own
                else "look at `ray status` there, or unset RAY_ADDRESS to take this machine",
            ) from error

    def share(self, files: Mapping[str, Path]) -> None:
        """Files by their hashes."""
        if files.keys() - self._files.keys():
            self._files |= files
            self._asked = set()

    def each(self, function: str, tasks: Sequence[Task]) -> Iterator[Outcome]:
        self._bring()
        for one in [self._done.remote(function, json.dumps(task), self._store) for task in tasks]:
            try:
                yield self._ray.get(one)
            except self._ray.exceptions.RayError as error:
                died = isinstance(error, self._ray.exceptions.WorkerCrashedError)
                yield Outcome(lost=DIED if died else f"{type(error).__name__}: {error}")

    def _bring(self) -> None:
        """Put into the store what nodes lack that were not asked before."""
        wanted = {digest: str(path) for digest, path in self._files.items() if digest not in self._store}
        nodes = {one["NodeID"] for one in self._ray.nodes() if one["Alive"]} - self._asked
        if not wanted or not nodes:
            return
        strategies = import_module("ray.util.scheduling_strategies")
        there = [strategies.NodeAffinitySchedulingStrategy(node, soft=True) for node in sorted(nodes)]
        answers = [self._lacking.options(num_cpus=0, scheduling_strategy=one).remote(wanted) for one in there]
        for digest in sorted({digest for some in self._ray.get(answers) for digest in some}):
            self._store[digest] = [self._ray.put(piece) for piece in _pieces(self._files[digest])]
        self._asked |= nodes

    def close(self) -> None:
        """Leaves a cluster that was there before."""
        if self._began:
            self._ray.shutdown()


def _ask(address: str) -> None:
    """Raises OSError where nothing listens at a host and port; ``auto`` and ``local`` name none."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), _ANSWERS_S).close()


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            yield piece


def lacking(wanted: Mapping[str, str]) -> list[str]:
    """On a node: the hashes of files that do not lie there where they are said to."""
    return [digest for digest, path in wanted.items() if not files.is_there(Path(path), digest)]


def done_with(function: str, task: str, store: Mapping[str, Sequence[Any]]) -> Outcome:
    """Do a task, which may ask for files that are in the store."""
    get: Any = import_module("ray").get

    def brought(digest: str) -> Iterator[bytes]:
        return map(get, store[digest])

    files.BROUGHT = brought
    return done(function, task)
