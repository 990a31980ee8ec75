"""What a folder of ``compress`` holds beside ``model.onnx``: the result as other runtimes take it, each checked there."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..exporters.base import EXPORTERS
from ..graph.errors import IntaglioError
from ..graph.lazy import require
from ..graph.model import Model
from .data import Data
from .exporting import Exported, export, file_name
from .run import View

_ONNX = "onnx"


def require_exports(targets: Sequence[str]) -> None:
    """Find out before long work whether what exporters need is here. Raises IntaglioError."""
    for exporter in (EXPORTERS[one] for one in targets):
        require(f"exporter {exporter.name}", exporter.extra, exporter.imports)


def exported(
    model: Model, targets: Sequence[str], folder: Path, data: Data, view: View
) -> Iterator[tuple[dict[str, Any], IntaglioError | None]]:
    """Each export as reports tell it, and why there is none."""
    named = data.calibration if data.labelled is None else data.labelled
    for target, name in names(targets).items():
        try:
            made = export(
                model,
                target,
                folder / name,
                data=named,
                preprocess=data.preprocess,
                samples=data.samples,
                seed=data.seed,
                measure=False,
                view=view,
            )
        except IntaglioError as error:
            yield {"target": target, "out": None, "files": [], "passed": False, "told": str(error)}, error
        else:
            yield _told(made), None


def names(targets: Sequence[str]) -> dict[str, str]:
    """What each export is called in the folder, ``model.onnx`` being there already."""
    found: dict[str, str] = {}
    for target in (one for one in targets if one != _ONNX):
        name = Path(file_name(target))
        taken = {"model.onnx", *found.values()}
        numbered = (f"{name.stem}_{n}{name.suffix}" for n in range(2, len(targets) + 3))
        found[target] = next(one for one in (name.name, *numbered) if one not in taken)
    return found


def _told(made: Exported) -> dict[str, Any]:
    told = made.as_dict()
    worst = min(told["outputs"].values(), key=lambda one: one["sqnr_db"] or float("inf"))
    return {
        **{key: told[key] for key in ("target", "out", "files", "passed", "runtime")},
        "size_bytes": told["after"]["size_bytes"],
        **{key: worst[key] for key in ("identical", "sqnr_db", "top1_agreement")},
        **{key: told[key] for key in ("samples", "data")},
        "told": made.failed.what if made.failed else "; ".join(told["notes"]),
    }


def sweep_exports(folder: Path, former: Mapping[str, Any], kept: Sequence[Mapping[str, Any]]) -> None:
    """What an earlier run exported goes, where this one did not write it anew."""
    before, now = ([name for one in told for name in one["files"]] for told in (former.get("exports") or (), kept))
    ours = [name for name in before if Path(name).name == name and name.startswith("model")]
    for place in (folder / name for name in ours if name not in now):
        shutil.rmtree(place) if place.is_dir() else place.unlink(missing_ok=True)
