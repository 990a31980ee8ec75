"""PyTorch: modules that a factory gives, exported programs and TorchScript, through torch's own exporters."""

from __future__ import annotations

import io
import logging
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from inspect import Parameter, signature
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from ..graph.errors import BadModel, UsageError
from .base import Feeds, Imported, Importer, Source, importer
from .pickled import pickled

if TYPE_CHECKING:
    import numpy as np

    from ..graph.model import Model

_FREE_BATCH, _FREE = 2, 32
"""Lengths that free dimensions have while the network is traced."""
_OPSET = 17
OUTPUTS, AXES = "intaglio_outputs", "intaglio_axes"
"""Attributes of a module that tell the names of its outputs, and of axes: of all inputs, or by name of one."""
_WEIGHTS = (".pt", ".pth", ".safetensors")


@importer("torch")
class Torch(Importer):
    """A PyTorch module from package.module:factory, an exported program (.pt2) or TorchScript (.pt, .ts).

    A factory gives the module, or the module and a tuple of example inputs; without these the inputs are described by
    ``--shape``, in order. Both kinds of files are read without unpickling Python objects; TorchScript is code.
    """

    extra = "torch"
    imports = ("torch", "onnxscript")
    package = "torch"
    suffixes = (".pt2", ".pt", ".ts", ".pth")
    modules = ("torch",)

    fold_bn: bool = Field(False, description="compute normalizations into the layers before them")
    weights: str | None = Field(
        None, description="file of weights to load into the module: a state dictionary (tensors only), or safetensors"
    )
    through: Literal["legacy", "dynamo"] | None = Field(
        None, description="exporter of torch; legacy, or dynamo where that fails"
    )
    batch: Literal["free", "fixed"] = Field(
        "free", description="whether the first axis of inputs and outputs may have any length"
    )

    def read(self, source: Source) -> Imported:
        import torch

        thing, inputs = _parted(source.thing) if source.thing is not None else (_opened(source.path), None)
        if isinstance(thing, torch.export.ExportedProgram):
            return self._program(thing)
        if not isinstance(thing, torch.nn.Module):
            raise BadModel(f"{source.text} is no torch module", why=f"it is a {type(thing).__name__}")
        thing.eval()
        if self.weights:
            _load_weights(thing, Path(self.weights))
        names = _input_names(thing, source.shapes, inputs)
        example = inputs if inputs is not None else _examples(source.shapes)
        return self._module(thing, names, example, source.shapes)

    def _program(self, program: Any) -> Imported:
        module = program.module()
        model = _through_dynamo(program, None, None, fold=self.fold_bn)
        return Imported(model, _reference(module, _names(model.graph.input, model), _names(model.graph.output, model)))

    def _module(
        self, module: Any, names: Sequence[str], example: Sequence[Any], shapes: Mapping[str, Sequence[int]]
    ) -> Imported:
        import torch

        made = range(len(_tried(module, names, example)))
        outputs = getattr(module, OUTPUTS, None) or ["output" if k == 0 else f"output_{k}" for k in made]
        free = self._free(names, example, shapes, getattr(module, AXES, {}))
        reference = _reference(module, names, outputs)
        notes: tuple[str, ...] = ()
        legacy = ""
        if self.through != "dynamo":
            try:
                model = _through_legacy(module, names, outputs, example, free, fold=self.fold_bn)
                return Imported(model, reference)
            except Exception as error:
                if self.through == "legacy" or isinstance(module, torch.jit.ScriptModule):
                    raise BadModel("torch's exporter failed", why=_first_line(error)) from error
                legacy = _first_line(error)
                notes = (f"exported by dynamo, as the legacy exporter failed: {legacy}",)
        try:
            model = _through_dynamo(module, example, (names, outputs, free), fold=self.fold_bn)
        except BadModel as error:
            both = f"legacy: {legacy}; dynamo: {error.why}" if legacy else error.why
            raise BadModel(error.what, why=both, fix=_REWRITTEN) from error
        return Imported(model, reference, notes)

    def _free(
        self,
        names: Sequence[str],
        example: Sequence[Any],
        shapes: Mapping[str, Sequence[int]],
        called: Mapping[int | tuple[str, int], str],
    ) -> dict[str, dict[int, str]]:
        """Axes of any length, by input; those that are alike in all inputs are ``called`` alike."""
        found: dict[str, dict[int, str]] = {}
        for name, value in zip(names, example, strict=True):
            given = shapes.get(name)
            axes = (
                [k for k, n in enumerate(given) if n == -1]
                if given
                else [0]
                if self.batch == "free" and value.ndim
                else []
            )
            own = {axis: called.get((name, axis), called.get(axis, f"{name}_{axis}")) for axis in axes}
            found[name] = {axis: told if axis else "batch" for axis, told in own.items()}
        return {name: axes for name, axes in found.items() if axes}


def _tried(module: Any, names: Sequence[str], example: Sequence[Any]) -> list[Any]:
    """What the module gives for the example. Raises UsageError where it does not run on such inputs."""
    import torch

    try:
        with torch.no_grad():
            return _flat(module(*example))
    except Exception as error:
        given = ", ".join(
            f"{name}:{','.join(map(str, value.shape))}" for name, value in zip(names, example, strict=True)
        )
        raise UsageError(
            f"the module does not run on inputs {given}",
            why=_first_line(error),
            fix="give --shape NAME:DIMS for each input in order, or a factory that returns (module, example inputs)",
        ) from error


def _opened(path: Path) -> Any:
    """What a file holds. Raises BadModel."""
    import torch

    if not path.is_file():
        raise BadModel(f"there is no file {path}")
    if not zipfile.is_zipfile(path):
        _refuse_pickled(path)
        raise BadModel(f"{path} is no file of torch's", why=_NEITHER)
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    try:
        if any(name.endswith("constants.pkl") or "/code/" in name for name in names) and path.suffix != ".pt2":
            return torch.jit.load(str(path), map_location="cpu")  # type: ignore[no-untyped-call]
        if any("data.pkl" in name for name in names) and path.suffix != ".pt2":
            _refuse_pickled(path)
        _refuse_objects(path, names)
        with _tensors_only():
            return torch.export.load(str(path))
    except BadModel:
        raise
    except Exception as error:
        raise BadModel(f"torch does not read {path}", why=_first_line(error)) from error


_REWRITTEN = "write what it names in other operators of torch, or export the network yourself and import the ONNX file"
_NETWORK = "name the network: intaglio import FILE.py:factory --weights {} -o MODEL.onnx"
_NEITHER = "it is neither a zip archive of torch's nor pickled tensors"
_UNPICKLING = "it holds no graph but the names of code, and reading it would run that and whatever else is in the file"
_SAVED = (
    "where you trust it, save what it is in another way: torch.save(net.state_dict(), 'weights.pth') for intaglio import "
    "FILE.py:factory --weights weights.pth, or torch.export.save(torch.export.export(net, inputs), 'net.pt2')"
)


def _refuse_pickled(path: Path) -> None:
    """Raises BadModel that says what a pickled file holds, which is not unpickled for that; of another file, nothing."""
    found = pickled(path)
    if found is None:
        return
    if found.whole:
        raise BadModel(f"{path} is a pickled object, {found.whole}", why=_UNPICKLING, fix=_SAVED)
    if found.names:
        told = ", ".join(found.names[:3]) + (f" and {len(found.names) - 3} more" if found.names[3:] else "")
        raise BadModel(f"{path} holds pickled objects beside tensors: {told}", why=_UNPICKLING, fix=_SAVED)
    raise BadModel(f"{path} holds weights, and no network", fix=_NETWORK.format(path))


def _refuse_objects(path: Path, names: Sequence[str]) -> None:
    """Objects in an archive would be unpickled."""
    from torch.export.pt2_archive import constants

    marks = [getattr(constants, name) for name in dir(constants) if name.endswith("OBJ_FILENAME_PREFIX")]
    for name in names:
        if any(Path(name).name.startswith(mark) for mark in marks):
            raise BadModel(f"{path} holds Python objects, which would be unpickled", why=name)


@contextmanager
def _tensors_only() -> Iterator[None]:
    """Whatever torch loads meanwhile may hold tensors alone."""
    import torch

    load = torch.load

    def safe(file: Any, *given: Any, **named: Any) -> Any:
        return load(file, *given, **{**named, "weights_only": True})

    torch.load = safe  # type: ignore[assignment]
    try:
        yield
    finally:
        torch.load = load


def _load_weights(module: Any, path: Path) -> None:
    import torch

    from ..graph.io.safetensors import read

    try:
        if path.suffix == ".safetensors":
            state: Any = {name: _as_torch(value) for name, value in read(path).items()}
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
        state = state.get("state_dict", state) if isinstance(state, Mapping) else state
        module.load_state_dict(state)
    except BadModel:
        raise
    except Exception as error:
        found = None if path.suffix == ".safetensors" else pickled(path)
        if found is not None and found.names:
            _refuse_pickled(path)
        why = _first_line(error) if found or path.suffix == ".safetensors" or not path.is_file() else _NEITHER
        raise BadModel(f"{path} holds no weights of this module", why=why) from error


def _as_torch(value: np.ndarray) -> Any:
    import torch

    if value.dtype.name == "bfloat16":
        return torch.from_numpy(value.view("int16").copy()).view(torch.bfloat16)
    return torch.from_numpy(value.copy())


def _parted(thing: Any) -> tuple[Any, tuple[Any, ...] | None]:
    """The module, and example inputs where they came with it."""
    if not isinstance(thing, tuple):
        return thing, None
    module, inputs = thing
    return module, inputs if isinstance(inputs, tuple) else (inputs,)


def _input_names(module: Any, shapes: Mapping[str, Sequence[int]], inputs: Sequence[Any] | None) -> list[str]:
    try:
        known = [
            one.name for one in signature(module.forward).parameters.values() if one.kind is not Parameter.VAR_KEYWORD
        ]
    except (TypeError, ValueError):
        known = []
    if inputs is None:
        if not shapes:
            told = " ".join(f"--shape {name}:1,3,224,224" for name in known[:1] or ["image"])
            raise UsageError("nothing tells the shapes of the inputs", fix=f"give them, such as {told}")
        return list(shapes)
    known += [f"input_{k}" for k in range(len(known), len(inputs))]
    return list(shapes) if len(shapes) == len(inputs) else known[: len(inputs)]


def _examples(shapes: Mapping[str, Sequence[int]]) -> tuple[Any, ...]:
    import torch

    random = torch.Generator().manual_seed(0)
    sized = ([(n if n != -1 else _FREE if k else _FREE_BATCH) for k, n in enumerate(dims)] for dims in shapes.values())
    return tuple(torch.randn(dims, generator=random) for dims in sized)


def _through_legacy(
    module: Any,
    names: Sequence[str],
    outputs: Sequence[str],
    example: Sequence[Any],
    free: Mapping[str, dict[int, str]],
    *,
    fold: bool,
) -> Model:
    import torch

    from ..graph.io.load import from_proto

    file, mode = io.BytesIO(), torch.onnx.TrainingMode
    write: Any = torch.onnx.export
    batched = {name: {0: "batch"} for name in outputs} if any(0 in axes for axes in free.values()) else {}
    with _quiet():
        write(
            module,
            tuple(example),
            file,
            dynamo=False,
            opset_version=_OPSET,
            training=mode.EVAL if fold else mode.PRESERVE,
            do_constant_folding=fold,
            input_names=list(names),
            output_names=list(outputs),
            dynamic_axes={**free, **batched},
        )
    import onnx

    return from_proto(onnx.load_from_string(file.getvalue()))


def _through_dynamo(module: Any, example: Sequence[Any] | None, ends: Any, *, fold: bool) -> Model:
    import torch

    from ..graph.io.load import from_proto

    named: dict[str, Any] = {}
    if ends is not None:
        names, outputs, free = ends
        dims = {symbol: torch.export.Dim(symbol) for axes in free.values() for symbol in axes.values()}
        told = tuple({axis: dims[symbol] for axis, symbol in free.get(name, {}).items()} for name in names)
        named = {"input_names": names, "output_names": outputs, "dynamic_shapes": told}
    try:
        with _quiet():
            program: Any = torch.onnx.export(
                module, tuple(example) if example else (), dynamo=True, optimize=fold, verbose=False, **named
            )
    except Exception as error:
        raise BadModel("torch's exporter failed", why=_first_line(error.__cause__ or error)) from error
    return from_proto(program.model_proto)


@contextmanager
def _quiet() -> Iterator[None]:
    """What exporters print and log is no news to users."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _reference(module: Any, names: Sequence[str], outputs: Sequence[str]) -> Callable[[Feeds], Feeds]:
    def run(feeds: Feeds) -> Feeds:
        import torch

        with torch.no_grad():
            found = _flat(module(*(torch.from_numpy(feeds[name].copy()) for name in names)))
        return {name: value.detach().numpy() for name, value in zip(outputs, found, strict=True)}

    return run


def _flat(value: Any) -> list[Any]:
    """All tensors of what a module gives, in order."""
    if isinstance(value, Mapping):
        return [one for item in value.values() for one in _flat(item)]
    if isinstance(value, (list, tuple)):
        return [one for item in value for one in _flat(item)]
    return [] if value is None else [value]


def _names(values: Any, model: Model) -> list[str]:
    return [value.name for value in values if value.name not in model.weights]


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
