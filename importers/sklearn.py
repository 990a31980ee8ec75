"""scikit-learn, through skl2onnx."""

from __future__ import annotations

from typing import Any

from ..graph.errors import BadModel
from .base import Feeds, Imported, Importer, Source, importer

_OPSETS = {"": 17, "ai.onnx.ml": 3}


@importer("sklearn")
class Sklearn(Importer):
    """A fitted scikit-learn estimator or pipeline from package.module:factory; files of it would have to be unpickled."""

    extra = "sklearn"
    imports = ("sklearn", "skl2onnx")
    package = "scikit-learn"
    modules = ("sklearn",)

    def read(self, source: Source) -> Imported:
        from skl2onnx import to_onnx
        from skl2onnx.common.data_types import FloatTensorType

        from ..graph.io.load import from_proto

        found: Any = source.thing
        features = getattr(found, "n_features_in_", None)
        if features is None:
            raise BadModel(f"what {source.text} gives is not fitted", why="it does not know its number of features")
        (name,) = source.shapes or ("x",)
        options = {"zipmap": False} if hasattr(found, "predict_proba") else None
        try:
            proto = to_onnx(
                found, initial_types=[(name, FloatTensorType([None, features]))], options=options, target_opset=_OPSETS
            )
        except Exception as error:
            raise BadModel("skl2onnx failed", why=(str(error).splitlines() or [""])[0]) from error
        model = from_proto(proto)
        outputs = [value.name for value in model.graph.output]
        return Imported(model, lambda feeds: _computed(found, feeds, outputs))


def _computed(found: Any, feeds: Feeds, outputs: list[str]) -> Feeds:
    """Labels, or numbers, and probabilities; or what a transformer makes."""
    import numpy as np

    (x,) = feeds.values()
    names = [name for name in ("predict", "predict_proba", "transform") if hasattr(found, name)][: len(outputs)]
    values = [np.asarray(getattr(found, name)(x)) for name in names]
    made = [value.astype(np.float32) if value.dtype == np.float64 else value for value in values]
    return {
        name: value.reshape(-1, 1) if value.ndim == 1 and not hasattr(found, "predict_proba") else value
        for name, value in zip(outputs, made, strict=False)
    }
