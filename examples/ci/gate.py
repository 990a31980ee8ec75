"""The same as gate.sh in Python: ``python gate.py MODEL PHOTOS LABELLED OUT [PREPROCESS]``."""

from __future__ import annotations

import sys
from pathlib import Path

from intaglio.graph.errors import GateFailed
from intaglio.pipeline.compress import compress
from intaglio.pipeline.formats import markdown
from intaglio.pipeline.text import plain

GATES = ("drop <= 1.0", "size <= 0.4x", "agreement >= 0.95")


def main(model: str, photos: str, labelled: str, out: str, preprocess: str | None = None) -> int:
    given = {"data": photos, "eval_data": labelled, "preprocess": preprocess}
    try:
        report = compress(model, out, "edge-int8", **given, gates=GATES, exports=["ort"])
    except GateFailed as error:
        report = error.report
    Path(f"{out}.md").write_text(markdown.render(plain(report.as_dict())))
    return 3 if report.failed else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
