"""The file as the user gave it: what every "before" speaks of, and what loading alone gained."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..graph.errors import BadModel
from ..graph.model import Model
from ..measure.run.session import as_file, open_session
from ..passes.budget.amounts import Amounts


@dataclass(frozen=True)
class Given:
    """The file that a model was ``read`` from, and the nodes that it had."""

    path: Path
    size_bytes: int
    nodes: int
    read: Model

    @classmethod
    def of(cls, model: Model) -> Given | None:
        """None for a model that is not as a file has it."""
        if model.file is None or model.given_nodes is None:
            return None
        return cls(model.file.path, model.file.size_bytes, model.given_nodes, model)

    def session(self, inputs: Collection[str]) -> Any:
        """A session on the file itself; None where it does not run, or not on just these inputs."""
        try:
            session = open_session(as_file(self.path, self.read), spin=False)
        except BadModel:
            return None
        return session if {port.name for port in session.get_inputs()} == set(inputs) else None

    def before(self, loaded: Amounts, after: Amounts) -> dict[str, Any]:
        """What a report says of the file, and what is kept of it; bytes are those on the disk."""
        amounts, kept = loaded.as_dict(), loaded.kept(after)
        amounts["size_bytes"] = self.size_bytes
        return {"before": amounts, "kept": {**kept, "size_bytes": after.size / self.size_bytes}}

    def lossless(self, loaded: Amounts, times: Mapping[str, Any]) -> dict[str, Any]:
        """What loading gained, which changes no output."""
        return {
            "size_bytes": {"before": self.size_bytes, "after": round(loaded.size)},
            "nodes": {"before": self.nodes, "after": len(self.read.graph.node)},
            **({"latency_ms": {"before": times["before"], "after": times["loaded"]}} if "loaded" in times else {}),
            "notes": list(self.read.notes),
        }
