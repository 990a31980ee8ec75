"""A space: one number of bits for all layers."""

from __future__ import annotations

from typing import Any

from intaglio import Model
from intaglio.pipeline.study.space import Open, Parameter


def depth(model: Model) -> dict[str, Any]:
    """Bits of all weights together, on average."""
    return {"pass": "quantize", "scheme": "mixed", "bits": Open(Parameter("depth", (), 2.5, 6.0))}
