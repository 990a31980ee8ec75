"""Words that a streamed keyword spotter gets right, beside windows: ``python -m benchmarks.streaming``.

Each word is streamed behind the one before it; the output that counts is the one of its window.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

import numpy as np

from intaglio import load
from intaglio.measure.run.session import open_session, run
from intaglio.passes.stream import StreamOptions, stream

DATA = Path(os.environ.get("INTAGLIO_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
WINDOW = 49


def words() -> tuple[np.ndarray, np.ndarray]:
    """Features of words and their numbers."""
    stored = np.load(DATA / "kws01_even500.npz")
    return ((stored["q"].astype("float32") - 83) * 0.5847029)[:, None], stored["y"]


def streamed(x: np.ndarray, model: Any, told: Any) -> np.ndarray:
    """Scores of each word, the one before and the one after it around it."""
    session, hop, late, scores = open_session(model), told["hop"], told["delay"]["output"], []
    for k, word in enumerate(x):
        signal = np.concatenate([x[k - 1], word, x[(k + 1) % len(x)]], axis=1)[:, : 2 * WINDOW + late]
        signal = np.pad(signal, ((0, 0), (-signal.shape[1] % hop, 0), (0, 0)), mode="edge")
        states = {s["name"]: np.zeros([1, *s["shape"][1:]], np.float32) for s in told["states"]}
        made: dict[str, Any] = {}
        for begin in range(0, signal.shape[1], hop):
            made = run(session, {"input": signal[None, :, begin : begin + hop], **states})
            states = {s["name"]: made[s["next"]] for s in told["states"]}
        scores.append(made["output"])
    return np.concatenate(scores)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hops", type=int, nargs="*", default=[2, 8])
    x, y = words()
    model = load(DATA / "kws_dscnn_from_drq_tflite.onnx")
    session = open_session(model)
    wanted = np.concatenate([run(session, {"input": word[None]})["output"] for word in x]).argmax(axis=1)
    print(f"window: {100 * (wanted == y).mean():.1f} % right")
    for hop in parser.parse_args().hops:
        made = stream(model, StreamOptions(hop=hop, axis="input:2"))
        got = streamed(x, made.model, made.told).argmax(axis=1)
        print(
            f"hop {hop}: {made.told['after']['macs']:,} of {made.told['before']['macs']:,} MACs, {made.told['ms']}, "
            f"{100 * (got == y).mean():.1f} % right, {100 * (got == wanted).mean():.1f} % as the window"
        )


if __name__ == "__main__":
    main()
