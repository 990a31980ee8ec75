"""What a search chooses from: ways to store and compute numbers, and ways to make a network narrower."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from ...passes.base import Pass
from ...passes.binarize import Binarize
from ...passes.factorize import Factorize
from ...passes.prune import PruneChannels
from ...passes.quantize import Quantize

Unit = Literal["macs", "params", "size", "latency"]
MIXED, INT8, DYNAMIC = "mixed", "int8", "dynamic"
WEIGHTS_ALONE = ("w8", "w4", "w3", "w2")
PLAIN = ("fp16", "w4", "w3", "w2", "planes", "onebit")
"""One number of bits throughout."""


@dataclass(frozen=True)
class Precision:
    """``make`` gives the passes for a fraction of the file's bytes, None for as many as it takes.

    ``integers`` says that it computes in integers, ``sized`` that it can be asked for fewer bytes.
    """

    name: str
    make: Callable[[float | None], tuple[Pass, ...]]
    integers: bool = False
    sized: bool = False


@dataclass(frozen=True)
class Structure:
    """A network made narrower, or with fewer branches, until it keeps the fraction ``keep`` of ``unit``; nothing where
    ``family`` is empty.

    ``ranks`` are layers, schemes and ranks that were chosen together, what ``keep`` says of them is how much they leave.
    """

    family: Literal["", "prune", "depth", "factorize", "both"] = ""
    unit: Unit = "macs"
    keep: float = 1.0
    before_integers: bool = False
    measure: bool = False
    ranks: tuple[tuple[str, str, int], ...] = ()

    @property
    def name(self) -> str:
        return " > ".join(one._name for one in self.parts)

    @property
    def _name(self) -> str:
        if self.ranks and self.family == "factorize":
            return f"ranks for {self.unit} {self.keep:.3g}"
        return f"{self.family} {self.unit} {self.keep:.3g}"

    @property
    def parts(self) -> tuple[Structure, ...]:
        """Of what both families do each does half."""
        if self.family == "both":
            return tuple(replace(self, family=one, keep=self.keep**0.5) for one in ("prune", "factorize"))
        return (self,) if self.family else ()

    def to(self, keep: float, unit: Unit | None = None) -> Structure:
        return replace(self, keep=keep, unit=unit or self.unit)

    def passes(self) -> tuple[Pass, ...]:
        return tuple(one._pass() for one in self.parts)

    def _pass(self) -> Pass:
        if self.family == "depth":
            return PruneChannels.model_validate({"axis": "depth", "target": self.unit, "keep": self.keep})
        if self.family == "prune":
            followed = {"followed_by": "int8"} if self.before_integers else {}
            return PruneChannels.model_validate({"target": self.unit, "keep": self.keep, **followed})
        if self.ranks:
            ranks, ways = tuple((n, r) for n, _, r in self.ranks), tuple((n, s) for n, s, _ in self.ranks)
            return Factorize(target="rank", ranks=ranks, scheme_of=ways, measure=False)
        return Factorize(target=self.unit, keep=self.keep, measure=self.measure)


def with_data(target: str) -> tuple[Precision, ...]:
    """For calibration data: bits that each layer gets its own number of, and integers throughout."""

    def quantized(scheme: str, size: float | None = None) -> tuple[Pass, ...]:
        given = {"scheme": scheme, "target": target, **({} if size is None else {"size": size})}
        return (Quantize.model_validate(given),)

    return (
        Precision(INT8, lambda size: quantized(INT8, size), integers=True, sized=True),
        Precision(MIXED, lambda size: quantized(MIXED, size) if size else quantized("w8"), sized=True),
        Precision(DYNAMIC, lambda _: quantized(DYNAMIC), integers=True),
        *(plain(name, target) for name in PLAIN),
    )


def plain(name: str, target: str, *, integers: bool = False) -> Precision:
    made = Binarize(scheme=name) if name in ("planes", "onebit") else Quantize(scheme=name, target=target)
    return Precision(name, lambda _: (made,), integers=integers)


def without_data(target: str) -> tuple[Precision, ...]:
    """Weights rounded by themselves, and 8 bits throughout where statistics of BatchNormalization stand in for data."""

    fewer = [plain(name, target) for name in ("w8", "w4", "w3", "w2", "fp16")]
    return (plain(INT8, target, integers=True), *fewer, plain(DYNAMIC, target, integers=True))


def quick(passes: Sequence[Pass]) -> tuple[Pass, ...]:
    """The same with weights rounded to nearest, channels and ranks chosen by weights alone, and nothing checked: for what does
    not depend on values.
    """
    return tuple(one.model_copy(update=_quickly(one)) for one in passes)


def _quickly(one: Pass) -> dict[str, object]:
    if isinstance(one, Quantize):
        return {"method": "nearest", "ranges": "minmax", "verify": False}
    if isinstance(one, PruneChannels) and one.axis == "depth":
        return {"repair": "none", "verify": False}
    if isinstance(one, PruneChannels):
        return {"criterion": "l1", "repair": "none", "verify": False}
    return {"measure": False, "verify": False} if isinstance(one, Factorize) else {}


def weights_alone(one: Pass) -> bool:
    """Whether what comes out is as large without data."""
    return one.renames or isinstance(one, PruneChannels | Factorize) or getattr(one, "scheme", "") in WEIGHTS_ALONE
