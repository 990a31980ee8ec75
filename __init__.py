"""Carve ONNX models down to what the edge needs.

The public Python interface: ``load`` a model, run passes on it, ``save`` it. Names are resolved on first use, so
that importing the package (and ``intaglio --help``) stays light.
"""

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
    from .passes.simplify import Simplify as Simplify
    from .passes.sparsify import Sparsify as Sparsify
    from .passes.train import Train as Train
    from .pipeline.compress import compress as compress
    from .pipeline.run import run as run

__version__ = VERSION
__getattr__, __all__ = lazily(
    __name__,
    {
        ".graph.errors": "IntaglioError",
        ".graph.io.load": "load",
        ".graph.io.save": "save",
        ".graph.model": "Model",
        ".kernels.register": "ops_library register",
        ".passes.binarize": "Binarize",
        ".passes.edit": "Edit",
        ".passes.factorize": "Factorize",
        ".passes.prune": "PruneChannels",
        ".passes.quantize": "Quantize",
        ".passes.sparsify": "Sparsify",
        ".passes.simplify": "Simplify",
        ".passes.train": "Train",
        ".pipeline.compress": "compress",
        ".pipeline.run": "run",
    },
)
