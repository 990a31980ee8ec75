"""TFLite files, in floats or in integers: read by the schema that LiteRT's package brings along."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ..base import Imported, Importer, Source, importer

if TYPE_CHECKING:
    import numpy as np

    from ...measure.litert.session import Session


@importer("tflite")
class TFLite(Importer):
    """A .tflite file: floats, integers with a scale for a tensor or a channel, or floats with integer weights."""

    extra = "litert"
    imports = ("ai_edge_litert",)
    package = "ai-edge-litert"
    suffixes = (".tflite",)

    def read(self, source: Source) -> Imported:
        from ...measure.litert.session import open_apart
        from .convert import model_of
        from .parse import content_of, parse

        content = content_of(source.path)
        file = parse(content)
        made = model_of(file, source)
        session = open_apart(content, (file.inputs, file.outputs), file.orders)
        closeness = 15.0 if made.dynamic else 25.0 if made.integer else 60.0
        return Imported(made.model, lambda feeds: one_by_one(session, feeds), made.notes, closeness)


def one_by_one(session: Session, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Outputs for batches of any size: a file takes the one that it was written for."""
    import numpy as np

    taken = {name: detail["shape"] for name, detail in session.inputs.items()}
    if all(feeds[name].size == np.prod(shape) for name, shape in taken.items()):
        return session.run(feeds, raw=True)
    count = max(len(value) for value in feeds.values())
    parts = [session.run({name: value[k : k + 1] for name, value in feeds.items()}, raw=True) for k in range(count)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
