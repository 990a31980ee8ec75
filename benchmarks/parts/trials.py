"""Measurements that each have a process of their own, and a book that remembers them."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from intaglio.measure.run.latency import machine

VERSIONS = ("intaglio", "onnx", "onnxruntime", "numpy", "scipy")


class Book:
    """Results by trial, written down as they come. A trial is a dataclass with a ``key`` that tells it from others.

    ``module`` is what measures one: it is run with ``--trial`` and the trial's fields.
    """

    def __init__(self, module: str, file: Path | None, about: dict[str, str]) -> None:
        self.module, self.file, self.about = module, file, about
        old = json.loads(file.read_text())["trials"] if file and file.exists() else []
        self.found: dict[str, dict[str, Any]] = {entry["trial"]: entry["result"] for entry in old}

    def measure(self, trial: Any) -> dict[str, Any]:
        if trial.key not in self.found:
            self.found[trial.key] = apart(self.module, trial)
            if self.file:
                entries = [{"trial": key, "result": result} for key, result in self.found.items()]
                self.file.write_text(json.dumps({**self.about, "trials": entries}, indent=1))
        return self.found[trial.key]


def apart(module: str, trial: Any) -> dict[str, Any]:
    """Measure in a process of its own."""
    words = [sys.executable, "-m", module, "--trial", json.dumps(asdict(trial))]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip() or f"ended with {done.returncode}").split("\n")[-1]
        return {"failed": "fails", "why": last}
    result: dict[str, Any] = json.loads(done.stdout.strip().split("\n")[-1])
    return result


def shuffled(images: np.ndarray, samples: int, seed: int) -> np.ndarray:
    """So many of them, in an order of the seed's."""
    return images[np.random.default_rng(seed).permutation(len(images))[:samples]]


def peak_mb() -> float:
    """The most memory that this process has held."""
    status = Path("/proc/self/status")
    if status.exists():  # what getrusage tells there may be the peak of the parent
        (line,) = [line for line in status.read_text().split("\n") if line.startswith("VmHWM")]
        return int(line.split()[1]) * 1024 / 1e6
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if platform.system() == "Darwin" else peak * 1024 / 1e6


def setting(*more: str) -> str:
    """What the numbers were measured on. ``more`` are packages to name where they are installed."""
    threads = os.environ.get("OMP_NUM_THREADS")
    stated = [f"Python {platform.python_version()}", *(f"{name} {version(name)}" for name in (*VERSIONS, *more))]
    return "; ".join([machine(), ", ".join(stated), *([f"OMP_NUM_THREADS={threads}"] if threads else [])])
