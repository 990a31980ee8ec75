"""What runs pieces of work that do not depend on each other: a function by its name, and tasks as plain data.

No model, array or open file travels: a task names files, and says by hashes what it takes them for.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ...graph.errors import UsageError
from ...graph.lazy import imported
from ...graph.registry import Registry

Task = Mapping[str, Any]
ATTEMPTS = 2
"""How often a task is begun whose worker dies."""
DIED = "its worker died twice"


@dataclass(frozen=True)
class Outcome:
    """What a function gave, or in ``lost`` why it gave nothing."""

    value: Any = None
    lost: str = ""


class Executor(Protocol):
    """``each`` gives what the function ``package.module:name`` makes of each task, in the order of the tasks."""

    def each(self, function: str, tasks: Sequence[Task]) -> Iterator[Outcome]: ...
    def close(self) -> None: ...


EXECUTORS: Registry[Callable[[int], Executor]] = Registry(
    "executor", "intaglio.executors", "intaglio.measure.executors", flat=True
)
"""Each is made for a number of workers."""


def done(function: str, task: str) -> Outcome:
    """Do a task, here: the text of plain data, so that it is the same for all executors."""
    try:
        return Outcome(imported(function, UsageError)(json.loads(task)))
    except Exception as error:  # costs this task alone
        return Outcome(lost=f"{type(error).__name__}: {error}")


@EXECUTORS.register("local")
class Local:
    """In this process, one after the other."""

    def __init__(self, workers: int) -> None:
        """There is one worker, whatever is asked for."""

    def each(self, function: str, tasks: Sequence[Task]) -> Iterator[Outcome]:
        return (done(function, json.dumps(task)) for task in tasks)

    def close(self) -> None:
        """There is nothing to end."""
