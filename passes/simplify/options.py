"""Options of cleaning a graph."""

from __future__ import annotations

from ..options import Options, option


class SimplifyOptions(Options):
    fold: bool = option(
        True, "Fold BatchNormalization, and sums and products by channel, into layers; rounds once more.", "method"
    )
    merge: bool = option(
        True, "Merge layers that follow each other or are added on the same input, where that is cheaper.", "method"
    )
    verify: bool = option(True, "Compare outputs with those of the model as it was given.", "accuracy")
