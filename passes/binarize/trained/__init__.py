"""Networks that were trained with bits: layers of signs are found in any graph and computed as bits.

``recognize`` says which layers those are, and why others are not; ``lower`` writes them in one of several forms.
"""

from .qonnx import from_qonnx, to_qonnx

__all__ = ["from_qonnx", "to_qonnx"]
