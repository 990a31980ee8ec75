"""What integer kernels of each kind of machine or runtime want: types, symmetry, biases."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path

from ...graph.registry import Registry
from ...graph.traits import EVERYWHERE, Runtime
from ..precision.grid import WEIGHTS8, Grid


@dataclass(frozen=True)
class Target:
    """``symmetric`` activations have the zero point 0. Without ``integer_bias`` biases stay float.

    ``runtime`` is what will run it, or several: then what all of them compute in integers becomes integers. ``contrib``
    allows operators of ONNX Runtime's own domain where they are faster. ``machines`` are processors, as Python calls
    them, if not all.
    """

    about: str
    activation: Grid
    symmetric: bool = False
    weight: Grid = WEIGHTS8
    integer_bias: bool = True
    contrib: bool = True
    runtime: Runtime = EVERYWHERE
    machines: tuple[str, ...] = ()

    @property
    def is_here(self) -> bool:
        """Whether what ONNX Runtime makes of a model here is what will become of it there."""
        return self.runtime == Runtime.ORT and (not self.machines or platform.machine().lower() in self.machines)


TARGETS: Registry[Target] = Registry("target", "intaglio.targets", of=Target)

_X86 = ("x86_64", "amd64")
_ENTRIES = {
    "x86": Target(
        "ONNX Runtime on x86 with VNNI: unsigned activations, signed weights",
        Grid(8, signed=False),
        runtime=Runtime.ORT,
        machines=_X86,
    ),
    "x86-avx2": Target(
        "ONNX Runtime on older x86: weights in 7 bits, as two products are added in 16 bits there",
        Grid(8, signed=False),
        weight=Grid(7, narrow=True),
        runtime=Runtime.ORT,
        machines=_X86,
    ),
    "arm": Target(
        "ONNX Runtime on ARM: signed activations and weights",
        Grid(8),
        runtime=Runtime.ORT,
        machines=("aarch64", "arm64"),
    ),
    "web": Target(
        "ONNX Runtime Web, on any processor: unsigned activations, signed weights",
        Grid(8, signed=False),
        runtime=Runtime.ORT,
        machines=("wasm32",),
    ),
    "openvino": Target(
        "OpenVINO: unsigned activations, standard operators only",
        Grid(8, signed=False),
        contrib=False,
        runtime=Runtime.OPENVINO,
    ),
    "tensorrt": Target(
        "TensorRT's form: everything symmetric, float biases, standard operators only",
        Grid(8, narrow=True),
        symmetric=True,
        integer_bias=False,
        contrib=False,
        runtime=Runtime.TENSORRT,
    ),
    "tflite": Target(
        "LiteRT and TFLite Micro, after export: signed activations, all that has an integer kernel, outputs too",
        Grid(8),
        contrib=False,
        runtime=Runtime.LITERT,
    ),
    "generic": Target(
        "any runtime: standard operators, integers where all runtimes have them", Grid(8, signed=False), contrib=False
    ),
}
for _name, _target in _ENTRIES.items():
    TARGETS.register(_name)(_target)


def adds_in_16_bits(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether this is an x86 processor without VNNI, which adds two products in 16 bits: 8-bit weights overflow there.

    False where that cannot be told.
    """
    if platform.machine().lower() not in _X86 or not cpuinfo.is_file():
        return False
    flags = next((line for line in cpuinfo.read_text().split("\n") if line.startswith("flags")), "")
    return bool(flags) and not {"avx512_vnni", "avx_vnni"} & set(flags.split())
