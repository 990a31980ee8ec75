"""Bodies of functions in the place of their calls."""

from __future__ import annotations

from collections.abc import Iterable

import onnx
from onnx import inliner

from ..errors import BadModel


def inlined(proto: onnx.ModelProto, only: Iterable[tuple[str, str]] | None = None) -> onnx.ModelProto:
    """A copy without calls: of all functions, or of those whose domains and names ``only`` gives.

    Raises:
        BadModel: onnx cannot, as where functions and graph are of different operator sets.
    """
    chosen = [(f.domain, f.name) for f in proto.functions] if only is None else list(only)
    try:
        return inliner.inline_selected_functions(proto, chosen)
    except RuntimeError as error:
        raise BadModel(
            "functions of the model cannot be written out",
            why=str(error).strip().rstrip("."),
            fix="export the model again, without functions or with ones of its own operator set",
        ) from error
