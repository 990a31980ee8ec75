"""An executor: threads of this process."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from intaglio.measure.executors.executor import Outcome, Task, done


class Threads:
    """As many threads as there are workers."""

    def __init__(self, workers: int) -> None:
        self._pool = ThreadPoolExecutor(workers)

    def each(self, function: str, tasks: Sequence[Task]) -> Iterator[Outcome]:
        return self._pool.map(lambda task: done(function, json.dumps(task)), tasks)

    def close(self) -> None:
        """End them."""
        self._pool.shutdown()
