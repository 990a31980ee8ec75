"""The files of a run: checked before long work, put in place together after it."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..graph.errors import UsageError
from ..graph.io.save import Document, File, check_target, save_all
from ..graph.model import Model
from ..passes.base import Pass
from .recipe.write import as_yaml, portable
from .report import Report


@dataclass(frozen=True)
class Outputs:
    """``model`` is the result, ``proof`` the model that it was proved to equal, ``recipe`` says how to make it again;
    ``beside`` gives what else stands in the result's folder.
    """

    model: Path | None = None
    proof: Path | None = None
    recipe: Path | None = None
    beside: Callable[[Report], Sequence[Document]] = lambda report: ()

    @property
    def aside(self) -> Outputs:
        """Where the result goes that missed a gate."""
        path = self.model and self.model.with_name(f"{self.model.stem}.gate-failed{self.model.suffix}")
        return replace(self, model=path, proof=None)

    def check(self, original: Model, *, aside: bool, force: bool = False) -> None:
        """Find out before long work whether they could be written; only ``force`` replaces what was read.

        Raises CannotWrite and UsageError.
        """
        names = {"the result": self.model, "its proof": self.proof, "its recipe": self.recipe}
        if aside:
            names["what misses a gate"] = self.aside.model
        given = [(what, path) for what, path in names.items() if path is not None]
        for place, (what, path) in enumerate(given):
            for other, taken in given[:place]:
                if _are_one(path, taken):
                    raise UsageError(f"{other} and {what} would both be {path}", fix="choose two names")
            check_target(path, original)
        for written in (self.model, self.proof):
            if written is not None:
                _require_onnx(written)
                if original.source is not None and _are_one(written, original.source) and not force:
                    raise UsageError(
                        f"{written} is the model that was read", fix="choose another name, or replace it with --force"
                    )

    def write(self, report: Report, last: Pass | None) -> None:
        files: list[File | Document] = [*self.beside(report)]
        reference = report.change.reference
        if self.model is not None:
            model = last.written(report.model) if last and report.change.changed else report.model
            files.append(File(model, self.model, portable(report.recipe)))
        if self.proof is not None and reference is not None:
            files.append(File(reference(), self.proof))
        if self.recipe is not None:
            source = report.change.original.source
            told = {"model": str(source), **report.recipe} if source else report.recipe
            files.append(Document(self.recipe, as_yaml(told)))
        save_all(files)


def _require_onnx(path: Path) -> None:
    if path.suffix.lower() not in ("", ".onnx"):
        raise UsageError(
            f"{path.name!r} is no name for an ONNX file",
            why=f"what is written is ONNX, and programs go by {path.suffix}",
            fix=f"call it {path.with_suffix('.onnx').name}",
        )


def _are_one(a: Path, b: Path) -> bool:
    return os.path.realpath(a) == os.path.realpath(b) or (a.exists() and b.exists() and a.samefile(b))
