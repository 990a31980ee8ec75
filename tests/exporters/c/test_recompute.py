"""Steps that run again: the least work within a budget, found by trying all orders; and C that computes the same."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest

from intaglio.exporters.base import EXPORTERS, CannotExport
from intaglio.exporters.c.planning import Work
from intaglio.exporters.c.recompute import operations, schedule
from intaglio.graph.io.load import from_proto
from intaglio.graph.model import Model

from .test_c import differences

LONGEST = 6


def peak(order: Sequence[int], works: Sequence[Work], sizes: dict[str, int]) -> float:
    """The most bytes alive at once, infinite where a step reads what is not there; buffers live until they are last read."""
    spans: list[tuple[int, int, int]] = []
    at: dict[str, int] = {}
    for place, k in enumerate(order):
        for name in works[k].reads:
            if name not in at:
                return float("inf")
            first, _, size = spans[at[name]]
            spans[at[name]] = first, place, size
        (made,) = works[k].writes
        at[made] = len(spans)
        spans.append((place, place, sizes[made]))
    alive = [sum(size for a, b, size in spans if a <= t <= b) + works[k].scratch for t, k in enumerate(order)]
    return max(alive)


@pytest.mark.parametrize("seed", range(12))
def test_no_other_order_within_the_budget_does_less(seed: int) -> None:
    """Random networks of four steps, against all orders of at most six."""
    rng = np.random.default_rng(seed)
    count = 4
    reads = [frozenset(f"b{m}" for m in {k - 1, int(rng.integers(0, k))}) if k else frozenset() for k in range(count)]
    works = [Work(r, frozenset({f"b{k}"}), int(rng.integers(0, 2)) * 16) for k, r in enumerate(reads)]
    sizes = {f"b{k}": int(rng.integers(1, 6)) * 16 for k in range(count)}
    costs = [int(rng.integers(1, 5)) for _ in range(count)]
    tried = [
        (peak(order, works, sizes), sum(costs[k] for k in order))
        for length in range(count, LONGEST + 1)
        for order in itertools.product(range(count), repeat=length)
        if len(set(order)) == count
    ]
    for budget in sorted({int(most) for most, _ in tried if most < float("inf")}):
        found = schedule(works, sizes, costs, budget)
        assert found is not None
        assert peak(found, works, sizes) <= budget
        assert sum(costs[k] for k in found) <= min(cost for most, cost in tried if most <= budget)
    assert schedule(works, sizes, costs, int(min(most for most, _ in tried)) - 1) is None


def skipping() -> Model:
    """A wide tensor that is made of a small input and read at the beginning and at the end."""
    text = """
    <ir_version: 8, opset_import: ["" : 17]> net (float[1, 2, 16, 16] x) => (float[1, 4, 16, 16] y) {
        a = Conv <pads = [1, 1, 1, 1]> (x, w)
        b = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (a, v)
        c = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (b, v)
        d = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (c, v)
        e = Concat <axis = 1> (a, d)
        y = Conv (e, u)
    }
    """
    proto, rng = onnx.parser.parse_model(text), np.random.default_rng(0)
    for name, shape in (("w", (16, 2, 3, 3)), ("v", (16, 16, 3, 3)), ("u", (4, 32, 1, 1))):
        weight = rng.normal(size=shape).astype(np.float32) / 8
        proto.graph.initializer.append(onnx.numpy_helper.from_array(weight, name))
    return from_proto(proto)


def arena(folder: Path) -> int:
    return int((folder / f"{folder.name}.h").read_text().split("_ARENA_BYTES ")[1].split()[0])


def test_a_network_fits_a_budget_that_it_needs_to_run_a_step_again_for(tmp_path: Path) -> None:
    model, wide = skipping(), 16 * 16 * 16 * 4
    assert max(differences(model, tmp_path / "free").values()) < 1e-6
    assert arena(tmp_path / "free") >= 4 * wide
    assert max(differences(model, tmp_path / "tight", memory="50KB").values()) < 1e-6
    assert arena(tmp_path / "tight") <= 50 * 1024
    text = (tmp_path / "tight" / "tight.c").read_text()
    called = text[text.index("void tight_run") :]
    assert called.count("step0(") == 2
    assert text.count("NET_STEP void step0(") == 1
    artifact = EXPORTERS["c:memory=50KB"].write(model, tmp_path / "told")
    assert artifact.notes[0].startswith("steps run again to save memory: ")
    with pytest.raises(CannotExport, match="the arena takes"):
        EXPORTERS["c:memory=16KB"].write(model, tmp_path / "none")


def test_operations_are_counted_by_the_bounds_of_loops() -> None:
    body = """const float *b = k0;
for (int i = 0; i < 10; i++) {
    float a = 0;
    for (int k = 0; k < 6; k += 2) {
        a += x0[k];
    }
    y0[i] = a;
}
for (int i = 2; i < 5; i++) s0[i] = 0;"""
    assert operations(body) == 1 + 10 + 30 + 10 + 3
