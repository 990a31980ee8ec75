"""Made-up reports, as runs and searches give them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

NAMES = [f"/stage/{i}/Conv" for i in range(30)]
BEFORE = {"macs": 40_600_000, "params": 272_474, "size_bytes": 1_094_612}


def point(dice: random.Random, number: int) -> dict[str, Any]:
    size = 10 ** dice.uniform(-1.25, 0)
    time = max(0.3, size**0.4 + dice.gauss(0, 0.12))
    top1 = 0.9155 - 0.036 * max(0, 0.4 - size) - abs(dice.gauss(0, 0.012)) - 0.3 * (number % 7 == 0)
    return {
        "name": f"quantize mixed, {number} tenths of a bit",
        "passes": [{"pass": "quantize", "scheme": "mixed"}],
        "size_bytes": round(size * BEFORE["size_bytes"]),
        "macs": BEFORE["macs"],
        "params": BEFORE["params"],
        "kept": {"size_bytes": size, "macs": 1.0, "params": 1.0},
        "latency_ms": 2.5 * time,
        "latency_ratio": time,
        "accuracy": {"top1": top1} if number % 9 else None,
        "sqnr_db": 5 + 25 * size,
        "agreement": None,
        "seconds": dice.uniform(0.5, 9),
        "meets": number == 4,
        "front": number in (2, 3, 4),
        "chosen": number == 4,
        "told": "" if number % 9 else "given up: the outputs are too far off",
    }


def layers(names: Sequence[str]) -> list[dict[str, Any]]:
    return [
        {"name": name, "weights": "int8", "activations": "uint8", "weight_error": 1e-5 * i, "sqnr_db": 40 - i % 23}
        for i, name in enumerate(names)
    ]


def searched(names: Sequence[str] = NAMES, points: int = 40) -> dict[str, Any]:
    """The report of a search; layers, groups, points and files have the names."""
    dice = random.Random(3)
    tried = [point(dice, number) for number in range(points)]
    tried[4]["kept"]["size_bytes"], tried[4]["size_bytes"], tried[4]["accuracy"] = 0.2, 218_922, {"top1": 0.911}
    for one, name in zip(tried, names, strict=False):
        one["name"] = name
    after = {"macs": 20_300_000, "params": 136_000, "size_bytes": 218_922}
    groups = [{"name": name, "before": 64, "after": 64 - i % 40, "exact": True} for i, name in enumerate(names)]
    return {
        "model": names[0],
        "out": names[-1],
        "before": BEFORE,
        "after": after,
        "kept": {"macs": 0.5, "params": 0.499, "size_bytes": 0.2},
        "limits": {
            "size": {"value": 0.25, "absolute": False},
            "latency": {"value": 1.2, "absolute": True},
            "max_drop": 1.0,
        },
        "points": tried,
        "search_seconds": 61.0,
        "chosen_layers": [
            {
                "name": name,
                "choice": "4 bits",
                "bytes": {"before": 9216 * (i + 1), "after": 1152 * (i + 1)},
                "why": names[0],
            }
            for i, name in enumerate(names)
        ],
        "by_layer": [
            {
                "name": name,
                "op": "Conv",
                "bytes": {"before": 9216 * (i + 1), "after": None if i == 3 else 1152 * (i + 1)},
                "macs": {"before": 147_456, "after": 73_728},
            }
            for i, name in enumerate(names)
        ],
        "steps": [
            {
                "pass": "prune-channels",
                "size_bytes": 500_000,
                "macs": 20_300_000,
                "params": 136_000,
                "seconds": 9.4,
                "details": {"groups": groups, "verified": {"worst": names[0]}},
            },
            {
                "pass": "quantize",
                **after,
                "seconds": 2.7,
                "details": {
                    "layers": layers(names),
                    "skipped": dict.fromkeys(names, "tiny: fewer than 1024 weights"),
                    "runtime": {"integer": {name: 1 for name in names[:2]}},
                },
            },
        ],
        "accuracy": {
            "before": {"top1": 0.9155, "top5": 0.998},
            "after": {"top1": 0.911, "top5": 0.9975},
            "drop": {"top1": {"points": 0.45, "low": -0.31, "high": 0.92, "samples": 10000, "confidence": 0.95}},
        },
        "latency_ms": {
            "before": 2.5,
            "after": 1.1,
            "speedup": 2.27,
            "verdict": "faster",
            "threads": 1,
            "machine": "EPYC, 2 cores",
        },
        "gates": [
            {"gate": "drop <= 1.0", "limit": 1.0, "unit": "points", "value": 0.45, "passed": True},
            {"gate": "size <= 500KB", "limit": 512_000, "unit": "B", "value": 218_922, "passed": True},
        ],
        "recipe": {"passes": [{"pass": "prune", "include": [names[0]]}, {"pass": "quantize", "scheme": "mixed"}]},
        "plugins": [{"kind": "pass", "name": names[0], "package": "third", "version": "1.2"}],
        "environment": {"python": "3.11.7", "onnxruntime": "1.31.1"},
        "notes": ["9 BatchNormalization nodes folded into the layers before them", names[0]],
        "warnings": [],
    }
