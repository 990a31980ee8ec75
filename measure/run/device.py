"""Time the models of a folder on this machine and hold what they compute against what was computed elsewhere.

Prints one JSON object, or writes it to the file that is named. Needs NumPy and ONNX Runtime, nothing else: a bundle holds
this file as it stands here.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

WARM_UP, LEAST, MOST, SECONDS = 5, 50, 1000, 2.0
TOLERANCE = 0.01
"""Of the largest number of an output; kernels of other processors round otherwise."""


def processor() -> str:
    """What the processor calls itself."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().split("\n") if path.is_file() else []
    parts = (line.partition(":") for line in lines)
    names = {name.strip(): value.strip() for name, _, value in parts}
    return names.get("model name") or names.get("Hardware") or names.get("Model") or platform.machine()


def difference(found: np.ndarray, expected: np.ndarray) -> dict[str, Any]:
    """How far an output lies from what was expected, as a part of the largest number, and how often the answer is the same."""
    if found.shape != expected.shape:
        return {"relative": None, "top1_agreement": None, "correct": False}
    a, b = (np.asarray(one, np.float64) for one in (found, expected))
    gap = float(np.abs(a - b).max(initial=0.0)) / max(float(np.abs(b).max(initial=0.0)), 1e-30)
    same = float((a.argmax(-1) == b.argmax(-1)).mean()) if a.ndim > 1 and a.shape[-1] > 1 else None
    return {"relative": gap, "top1_agreement": same, "correct": bool(gap <= TOLERANCE)}


def opened(path: Path, threads: int) -> Any:
    """A session like those that are timed elsewhere."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def rounds(sessions: list[Any], feeds: list[dict[str, np.ndarray]]) -> list[list[float]]:
    """Times in milliseconds, of all sessions in turn, the order turned round in every round. Shapes: (models, rounds)."""
    for session, feed in zip(sessions, feeds, strict=True):
        for _ in range(WARM_UP):
            session.run(None, feed)
    end = time.perf_counter() + SECONDS * len(sessions)
    found: list[list[float]] = []
    while len(found) < LEAST or (len(found) < MOST and time.perf_counter() < end):
        times = [0.0] * len(sessions)
        for i in range(len(sessions)) if len(found) % 2 else reversed(range(len(sessions))):
            began = time.perf_counter()
            sessions[i].run(None, feeds[i])
            times[i] = 1e3 * (time.perf_counter() - began)
        found.append(times)
    return [list(times) for times in zip(*found, strict=True)]


def main() -> None:
    """Measure, and tell."""
    folder = Path(__file__).resolve().parent
    told = json.loads((folder / "bundle.json").read_text())
    sessions = [opened(folder / one["file"], told["threads"]) for one in told["models"]]
    feeds, models = [], []
    for session, one in zip(sessions, told["models"], strict=True):
        with np.load(folder / one["values"]) as values:
            feeds.append({name: values[f"input{i}"] for i, name in enumerate(one["inputs"])})
            expected = [values[f"output{i}"] for i in range(len(one["outputs"]))]
        made = session.run(one["outputs"], feeds[-1])
        apart = {name: difference(*pair) for name, *pair in zip(one["outputs"], made, expected, strict=True)}
        digest = hashlib.sha256((folder / one["file"]).read_bytes()).hexdigest()
        models.append({"model": one["model"], "sha256": digest, "outputs": apart})
    for one, times in zip(models, rounds(sessions, feeds), strict=True):
        one["median_ms"], one["times_ms"] = float(np.median(times)), [round(t, 6) for t in times]
    machine = f"{processor()}, {os.cpu_count()} cores, {platform.system()}, onnxruntime {onnxruntime.__version__}"
    correct = all(output["correct"] for one in models for output in one["outputs"].values())
    result = json.dumps(
        {"measured": 1, "machine": machine, "threads": told["threads"], "correct": correct, "models": models}
    )
    if len(sys.argv) > 1:
        Path(sys.argv[1]).write_text(result + "\n")
    else:
        print(result)


if __name__ == "__main__":
    main()
