"""How long it takes to find coupled channels and to remove half of them, by network.

    python -m benchmarks.coupling                      # from the top of the checkout: chain, large networks, zoo
    python -m benchmarks.coupling --only chain resnet  # networks whose name contains one of the words

Prints a Markdown table. Times are medians, loading aside; "frozen" counts groups that cannot shrink. Where the
``torch-pruning`` package is installed, the last columns say how long it takes to build its dependency graph and list
all its groups for the same torch network in the same process, on one thread, and how many times as long that is.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from intaglio import Model, load
from intaglio.graph.coupling import Coupling, Removal, analyse, remove

from .parts.networks import Subject, subjects

PATIENCE_S = 10.0  # no further repetition of a measurement once this much time is spent on it


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--only", nargs="+", default=[""], metavar="WORD", help="networks whose name contains a word")
    parser.add_argument("--repeat", type=int, default=5, help="measurements of which the median is shown")
    parser.add_argument("--keep", type=Path, help="folder to keep the exported networks in for the next run")
    options = parser.parse_args()

    warnings.simplefilter("ignore")
    torch.set_num_threads(1)  # waiting threads would count as Torch-Pruning's time
    print(machine())
    print()
    print("| network | nodes | channels | groups | frozen | analysis ms | surgery ms | torch-pruning s | ratio |")
    print("|---|--:|--:|--:|--:|--:|--:|--:|--:|")
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.keep or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        for subject in subjects():
            if any(word.lower() in subject.name.lower() for word in options.only):
                print(row(subject, folder, options.repeat), flush=True)


def row(subject: Subject, folder: Path, repeat: int) -> str:
    """One line of the table."""
    model = load(subject.write(folder))
    coupling, analysis_s = timed(lambda: grouped(model), repeat)
    _, surgery_s = timed(lambda: halved(coupling), repeat)
    free = sum(group.prunable for group in coupling.groups)
    counts = [len(model.graph.node), sum(g.channels for g in coupling.groups), free, len(coupling.groups) - free]
    cells = [subject.name, *counts, f"{analysis_s * 1e3:.1f}", f"{surgery_s * 1e3:.1f}", "", ""]
    if subject.original and rival_version():
        rival_s = rival_seconds(*subject.original(), repeat)
        if rival_s is None:
            cells[-2] = "fails"
        else:
            cells[-2:] = [f"{rival_s:.2f}", f"{rival_s / analysis_s:.0f}"]
    return f"| {' | '.join(str(cell) for cell in cells)} |"


def grouped(model: Model) -> Coupling:
    """The work that is measured: everything up to the list of groups."""
    coupling = analyse(model)
    assert coupling.groups is not None  # they are found when first asked for
    return coupling


def halved(coupling: Coupling) -> Model:
    """Remove the first half of the channels of every group; of groups that cross in one axis, of one only."""
    gone, bundles = coupling.nothing(), set()
    for group in coupling.groups:
        if group.prunable and (group.bundle < 0 or group.bundle not in bundles):
            bundles.add(group.bundle)
            gone[group.atoms[: len(group.atoms) // 2]] = True
    return remove(Removal(coupling, gone))


def timed(work: Callable[[], Any], repeat: int) -> tuple[Any, float]:
    """The result of the work and the median of its seconds."""
    seconds: list[float] = []
    while not seconds or (len(seconds) < repeat and sum(seconds) < PATIENCE_S):
        began = time.perf_counter()
        result = work()
        seconds.append(time.perf_counter() - began)
    return result, statistics.median(seconds)


def rival_version() -> str | None:
    try:
        return version("torch-pruning")
    except PackageNotFoundError:
        return None


def rival_seconds(network: Any, inputs: Any, repeat: int) -> float | None:
    """Seconds that Torch-Pruning takes to list the groups of a torch network; None if it cannot."""
    import torch_pruning

    def work() -> list[Any]:
        graph = torch_pruning.DependencyGraph().build_dependency(network, inputs)
        return list(graph.get_all_groups())

    try:
        return timed(work, repeat)[1]
    except Exception as error:  # whatever it trips over is its result
        print(f"torch-pruning: {type(error).__name__}: {str(error)[:100]}", file=sys.stderr)
        return None


def machine() -> str:
    """What the numbers were measured on."""
    info = Path("/proc/cpuinfo")
    models = (
        [line.split(":")[1].strip() for line in info.read_text().splitlines() if "model name" in line]
        if info.exists()
        else []
    )
    stated = [f"{name} {version(name)}" for name in ("intaglio", "onnx", "numpy", "scipy", "torch")]
    rival = f"torch-pruning {rival_version()}" if rival_version() else "torch-pruning not installed"
    chip = models[0] if models else platform.processor() or platform.machine()
    python = f"Python {platform.python_version()}"
    return f"{chip}, {os.cpu_count()} cores, one used, {platform.system()}; {', '.join([python, *stated, rival])}"


if __name__ == "__main__":
    main()
