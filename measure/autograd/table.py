"""The one table of what operators compute in torch, for gradients and for exported modules alike."""

from . import layers, layout, normalized, pointwise, quantized, recurrent, resize
from .call import OPERATORS

MODULES = (layers, layout, normalized, pointwise, quantized, recurrent, resize)
"""Those whose functions the table calls, besides torch's own."""
__all__ = ["MODULES", "OPERATORS"]
