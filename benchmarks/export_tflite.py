"""What our TFLite files of 8 bits do in LiteRT and TFLite Micro, beside ONNX Runtime in 8 bits.

    INTAGLIO_DATA=FOLDER python -m benchmarks.export_tflite [NAME...] [--samples 500] [--json FILE]

Each network is quantized for TFLite and, for ONNX Runtime's time, for x86. Agreement is of the same model in both; times are
processor time of one sample on one thread, taken in turn. ``pip install 'intaglio[litert]' tflite-micro``.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from intaglio import load
from intaglio.exporters.tflite.convert import program_of, write
from intaglio.exporters.tflite.micro import arena
from intaglio.graph.model import Model
from intaglio.measure.data.source import open_data
from intaglio.measure.litert.session import Session
from intaglio.measure.run.session import open_session, run
from intaglio.passes.base import Context
from intaglio.passes.quantize import Quantize

from .parts.turns import in_turn

FOLDER = Path(os.environ.get("INTAGLIO_DATA", "data"))
CALIBRATION, ROUNDS, IN_MICRO = 200, 60, 50
MEAN, DEVIATION = np.array([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]], np.float32)
Arrays = tuple[np.ndarray, np.ndarray | None]


def first(images: np.ndarray) -> np.ndarray:
    """Channels in front."""
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2), np.float32)


def cifar(change: Callable[[np.ndarray], np.ndarray], test: bool) -> Arrays:
    with np.load(FOLDER / f"cifar10_{'test_first2000' if test else 'train_calib2000'}.npz") as file:
        return change(file["x"]), file["y"]


def normalized(images: np.ndarray) -> np.ndarray:
    return first((images.astype(np.float32) / 255 - MEAN) / DEVIATION)


def enlarged(images: np.ndarray) -> np.ndarray:
    """For a detector: no faces, but pictures."""
    made = [np.asarray(Image.fromarray(image).resize((320, 240)), np.float32) for image in images[:100]]
    return first((np.stack(made) - 127) / 128)


def spoken(test: bool) -> Arrays:
    with np.load(FOLDER / "kws01_even500.npz") as file:
        features = (file["q"].astype(np.float32) - 83) * np.float32(0.5847029)
        return features.reshape(-1, 1, 49, 10), file["y"]


@dataclass(frozen=True)
class Network:
    """A file, and samples to calibrate and to test with."""

    file: str
    samples: Callable[[bool], Arrays]


NETWORKS = {
    "ResNet-8": Network("mlperf-resnet8.onnx", lambda test: cifar(first, test)),
    "DS-CNN": Network("kws_dscnn_from_drq_tflite.onnx", spoken),
    "ResNet-20": Network("resnet20.onnx", lambda test: cifar(normalized, test)),
    "detector": Network("version-slim-320.onnx", lambda test: cifar(enlarged, test)),
}


def quantized(network: Network, target: str) -> Model:
    model = load(FOLDER / network.file)
    data, _ = network.samples(False)
    (name,) = [value.name for value in model.graph.input]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "calibration.npz")
        arrays: dict[str, Any] = {name: data[:CALIBRATION]}
        np.savez(path, **arrays)
        return Quantize(target=target).run(model, Context(data=open_data(str(path), model))).model


def row(title: str, network: Network, samples: int) -> dict[str, Any]:
    model = quantized(network, "tflite")
    content = write(model)
    session, reference = Session(content), open_session(model)
    data, labels = network.samples(True)
    (name,) = session.inputs
    seen = [{name: sample[None]} for sample in data[:samples]]
    ours = [session.run(feed) for feed in seen]
    theirs = [run(reference, feed) for feed in seen]
    output = next(iter(session.outputs))
    a, b = (np.concatenate([one[output] for one in made]) for made in (ours, theirs))
    found = {"network": title, "bytes": len(content), "agreement": float(np.mean(a.argmax(-1) == b.argmax(-1)))}
    if labels is not None and a.ndim == 2:
        found |= {side: float(np.mean(v.argmax(-1) == labels[: len(v)])) for side, v in (("litert", a), ("ort", b))}
    fast = open_session(quantized(network, "x86"))
    timed = in_turn({"litert": session.interpreter.invoke, "ort": lambda: fast.run(None, seen[0])}, ROUNDS)
    found |= {"ms": 1e3 * timed.median_s("litert"), "time": 1 / timed.faster("litert", "ort")}
    whole = not program_of(model).floats
    return {**found, **(in_micro(content, session, seen[:IN_MICRO], b) if whole else {})}


def in_micro(content: bytes, session: Session, seen: list[dict[str, np.ndarray]], wanted: np.ndarray) -> dict[str, Any]:
    """The arena, and how often TFLite Micro says the same as ONNX Runtime."""
    from tflite_micro.python.tflite_micro import runtime

    found = arena(content)
    interpreter = runtime.Interpreter.from_bytes(content, arena_size=found["arena_bytes"] + 1024)
    made = []
    for feed in seen:
        for name, value in feed.items():
            interpreter.set_input(np.ascontiguousarray(value.transpose(session.orders[name])), 0)
        interpreter.invoke()
        made.append(interpreter.get_output(0).argmax())
    return {**found, "micro": float(np.mean(made == wanted[: len(made)].argmax(-1)))}


def table(rows: list[dict[str, Any]]) -> Iterator[str]:
    """In Markdown."""
    yield "| network | bytes | agreement | top-1, LiteRT / ONNX Runtime | ms | time / ONNX Runtime's | arena | TFLite Micro agrees |"
    yield "|---|---:|---:|---:|---:|---:|---:|---:|"
    for one in rows:
        top = f"{one['litert']:.2%} / {one['ort']:.2%}" if "ort" in one else "-"
        micro = (f"{one['arena_bytes']:,}", f"{one['micro']:.0%}") if "micro" in one else ("-", "-")
        cells = (one["network"], f"{one['bytes']:,}", f"{one['agreement']:.2%}", top, f"{one['ms']:.3f}")
        yield f"| {' | '.join((*cells, format(one['time'], '.2f'), *micro))} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("names", nargs="*", default=list(NETWORKS))
    parser.add_argument("--samples", type=int, default=500)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    rows = []
    for name in given.names:
        rows.append(row(name, NETWORKS[name], given.samples))
        print(list(table(rows[-1:]))[-1], flush=True)
    if given.json:
        given.json.write_text(json.dumps(rows, indent=1))
    print("\n".join(table(rows)))


if __name__ == "__main__":
    main()
