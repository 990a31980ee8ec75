"""Patterns with which users name parts of a model, in one vocabulary for every pass.

A pattern is the name of a group (as ``intaglio groups`` lists them), a node or a tensor, an operator type, or ``re:`` and a
regular expression that is searched in all of these.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from difflib import get_close_matches
from functools import cache

from ..graph.errors import IntaglioError, UsageError
from ..graph.index import index_of
from ..graph.model import Model
from ..graph.nodes import display_name

Names = Sequence[set[str]]
"""Everything that each thing can be called."""


def chosen(names: Names, include: Iterable[str], exclude: Iterable[str], more: Callable[[], Names] = list) -> set[int]:
    """Positions of what patterns ask for. ``more`` names are looked at where the others do not match.

    Raises:
        UsageError: a pattern matches nothing, or is no regular expression.
    """
    wanted = _matching(include, names, more) if include else set(range(len(names)))
    return wanted - _matching(exclude, names, more)


def choose_nodes(model: Model, include: Sequence[str] = (), exclude: Sequence[str] = ()) -> list[bool]:
    """Whether patterns ask for each node: by its name or type, a tensor it reads or makes, or a group of those.

    Raises:
        UsageError: a pattern matches nothing, or is no regular expression.
    """
    nodes = model.graph.node
    if not include and not exclude:
        return [True] * len(nodes)
    names = [{display_name(n), n.op_type, *n.input, *n.output} - {""} for n in nodes]
    wanted = chosen(names, include, exclude, cache(lambda: _groups(model)))
    return [k in wanted for k in range(len(nodes))]


def _matching(patterns: Iterable[str], names: Names, more: Callable[[], Names]) -> set[int]:
    found: set[int] = set()
    for pattern in patterns:
        match = _matcher(pattern)
        hits = _hits(match, names) or _hits(match, more())
        if not hits:
            known = sorted(set().union(*names, *more()))
            near = [] if pattern.startswith("re:") else get_close_matches(pattern, known, n=3)
            raise UsageError(
                f"pattern {pattern!r} matches no group, node, tensor or operator type",
                fix=f"did you mean {', '.join(near)}?"
                if near
                else "list the names with: intaglio inspect MODEL, and groups with: intaglio groups MODEL",
            )
        found |= hits
    return found


def _hits(match: Callable[[str], object], names: Names) -> set[int]:
    return {place for place, words in enumerate(names) if any(match(word) for word in words)}


def _matcher(pattern: str) -> Callable[[str], object]:
    if not pattern.startswith("re:"):
        return pattern.__eq__
    try:
        return re.compile(pattern[3:]).search
    except re.error as error:
        raise UsageError(f"{pattern!r} is no regular expression", why=str(error)) from error


def _groups(model: Model) -> list[set[str]]:
    """Of each node the groups that it reads channels of; none where coupled channels cannot be found."""
    from ..graph.coupling import analyse

    names: list[set[str]] = [set() for _ in model.graph.node]
    try:
        coupling = analyse(model)
    except IntaglioError:
        return names
    readers = index_of(model).readers
    for group in coupling.groups:
        for place in {place for tensor, _ in group.members for place in readers(tensor)}:
            names[place].add(group.name)
    return names
