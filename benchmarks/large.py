"""Memory and time of commands on a model that is large, beside ``cp`` and ONNX Runtime's own tools.

    python -m benchmarks.large --bytes 8GB                     # makes the model, runs all rows, removes both
    ... --state large.jsonl --folder DISK                      # keeps the model and each row, and goes on from there
    ... --rows cp quantize:fp16 prune ort:dynamic --width 2048 # these alone
    ... --rows calibrated:w4:gptq --bytes 1.5GB                # quantize on 16 made-up texts of 64 words
    ... --make gpt.onnx                                        # only write the model

After ``cp`` the copy is written out to the disk, as results are.
The model is a stack of transformer blocks with a table of words and a head, its weights random and in external data.
Each row is a process of its own, on one thread. "anonymous" is the largest memory that it held by itself and "cache" the
largest that it had mapped of files, which the system takes back when others need it: RssAnon and RssFile of Linux, looked
at a hundred times a second. "s" is what a clock shows, "CPU s" processor time, "of cp" how much longer it took than ``cp``.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper
from rich.console import Console
from rich.table import Table

from intaglio.pipeline.units import parse_size

WORDS, HEAD = 16384, 64
_POOL = 1 << 24
_BITS = ("planes", "xnor", "residual", "onebit", "twn", "tbt", "pb", "billm", "dbllm")
ROWS = (
    *("cp", "inspect", "quantize:fp16", "quantize:bf16", "prune", "factorize"),
    *(f"quantize:{one}:nearest" for one in ("w8", "w4", "w3", "w2")),
    *(f"binarize:{one}" for one in _BITS),
    *(f"quantize:{one}" for one in ("w8", "w4", "w3", "w2", "mixed")),
    *("ort:dynamic", "ort:nbits", "ort:open"),
)
_ORT = {
    "dynamic": "from onnxruntime.quantization import quantize_dynamic as q; q({m!r}, {o!r}, use_external_data_format=True)",
    "nbits": (
        "import onnx; from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer as Q; "
        "q = Q(onnx.load({m!r}), block_size=32); q.process(); q.model.save_model_to_file({o!r}, True)"
    ),
    "open": "import onnxruntime as o; o.InferenceSession({m!r})",
}


@dataclass
class Stack:
    """Writes the model, weights at once and nothing twice."""

    path: Path
    width: int
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    tensors: list[onnx.TensorProto] = field(default_factory=list)
    offset: int = 0

    def __post_init__(self) -> None:
        self.pool = self.rng.standard_normal(_POOL, np.float32)
        self.file = self.path.with_name(self.path.name + ".data").open("wb")

    def weight(self, name: str, *shape: int) -> str:
        tensor = onnx.TensorProto(
            name=name, data_type=onnx.TensorProto.FLOAT, dims=shape, data_location=onnx.TensorProto.EXTERNAL
        )
        size = 4 * int(np.prod(shape))
        for key, value in (("location", Path(self.file.name).name), ("offset", self.offset), ("length", size)):
            tensor.external_data.add(key=key, value=str(value))
        left = size // 4
        while left:
            start = int(self.rng.integers(0, _POOL // 2))
            part = self.pool[start : start + left] * np.float32(shape[0] ** -0.5)
            left -= self.file.write(part.tobytes()) // 4
        self.tensors.append(tensor)
        self.offset += size
        return name

    def small(self, name: str, value: object, kind: type = np.float32) -> str:
        self.tensors.append(onnx.numpy_helper.from_array(np.asarray(value, kind), name))
        return name

    def add(self, op: str, *inputs: str, **attributes: Any) -> str:
        name = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], name, **attributes))
        return name

    def block(self, x: str, k: int) -> str:
        """Attention and a wide part, each with a residual sum around it."""
        width = self.width
        one, nought = self.small(f"{k}/one", np.ones(width)), self.small(f"{k}/nought", np.zeros(width))
        y = self.add("LayerNormalization", x, one, nought, axis=-1)
        rows = [
            self.add("Reshape", self.add("MatMul", y, self.weight(f"{k}/{n}", width, width)), "heads") for n in "qkv"
        ]
        q, v = (self.add("Transpose", rows[i], perm=[0, 2, 1, 3]) for i in (0, 2))
        scores = self.add("Div", self.add("MatMul", q, self.add("Transpose", rows[1], perm=[0, 2, 3, 1])), "root")
        mixed = self.add("Transpose", self.add("MatMul", self.add("Softmax", scores), v), perm=[0, 2, 1, 3])
        flat = self.add("Reshape", mixed, "flat")
        x = self.add("Add", x, self.add("MatMul", flat, self.weight(f"{k}/out", width, width)))
        y = self.add("LayerNormalization", x, one, nought, axis=-1)
        y = self.add("MatMul", y, self.weight(f"{k}/up", width, 4 * width))
        y = self.add("Mul", y, self.add("Sigmoid", y))
        return self.add("Add", x, self.add("MatMul", y, self.weight(f"{k}/down", 4 * width, width)))

    def write(self, size: int) -> None:
        """As many blocks as fit into so many bytes, one at least."""
        width = self.width
        self.small("heads", [0, 0, width // HEAD, HEAD], np.int64)
        self.small("flat", [0, 0, width], np.int64)
        self.small("root", HEAD**0.5)
        x, k = self.add("Gather", self.weight("words", WORDS, width), "ids"), 0
        while not k or self.offset + 4 * (12 * width**2 + WORDS * width) <= size:
            x, k = self.block(x, k), k + 1
        self.nodes.append(helper.make_node("MatMul", [x, self.weight("head", width, WORDS)], ["scores"], "scores"))
        self.file.close()
        ids = helper.make_tensor_value_info("ids", onnx.TensorProto.INT64, ["batch", "length"])
        scores = helper.make_tensor_value_info("scores", onnx.TensorProto.FLOAT, ["batch", "length", WORDS])
        graph = helper.make_graph(self.nodes, "gpt", [ids], [scores], self.tensors)
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), self.path)


@dataclass(frozen=True)
class Cost:
    """Units: ``anonymous`` and ``cache`` megabytes, ``seconds`` and ``cpu`` seconds."""

    anonymous: float
    cache: float
    seconds: float
    cpu: float
    failed: str = ""


def measured(command: Sequence[str]) -> Cost:
    """What a process took, by the operating system's accounting."""
    began, before, peaks = time.perf_counter(), os.times(), {"RssAnon": 0, "RssFile": 0}
    with tempfile.TemporaryFile() as told:
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        child = subprocess.Popen(command, stdout=told, stderr=told, env=environment)
        while child.poll() is None:
            for name, size in _held(child.pid):
                peaks[name] = max(peaks[name], size)
            time.sleep(0.01)
        told.seek(0)
        failed = told.read()[-300:].decode(errors="replace") if child.returncode else ""
    after = os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return Cost(peaks["RssAnon"] / 1024, peaks["RssFile"] / 1024, time.perf_counter() - began, cpu, failed)


def _held(process: int) -> Iterator[tuple[str, int]]:
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:  # it is no more
        return
    yield from (
        (name, int(rest.split()[0]))
        for name, _, rest in (line.partition(":") for line in lines)
        if name in ("RssAnon", "RssFile")
    )


def command(row: str, model: Path, out: Path) -> list[str]:
    """The words of a row's process."""
    kind, _, rest = row.partition(":")
    if kind == "cp":
        return ["sh", "-c", 'cp "$1" "$2" && sync "$2"', "sh", f"{model}.data", f"{out}.copy"]
    if kind == "ort":
        return [sys.executable, "-c", _ORT[rest].format(m=str(model), o=str(out))]
    if kind == "inspect":
        return [sys.executable, "-m", "intaglio", "inspect", str(model)]
    scheme, _, method = rest.partition(":")
    words = ["--scheme", scheme] if scheme else ["--params", "0.7" if kind == "prune" else "0.5"]
    words = ["--bits", "4"] if scheme == "mixed" else words
    words += ["--method", method] if method else []
    if kind == "calibrated":
        kind, words = "quantize", [*words, "--data", str(_texts(model))]
    return [sys.executable, "-m", "intaglio", kind, str(model), "-o", str(out), *words, "--no-measure", "--force"]


def _texts(model: Path) -> Path:
    """Made-up calibration data beside the model."""
    path = model.with_name("texts.npz")
    np.savez(path, ids=np.random.default_rng(0).integers(0, WORDS, (16, 64)))
    return path


def run_row(row: str, model: Path, results: Path) -> dict[str, Any]:
    """One row in its own process, whose results go."""
    results.mkdir(exist_ok=True)
    cost = measured(command(row, model, results / "o.onnx"))
    written = [(one, one.stat().st_size) for one in results.iterdir()]
    for one, _ in written:
        one.unlink()
    return {"row": row, **asdict(cost), "written": sum(size for _, size in written) / 1e6}


def shown(rows: Sequence[dict[str, Any]], title: str) -> Table:
    """All rows, times beside that of ``cp`` where it ran."""
    table = Table(title=title)
    for name in ("row", "anonymous MB", "cache MB", "s", "CPU s", "of cp", "written MB"):
        table.add_column(name, justify="left" if name == "row" else "right")
    copied = next((one["seconds"] for one in rows if one["row"] == "cp"), 0.0)
    for one in rows:
        told = [f"{one[name]:.0f}" for name in ("anonymous", "cache", "seconds", "cpu")]
        told += [f"{one['seconds'] / copied:.1f}" if copied else "", f"{one['written']:.0f}"]
        table.add_row(one["row"], *([one["failed"]] if one["failed"] else told))
    return table


def main() -> None:
    """Make the model, run the rows, print the table, remove everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bytes", default="8GB", help="of the model")
    parser.add_argument("--width", type=int, default=2048)
    parser.add_argument("--rows", nargs="*", default=list(ROWS))
    parser.add_argument("--folder", help="where the model and results lie, on a disk")
    parser.add_argument("--state", type=Path, help="rows that ran, one a line: these are not run again")
    parser.add_argument("--make", type=Path, help="only write the model")
    asked = parser.parse_args()
    if asked.make:
        Stack(asked.make, asked.width).write(parse_size(asked.bytes))
        return
    known = (
        [json.loads(line) for line in asked.state.read_text().splitlines()]
        if asked.state and asked.state.exists()
        else []
    )
    with ExitStack() as stack:
        folder = Path(asked.folder or ".") / "large" if asked.state else None
        folder = folder or Path(stack.enter_context(tempfile.TemporaryDirectory(dir=asked.folder, prefix="large-")))
        folder.mkdir(exist_ok=True)
        model = folder / "gpt.onnx"
        if not model.exists():
            Stack(model, asked.width).write(parse_size(asked.bytes))
        for row in asked.rows:
            if row not in [one["row"] for one in known]:
                known.append(run_row(row, model, folder / "out"))
                print(json.dumps(known[-1]), file=sys.stderr, flush=True)
                if asked.state:
                    asked.state.open("a").write(json.dumps(known[-1]) + "\n")
        size = model.stat().st_size + Path(f"{model}.data").stat().st_size
        Console(width=120).print(shown(known, f"{size / 1e6:.0f} MB of weights, width {asked.width}, one thread"))


if __name__ == "__main__":
    main()
