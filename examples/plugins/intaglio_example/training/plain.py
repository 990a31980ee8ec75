"""A binary operator: signs times one scale a layer, and the layer's input beside its output."""

from __future__ import annotations

from intaglio.passes.train import BINARY_OPERATORS, BinaryOperator

plain = BINARY_OPERATORS.register("plain")(BinaryOperator("Signs, shortcuts, a scale for each layer.", scale="layer"))
