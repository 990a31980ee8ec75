"""Carve ONNX models down to what the edge needs.

The public Python interface: ``load`` a model, run passes on it, ``save`` it. Names are resolved on first use, so
that importing the package (and ``intaglio --help``) stays light.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .graph.lazy import lazily
from .graph.version import VERSION

if TYPE_CHECKING:
    from .graph.errors import IntaglioError as IntaglioError
    from .graph.io.load import load as load
    from .graph.io.save import save as save
    from .graph.model import Model as Model
    from .kernels.register import ops_library as ops_library
    from .kernels.register import register as register
    from .passes.binarize import Binarize as Binarize
    from .passes.edit import Edit as Edit
    from .passes.factorize import Factorize as Factorize
    from .passes.prune import PruneChannels as PruneChannels
    from .passes.quantize import Quantize as Quantize
    from .pipeline.run import run as run

__version__ = VERSION
__getattr__ = lazily(
    __name__,
    {
        "Binarize": ".passes.binarize",
        "Edit": ".passes.edit",
        "Factorize": ".passes.factorize",
        "IntaglioError": ".graph.errors",
        "Model": ".graph.model",
        "PruneChannels": ".passes.prune",
        "Quantize": ".passes.quantize",
        "load": ".graph.io.load",
        "ops_library": ".kernels.register",
        "register": ".kernels.register",
        "run": ".pipeline.run",
        "save": ".graph.io.save",
    },
)
__all__ = [
    "Binarize",
    "Edit",
    "Factorize",
    "IntaglioError",
    "Model",
    "PruneChannels",
    "Quantize",
    "__version__",
    "load",
    "ops_library",
    "register",
    "run",
    "save",
]
