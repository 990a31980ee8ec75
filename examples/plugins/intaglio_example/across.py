"""A way to split a convolution: along its last axis first, then along the others."""

from __future__ import annotations

from typing import ClassVar

from intaglio.passes.factorize import Site, TwoFactors


class Across(TwoFactors):
    """1 x k to a few channels, then k x 1: ``spatial`` the other way round."""

    name: ClassVar[str] = "across"

    def first(self, site: Site) -> tuple[int, ...]:
        return tuple(axis for axis, k in enumerate(site.kernel) if k > 1)[-1:]

    def obstacle(self, site: Site) -> str:
        return "" if sum(k > 1 for k in site.kernel) > 1 else "its kernel is long along one axis at most"


across = Across()
