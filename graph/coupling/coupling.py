"""What an analysis finds: labels of all axes, which of them are equal, and the groups that this makes."""

from __future__ import annotations

from functools import cached_property

from .groups import Group, find_groups
from .solved import Solved


class Coupling(Solved):
    """Which channels of a model can only go together, and which can never go."""

    @cached_property
    def groups(self) -> list[Group]:
        """Everything a user can make narrower, and everything that could be but for one operator, in graph order."""
        return find_groups(self)
