"""Write networks as ONNX files, feed them, and run their torch originals."""

from __future__ import annotations

import contextlib
import hashlib
import io
import logging
import os
import warnings
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from .inputs import Array
from .registry import Entry, entry


def build(name: str, exporter: str, folder: Path) -> Path:
    """Write the network into the folder, unless the same one is there, and return the file.

    Exporters: "dynamo18", "dynamo20" and "legacy17" as a user calls them; "raw17" keeps batch normalizations, `Constant`
    nodes and shape computations; "onnx" is what a hand-made graph has instead.

    The file name carries a hash of everything that decides its content, so a folder can be kept between runs.
    """
    found = entry(name)
    if exporter not in found.exporters:
        raise ValueError(f"{name} is not made by {exporter}, only by {', '.join(found.exporters)}")
    path = folder / f"{name}.{exporter}.{_fingerprint(found)}.onnx"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        draft = path.with_suffix(f".{os.getpid()}.part")
        if exporter == "onnx":
            onnx.save(_handmade(found), draft)
        else:
            _export(found, exporter, draft)
        draft.replace(path)
    return path


def random_inputs(what: str | Path | Entry, seed: int = 0, batch: int | None = None, **sizes: int) -> dict[str, Array]:
    """Valid inputs for a network, given by name, entry or a file that `build` wrote.

    `batch` and `sizes` (such as sequence=7) set its dynamic dimensions.
    """
    found = what if isinstance(what, Entry) else entry(Path(what).name.split(".")[0])
    wanted = {**sizes, **({} if batch is None else {"batch": batch})}
    if unknown := set(wanted) - found.dynamic:
        raise ValueError(f"{found.name} has no dynamic {', '.join(sorted(unknown))}")
    rng = np.random.default_rng(seed)
    return {key: spec.draw(rng, wanted) for key, spec in found.inputs.items()}


def torch_module(name: str) -> Any:
    """The torch network behind a name, in evaluation mode."""
    from .net import module

    found = entry(name)
    return module(name, found.function, _torch_inputs(found))


def torch_outputs(name: str, inputs: dict[str, Array]) -> list[Array]:
    """What the torch network gives."""
    import torch

    with torch.no_grad():
        result = torch_module(name)(*(torch.from_numpy(value) for value in inputs.values()))
    return [value.numpy() for value in _as_tuple(result)]


def _torch_inputs(found: Entry) -> tuple[Any, ...]:
    import torch

    return tuple(torch.from_numpy(value) for value in random_inputs(found).values())


def _as_tuple(result: Any) -> tuple[Any, ...]:
    return tuple(result) if isinstance(result, (tuple, list)) else (result,)


def _export(found: Entry, exporter: str, path: Path) -> None:
    import torch

    inputs = _torch_inputs(found)
    module = torch_module(found.name)
    with torch.no_grad():
        outputs = [f"y{i}" for i in range(len(_as_tuple(module(*inputs))))]
    options: dict[str, Any] = {"input_names": list(found.inputs), "output_names": outputs}
    opset = int(exporter[-2:])
    if exporter.startswith("dynamo"):
        _parse_operators_once()
        options.update(dynamo=True, external_data=False, verbose=False, dynamic_shapes=_dynamic_shapes(found))
    else:
        options.update(dynamo=False, dynamic_axes=_dynamic_axes(found, outputs))
    if exporter.startswith("raw"):
        options.update(training=torch.onnx.TrainingMode.PRESERVE, do_constant_folding=False)
    with _quiet(), torch.no_grad():
        torch.onnx.export(module, inputs, str(path), opset_version=opset, **options)


@cache
def _parse_operators_once() -> None:
    """Let the dynamo exporter remember its operators: it parses the source of all 500 for every network."""
    with contextlib.suppress(ImportError, AttributeError):
        library = import_module("onnxscript._framework_apis.torch_2_5")
        library.get_torchlib_ops = cache(library.get_torchlib_ops)  # type: ignore[attr-defined]


def _dynamic_shapes(found: Entry) -> Any:
    """Dimensions for torch.export; one tuple stands for the variadic inputs of `Body.forward`."""
    import torch

    if not found.dynamic:
        return None
    dims = {name: torch.export.Dim(name) for name in sorted(found.dynamic)}
    return (tuple({i: dims[d] for i, d in enumerate(s.shape) if isinstance(d, str)} for s in found.inputs.values()),)


def _dynamic_axes(found: Entry, outputs: list[str]) -> dict[str, dict[int, str]]:
    axes = {name: {i: d for i, d in enumerate(s.shape) if isinstance(d, str)} for name, s in found.inputs.items()}
    if "batch" in found.dynamic:
        axes |= {output: {0: "batch"} for output in outputs}
    return axes


def _handmade(found: Entry) -> onnx.ModelProto:
    from .graph import Graph

    graph = Graph(found.name, found.opset)
    return graph.finish(_as_tuple(found.function(graph, *graph.declare(found.inputs))))


def _fingerprint(found: Entry) -> str:
    digest = hashlib.sha256(Path(found.source).read_bytes())
    for core in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(core.read_bytes())
    for package in ("onnx",) if found.exporters == ("onnx",) else ("torch", "onnxscript"):
        digest.update(version(package).encode())
    return digest.hexdigest()[:10]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporters, which talk on every channel."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
