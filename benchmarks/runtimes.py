"""Which runtime runs what: every form of some networks, exported to every target, run there on real images.

    python benchmarks/runtimes.py --data ../shared/data --real FOLDER --work FOLDER [--times]

Each cell is one export as ``intaglio export`` does it. Cells are kept in the work folder and not done again, so that the page
can grow over several runs. Without ``--times``, cells are made and compared on any machine, however busy; with it, the times of
cells that lack them are taken, which wants a quiet one. Writes docs/runtimes.md.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from intaglio import Binarize, PruneChannels, Quantize, run
from intaglio.exporters import EXPORTERS
from intaglio.graph.errors import IntaglioError
from intaglio.graph.lazy import absent, release
from intaglio.measure.run.latency import machine
from intaglio.pipeline.exporting import export, file_name

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "runtimes.md"
SAMPLES, CALIBRATION = 500, 128
NO_RUNTIME = ("genai", "xz", "zstd")
"""Targets that are no runtime of any network: one for language models, one that packs a file."""
Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Subject:
    """A network with test data, labelled where there are labels."""

    name: str
    path: Path
    test: Arrays
    calibration: Arrays


def cifar(folder: Path, name: str, count: int) -> tuple[np.ndarray, np.ndarray]:
    with np.load(folder / name) as file:
        return file["x"][:count].transpose(0, 3, 1, 2).astype(np.float32), file["y"][:count]


def subjects(data: Path, real: Path | None) -> Iterator[Subject]:
    images, labels = cifar(data, "cifar10_test_first2000.npz", SAMPLES)
    seen, _ = cifar(data, "cifar10_train_calib2000.npz", CALIBRATION)
    yield Subject("ResNet-8", data / "mlperf-resnet8.onnx", {"input": images, "labels": labels}, {"input": seen})
    mean, deviation = (
        np.array(v, np.float32).reshape(1, 3, 1, 1) for v in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    )
    scaled, seen_scaled = ((x / 255 - mean) / deviation for x in (images, seen))
    yield Subject("ResNet-20", data / "resnet20.onnx", {"input": scaled, "labels": labels}, {"input": seen_scaled})
    with np.load(data / "kws01_even500.npz") as file:
        heard, words = ((file["q"].astype(np.float32) - 83) * np.float32(0.5847029))[:, None], file["y"]
    yield Subject(
        "DS-CNN", data / "kws_dscnn_from_drq_tflite.onnx", {"feat": heard, "labels": words}, {"feat": heard[::8]}
    )
    yield noisy("UltraFace slim", data / "version-slim-320.onnx", 8)
    digits = ROOT / "examples"
    with np.load(digits / "digits_test.npz") as test, np.load(digits / "digits_calib.npz") as calibration:
        yield Subject("transformer (vit_digits)", digits / "vit_digits.onnx", dict(test), dict(calibration))
    for name in ("eeg_spindle", "magika"):
        if real is not None and (real / f"{name}.onnx").is_file():
            yield noisy(name, real / f"{name}.onnx", 16)


def noisy(name: str, path: Path, count: int) -> Subject:
    """A network without images of its own: on inputs that are made up."""
    from intaglio import load
    from intaglio.measure.run.inputs import runnable_inputs

    model = load(path)
    feeds = [runnable_inputs(model, seed=k, batches=(1,)) for k in range(count)]
    joined = {key: np.concatenate([feed[key] for feed in feeds]) for key in feeds[0]}
    return Subject(name, path, joined, joined)


FORMS: dict[str, Callable[[], Any]] = {
    "float": lambda: None,
    "pruned": lambda: PruneChannels(target="macs", keep=0.5),
    "int8": lambda: Quantize(scheme="int8"),
    "int8 for tflite": lambda: Quantize(scheme="int8", target="tflite"),
    "w4": lambda: Quantize(scheme="w4"),
    "binary": lambda: Binarize(),
}


def made(subject: Subject, form: str, work: Path) -> Path | str:
    """The file of a form, or why there is none."""
    out, calibration = (
        work / f"{subject.path.stem}.{form.replace(' ', '_')}.onnx",
        work / f"{subject.path.stem}.calibration.npz",
    )
    one = FORMS[form]()
    if one is None:
        return subject.path
    if not out.is_file():
        np.savez(calibration, **subject.calibration)  # type: ignore[arg-type]
        try:
            run(subject.path, one, data=calibration, out=out, measure=False, force=True)
        except IntaglioError as error:
            return error.what
    return out


def cell(subject: Subject, form: str, target: str, work: Path) -> dict[str, Any]:
    """One export, as plain data."""
    file = made(subject, form, work)
    if isinstance(file, str):
        return {"form_missing": file}
    test = work / f"{subject.path.stem}.test.npz"
    if not test.is_file():
        np.savez(test, **subject.test)  # type: ignore[arg-type]
    where = work / f"{subject.path.stem}-{form.replace(' ', '_')}-{target}"
    where.mkdir(exist_ok=True)
    place = where / file_name(target)
    try:
        done = export(file, target, place, data=test, samples=SAMPLES, measure=False, gates=["sqnr >= -300dB"])
    except IntaglioError as error:
        return {"refused": error.what.replace(f"{work}/", ""), "why": error.why}
    return {key: value for key, value in done.as_dict().items() if key not in ("model", "out", "files")}


def times(subject: Subject, form: str, target: str, work: Path) -> dict[str, Any]:
    """One sample in the target's runtime and in ONNX Runtime, in turn."""
    file = made(subject, form, work)
    assert isinstance(file, Path)
    place = work / "timed" / f"{subject.path.stem}-{form.replace(' ', '_')}-{target}"
    place.mkdir(parents=True, exist_ok=True)
    test = work / f"{subject.path.stem}.test.npz"
    done = export(file, target, place / file_name(target), data=test, samples=1, seconds=0.5, gates=["sqnr >= -300dB"])
    found: dict[str, Any] = done.as_dict()["latency_ms"]
    return found


def table(rows: Mapping[str, Mapping[str, Mapping[str, Any]]], targets: list[str]) -> Iterator[str]:
    yield "| | " + " | ".join(targets) + " |"
    yield "|---|" + "---|" * len(targets)
    for form, by_target in rows.items():
        yield f"| {form} | " + " | ".join(text(by_target.get(target)) for target in targets) + " |"


def text(one: Mapping[str, Any] | None) -> str:
    """Agreement, or closeness without classes; top-1; size; time beside ONNX Runtime."""
    if one is None:
        return "-"
    if "form_missing" in one:
        return "no such form"
    if "refused" in one:
        return "no"
    outputs = list(one["outputs"].values())
    agreement = [o["top1_agreement"] for o in outputs if o["top1_agreement"] is not None]
    least = min((o["sqnr_db"] for o in outputs if o["sqnr_db"] is not None), default=None)
    close = f"{min(agreement):.1%}" if agreement else "identical" if least is None or least > 1e6 else f"{least:.0f} dB"
    right = (one.get("accuracy") or {}).get("after", {}).get("top1")
    told = [
        close,
        *([f"top-1 {right:.1%}"] if right is not None else []),
        f"{one['after']['size_bytes'] / 1e3:,.0f} kB",
    ]
    timed = one.get("latency_ms")
    return ", ".join([*told, *([f"{1 / timed['speedup']:.2f} x"] if timed else [])])


def refusals(cells: Mapping[str, Any]) -> Iterator[str]:
    """Why cells are empty, each reason once."""
    seen: dict[str, str] = {}
    for key, one in cells.items():
        if "refused" in one:
            name, form, target = key.split("|")
            seen.setdefault(f"{target}: {one['refused']}", f"{name}, {form}")
    for told, where in sorted(seen.items()):
        yield f"- {told.rstrip('.')} (first: {where})."


INTRO = """# Which runtime runs what

Made by `python benchmarks/runtimes.py`. Each cell is one `intaglio export`: the artifact was loaded in the target's own runtime
and run on {samples} test images or spoken words, beside ONNX Runtime on the file that was exported. A cell says on how many
samples both give the same class (without classes: how close the outputs are), how often the target's runtime is right, the size
of the artifact, and its time as a part of ONNX Runtime's, one thread, in turn. `no` is refused, with a reason
below; `-` was not run yet. Times are taken apart, with `--times`.

{machine}.
Runtimes: {runtimes}.
"""


def page(cells: Mapping[str, Any], names: list[str], targets: list[str]) -> str:
    runtimes = ", ".join(dict.fromkeys(filter(None, (release(EXPORTERS.entry(one).thing.package) for one in targets))))
    lines = [INTRO.format(samples=SAMPLES, machine=machine(), runtimes=runtimes)]
    for name in names:
        rows = {f: {t: cells[f"{name}|{f}|{t}"] for t in targets if f"{name}|{f}|{t}" in cells} for f in FORMS}
        lines += [f"\n## {name}\n", *table({form: found for form, found in rows.items() if found}, targets)]
    return "\n".join([*lines, "\n## What is refused\n", *refusals(cells)]) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--real", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--targets", nargs="*")
    parser.add_argument("--forms", nargs="*", default=list(FORMS))
    parser.add_argument("--times", action="store_true", help="take the times that cells lack; make no cells")
    parser.add_argument("--again", action="store_true", help="do cells again that were refused or had no form")
    given = parser.parse_args()
    ready = [
        one for one in EXPORTERS.builtin if one not in NO_RUNTIME and not absent(EXPORTERS.entry(one).thing.imports)
    ]
    given.work.mkdir(exist_ok=True)
    kept = given.work / "cells.json"
    cells: dict[str, Any] = json.loads(kept.read_text()) if kept.is_file() else {}
    names = []
    for subject in subjects(given.data, given.real):
        names.append(subject.name)
        for form, target in product(given.forms, given.targets or ready):
            key = f"{subject.name}|{form}|{target}"
            one = cells.get(key)
            if given.times and one is not None and "outputs" in one and "latency_ms" not in one:
                one["latency_ms"] = times(subject, form, target, given.work)
            elif not given.times and (one is None or (given.again and "outputs" not in one)):
                cells[key] = cell(subject, form, target, given.work)
            else:
                continue
            kept.write_text(json.dumps(cells, indent=1, default=float))
            print(key, text(cells[key]), flush=True)
        PAGE.write_text(page(cells, names, ready))


if __name__ == "__main__":
    main()
