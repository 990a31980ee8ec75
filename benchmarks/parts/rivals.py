"""What other tools make of a model, each as its documents say: ONNX Runtime's own quantization, and NNCF."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import numpy as np

from intaglio.measure.data.source import DataSource

BATCH = 64
"""Samples, at most, that a rival sees at once where that is its caller's choice."""
RIVALS = ("ort:minmax", "ort:percentile", "ort:entropy", "ort:dynamic", "nncf")


class NotInstalled(Exception):
    """A package that a row needs."""


def load_modules(name: str) -> None:
    """Load a tool's modules, so that the time of that is not counted. Raises NotInstalled."""
    modules = ["onnxruntime"]
    if name in RIVALS:
        modules += ["nncf"] if name == "nncf" else ["onnxruntime.quantization.shape_inference", "sympy"]
    for module in modules:
        try:
            import_module(module)
        except ImportError as error:
            raise NotInstalled(f"{module} is not installed") from error


def rival(name: str, source: Path, out: Path, data: DataSource | None, folder: Path) -> None:
    """Write what a tool makes of a file."""
    tool, _, kind = name.partition(":")
    if tool == "nncf":
        nncf(source, out, _needed(data))
        return
    ready = folder / "ready.onnx"
    preprocessed(source, ready)
    if kind == "dynamic":
        dynamic(ready, out)
    else:
        static(ready, out, _needed(data), kind)


def preprocessed(source: Path, ready: Path) -> None:
    """Folded and with shapes, as ONNX Runtime's documents ask for."""
    from onnxruntime.quantization.shape_inference import quant_pre_process

    quant_pre_process(str(source), str(ready))


def static(ready: Path, out: Path, data: DataSource, kind: str) -> None:
    """QDQ, unsigned activations, signed weights with a scale for each channel."""
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    methods = {
        "minmax": CalibrationMethod.MinMax,
        "percentile": CalibrationMethod.Percentile,
        "entropy": CalibrationMethod.Entropy,
    }
    quantize_static(
        str(ready),
        str(out),
        _reader(data),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        calibrate_method=methods[kind],
    )


def dynamic(ready: Path, out: Path) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(str(ready), str(out), per_channel=True, weight_type=QuantType.QInt8)


def nncf(source: Path, out: Path, data: DataSource) -> None:
    """``nncf.quantize`` as it comes, on all samples; its ranges are means over items, so an item is one sample."""
    import nncf as tool
    import onnx

    items = [batch.inputs for batch in data.batches(1)]
    made = tool.quantize(onnx.load(source), tool.Dataset(items), subset_size=len(items))
    onnx.save(made, out)


def for_timing(source: Path, folder: Path, data: DataSource) -> Path:
    """ONNX Runtime's QDQ model from a few samples: how long it takes does not hang on its scales."""
    out = folder / "timing.onnx"
    preprocessed(source, folder / "timing-ready.onnx")
    static(folder / "timing-ready.onnx", out, data, "minmax")
    return out


def _needed(data: DataSource | None) -> DataSource:
    assert data is not None
    return data


def _reader(data: DataSource) -> object:
    """Batches by ``get_next``, None at the end; all of one size, as some of the methods want them."""
    from onnxruntime.quantization import CalibrationDataReader

    count = data.samples or 1
    size = max(n for n in range(1, BATCH + 1) if count % n == 0)

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.batches: Iterator[dict[str, np.ndarray]] = (batch.inputs for batch in data.batches(size))

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self.batches, None)

    return Reader()
