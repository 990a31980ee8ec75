"""A folder that measures models on another machine, and what it tells read back."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...graph.errors import UsageError
from .latency import Timing
from .session import run

SHELL = """#!/bin/sh
# Needs Python with numpy and onnxruntime. Afterwards: intaglio compare A B --measured device.json
cd "$(dirname "$0")" && "${PYTHON:-python3}" measure.py device.json && cat device.json
"""


def write_bundle(
    folder: Path,
    models: Sequence[Path],
    sessions: Sequence[Any],
    feeds: Sequence[Mapping[str, np.ndarray]],
    threads: int,
) -> list[str]:
    """Write models, inputs, what they give here, and what measures them; tells the files.

    Raises:
        UsageError: the folder is there already and holds something, or a model has a second file.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} is not empty", fix="name a folder that does not exist yet")
    folder.mkdir(parents=True, exist_ok=True)
    told = []
    for place, (path, session, feed) in enumerate(zip(models, sessions, feeds, strict=True)):
        outputs = run(session, feed)
        values = {f"input{i}": value for i, value in enumerate(feed.values())}
        values |= {f"output{i}": np.asarray(value) for i, value in enumerate(outputs.values())}
        names = {"file": f"model{place}.onnx", "values": f"values{place}.npz"}
        (folder / names["file"]).write_bytes(path.read_bytes())
        np.savez(folder / names["values"], **values)  # type: ignore[arg-type]
        told.append({"model": path.name, **names, "inputs": list(feed), "outputs": list(outputs)})
    (folder / "bundle.json").write_text(json.dumps({"threads": threads, "models": told}, indent=1) + "\n")
    (folder / "measure.py").write_text(Path(__file__).with_name("device.py").read_text())
    (folder / "run.sh").write_text(SHELL)
    (folder / "run.sh").chmod(0o755)
    return sorted(one.name for one in folder.iterdir())


def read_measured(path: Path, models: Sequence[Path]) -> tuple[Timing, list[str]]:
    """Times of these models on the machine where a bundle was run, and which outputs were others there.

    Raises:
        UsageError: it is no such file, or does not speak of these models.
    """
    try:
        told = json.loads(path.read_text())
        known = {one["sha256"]: one["times_ms"] for one in told["models"]}
        machine, threads = str(told["machine"]), int(told["threads"])
        notes = [
            f"on the other machine output {name!r} of {one['model']} is not what it is here"
            for one in told["models"]
            for name, output in one["outputs"].items()
            if not output["correct"]
        ]
        times = {digest: np.array(one, np.float64) for digest, one in known.items()}
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UsageError(
            f"cannot read {path}",
            why=f"{error}",
            fix="give what measure.py of a bundle wrote: intaglio bench A B --bundle DIR",
        ) from error
    found = []
    for model in models:
        digest = hashlib.sha256(model.read_bytes()).hexdigest()
        if digest not in times:
            raise UsageError(
                f"{path} has no times of {model}", why="no model in it has the same bytes", fix="bundle both models"
            )
        found.append(times[digest])
    return Timing(np.array(found), threads, machine), notes
