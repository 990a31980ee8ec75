"""What every exporter is: it writes a model for a runtime, and runs what it wrote there.

Modules of this folder are imported to list targets: what takes long to import, NumPy and ONNX among it, is imported where it
is used. Folders in it are not looked into beyond their ``__init__``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict

from ..graph.errors import IntaglioError
from ..graph.registry import Registry

if TYPE_CHECKING:
    import numpy as np
    import onnx

    from ..graph.model import Model

EXPORTERS: Registry[Exporter] = Registry("exporter", "intaglio.exporters", "intaglio.exporters", of=(), flat=True)
AnyExporter = TypeVar("AnyExporter", bound="type[Exporter]")


class CannotExport(IntaglioError):
    """The target cannot hold what the model does, or its runtime does not take what was written."""


class Runner(ABC):
    """An artifact in its runtime. Inputs and outputs have the names, shapes and types of the model that was exported."""

    @abstractmethod
    def run(self, inputs: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        """Every output of the model for one set of inputs. Whatever it raises is told as the runtime's failure."""

    def timed(self, inputs: Mapping[str, np.ndarray]) -> Callable[[], object]:
        """What one run is where time counts: without turning arrays into what the runtime takes, if that is possible."""
        return lambda: self.run(inputs)


@dataclass(frozen=True)
class Artifact:
    """What was written: a file or a folder.

    ``notes`` are sentences for the user; ``figures`` what else is worth knowing, such as ``arena_bytes``. ``sqnr_db`` is how
    close outputs must come to ONNX Runtime's, None for what the model's own numbers allow.
    """

    path: Path
    notes: tuple[str, ...] = ()
    figures: Mapping[str, Any] = field(default_factory=dict)
    sqnr_db: float | None = None


class Exporter(BaseModel, ABC):
    """A target; its fields are its options, each with a description.

    ``extra`` is what to install, ``imports`` are modules that must be there, ``package`` is the runtime's, whose version is
    told. ``suffix`` is that of the file, empty for a folder; ``by_name`` says that readers tell the format by it. ``fixed``
    says that shapes must be numbers: free batches become 1. ``learners`` says that operators of ai.onnx.ml may stay which standard ones can say, too, ``halves`` that it computes in
    floats of 16 bits. The first line of the docstring tells users what is written.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    name: ClassVar[str] = ""
    extra: ClassVar[str] = ""
    imports: ClassVar[tuple[str, ...]] = ()
    package: ClassVar[str] = ""
    suffix: ClassVar[str] = ""
    by_name: ClassVar[bool] = False
    fixed: ClassVar[bool] = False
    learners: ClassVar[bool] = False
    halves: ClassVar[bool] = True

    @classmethod
    def with_options(cls, options: Exporter) -> Exporter:
        """An exporter is its own options."""
        return options

    @property
    def keeps_functions(self) -> bool:
        """Whether the target takes a model's own functions; where it does not, their bodies stand in the place of calls."""
        return False

    @abstractmethod
    def write(self, model: Model, path: Path) -> Artifact:
        """Write to ``path``, which is not there yet, in an empty folder that may take more files, named after it.

        All of them get their place when all is well: no care is needed for what was there before. What misses a gate may be
        written once more, under another name.

        Raises:
            CannotExport: the format cannot say what the model does; of operators all are named at once, see ``refuse``.
        """

    @abstractmethod
    def open(self, artifact: Artifact, model: Model, threads: int) -> Runner:
        """Load in the real runtime what was written of ``model``."""


def exporter(name: str) -> Callable[[AnyExporter], AnyExporter]:
    """Register an exporter under a name, its fields as its options."""

    def add(kind: AnyExporter) -> AnyExporter:
        kind.name = name
        return EXPORTERS.register(name, options=kind)(kind)

    return add


def refuse(target: str, nodes: Iterable[tuple[onnx.NodeProto, str]], fix: str = "") -> None:
    """Raises CannotExport that names all operators that the target cannot hold, and why; of no nodes, nothing."""
    from ..graph.nodes import display_name
    from ..graph.traits import operator_key

    found: dict[tuple[str, str], list[str]] = defaultdict(list)
    for node, why in nodes:
        found[operator_key(node), why].append(display_name(node))
    if found:
        told = [f"{op} {_named(names)}: {why}" for (op, why), names in found.items()]
        raise CannotExport(f"{target} cannot hold {_listed(found)}", why="; ".join(told), fix=fix)


def refuse_halves(target: str, model: Model) -> None:
    """Raises CannotExport that names the operators which compute in floats of 16 bits; constants may be such."""
    from onnx import TensorProto

    from ..graph.index import index_of
    from ..graph.nodes import reads

    index = index_of(model)
    constants, kinds, found = set(model.weights), index.shapes.dtypes, []
    for node in index.nodes:
        if constants.issuperset(reads(node)):
            constants.update(node.output)
        elif any(
            kinds.get(name) in (TensorProto.FLOAT16, TensorProto.BFLOAT16) for name in (*reads(node), *node.output)
        ):
            found.append((node, "it computes in floats of 16 bits, and the target in those of 32"))
    refuse(target, found, "export the model that this one was made of, or to onnx, ort or openvino")


def _named(names: list[str]) -> str:
    return repr(names[0]) + (f" and {len(names) - 1} more" if names[1:] else "")


def _listed(found: Iterable[tuple[str, str]]) -> str:
    return ", ".join(dict.fromkeys(op for op, _ in found))
