"""Pieces of one piece of work, such as the layers of a model: done here, or shared out to workers, with the same results.

A worker goes the same way as whoever asks it, on the same files, up to the place where the work is cut up; there it does
the pieces that it was given, and ends. So a pass says at that place alone what may be done apart.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Any, Protocol, TypeVar

from . import plainly
from .executor import Executor

T = TypeVar("T")
R = TypeVar("R")
BYTES = 1 << 26
"""Of results in one answer, where there may be many."""


class Pieces(Protocol):
    """``each`` gives in order what ``make`` makes of each of ``count`` items.

    A result hangs on its item alone, and on what going through the items before it does; items are gone through at most
    once. ``helps`` says that this is a worker. Where results are large, as ``streamed`` says, few are asked for at once.
    """

    @property
    def helps(self) -> bool: ...

    def each(
        self, items: Iterable[T], make: Callable[[T], R], count: int, *, streamed: bool = False
    ) -> Iterator[R]: ...


@dataclass(frozen=True)
class Here:
    """One after the other."""

    helps: bool = False

    def each(self, items: Iterable[T], make: Callable[[T], R], count: int, *, streamed: bool = False) -> Iterator[R]:
        return map(make, items)


HERE = Here()


class Reached(BaseException):
    """The pieces that a worker was asked for are done: ``found`` has them, as text."""

    def __init__(self, found: list[str]) -> None:
        super().__init__()
        self.found = found


@dataclass
class Asked:
    """In a worker: those from ``first`` up to ``last`` of the first place after those whose results are ``known``."""

    first: int
    last: int
    known: list[list[str]]
    helps: bool = True

    def each(self, items: Iterable[T], make: Callable[[T], R], count: int, *, streamed: bool = False) -> Iterator[R]:
        if self.known:
            return map(plainly.read, self.known.pop(0))
        own = islice(enumerate(items), self.last)
        raise Reached([plainly.text_of(make(one)) for place, one in own if place >= self.first])


@dataclass
class Handed:
    """Where the work is asked for. ``task`` is what ``function`` needs to go the same way."""

    executor: Executor
    workers: int
    function: str
    task: Mapping[str, Any]
    known: list[list[str]] = field(default_factory=list)
    helps: bool = False

    def each(self, items: Iterable[T], make: Callable[[T], R], count: int, *, streamed: bool = False) -> Iterator[R]:
        if count < 2:
            return self._here(items, make)
        return self._apart(items, make, count, streamed=streamed)

    def _here(self, items: Iterable[T], make: Callable[[T], R]) -> Iterator[R]:
        """Workers that come later are told of it."""
        told: list[str] = []
        self.known.append(told)
        for one in items:
            made = make(one)
            told.append(plainly.text_of(made))
            yield made

    def _apart(self, items: Iterable[T], make: Callable[[T], R], count: int, *, streamed: bool) -> Iterator[R]:
        """What no worker does is done here, so that whatever hinders it is told as it always is."""
        told, done, some = list[str](), 0, 1 if streamed else -(-count // self.workers)
        before = [*self.known]
        self.known.append(told)
        while done < count:
            starts = range(done, min(count, done + some * self.workers), some)
            tasks = [{**self.task, "known": before, "first": k, "last": min(count, k + some)} for k in starts]
            outcomes = list(self.executor.each(self.function, tasks))
            if lost := next((one.lost for one in outcomes if one.lost), ""):
                logging.getLogger("intaglio").warning("workers could not help, so this is done here: %s", lost)
                for place, one in enumerate(items):
                    if place >= done:
                        made = make(one)
                        told.append(plainly.text_of(made))
                        yield made
                return
            texts = list(chain.from_iterable(one.value for one in outcomes))
            done += len(texts)
            if streamed:
                some = max(1, BYTES // max(1, *map(len, texts)))
            else:
                told += texts
            yield from map(plainly.read, texts)
