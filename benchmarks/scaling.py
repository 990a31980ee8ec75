"""How many workers a search can use, on paper: batches of tasks, one driver that hands them out, a scheduler's overhead.

``python -m benchmarks.scaling --seconds 1.0 --overhead-ms 2`` simulates; ``--measure ray`` measures the overhead of a task here,
``--listed sqlite:///many.db`` how long it takes to read so many finished trials, find their front and draw the page.
"""

from __future__ import annotations

import argparse
import heapq
import time
from contextlib import closing
from pathlib import Path

import numpy as np

from intaglio.measure.executors.executor import EXECUTORS
from intaglio.pipeline import html
from intaglio.pipeline.study.objectives import objectives
from intaglio.pipeline.study.record import Record, Told
from intaglio.pipeline.study.space import Space
from intaglio.pipeline.study.storage import open_storage

WORKERS = (1, 10, 100, 1000)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--seconds", type=float, default=1.0, help="of a trial, the median")
    parser.add_argument("--spread", type=float, default=0.3, help="of its logarithm")
    parser.add_argument("--overhead-ms", type=float, default=2.0, help="that the driver spends on a task")
    parser.add_argument("--propose-s", type=float, default=0.5, help="that the strategy takes for a batch")
    parser.add_argument("--trials", type=int, default=8000)
    parser.add_argument("--measure", metavar="EXECUTOR", help="measure the overhead of an empty task instead")
    parser.add_argument("--listed", metavar="STORAGE", help="list so many trials, written there at first")
    options = parser.parse_args()
    if options.listed:
        listed(options.listed, options.trials)
        return
    if options.measure:
        print(f"{options.measure}: {measured(options.measure):.2f} ms a task")
        return
    print("| workers | batch | hours | in use |\n| --: | --: | --: | --: |")
    for workers in WORKERS:
        for batch in (workers, 4 * workers):
            took = simulated(workers, batch, options)
            used = options.trials * options.seconds * float(np.exp(options.spread**2 / 2)) / (took * workers)
            print(f"| {workers} | {batch} | {took / 3600:.3f} | {used:.0%} |")


def simulated(workers: int, batch: int, options: argparse.Namespace) -> float:
    """Seconds of a whole study: a batch begins when the one before it is told; the driver does one thing at a time."""
    rng, now = np.random.default_rng(0), 0.0
    for began in range(0, options.trials, batch):
        count = min(batch, options.trials - began)
        now += options.propose_s
        free, ends = [now] * workers, []
        for took in options.seconds * np.exp(rng.normal(0, options.spread, count)):
            now += options.overhead_ms / 2e3
            ends.append(max(now, heapq.heappop(free)) + float(took))
            heapq.heappush(free, ends[-1])
        for end in ends:  # in order
            now = max(now, end) + options.overhead_ms / 2e3
    return now


def measured(name: str, tasks: int = 300) -> float:
    """Milliseconds of an empty task, many at once on two workers."""
    with closing(EXECUTORS[name](2)) as executor:
        list(executor.each("json:dumps", [{}] * 4))
        began = time.perf_counter()
        list(executor.each("json:dumps", [{"number": k} for k in range(tasks)]))
        return 1e3 * (time.perf_counter() - began) / tasks


def listed(where: str, trials: int) -> None:
    """Seconds of processor time; trials are of twenty layers each."""
    told = objectives(["accuracy", "size"])
    if not open_storage(where, Path(), "many", "many", told).read():
        open_storage(where, Path(), "many", "many", told).add([trial(k) for k in range(trials)])
    times = [time.process_time()]
    records = open_storage(where, Path(), "many", "many", told).read()
    times.append(time.process_time())
    front = {one.number for one in Told(Space([]), told, records).front()}
    times.append(time.process_time())
    points = [{**one.figures, "name": f"trial {one.number}", "front": one.number in front} for one in records]
    html.render({"command": "search", "objectives": ["accuracy", "size"], "trials": trials, "points": points})
    times.append(time.process_time())
    parts = ", ".join(f"{name} {s:.2f} s" for name, s in zip(("read", "front", "page"), np.diff(times), strict=True))
    print(f"{len(records)} trials: {parts}, in all {times[-1] - times[0]:.2f} s")


def trial(number: int) -> Record:
    rng = np.random.default_rng(number)
    values = {f"bits layer{k}": int(bits) for k, bits in enumerate(rng.choice((2, 3, 4, 6, 8), 20))}
    accuracy, size = rng.random(2).tolist()
    kept = {"size_bytes": size, "macs": 1.0, "params": 1.0, "memory": 1.0}
    figures = {"accuracy": {"top1": accuracy * size}, "kept": kept, "sqnr_db": 10.0, "agreement": None, "seconds": 1.0}
    passes = [{"pass": "quantize", "layer_bits": [[key[5:], bits] for key, bits in values.items()]}]
    return Record(number, values, {**figures, "latency_ms": None, "latency_ratio": None, "passes": passes})


if __name__ == "__main__":
    main()
