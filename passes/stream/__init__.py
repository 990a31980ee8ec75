"""From a model of windows to one of hops: what was computed for the last window is kept, not computed again."""

from typing import TYPE_CHECKING

from ...graph.lazy import lazily

if TYPE_CHECKING:
    from .options import StreamOptions as StreamOptions
    from .streamed import Streamed as Streamed
    from .streamed import stream as stream

__getattr__, __all__ = lazily(__name__, {".options": "StreamOptions", ".streamed": "Streamed stream"})
