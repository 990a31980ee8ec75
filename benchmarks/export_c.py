"""Models as C, beside ONNX Runtime: memory, bytes of source, time, and how far answers agree. Prints a table.

    python -m benchmarks.export_c examples/digits.onnx int8.onnx --data examples/digits_test.npz

Times are medians of one thread, both timed in turn; each folder is compiled by this machine's compiler.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import intaglio
from intaglio.graph.errors import IntaglioError
from intaglio.measure.run.latency import machine
from intaglio.pipeline.exporting import export

COLUMNS = (
    "model",
    "arena",
    "alive at once",
    "constants",
    "source",
    "C ms",
    "ONNX Runtime ms",
    "ratio",
    "same",
    "difference",
)


def measured(path: Path, data: str | None, preprocess: str | None, samples: int, seconds: float) -> dict[str, Any]:
    """What an export tells of one model. Raises IntaglioError."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "net"
        options: dict[str, Any] = {"data": data, "preprocess": preprocess, "samples": samples} if data else {}
        told = export(intaglio.load(path), "c", out, seconds=seconds, **options).as_dict()
        return {**told, "source_bytes": next(out.glob("net.c")).stat().st_size}


def row(path: Path, told: dict[str, Any]) -> str:
    times, figures, outputs = told["latency_ms"], told["figures"], list(told["outputs"].values())
    same = [one["top1_agreement"] for one in outputs if one["top1_agreement"] is not None]
    cells = [
        path.stem,
        *(f"{figures[name]:,}" for name in ("arena_bytes", "live_bytes", "constant_bytes")),
        f"{told['source_bytes']:,}",
        f"{times['after']:.4f}",
        f"{times['before']:.4f}",
        f"{1 / times['speedup']:.2f}",
        f"{100 * min(same):.2f} %" if same else "",
        f"{max(one['max_rel'] for one in outputs):.1e}",
    ]
    return f"| {' | '.join(cells)} |"


def table(arguments: argparse.Namespace) -> Iterator[str]:
    yield f"| {' | '.join(COLUMNS)} |"
    yield f"|---|{'--:|' * (len(COLUMNS) - 1)}"
    for path in arguments.models:
        try:
            told = measured(path, arguments.data, arguments.preprocess, arguments.samples, arguments.seconds)
        except IntaglioError as error:
            yield f"| {path.stem} | {error.what} |"
            continue
        yield row(path, told)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--data", help="an .npz file with inputs that all models take")
    parser.add_argument("--preprocess")
    parser.add_argument("--samples", type=int, default=500)
    parser.add_argument("--seconds", type=float, default=1.0, help="for timing each")
    print(machine())
    for line in table(parser.parse_args()):
        print(line, flush=True)


if __name__ == "__main__":
    main()
