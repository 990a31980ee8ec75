"""How fast the kernels for bits are beside ONNX Runtime's floats and integers, on one thread.

    python -m benchmarks.kernels                          # every shape and instruction set
    python -m benchmarks.kernels --only conv --isa avx512 # some of them
    python -m benchmarks.kernels --rounds 200             # steadier medians

Prints Markdown tables. Everything of a shape runs in turn in one process, on one thread, and is measured in processor
time; GMAC/s and milliseconds are medians over rounds, ratios medians of the rounds' ratios. "with packing" includes turning the float32 input, in the
layout of the network (NCHW for convolutions), into bits; results are float32, scaled and shifted. "floats" is ONNX
Runtime's Conv or MatMul, "int8" its QLinearConv or QLinearMatMul with unsigned activations and signed weights, its
fastest pair. "of peak" is the share of what the instructions of a product do on registers alone, measured in the same
rounds. "in ONNX Runtime" are the operators BitPack and BConv or BGemm in a session.

Products of one row with weights in bits stand beside MatMul in floats and MatMulNBits in 4 and 2 bits with 8-bit
arithmetic (accuracy level 4, blocks of 128). "exact" adds and subtracts floats, "rounded" makes the row int8 first.
"""

from __future__ import annotations

import argparse
import ctypes
import math
import shlex
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from intaglio.kernels import loader
from intaglio.kernels.packing import pack, packed_length
from intaglio.kernels.window import ConvWindow
from tests.kernels import library
from tests.kernels.calls import Conv, Gemm, OneBit

from .parts.runtime_runs import FLOATS, INT8, OURS, conv_runs, gemm_runs, row_runs
from .parts.trials import setting
from .parts.turns import Run, Times, in_turn

CONVOLUTIONS = ((64, 56), (128, 28), (256, 14), (512, 7))
"""Channels in and out, and the side of the image, of 3 x 3 convolutions: the stages of a ResNet-18."""
PRODUCTS = ((1024, 1024, 1024), (128, 768, 3072), (128, 3072, 768))
"""Rows, length, columns."""
ROWS = ((768, 3072), (4096, 4096), (4096, 11008))
"""Length and columns of products of one row."""
KINDS = ("conv", "gemm", "gemv")
ACTIVATIONS = {"exact": library.ACTIVATION_FLOAT, "rounded": library.ACTIVATION_INT8}
PEAK_ROUNDS = 20_000
_LINE = 64


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--only", choices=KINDS, action="append", help="kinds of products; by default all")
    parser.add_argument(
        "--isa", action="append", choices=loader.ISAS, help="instruction sets; by default all there are"
    )
    parser.add_argument("--rounds", type=int, default=60, help="how often everything runs in turn")
    options = parser.parse_args()
    why = loader.why_absent()
    if why:
        sys.exit(f"error: {why}")
    isas, kinds = options.isa or loader.cpu_features(), options.only or KINDS
    if {"conv", "gemm"}.intersection(kinds):
        _head("shape", "by", "GMAC/s", "with packing", "of peak", "x floats", "with packing", "x int8", "with packing")
        for name, macs, runs in products(kinds, isas):
            show_product(name, macs, in_turn(runs, options.rounds), isas)
        print()
    if "gemv" in kinds:
        _head("length x columns", "by", "ms", "x floats", "x 4 bits", "x 2 bits")
        for length, columns in ROWS:
            show_row(f"{length} x {columns}", in_turn(row(length, columns, isas), options.rounds))
        print()
    print(setting())
    print(f"`{shlex.join(['python', '-m', 'benchmarks.kernels', *sys.argv[1:]])}`")


def products(kinds: Sequence[str], isas: Sequence[str]) -> Iterator[tuple[str, int, dict[str, Run]]]:
    """Name, MACs and everything that runs in turn, shape by shape."""
    if "conv" in kinds:
        for channels, side in CONVOLUTIONS:
            name = f"3x3, {channels} channels, {side} x {side}"
            yield name, 9 * channels**2 * side**2, convolution(channels, side, isas)
    if "gemm" in kinds:
        for rows, length, columns in PRODUCTS:
            yield f"{rows} x {length} x {columns}", rows * length * columns, product(rows, length, columns, isas)


def show_product(name: str, macs: int, times: Times, isas: Sequence[str]) -> None:
    def rate(run: str) -> float:
        return macs / times.median_s(run) / 1e9

    def line(by: str, alone: str, whole: str, peak: str = "") -> None:
        rates = [f"{rate(run):.0f}" if run else "" for run in (alone, whole)]
        ratios = [f"{times.faster(run, x):.1f}" if run else "" for x in (FLOATS, INT8) for run in (alone, whole)]
        print(f"| {' | '.join([name, by, *rates, peak, *ratios])} |", flush=True)

    line(FLOATS, FLOATS, "")
    line(INT8, INT8, "")
    for isa in isas:
        peak = library.peak(isa, PEAK_ROUNDS) / times.median_s(f"{isa} peak") / 1e9
        share = 100 * rate(isa) / peak
        line(isa, isa, f"{isa} whole", f"{share:.0f} % of {peak:.0f}")
    line(OURS, "", OURS)


def show_row(name: str, times: Times) -> None:
    for by in times.names:
        ratios = [f"{times.faster(by, other):.1f}" for other in (FLOATS, "4 bits", "2 bits")]
        print(f"| {' | '.join([name, by, f'{1e3 * times.median_s(by):.3f}', *ratios])} |", flush=True)


def convolution(channels: int, side: int, isas: Sequence[str]) -> dict[str, Run]:
    rng = np.random.default_rng(0)
    x = normal(rng, (1, channels, side, side))
    signs = rng.choice([-1.0, 1.0], (channels, 3, 3, channels)).astype(np.float32)
    planes, affine = pack(signs.reshape(1, channels, -1)), _affine(channels)
    window = ConvWindow((3, 3), pads=(1, 1, 1, 1), pad_value=1)
    bits = aligned((1, side, side, packed_length(channels)), np.uint8)
    out, outs = aligned((1, channels, side, side)), []
    runs = conv_runs(x, signs.transpose(0, 3, 1, 2), planes, affine)
    for isa in isas:
        packing = _packing("ib_bitpack_planes", isa, (1, channels, side * side), x, bits)
        weights = Conv(planes, channels, window, isa=isa)
        runs |= _runs(isa, packing, _multiplying("ib_bconv_run", weights, (1, side, side), bits, out, affine))
        outs.append(out.copy())
    _expect_equal(outs)
    return runs


def product(rows: int, length: int, columns: int, isas: Sequence[str]) -> dict[str, Run]:
    rng = np.random.default_rng(0)
    x = normal(rng, (rows, length))
    signs = rng.choice([-1.0, 1.0], (columns, length)).astype(np.float32)
    planes, affine = pack(signs)[None], _affine(columns)
    bits = aligned((rows, packed_length(length)), np.uint8)
    out, outs = aligned((rows, columns)), []
    runs = gemm_runs(x, signs, planes, affine)
    for isa in isas:
        packing = _packing("ib_bitpack_rows", isa, (rows, length), x, bits)
        weights = Gemm(planes, length, isa=isa)
        runs |= _runs(isa, packing, _multiplying("ib_bgemm_run", weights, (rows,), bits, out, affine))
        outs.append(out.copy())
    _expect_equal(outs)
    return runs


def row(length: int, columns: int, isas: Sequence[str]) -> dict[str, Run]:
    rng = np.random.default_rng(0)
    x = normal(rng, (1, length))
    planes = pack(rng.choice([-1.0, 1.0], (1, columns, length)))
    scale = rng.uniform(0.5, 1.5, (1, columns, 1)).astype(np.float32)
    runs = row_runs(x, planes, scale)
    for kind, activation in ACTIVATIONS.items():
        outs = []
        for isa in isas:
            weights, y = OneBit(planes, scale, length, length, isa=isa), aligned((1, columns))
            sizes = (1, x.ctypes.data, x.size, y.ctypes.data, y.size)
            runs[f"{isa}, {kind}"] = _call("ib_wgemv_run", weights._handle, activation, *sizes, keep=(weights, x, y))
            runs[f"{isa}, {kind}"]()
            outs.append(y)
        _expect_equal(outs)
    return runs


def aligned(shape: tuple[int, ...], dtype: DTypeLike = np.float32) -> np.ndarray:
    """Memory from the start of a cache line on, as ONNX Runtime allocates it; NumPy's may start amid one."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    memory = np.zeros(size + _LINE, np.uint8)
    start = -memory.ctypes.data % _LINE
    return memory[start : start + size].view(dtype).reshape(shape)


def normal(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    x = aligned(shape)
    rng.standard_normal(out=x, dtype=np.float32)
    return x


def _affine(outputs: int) -> np.ndarray:
    """Scales and shifts. Shapes: (2, outputs)."""
    return np.random.default_rng(1).standard_normal((2, outputs)).astype(np.float32)


def _runs(isa: str, packing: Run, multiplying: Run) -> dict[str, Run]:
    """A product alone, with the packing before it, and the peak of the instruction set. The first two have run once."""

    def whole() -> None:
        packing()
        multiplying()

    whole()
    return {isa: multiplying, f"{isa} whole": whole, f"{isa} peak": lambda: library.peak(isa, PEAK_ROUNDS)}


def _packing(function: str, isa: str, sizes: tuple[int, ...], x: np.ndarray, bits: np.ndarray) -> Run:
    zero = np.zeros(1, np.float32)
    numbers = library.Numbers(library.FLOAT32, *_memory(x), zero.ctypes.data, 1)
    number = library.number(isa)
    return _call(function, number, *sizes, ctypes.byref(numbers), *_memory(bits), keep=(x, zero, bits, numbers))


def _multiplying(
    function: str, weights: Any, sizes: tuple[int, ...], bits: np.ndarray, out: np.ndarray, affine: np.ndarray
) -> Run:
    """Bits to scaled and shifted floats."""
    output = library.Output(library.FLOAT, *_memory(out), affine[0].ctypes.data, affine[1].ctypes.data, None)
    arguments = (weights._handle, *sizes, *_memory(bits), ctypes.byref(output))
    return _call(function, *arguments, keep=(weights, bits, out, affine, output))


def _call(function: str, *arguments: Any, keep: Any) -> Run:
    """The library's function with arguments made ready, as a program in C calls it. ``keep`` must not be collected."""
    run, one = getattr(library.load_library(), function), (library.Threads * 1)(library.Threads(1, None, None))

    def call(kept: Any = keep) -> None:
        loader.check(run(*arguments, one))

    return call


def _memory(array: np.ndarray) -> tuple[int, int]:
    return array.ctypes.data, array.nbytes


def _expect_equal(results: Sequence[np.ndarray]) -> None:
    """What is not right need not be timed."""
    for other in results[1:]:
        if other.tobytes() != results[0].tobytes():
            sys.exit("error: two instruction sets give different results")


def _head(*names: str) -> None:
    print(f"| {' | '.join(names)} |")
    print(f"|---|---|{'--:|' * (len(names) - 2)}", flush=True)


if __name__ == "__main__":
    main()
