"""What cleaning a graph gains on models as they are shipped, beside onnxslim and onnxsim.

    python benchmarks/simplify.py MODEL... [--json FILE]

Each tool gets the file in a process of its own. Of what it writes: bytes, nodes, the time of a run against the file as
given (measured in turn), and the largest difference of the outputs in parts of an output's largest value, of 0.01 at
least. ``pip install onnxslim onnxsim`` for the other two.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from intaglio import load
from intaglio.graph.errors import IntaglioError
from intaglio.measure.run.inputs import runnable_inputs
from intaglio.measure.run.latency import time_models
from intaglio.measure.run.session import open_session, run

TOOLS = {
    "intaglio": "from intaglio.cli.main import main; sys.exit(main(['simplify', a, '-o', b, '--no-measure', '--json']))",
    "onnxslim": "import onnxslim; onnxslim.slim(a, b)",
    "onnxsim": "import onnx, onnxsim; m, ok = onnxsim.simplify(a); onnx.save(m, b); sys.exit(not ok)",
}

LEAST = 1e-2
"""What outputs count as at least, so that smaller ones are compared in absolute terms: made-up inputs give a detector
nothing, of which the last bits differ."""


def row(source: Path, tool: str) -> dict[str, Any]:
    """What a tool makes of a file."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "out.onnx")
        code = f"import sys; a, b = sys.argv[1:]; {TOOLS[tool]}"
        done = subprocess.run([sys.executable, "-c", code, str(source), str(out)], capture_output=True, timeout=300)
        if not out.exists():
            return {"tool": tool, "failed": "exit 4" if done.returncode == 4 else last_line(done.stderr.decode())}
        return {"tool": tool, **compared(source, out)}


def last_line(text: str) -> str:
    return (text.strip().splitlines() or ["no word"])[-1][:80]


def compared(source: Path, out: Path) -> dict[str, Any]:
    found: dict[str, Any] = {"bytes": out.stat().st_size, "nodes": count(out)}
    feed = runnable_inputs(load(source), seed=0, batches=(1, 2))
    try:
        sessions = [open_session(path, spin=False) for path in (source, out)]
        a, b = (run(one, feed) for one in sessions)
    except IntaglioError as error:
        return {**found, "failed": f"does not run: {last_line(error.why or error.what)}"}
    gaps = [gap(value, b[name]) for name, value in a.items() if isinstance(value, np.ndarray)]
    return {**found, "gap": max(gaps), "time": 1 / time_models(sessions, inputs=feed).speedup(1)}


def gap(a: np.ndarray, b: np.ndarray) -> float:
    if a.shape != b.shape:
        return float("inf")
    x, y = a.astype(np.float64), b.astype(np.float64)
    return float(np.abs(x - y).max(initial=0) / max(float(np.abs(x).max(initial=0)), LEAST))


def count(path: Path) -> int:
    return len(onnx.load(path, load_external_data=False).graph.node)


def table(rows: list[dict[str, Any]]) -> Iterator[str]:
    """In Markdown: a line a model."""
    yield "| model | bytes | nodes | " + " | ".join(TOOLS) + " |"
    yield "|---|---:|---:|" + "---|" * len(TOOLS)
    for one in rows:
        cells = [cell(one, made) for made in one["made"]]
        yield f"| {one['model']} | {one['bytes']:,} | {one['nodes']} | " + " | ".join(cells) + " |"


def cell(model: dict[str, Any], made: dict[str, Any]) -> str:
    if "failed" in made:
        return "nothing to do" if made["failed"] == "exit 4" else str(made["failed"]).replace("|", "/")
    size, time = 100 * made["bytes"] / model["bytes"], 100 * made["time"]
    told = "equal" if made["gap"] < 1e-4 else f"**differs by {made['gap']:.1e}**"
    return f"{size:.1f} %, {made['nodes']} nodes, time {time:.0f} %, {told}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    rows = []
    for path in given.models:
        made = [row(path, tool) for tool in TOOLS]
        rows.append({"model": path.stem, "bytes": path.stat().st_size, "nodes": count(path), "made": made})
        print(list(table(rows[-1:]))[-1], flush=True)
    if given.json:
        given.json.write_text(json.dumps(rows, indent=1))
    print("\n".join(table(rows)))


if __name__ == "__main__":
    main()
