"""Patterns with which users name parts of a model: a name, an operator type, or ``re:`` and a regular expression."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

from ..graph.errors import UsageError


def matching(patterns: Iterable[str], names: Sequence[set[str]], *, kinds: str, fix: str) -> set[int]:
    """Positions of what the patterns match, given everything that each thing can be called.

    ``kinds`` says what can be named, for the error.

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
            raise UsageError(f"pattern {pattern!r} matches no {kinds}", fix=fix)
        found |= hits
    return found
