"""A worker process: reads a task a line, answers with its outcome. It ends where its input does, with whoever started it."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict

from .executor import done


def main() -> None:
    """What functions print goes to stderr: stdout is for outcomes."""
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as out:
        os.dup2(2, 1)
        for line in sys.stdin:
            function, task = json.loads(line)
            out.write(json.dumps(asdict(done(function, task))) + "\n")
            out.flush()


if __name__ == "__main__":
    main()
