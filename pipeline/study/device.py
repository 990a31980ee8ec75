"""Times of trials that a device measures: a bundle of two models goes there by a command of the user's."""

from __future__ import annotations

import shlex
import subprocess
import tempfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np

from ...graph.errors import IntaglioError, UsageError
from ...graph.io.place import alone
from ...graph.io.save import File, save_all
from ...graph.model import Model
from ...measure.run.bundle import read_measured, write_bundle
from ...measure.run.latency import Timing
from ...measure.run.session import open_session
from ..search.chains import Elsewhere
from ..steps import hashed

PLACES = ("{bundle}", "{result}")
_LINES = 3


class DeviceFailed(IntaglioError):
    """The command that measures on a device failed, or the device computes something else."""


def require_places(command: str) -> None:
    """Raises UsageError where a command does not say what it takes and gives."""
    for place in PLACES:
        if place not in command:
            fix = "such as --device-command 'scp -r {bundle} pi: && ssh pi sh bundle/run.sh && scp pi:bundle/device.json {result}'"
            raise UsageError(f"the device command does not name {place}", fix=fix)


def on_device(command: str) -> Elsewhere:
    """``{bundle}`` of the command is a folder to run there, see ``intaglio bench --bundle``, ``{result}`` the file to bring back."""
    return Elsewhere(f"device {command}", partial(_timed, command))


def _timed(command: str, before: Model, after: Model, inputs: Mapping[str, np.ndarray]) -> Timing:
    """One at a time of all that ask this device. Raises DeviceFailed."""
    lock = Path(tempfile.gettempdir()) / f"intaglio-device-{hashed(command)[:16]}.lock"
    with tempfile.TemporaryDirectory(prefix="intaglio-device-") as scratch, alone(lock):
        folder, result = Path(scratch, "bundle"), Path(scratch, "device.json")
        files = [Path(scratch, name) for name in ("before.onnx", "after.onnx")]
        save_all([File(model, path) for model, path in zip((before, after), files, strict=True)])
        sessions = [open_session(path) for path in files]
        write_bundle(folder, files, sessions, [inputs, inputs], threads=1)
        _carried_out(command, folder, result)
        try:
            timing, apart = read_measured(result, files)
        except UsageError as error:
            raise DeviceFailed("the device told no times", why=str(error.why or error.what)) from error
        if apart:
            raise DeviceFailed("the device does not compute what is computed here", why="; ".join(apart))
        return timing


def _carried_out(command: str, bundle: Path, result: Path) -> None:
    for place, path in zip(PLACES, (bundle, result), strict=True):
        command = command.replace(place, shlex.quote(str(path)))
    done = subprocess.run(command, shell=True, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode:
        last = [line for line in done.stderr.splitlines() if line.strip()][-_LINES:]
        raise DeviceFailed(f"the device command ended with {done.returncode}", why=" / ".join(last))
