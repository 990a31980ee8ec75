"""Perplexity, true bits, bytes and tokens a second of a language model in fewer bits, ours beside ONNX Runtime's own tools.

    python -m benchmarks.language                                                # the bundled model of bytes
    python -m benchmarks.language lm.onnx --data calib.npz --eval-data test.npz --schemes w4 ort:hqq bits:pb:salient=0.2
    ... --json found.json                                                        # remembers every row

MODEL takes tokens and gives logits; data are .npz files of windows of tokens, and of the labels that follow. A row is a
scheme as in ``benchmarks.quantization``: ``w4``, ``w4:nearest``, ``w4:gptq``, ``mixed:3:dp``, ``bits:planes``, with options after
further colons, such as ``w4:nearest:smooth=0.5`` or ``w4:gptq:group_size=32``; or another tool: ``ort:rtn``, ``ort:default``,
``ort:hqq``, ``ort:gptq``, ``ort:kquant`` write MatMulNBits of 4 bits in blocks of 32, ``rtn``,
``kquant`` and ``gptq`` of 16, as they cannot pack odd numbers of blocks; ``ort:dynamic`` 8-bit integers; ``nncf:int8``, ``nncf:int4`` in blocks of
32, ``nncf:int4:awq`` and ``nncf:int4:scale_estimation`` weight compression of NNCF, where it is installed.

"ppl" is the perplexity of a byte, "bits" what all weights in the file take for each parameter of the float model, "kept" the
part of its bytes; "tok/s" are tokens a second in a run of one window on one thread, "time" the part of the float model's, both
measured in turn in processor time.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from intaglio import Model, load
from intaglio.graph.cost import cost, weight_bytes
from intaglio.graph.errors import IntaglioError
from intaglio.graph.io.save import save
from intaglio.measure.accuracy import evaluate_model
from intaglio.measure.data.source import DataSource, open_data
from intaglio.measure.run.rounds import time_rounds
from intaglio.measure.run.session import open_session
from intaglio.passes import Context
from intaglio.passes.binarize import Binarize
from intaglio.passes.quantize import Quantize

from .parts.rivals import dynamic
from .parts.trials import Book, setting

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
OURS = (
    *("fp16", "dynamic", "w8", "w4", "w4:nearest", "w4:gptq", "w4:nearest:smooth=0.5", "w4:auto:group_size=32"),
    *("w3", "w3:nearest", "w3:gptq", "w2", "w2:nearest", "w2:gptq", "mixed:3:dp", "mixed:3:ompq"),
    *(f"bits:pb:salient={share}" for share in (0.05, 0.1, 0.2, 0.3, 0.5)),
    *("bits:planes", "bits:dbllm", "bits:billm", "bits:tbt", "bits:onebit", "bits:xnor"),
)
BLOCK, NARROW = 32, 16
THEIRS = ("ort:dynamic", "ort:default", "ort:rtn", "ort:kquant", "ort:hqq", "ort:gptq")
NNCF = ("nncf:int8", "nncf:int4", "nncf:int4:awq", "nncf:int4:scale_estimation")
ROUNDS, TIMING_S = (10, 500), 0.5
HEAD = "| scheme | ppl | more | bits | bytes | kept | tok/s | time | CPU s |\n|---|--:|--:|--:|--:|--:|--:|--:|--:|"


@dataclass(frozen=True)
class Trial:
    """One row; an empty ``scheme`` is the float model."""

    model: str
    data: str
    eval_data: str
    scheme: str = ""

    @property
    def key(self) -> str:
        return json.dumps(asdict(self))


def named(words: list[str]) -> dict[str, Any]:
    pairs = (word.split("=") for word in words if "=" in word)
    return {name: float(value) if "." in value else int(value) for name, value in pairs}


def make(trial: Trial, out: Path, folder: Path) -> None:
    """Write the model of a row. Raises IntaglioError where it does not apply."""
    scheme, *words = trial.scheme.split(":")
    original = load(trial.model)
    context = Context(data=open_data(trial.data, original))
    if scheme == "ort":
        theirs(words[0], trial, out, folder)
    elif scheme == "nncf":
        compressed(words, trial, out)
    elif scheme == "bits":
        save(Binarize(**{"scheme": words[0], **named(words)}).run(original, context).model, out)
    elif scheme == "mixed":
        save(Quantize(scheme=scheme, bits=float(words[0]), allocator=words[1]).run(original, context).model, out)
    else:
        method = {"method": words[0]} if words else {}
        save(Quantize(**{"scheme": scheme, **method, **named(words)}).run(original, context).model, out)


def theirs(kind: str, trial: Trial, out: Path, folder: Path) -> None:
    """What ONNX Runtime's own tools write, as its documents call them."""
    import onnx
    from onnxruntime.quantization import matmul_nbits_quantizer as tool

    if kind == "dynamic":
        dynamic(Path(trial.model), out)
        return
    configs = {
        "default": lambda: tool.DefaultWeightOnlyQuantConfig(block_size=BLOCK, is_symmetric=False),
        "rtn": tool.RTNWeightOnlyQuantConfig,
        "kquant": tool.KQuantWeightOnlyQuantConfig,
        "hqq": lambda: tool.HQQWeightOnlyQuantConfig(block_size=BLOCK),
        "gptq": lambda: tool.GPTQWeightOnlyQuantConfig(Samples(trial), block_size=NARROW),
    }
    block = (
        NARROW if kind in ("rtn", "kquant") else BLOCK
    )  # of an odd number of blocks these two cannot pack zero points
    made = tool.MatMulNBitsQuantizer(onnx.load(trial.model), block_size=block, algo_config=configs[kind]())
    made.process()
    made.model.save_model_to_file(str(out))


def compressed(words: list[str], trial: Trial, out: Path) -> None:
    """What NNCF's weight compression writes: symmetric, as ONNX Runtime refuses its zero points of 4 bits."""
    import nncf
    import onnx

    kind, *more = words
    options: dict[str, Any] = {"mode": nncf.CompressWeightsMode.INT8_ASYM}
    if kind == "int4":
        options = {"mode": nncf.CompressWeightsMode.INT4_SYM, "group_size": BLOCK, **dict.fromkeys(more, True)}
    if more:
        options["dataset"] = nncf.Dataset(Samples(trial).feeds)
    onnx.save(nncf.compress_weights(onnx.load(trial.model), **options), out)


class Samples:
    """Calibration data as ONNX Runtime's tools read it, and copy it."""

    def __init__(self, trial: Trial) -> None:
        source = open_data(trial.data, load(trial.model))
        self.feeds: list[Mapping[str, np.ndarray]] = [batch.inputs for batch in source.batches(8)]
        self.next = 0

    def __iter__(self) -> Iterator[Mapping[str, np.ndarray]]:
        return iter(self.feeds)

    def rewind(self) -> None:
        self.next = 0

    def get_next(self) -> Mapping[str, np.ndarray] | None:
        self.next += 1
        return self.feeds[self.next - 1] if self.next <= len(self.feeds) else None


def measure(trial: Trial) -> dict[str, Any]:
    """Units: perplexity of a token, seconds of processor time, bytes."""
    original = load(trial.model)
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(trial.model)
        used = time.process_time()
        if trial.scheme:
            out = Path(scratch) / "out.onnx"
            try:
                make(trial, out, Path(scratch))
            except (IntaglioError, ImportError) as error:
                return {"failed": "does not apply", "why": str(error)}
        used = time.process_time() - used
        model, labelled = load(out), open_data(trial.eval_data, original)
        ppl = evaluate_model(model, labelled, names=["perplexity"]).values["perplexity"]
        bits = 8 * weight_bytes(model) / cost(original).params
        found = {"ppl": ppl, "bits": bits, "bytes": out.stat().st_size, "cpu_s": used}
        return found | timed(original, model, labelled)


def timed(original: Model, model: Model, labelled: DataSource) -> dict[str, float]:
    """A run of one window, in turn with one of the float model."""
    inputs = next(iter(labelled.batches(1))).inputs
    sessions = [open_session(one) for one in (original, model)]
    times = time_rounds(sessions, [inputs, inputs], 1, budget_s=TIMING_S, rounds=ROUNDS)
    tokens = max(value.size for value in inputs.values())
    ratio = float(np.median(times[:, 1] / times[:, 0]))
    return {"ratio": ratio, "tokens_s": tokens / float(np.median(times[:, 1]))}


def row(scheme: str, one: Mapping[str, Any], exact: Mapping[str, Any]) -> str:
    if "failed" in one:
        return f"| `{scheme}` | {one['failed']} | | | | | | | |"
    more = f"{100 * (one['ppl'] / exact['ppl'] - 1):+.1f} %" if scheme else ""
    return (
        f"| {f'`{scheme}`' if scheme else 'float'} | {one['ppl']:.3f} | {more} | {one['bits']:.2f} | {one['bytes']:,} "
        f"| {one['bytes'] / exact['bytes']:.3f} | {one['tokens_s']:,.0f} | {one['ratio']:.2f} | {one['cpu_s']:.1f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("model", metavar="MODEL", nargs="?", default=str(EXAMPLES / "language.onnx"))
    parser.add_argument(
        "--data", default=str(EXAMPLES / "language_calib.npz"), help="windows that weights are fitted on"
    )
    parser.add_argument("--eval-data", default=str(EXAMPLES / "language_test.npz"), help="windows and what follows")
    parser.add_argument("--schemes", nargs="+", default=[*OURS, *THEIRS, *NNCF])
    parser.add_argument("--json", type=Path, metavar="FILE", help="write to FILE; what it holds is not measured again")
    parser.add_argument("--trial", help=argparse.SUPPRESS)  # one measurement, in a process of its own
    options = parser.parse_args()
    if options.trial:
        print("\n" + json.dumps(measure(Trial(**json.loads(options.trial)))))  # some tools end no line
        return
    command, machine = shlex.join(["python", "-m", "benchmarks.language", *sys.argv[1:]]), setting()
    book = Book("benchmarks.language", options.json, {"machine": machine, "command": command})
    found = {}
    for scheme in ("", *options.schemes):
        found[scheme] = book.measure(Trial(options.model, options.data, options.eval_data, scheme))
        print(scheme or "float", found[scheme], file=sys.stderr)
    print(HEAD, *(row(scheme, one, found[""]) for scheme, one in found.items()), sep="\n")
    print(f"\n{machine}\n`{command}`")


if __name__ == "__main__":
    main()
