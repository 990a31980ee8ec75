"""How well running times are predicted before channels are removed, by network.

    python -m benchmarks.latency                        # the example, and the models in $INTAGLIO_DATA
    python -m benchmarks.latency net.onnx --threads 2   # these models

Prints a Markdown table. Of every network some channels are removed, all widths alike and at random, to multiples of
1, of 8 and of 16; each result is timed in turn with the original. "error" is the median difference between the
predicted and the measured fraction of the original's time, in percent of the measured one; "worst tenth" is what one
result in ten exceeds; "correlation" is that of the two fractions. "ready" is how long it took until the first
prediction, with nothing remembered from earlier runs.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from intaglio import load
from intaglio.graph.coupling import Coupling, Removal, analyse, remove
from intaglio.measure.optime.times import LayerTimes
from intaglio.measure.run.latency import machine, time_pair
from intaglio.passes.prune.choose import Limits, Ranking, eligible, one_direction
from intaglio.passes.prune.latency.model import LatencyModel

MULTIPLES = (1, 8, 16)
UNIFORM = (0.75, 0.5, 0.3)
RANDOM, NARROWEST = 4, 0.25
EXAMPLE = Path(__file__).resolve().parent.parent / "examples" / "digits.onnx"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("models", nargs="*", type=Path, metavar="MODEL", help="ONNX files")
    parser.add_argument("--threads", type=int, default=1, help="threads that a run may use")
    parser.add_argument("--seed", type=int, default=0, help="of the random widths")
    parser.add_argument("--each", action="store_true", help="also print every removal")
    options = parser.parse_args()

    print(f"{machine()}; {options.threads} thread{'s' if options.threads > 1 else ''} used")
    print()
    heads = [f"error, multiples of {m} | worst tenth" for m in MULTIPLES]
    print(f"| network | ms | ready s | layers | {' | '.join(heads)} | correlation |")
    print(f"|---|--:|--:|--:|{'--:|--:|' * len(MULTIPLES)}--:|")
    for path in options.models or known_models():
        print(row(path, options.threads, options.seed, each=options.each), flush=True)


def known_models() -> list[Path]:
    folder = os.environ.get("INTAGLIO_DATA")
    return [EXAMPLE, *(sorted(Path(folder).glob("*.onnx")) if folder else ())]


def row(path: Path, threads: int, seed: int, *, each: bool) -> str:
    """One line of the table."""
    original = load(path)
    coupling = analyse(original)
    began, times = time.perf_counter(), LayerTimes(threads)
    model = LatencyModel(coupling, threads, seed=seed, times=times)
    ready_s = time.perf_counter() - began
    rng = np.random.default_rng(seed)
    cells, every = [], []
    for multiple in MULTIPLES:
        pairs = []
        for removal in removals(coupling, multiple, rng):
            timing = time_pair(original, remove(removal), threads, inputs=model.inputs)
            pairs.append((model.after(removal) / model.full, 1 / timing.speedup(1)))
            if each:
                print(f"    multiples of {multiple}: predicted {pairs[-1][0]:.3f}, measured {pairs[-1][1]:.3f}")
        predicted, real = np.array(pairs).T
        errors = 100 * np.abs(predicted / real - 1)
        cells += [f"{np.median(errors):.1f} %", f"{np.quantile(errors, 0.9):.1f} %"]
        every += pairs
    correlation = np.corrcoef(np.array(every).T)[0, 1]
    first = [path.stem, f"{model.full:.3g}", f"{ready_s:.1f}", str(times.count)]
    return f"| {' | '.join([*first, *cells, f'{correlation:.3f}'])} |"


def removals(coupling: Coupling, multiple: int, rng: np.random.Generator) -> Iterator[Removal]:
    """Widths cut alike, then each to a random fraction."""
    numbers = one_direction(coupling, eligible(coupling, include=(), exclude=(), exact_only=False), "width")
    scores = [rng.random(coupling.groups[k].channels) for k in numbers]
    ranking = Ranking(coupling, numbers, scores, Limits(1, multiple), "group")
    sizes = ranking.sizes
    wanted = [sizes * f for f in UNIFORM] + [sizes * rng.uniform(NARROWEST, 1, len(sizes)) for _ in range(RANDOM)]
    for keep in wanted:
        removal = ranking.removal(ranking.allowed(np.ceil(keep).astype(np.int64)))
        if removal.removed.any():
            yield removal


if __name__ == "__main__":
    main()
