"""A merge of experts: the one that tokens score most alike stands in, as it is."""

from __future__ import annotations

from intaglio.passes.prune.experts.merging import MERGES, Crowd, Kept, Merged


@MERGES.register("likest")
def likest(crowd: Crowd, kept: Kept) -> Merged:
    """Experts that go are looked up as the one that tokens score most like them; nothing is averaged."""
    return Merged(crowd.nearest(kept), {name: stack[kept] for name, stack in crowd.stacks.items()})
