"""What a model costs: the amounts that targets limit."""

from __future__ import annotations

from dataclasses import dataclass

from ...graph.cost import Cost


@dataclass(frozen=True)
class Amounts:
    """MACs of one run (symbolic batch counted once), those of bits apart, parameters, and bytes of the weights."""

    macs: float
    params: float
    size: float
    bops: float = 0.0

    @classmethod
    def counted(cls, costs: Cost, size_bytes: int) -> Amounts:
        return cls(costs.macs, costs.params, size_bytes, costs.bops)

    def as_dict(self) -> dict[str, int]:
        """For reports; operations on bits only where there are some."""
        told = {"macs": self.macs, "params": self.params, "size_bytes": self.size}
        return {name: round(value) for name, value in (told | ({"bops": self.bops} if self.bops else {})).items()}

    def of(self, target: str) -> float:
        return float(getattr(self, target))

    def kept(self, after: Amounts) -> dict[str, float]:
        """The fraction that is left of each, by the names in ``as_dict``; of operations on bits only where there were some."""
        names = {"macs": "macs", "params": "params", "size_bytes": "size", **({"bops": "bops"} if self.bops else {})}
        return {key: after.of(name) / self.of(name) if self.of(name) else 1.0 for key, name in names.items()}
