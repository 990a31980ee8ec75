"""Accuracy that is left after pruning without training, by method and by how much of the MACs stays: ``intaglio sweep``.

    python -m benchmarks.pruning net.onnx --data train.npz --eval-data test.npz --preprocess cifar10 -o sweep
    ... --methods l2 l2+refit obspa:id --keep 0.5 --seeds 5     # these methods only

MODEL is any image classifier on arrays of 8-bit images (samples, height, width, 3). Methods are those of ``sweep``; what
this adds are images of another kind for ``:ood``, crops of the two photographs that come with scikit-learn, and a table
for a document. "±" is the standard deviation over seeds; "s" is the mean of the seconds that a trial's passes took.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from intaglio.measure.data.source import LABEL_NAMES
from intaglio.pipeline.study.sweep import Sweep

from .parts.trials import setting

KEEP = "0.9,0.75,0.6,0.5,0.35"
METHODS = [
    "random",
    "l2",
    "lamp",
    "fpgm",
    "dfpc+none",
    "dfpc",
    "udfc",
    "variance",
    "obspa:noise",
    "obspa:ood",
    "obspa:id",
]
SHRINK = (2.0, 4.0)  # photographs are made smaller by this before they are cut, as objects in them are large


def main() -> None:
    options = parse()
    keep = tuple(float(word) for word in options.keep.split(","))
    common = Sweep(
        options.model,
        options.out / "id",
        [one for one in options.methods if ":ood" not in one],
        keep,
        seeds=options.seeds,
        data=options.data,
        eval_data=options.eval_data,
        preprocess=options.preprocess,
        samples=options.samples,
        metrics=("top1",),
        executor=options.executor,
        workers=options.workers,
    )
    reports = [common.run()] if common.methods else []
    if other := [one for one in options.methods if ":ood" in one]:
        file = options.out / "photographs.npz"
        photographs(Path(options.data), file, 2 * options.samples)  # of which each seed draws some
        reports.append(replace(common, out=options.out / "ood", methods=other, data=str(file)).run())
    print(f"{Path(options.model).name}: {reports[0]['original']['accuracy']['top1']:.2%}\n")
    heads = ["method", *(f"{one:g}" for one in keep), "s"]
    print("\n".join(f"| {' | '.join(line)} |" for line in (heads, ["---", *["--:"] * (len(heads) - 1)])))
    for line in lines([one for report in reports for one in report["points"]], options.methods, keep):
        print(f"| {' | '.join(line)} |")
    print(f"\n{setting()}")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("model", metavar="MODEL", help="ONNX file")
    parser.add_argument("--data", required=True, help="calibration images, an .npz")
    parser.add_argument("--eval-data", required=True, help="labelled images to measure the accuracy on")
    parser.add_argument("--preprocess", help="as in intaglio prune")
    parser.add_argument("--keep", default=KEEP, metavar="A,B,...", help="fractions of the MACs")
    parser.add_argument("--methods", nargs="+", default=METHODS, help=f"by default {' '.join(METHODS)}")
    parser.add_argument("--seeds", type=int, default=3, help="how many, from 0")
    parser.add_argument("--samples", type=int, default=1024, help="calibration images")
    parser.add_argument("--executor", default="local")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("-o", "--out", type=Path, default=Path("pruning"), help="what is there is not measured again")
    return parser.parse_args()


def photographs(like: Path, file: Path, count: int) -> None:
    """So many crops of the photographs that come with scikit-learn, as an array like that of another file."""
    from PIL import Image
    from sklearn.datasets import load_sample_images

    with np.load(like, allow_pickle=False) as stored:
        name = next(one for one in stored.files if one not in LABEL_NAMES)
        _, height, width, _ = stored[name].shape
    rng = np.random.default_rng(0)
    pictures = [Image.fromarray(picture) for picture in load_sample_images().images]
    crops = []
    for k in range(count):
        picture, shrink = pictures[k % len(pictures)], rng.uniform(*SHRINK)
        small = np.asarray(picture.resize((round(picture.width / shrink), round(picture.height / shrink))))
        top, left = (
            int(rng.integers(have - want + 1)) for have, want in zip(small.shape, (height, width), strict=False)
        )
        crops.append(small[top : top + height, left : left + width])
    file.parent.mkdir(parents=True, exist_ok=True)
    np.savez(file, **{name: np.stack(crops)})  # type: ignore[arg-type]


def lines(points: Sequence[Mapping[str, Any]], methods: Sequence[str], keep: Sequence[float]) -> Iterator[list[str]]:
    """A row a method."""
    by_name = {one["name"]: one for one in points}
    for method in methods:
        some = [by_name[f"{method} {one:g}"] for one in keep]
        took = [one["seconds"] for one in some if not one["told"]]
        yield [method, *map(cell, some), f"{statistics.median(took):.1f}" if took else ""]


def cell(point: Mapping[str, Any]) -> str:
    """Mean and spread over seeds in percent, or why there is none."""
    if point["told"]:
        return str(point["told"]).partition(",")[0]
    spread = f" ± {100 * point['spread']['top1']:.2f}" if point["seeds"] > 1 else ""
    return f"{100 * point['accuracy']['top1']:.2f}{spread}"


if __name__ == "__main__":
    main()
