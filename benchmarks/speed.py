"""Processor seconds and memory of every command, beside ONNX Runtime's quantizers and NNCF.

    python benchmarks/speed.py [MODEL.onnx=SAMPLES.npz ...] [--only TEXT] [--samples N] [--repeat N] [--json FILE]

Every row is a process of its own from its start to its end, Python and imports among what it takes: all threads' seconds
of processor time, and the most memory that it held. Without models the bundled ones. ``pip install nncf`` for its row.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

from intaglio import load
from intaglio.measure.data.source import open_data

from .parts.rivals import load_modules, rival

HERE = Path(__file__).resolve().parents[1]
EXAMPLES = HERE / "examples"
BUNDLED = [f"{EXAMPLES / one}.onnx={EXAMPLES / 'digits_calib.npz'}" for one in ("digits", "vit_digits")]

WRITES = ("-o", "{out}", "--no-measure", "--force", "--json")
DATA = ("--data", "{data}", "--samples", "{samples}")
ROWS: dict[str, tuple[str, ...]] = {
    "inspect": ("inspect", "{model}", "--json"),
    "simplify": ("simplify", "{model}", *WRITES),
    "prune --macs 0.5": ("prune", "{model}", "--macs", "0.5", *DATA, *WRITES),
    "factorize --macs 0.7": ("factorize", "{model}", "--macs", "0.7", *DATA, *WRITES),
    "quantize": ("quantize", "{model}", *DATA, *WRITES),
    "quantize --scheme dynamic": ("quantize", "{model}", "--scheme", "dynamic", *DATA, *WRITES),
    "quantize --scheme w4": ("quantize", "{model}", "--scheme", "w4", *DATA, *WRITES),
    "quantize --size 0.25": ("quantize", "{model}", "--size", "0.25", *DATA, *WRITES),
    "binarize": ("binarize", "{model}", *DATA, *WRITES),
    "ONNX Runtime, int8": ("ort:minmax",),
    "ONNX Runtime, int8, entropy": ("ort:entropy",),
    "ONNX Runtime, dynamic": ("ort:dynamic",),
    "NNCF, int8": ("nncf",),
}

_WITH_BYTECODE = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
"""As an installed package has it: without, a fourth of what a short command takes is spent on compiling Python."""


def spent(words: list[str]) -> dict[str, float]:
    """What a process takes, or that it fails. Units: seconds, megabytes."""
    with tempfile.TemporaryFile() as told:
        process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=told, cwd=HERE, env=_WITH_BYTECODE)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        told.seek(0)
        if process.returncode:
            last = (told.read().decode(errors="replace").strip().splitlines() or [""])[-1]
            return {"failed": process.returncode, "why": last}  # type: ignore[dict-item]
    return {"cpu_s": usage.ru_utime + usage.ru_stime, "peak_mb": usage.ru_maxrss / 1024}


def measured(row: str, model: Path, data: Path, samples: int, repeat: int) -> dict[str, Any]:
    """The median of some runs of a row."""
    with tempfile.TemporaryDirectory() as folder:
        names = {"model": str(model), "data": str(data), "samples": str(samples), "out": str(Path(folder, "out.onnx"))}
        words = [word.format(**names) for word in ROWS[row]]
        start = [sys.executable, "-m", "intaglio"]
        if row.split(",")[0] in ("ONNX Runtime", "NNCF"):
            start = [sys.executable, "-m", "benchmarks.speed", "--rival"]
            words = [*words, str(model), str(data), str(samples), folder]
        runs = [spent([*start, *words]) for _ in range(repeat)]
    failed = [one for one in runs if "failed" in one]
    if failed:
        return {"row": row, "model": model.stem, **failed[0]}
    return {"row": row, "model": model.stem, **{key: median(one[key] for one in runs) for key in runs[0]}}


def as_rival(name: str, model: str, data: str, samples: str, folder: str) -> None:
    load_modules(name)
    source = open_data(data, load(Path(model)), samples=int(samples))
    rival(name, Path(model), Path(folder, "out.onnx"), source, Path(folder))


def table(found: list[dict[str, Any]]) -> Iterator[str]:
    """In Markdown: a line a row, a column a model."""
    models = list(dict.fromkeys(one["model"] for one in found))
    yield "| | " + " | ".join(models) + " |"
    yield "|---" * (len(models) + 1) + "|"
    for row in dict.fromkeys(one["row"] for one in found):
        cells = {one["model"]: one for one in found if one["row"] == row}
        yield f"| {row} | " + " | ".join(cell(cells.get(name)) for name in models) + " |"


def cell(one: dict[str, Any] | None) -> str:
    if one is None:
        return ""
    return f"exit {one['failed']}" if "failed" in one else f"{one['cpu_s']:.1f} s, {one['peak_mb']:.0f} MB"


def main() -> None:
    if sys.argv[1:2] == ["--rival"]:
        as_rival(*sys.argv[2:])
        return
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*", default=BUNDLED)
    parser.add_argument("--only", action="append", help="rows that hold this text")
    parser.add_argument("--samples", type=int, default=512)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    found = []
    for pair in asked.models:
        model, _, data = pair.partition("=")
        for row in ROWS:
            if not asked.only or any(text in row for text in asked.only):
                found.append(measured(row, Path(model).resolve(), Path(data).resolve(), asked.samples, asked.repeat))
                print(found[-1], file=sys.stderr, flush=True)
    told = {"machine": platform.processor() or platform.machine(), "cores": os.cpu_count(), "rows": found}
    if asked.json:
        asked.json.write_text(json.dumps(told, indent=1))
    print("\n".join(table(found)))


if __name__ == "__main__":
    main()
