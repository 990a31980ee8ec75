"""A network trained with signs, from end to end: speed, accuracy and bytes beside its twin in floats.

    python -m benchmarks.binary                                   # the bundled network
    python -m benchmarks.binary net.onnx --twin float.onnx --eval-data test.npz --preprocess cifar10

Prints a Markdown table. MODEL is a network trained for it, in standard operators; it is lowered to operators on bits.
TWIN has the same layers with float weights and activations; that of the bundled network is written by its training
script, which needs torch, and is not trained: its speed is all that it is for. All run in turn in one process, one
sample at a time on one thread, measured in processor time: "x twin" is the median of the rounds' ratios. "native" has
the library of kernels, "by definition" is the same file in ONNX Runtime alone.
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from intaglio import Model, load
from intaglio.graph.bits import bit_operator, count_standing_weights, holds_signs
from intaglio.graph.cost import cost
from intaglio.graph.io.save import file_bytes
from intaglio.kernels import loader
from intaglio.measure.accuracy import class_scores
from intaglio.measure.data.source import DataSource, open_data
from intaglio.measure.efficiency import efficiency
from intaglio.measure.run.session import open_session, run
from intaglio.passes import Context
from intaglio.passes.binarize import Binarize

from ..parts.trials import setting
from ..parts.turns import in_turn

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
TWIN, TRAINED, NATIVE, DEFINED = "float twin", "as trained", "bits, native", "bits, by definition"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("model", nargs="?", metavar="MODEL", help="a network trained with signs")
    parser.add_argument("--twin", metavar="FILE", help="the same network in floats")
    parser.add_argument("--eval-data", help="labelled samples, an .npz")
    parser.add_argument("--preprocess", help="as in intaglio evaluate")
    parser.add_argument("--rounds", type=int, default=100, help="how often all run in turn")
    options = parser.parse_args()
    if bool(options.model) != bool(options.twin and options.eval_data):
        parser.error("MODEL, --twin and --eval-data go together")
    why = loader.why_absent()
    if why:
        sys.exit(f"error: {why}")
    with tempfile.TemporaryDirectory() as folder:
        trained = load(options.model or EXAMPLES / "binary_digits.onnx")
        twin = load(options.twin or bundled_twin(Path(folder)))
        test = open_data(options.eval_data or str(EXAMPLES / "digits_test.npz"), trained, preprocess=options.preprocess)
        packed = Binarize().run(trained, Context()).model
        report(trained, twin, packed, test, options.rounds)
    print(f"\n{setting()}\n`{shlex.join(['python', '-m', 'benchmarks.binary', *sys.argv[1:]])}`")


def bundled_twin(folder: Path) -> Path:
    script = [sys.executable, str(EXAMPLES / "train_binary_digits.py")]
    subprocess.run([*script, "--float-twin", str(folder / "twin.onnx")], check=True)
    return folder / "twin.onnx"


def report(trained: Model, twin: Model, packed: Model, test: DataSource, rounds: int) -> None:
    models = {TWIN: twin, TRAINED: trained, NATIVE: packed, DEFINED: packed}
    sessions = {n: open_session(m, threads=1, spin=False, native=n != DEFINED) for n, m in models.items()}
    feed = dict(next(iter(test.batches(1))).inputs)
    times = in_turn({name: _one(session, feed) for name, session in sessions.items()}, rounds)
    scores = {name: outputs(session, test) for name, session in sessions.items()}
    print("| network | file bytes | ms | x twin | top-1 | equal to native |")
    print("|---|--:|--:|--:|--:|--:|")
    for name, model in models.items():
        found, labels = scores[name]
        same = "" if name == TWIN else _equality(found, scores[NATIVE][0])
        top1 = "" if name == TWIN else f"{np.mean(found.argmax(axis=1) == labels):.2%}"
        cells = [f"{file_bytes(model):,}", f"{1e3 * times.median_s(name):.3f}", f"{times.faster(name, TWIN):.2f}"]
        print(f"| {' | '.join([name, *cells, top1, same])} |")
    floats, bits = layer_bytes(packed)
    theory = efficiency(cost(twin), cost(packed))
    print(f"\nBinary layers: {floats:,} bytes in floats, {bits:,} in bits: {floats / bits:.1f} times fewer.")
    print(f"BiBench: theoretical speed-up {theory.speedup:.1f}, weights {theory.storage:.1f} times smaller.")


def _one(session: Any, feed: dict[str, np.ndarray]) -> Any:
    return lambda: session.run(None, feed)


def outputs(session: Any, test: DataSource) -> tuple[np.ndarray, np.ndarray]:
    """Scores and labels of all samples."""
    parts, labels = [], []
    for batch in test.batches(64):
        assert batch.labels is not None
        parts.append(class_scores(run(session, batch.inputs))[: batch.count])
        labels.append(batch.labels[: batch.count].reshape(-1))
    return np.concatenate(parts), np.concatenate(labels)


def _equality(found: np.ndarray, native: np.ndarray) -> str:
    same = np.mean(found.argmax(axis=1) == native.argmax(axis=1))
    gap = np.abs(found - native).max() / np.abs(native).max()
    return "bit for bit" if found.tobytes() == native.tobytes() else f"{same:.2%} of labels, within {gap:.0e}"


def layer_bytes(packed: Model) -> tuple[int, int]:
    """Bytes of the weights of layers on bits, as floats and as they are stored, scales and shifts included in both."""
    floats = bits = 0
    for node in packed.graph.node:
        position = holds_signs(node)
        if bit_operator(node) is None or position is None:
            continue
        constants = [packed.weights[name] for name in node.input if name in packed.weights]
        signs = packed.weights[node.input[position]]
        bits += sum(c.nbytes for c in constants)
        floats += 4 * count_standing_weights(node, signs.shape) + sum(c.nbytes for c in constants if c is not signs)
    return floats, bits


if __name__ == "__main__":
    main()
