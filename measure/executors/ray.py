"""Workers of a Ray cluster: the one at ``RAY_ADDRESS``, else one of this machine's own.

Source: Moritz et al., "Ray: A Distributed Framework for Emerging AI Applications", OSDI 2018, arXiv:1712.05889.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from importlib import import_module
from typing import Any

from ...graph.lazy import require
from .executor import ATTEMPTS, DIED, EXECUTORS, Outcome, Task, done


@EXECUTORS.register("ray")
class Ray:
    """A task takes one core. Ray begins a task anew whose worker died, on another node if need be."""

    def __init__(self, workers: int) -> None:
        require("executor ray", "ray", ["ray"])
        self._ray: Any = import_module("ray")
        self._began = not self._ray.is_initialized()
        if self._began:  # heeds RAY_ADDRESS itself
            own = {} if os.environ.get("RAY_ADDRESS") else {"num_cpus": workers, "include_dashboard": False}
            self._ray.init(log_to_driver=False, logging_level="ERROR", **own)
        remote = self._ray.remote(num_cpus=1, max_retries=ATTEMPTS - 1, scheduling_strategy="SPREAD")
        self._done = remote(done)

    def each(self, function: str, tasks: Sequence[Task]) -> Iterator[Outcome]:
        for one in [self._done.remote(function, json.dumps(task)) for task in tasks]:
            try:
                yield self._ray.get(one)
            except self._ray.exceptions.RayError as error:
                died = isinstance(error, self._ray.exceptions.WorkerCrashedError)
                yield Outcome(lost=DIED if died else f"{type(error).__name__}: {error}")

    def close(self) -> None:
        """Leaves a cluster that was there before."""
        if self._began:
            self._ray.shutdown()
