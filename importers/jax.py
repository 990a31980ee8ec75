"""JAX and Flax, through jax2onnx."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from io import StringIO
from typing import TYPE_CHECKING, Any

from ..graph.errors import BadModel, UsageError
from .base import Feeds, Imported, Importer, Source, importer

if TYPE_CHECKING:
    from ..graph.model import Model


@importer("jax")
class Jax(Importer):
    """A Flax module, or with --from jax any JAX function of arrays, from package.module:factory; --shape tells its inputs."""

    extra = "jax"
    imports = ("jax", "jax2onnx")
    package = "jax"
    modules = ("jax", "jaxlib", "flax", "equinox")

    def read(self, source: Source) -> Imported:
        if not callable(source.thing):
            raise BadModel(f"what {source.text} gives is no JAX function", why=f"it is a {type(source.thing).__name__}")
        if hasattr(source.thing, "eval"):
            source.thing.eval()
        model = traced(source.thing, source.shapes)
        return Imported(model, reference(source.thing, [value.name for value in model.graph.output], model))


def traced(function: Callable[..., Any], shapes: Mapping[str, Sequence[int]]) -> Model:
    """What a function computes. Raises UsageError without shapes, BadModel where jax2onnx fails."""
    if not shapes:
        raise UsageError("nothing tells the shapes of the inputs", fix="give them, such as --shape image:-1,224,224,3")
    from jax2onnx import to_onnx

    from ..graph.io.load import from_proto

    sized = [tuple(_symbol(name, k) if n == -1 else n for k, n in enumerate(dims)) for name, dims in shapes.items()]
    try:
        with redirect_stdout(StringIO()):
            proto = to_onnx(function, sized)
    except Exception as error:
        raise BadModel("jax2onnx failed", why=(str(error).strip().splitlines() or [type(error).__name__])[0]) from error
    model = from_proto(proto)
    _rename(model, list(shapes))
    return model


def reference(function: Callable[..., Any], outputs: Sequence[str], model: Model) -> Callable[[Feeds], Feeds]:
    inputs = [value.name for value in model.graph.input]

    def run(feeds: Feeds) -> Feeds:
        import jax
        import numpy as np

        found = jax.tree_util.tree_leaves(function(*(feeds[name] for name in inputs)))
        return {name: np.asarray(value) for name, value in zip(outputs, found, strict=True)}

    return run


def _symbol(name: str, axis: int) -> str:
    return "B" if axis == 0 else f"{name.upper()}{axis}"


def _rename(model: Model, names: Sequence[str]) -> None:
    """Inputs by the names that they were given, outputs by plain ones."""
    from ..graph.nodes import rename_tensors

    ends = {value.name: name for value, name in zip(model.graph.input, names, strict=True)}
    ends |= {value.name: f"output_{k}" if k else "output" for k, value in enumerate(model.graph.output)}
    rename_tensors(model.graph, lambda name: ends.get(name, name))
