"""Accuracy, true bits and size of weights in one or two bits, beside integers of four, three and two.

    python -m benchmarks.binarization net.onnx --data train.npz --eval-data test.npz --preprocess cifar10
    ... --schemes bits:planes bits:pb:salient=0.2 bits:planes:block=64 bits:xnor:none w2    # these rows only

The rest is as for ``benchmarks.quantization``, which measures. A row is a binarization after ``bits:``, with options of the
pass or ``none`` for no data, or a scheme of ``intaglio quantize``. "bits" is what all weights in the file take, scales,
maps and what stays in float included, for each parameter of the float network.
"""

from __future__ import annotations

from .quantization import COLUMNS, main, middle

SCHEMES = (
    *("bits:planes", "bits:residual", "bits:dbllm", "bits:billm", "bits:twn", "bits:tbt", "bits:pb"),
    *("bits:xnor", "bits:onebit", "bits:planes:none", "bits:pb:none", "bits:xnor:none"),
    *("w4", "w3", "w2", "w4:nearest", "w2:nearest"),
)
_LAST = ("bytes", "kept", "time", "CPU s")

if __name__ == "__main__":
    first = {name: COLUMNS[name] for name in ("top-1", "diff.", "same", "dB")}
    main(SCHEMES, {**first, "bits": middle("bits", ".2f"), **{name: COLUMNS[name] for name in _LAST}}, __doc__ or "")
