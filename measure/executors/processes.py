"""Workers that are processes of this machine."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from queue import SimpleQueue

from .executor import ATTEMPTS, DIED, EXECUTORS, Outcome, Task


@EXECUTORS.register("processes")
class Processes:
    """Each worker has one task at a time: one that dies costs this, which another begins anew."""

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._free: SimpleQueue[subprocess.Popen[str] | None] = SimpleQueue()
        for _ in range(workers):
            self._free.put(None)  # started when there is work

    def each(self, function: str, tasks: Sequence[Task]) -> Iterator[Outcome]:
        with ThreadPoolExecutor(self._workers) as threads:
            yield from threads.map(lambda task: self._done(function, json.dumps(task)), tasks)

    def _done(self, function: str, task: str) -> Outcome:
        worker = self._free.get()
        try:
            for _ in range(ATTEMPTS):
                worker = worker if worker and worker.poll() is None else _started()
                if answer := _answer(worker, json.dumps([function, task])):
                    return Outcome(**json.loads(answer))
                _ended(worker)
            return Outcome(lost=DIED)
        finally:
            self._free.put(worker)

    def close(self) -> None:
        """Ends all workers."""
        for _ in range(self._workers):
            if worker := self._free.get():
                _ended(worker)


def _started() -> subprocess.Popen[str]:
    words = [sys.executable, "-m", f"{__package__}.worker"]
    pipe = subprocess.PIPE
    return subprocess.Popen(words, stdin=pipe, stdout=pipe, encoding="utf-8", start_new_session=True)


def _answer(worker: subprocess.Popen[str], line: str) -> str:
    """Empty where the worker is no more."""
    assert worker.stdin
    assert worker.stdout
    with suppress(BrokenPipeError):
        worker.stdin.write(line + "\n")
        worker.stdin.flush()
        return worker.stdout.readline()
    return ""


def _ended(worker: subprocess.Popen[str]) -> None:
    worker.kill()
    with suppress(BrokenPipeError):
        worker.communicate()
