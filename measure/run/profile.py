"""How long each layer of a model takes inside of it, as ONNX Runtime's own profile tells."""

from __future__ import annotations

import json
import re
import tempfile
import time
from collections import defaultdict
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from ...graph.index import Index, index_of
from ...graph.model import Model
from .session import open_session, require_room, run

_RUNS, _SECONDS = (5, 40), 0.2
_ADDED = re.compile(r"(_nchwc|_token_\d+)+$")
"""What the optimizer puts behind names of nodes, or of the tensors that a node which it joined makes."""
_KERNEL = "_kernel_time"
_DEEPEST = 4


def layer_times(model: Model, inputs: Mapping[str, np.ndarray], layers: Collection[str]) -> dict[str, float]:
    """Milliseconds of a run by names of layers: those of which the profile tells, what was joined to them included."""
    index = index_of(model)
    named = {node.name: node for node in model.graph.node}
    found: dict[str, float] = {}
    for (name, op), took in _times(model, inputs).items():
        tensor = _ADDED.sub("", name)
        owner = (
            tensor if tensor in layers else _behind(named.get(tensor) or index.makers.get(tensor), op, index, layers)
        )
        if owner:
            found[owner] = found.get(owner, 0.0) + took
    return found


def _behind(node: onnx.NodeProto | None, op: str, index: Index, layers: Collection[str]) -> str:
    """The layer that ends in a node, steps such as normalizations and activations being joined to it."""
    waiting = [node] if node is not None else []
    for _ in range(_DEEPEST):
        for one in waiting:
            if one.name in layers and one.op_type in op:
                return one.name
        read = (index.makers.get(name) for one in waiting for name in one.input if name not in index.constant)
        waiting = [one for one in read if one is not None]
    return ""


def _events(file: Path) -> Any:
    try:
        return json.loads(file.read_text())
    except ValueError:
        require_room(file.parent)
        raise


def _times(model: Model, inputs: Mapping[str, np.ndarray]) -> dict[tuple[str, str], float]:
    """Medians by the names and operators of what runs."""
    took: dict[tuple[str, str], list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory(prefix="intaglio-") as folder:
        session = open_session(model, profile=Path(folder) / "profile")
        started, runs = time.perf_counter(), 0
        while runs < _RUNS[0] or (runs < _RUNS[1] and time.perf_counter() - started < _SECONDS):
            run(session, inputs)
            runs += 1
        for event in _events(Path(session.end_profiling())):
            if event.get("cat") == "Node" and event["name"].endswith(_KERNEL):
                took[event["name"].removesuffix(_KERNEL), event["args"].get("op_name", "")].append(event["dur"] / 1e3)
    return {key: float(np.median(each)) * len(each) / runs for key, each in took.items()}
