"""Patterns with which users name nodes: a name, an operator type, or ``re:`` and a regular expression."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

import onnx

from ..graph.errors import UsageError
from ..graph.nodes import display_name


def matching(patterns: Iterable[str], names: Sequence[set[str]], *, what: str, fix: str) -> set[int]:
    """Places of the sets in which a name matches a pattern.

    Raises:
        UsageError: a pattern matches nothing, or is no regular expression.
    """
    found: set[int] = set()
    for pattern in patterns:
        if pattern.startswith("re:"):
            try:
                match: Callable[[str], object] = re.compile(pattern[3:]).search
            except re.error as error:
                raise UsageError(f"{pattern!r} is no regular expression", why=str(error)) from error
        else:
            match = pattern.__eq__
        hits = {k for k, words in enumerate(names) if any(match(w) for w in words)}
        if not hits:
            raise UsageError(f"pattern {pattern!r} matches no {what}", fix=fix)
        found |= hits
    return found


def chosen(nodes: Sequence[onnx.NodeProto], include: Sequence[str], exclude: Sequence[str]) -> set[int]:
    """Places of the nodes that a user lets a pass change. A node goes by its name, its type, its tensors' names.

    Raises:
        UsageError: a pattern matches nothing.
    """
    names = [{display_name(n), n.op_type, *n.input, *n.output} - {""} for n in nodes]
    told = {"what": "node, tensor or operator type", "fix": "list the names with: intaglio inspect MODEL"}
    wanted = matching(include, names, **told) if include else set(range(len(names)))
    return wanted - matching(exclude, names, **told)
