"""The state of training in a file: arrays by name, nothing pickled."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import numpy as np
import torch

from ....graph.errors import UsageError
from .progress import Progress

if TYPE_CHECKING:
    from .student import Student

_FORM = 1


@dataclass(frozen=True)
class Checkpoint:
    """``key`` stands for model, options and data: a state of others is refused."""

    path: Path
    key: str

    def keep(self, student: Student, optimizer: torch.optim.Optimizer, state: Progress) -> None:
        """Put the state in the place of an older one, whole or not at all."""
        arrays = {f"now/{name}": tensor.numpy() for name, tensor in student.state().items()}
        for folder, tensors in (("best", state.best), ("mean", state.mean)):
            arrays |= {f"{folder}/{name}": tensor.numpy() for name, tensor in tensors.items()}
        for place, tensor in enumerate(student.parameters):
            for name, value in optimizer.state.get(tensor, {}).items():
                arrays[f"optimizer/{place}/{name}"] = torch.as_tensor(value).numpy()
        plain = {name: value for name, value in vars(state).items() if name not in ("best", "mean")}
        meta = json.dumps({"form": _FORM, "key": self.key, "progress": plain})
        aside = self.path.with_name(f".intaglio-{self.path.name}.{os.getpid()}.tmp")
        try:
            with aside.open("wb") as file:
                np.savez(file, meta=np.array(meta), **arrays)  # type: ignore[arg-type]
            aside.replace(self.path)
        except OSError as error:
            aside.unlink(missing_ok=True)
            raise UsageError(f"cannot write {self.path}", why=(error.strerror or str(error)).lower()) from error

    def resumed(self, student: Student, optimizer: torch.optim.Optimizer) -> Progress | None:
        """The state that is in the file, put into student and optimizer; None where there is no file.

        Raises UsageError where it is not of this training, or there is no folder for it.
        """
        if not self.path.parent.is_dir():
            raise UsageError(
                f"cannot write {self.path}", why=f"there is no folder {self.path.parent}", fix="create it first"
            )
        if not self.path.exists():
            return None
        arrays, told = self._read()
        student.restore({name: torch.from_numpy(value) for name, value in _under(arrays, "now").items()})
        best, mean = (
            {name: torch.from_numpy(value) for name, value in _under(arrays, folder).items()}
            for folder in ("best", "mean")
        )
        for place, tensor in enumerate(student.parameters):
            found = _under(arrays, f"optimizer/{place}")
            if found:
                optimizer.state[tensor] = {name: torch.from_numpy(value) for name, value in found.items()}
        return Progress(**{**told["progress"], "best": best, "mean": mean})

    def _read(self) -> tuple[Mapping[str, np.ndarray], dict[str, Any]]:
        try:
            with np.load(self.path, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
            told = json.loads(str(arrays.pop("meta")))
        except (OSError, ValueError, KeyError, BadZipFile) as error:
            raise UsageError(f"{self.path} is no state of training", why=str(error), fix="name another file") from error
        if told.get("form") != _FORM or told.get("key") != self.key:
            raise UsageError(
                f"{self.path} is the state of another training",
                why="model, data or options differ from those that it was kept for",
                fix="name another file, or remove this one",
            )
        return arrays, told


def _under(arrays: Mapping[str, np.ndarray], folder: str) -> dict[str, np.ndarray]:
    return {name.removeprefix(f"{folder}/"): value for name, value in arrays.items() if name.startswith(f"{folder}/")}
