"""What a file needs of a runtime, and files that need no more than is asked for.

A release of ONNX Runtime reads operator sets and versions of the format up to one of each, and has some operators for
integers of some sizes only.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import onnx
from onnx import helper

from ..dtypes import bits
from ..errors import BadModel, UsageError
from ..model import Model
from ..nodes import all_nodes, attribute, display_name
from ..traits import DEFAULT_DOMAINS, operator
from .opset import OLDEST, lower_opset, raise_opset

Release = tuple[int, ...]
_READS: dict[Release, tuple[int, int]] = {
    (1, 16): (19, 9),
    (1, 17): (20, 9),
    (1, 18): (20, 10),
    (1, 19): (21, 10),
    (1, 21): (22, 10),
    (1, 23): (23, 11),
    (1, 24): (25, 13),
    (1, 26): (26, 13),
}
"""The newest operator set and version of the format from each release of ONNX Runtime on; 1.18 has no integers of set 21.

Measured: releases 1.16.3 to 1.31.1 of PyPI, each given files of every set and version.
"""
_OLDEST_IR = 7
"""Of operator set 13, the oldest that is written."""
_FUNCTIONS = 8
"""The first version of the format with functions."""


@dataclass(frozen=True)
class Fit:
    """What a file may need. ``opset`` and ``ir`` are the operator set and the version of the format to write; None: as
    they come. ``release`` is the oldest of ONNX Runtime that must read it, a wish where it was not ``asked`` for."""

    opset: int | None = None
    ir: int | None = None
    release: Release = (1, 20)
    asked: bool = False

    @classmethod
    def of(cls, opset: int | None = None, ir: int | None = None, runtime: str | None = None) -> Fit:
        """As options say it, ``runtime`` like ``ort>=1.20``. Raises UsageError."""
        last = onnx.defs.onnx_opset_version()
        if opset is not None and not OLDEST <= opset <= last:
            raise UsageError(f"operator set {opset} is not written", fix=f"give one from {OLDEST} to {last}")
        if ir is not None and not _OLDEST_IR <= ir <= onnx.IR_VERSION:
            raise UsageError(f"IR version {ir} is not written", fix=f"give one from {_OLDEST_IR} to {onnx.IR_VERSION}")
        if runtime is None:
            return cls(opset, ir)
        found = re.fullmatch(r"(?:ort|onnxruntime)\s*>=\s*(\d+)\.(\d+)(?:\.\d+)?", runtime.strip())
        release = tuple(map(int, found.groups())) if found else ()
        if release < min(_READS):
            why = "" if not found else f"what older releases than {_told(min(_READS))} read was not tried"
            raise UsageError(f"cannot read runtime {runtime!r}", why=why, fix="write it like ort>=1.20")
        return cls(opset, ir, release, True)

    def as_dict(self) -> dict[str, Any]:
        """The options that say it."""
        runtime = f"ort>={_told(self.release)}" if self.asked else None
        return {"opset": self.opset, "ir": self.ir, "runtime": runtime}

    @property
    def newest(self) -> int:
        """The newest operator set that forms may need."""
        return min(self.opset or 1 << 30, _reads(self.release)[0])


USUAL = Fit()


def _reads(release: Release) -> tuple[int, int]:
    return _READS[max(one for one in _READS if one <= release)]


def _told(release: Release) -> str:
    return ".".join(map(str, release))


def fitted(model: Model, fit: Fit) -> tuple[Model, list[str]]:
    """The model in the operator set and the version of the format that are asked for, and what it needs a newer ONNX
    Runtime for, in words. The model itself where there is nothing to change.

    Raises:
        BadModel: it cannot be brought there.
    """
    newest, newest_ir = _reads(fit.release)
    opset = fit.opset or (min(newest, model.opset) if fit.asked else model.opset)
    made = raise_opset(model, opset) if opset >= model.opset else lower_opset(model, opset)
    least = _least_ir(made)
    if fit.ir is not None and fit.ir < least:
        what = (
            f"operator set {made.opset}"
            if not made.proto.functions or fit.ir >= _FUNCTIONS
            else "it has functions, which"
        )
        raise BadModel(f"the file cannot have IR version {fit.ir}", why=f"{what} needs {least}")
    ir = fit.ir or min(made.proto.ir_version, max(least, newest_ir))
    if ir != made.proto.ir_version:
        made = made.copy()
        made.proto.ir_version = ir
    needs = dict(_needs(made))
    newer = [why for why, since in needs.items() if since > fit.release]
    if newer and fit.asked:
        since = max(needs.values())
        raise BadModel(
            f"ONNX Runtime {_told(fit.release)} would not read the file",
            why="; ".join(f"{why} came with {_told(needs[why])}" for why in newer[:4]),
            fix=f"choose another form or scheme, or allow --runtime 'ort>={_told(since)}'",
        )
    first = _told(max(needs.values()))
    return made, [f"ONNX Runtime reads this file from {first} on: {', '.join(newer[:4])}"] if newer else []


def _least_ir(model: Model) -> int:
    kept = [one for one in model.proto.opset_import if one.domain in (*DEFAULT_DOMAINS, "ai.onnx.ml")]
    try:
        least = helper.find_min_ir_version_for(kept)
    except ValueError:  # a set that this onnx does not know
        return model.proto.ir_version
    return max(least, _FUNCTIONS if model.proto.functions else 0)


def _needs(model: Model) -> Iterator[tuple[str, Release]]:
    """What was not there from the beginning, and from which release on it is."""
    for place, value, what in ((0, model.opset, "operator set"), (1, model.proto.ir_version, "IR version")):
        since = (release for release, newest in _READS.items() if newest[place] >= value)
        yield f"{what} {value}", next(since, max(_READS))
    for node in all_nodes(model.graph):
        row = operator(node)
        if row.since and (found := _integers(node, model)) in row.since:
            yield f"{node.op_type} {display_name(node)!r} of {found} bits", row.since[found]


def _integers(node: onnx.NodeProto, model: Model) -> int:
    """Bits of the integers that a node reads."""
    if operator(node).code_bits:
        return int(attribute(node, "bits", operator(node).code_bits))
    read = model.weights.get(node.input[0]) if node.input else None
    return 0 if read is None else bits(helper.np_dtype_to_tensor_dtype(read.dtype))
