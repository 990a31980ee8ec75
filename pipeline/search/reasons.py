"""What a search chose for each layer, and why, from what the passes of the chosen chain tell."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ...passes.change import Change
from .limits import AMOUNTS, Limits


def layer_reasons(changes: Sequence[Change], limits: Limits, known: Mapping[str, str]) -> list[dict[str, Any]]:
    """One row for each layer or group that a pass changed; ``known`` are reasons of layers that were chosen together."""
    limited = " and ".join(name for name in AMOUNTS if getattr(limits, name) is not None) or "accuracy"
    rows = [row for change in changes for one in change.layers for row in _told(one, limited)]
    return [{**row, "why": "; ".join(filter(None, (row["why"], known.get(row["name"]))))} for row in rows]


def _told(one: Mapping[str, Any], limited: str) -> Iterator[dict[str, Any]]:
    name = one.get("name", "")
    if "weights" in one:
        noise, error = one.get("sqnr_db"), one.get("weight_error")
        why = f"{noise:.1f} dB after all layers up to it" if noise is not None else "rounded by itself"
        if error is not None:
            why += f", {100 * error:.2g} % of its output's variance is its own"
        yield {"name": name, "chosen": f"{one['weights']} weights, {one['activations']} inputs", "why": why}
    elif "before" in one and one["before"] != one.get("after"):
        yield {
            "name": name,
            "chosen": f"{one['after']} of {one['before']} channels",
            "why": f"outputs lose least by that for the {limited} that it saves",
        }
    elif one.get("removed"):
        yield {
            "name": name,
            "chosen": "no branch",
            "why": f"outputs miss it least for the {limited} that it saves, and the layers around were refitted",
        }
    elif one.get("scheme"):
        yield {
            "name": name,
            "chosen": f"{one['scheme']} of rank {', '.join(map(str, one['rank']))}",
            "why": f"outputs lose least by that for the {limited} that it saves",
        }
