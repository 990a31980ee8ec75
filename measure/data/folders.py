"""Data that stands in a folder: images or ``.npy`` files one per sample, or ONNX test data sets."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from ...graph.errors import BadData
from ..run.tensor_specs import TensorSpec
from .preprocess_steps import Step
from .readers import Arrays, Field, Reader, map_npy, read_npy_files

IMAGES = frozenset((".png", ".jpg", ".jpeg", ".bmp", ".webp", ".ppm", ".pgm", ".tif", ".tiff", ".gif"))
SAMPLE = "samples"
LABELS = "labels"


def read_folder(
    folder: Path, inputs: list[TensorSpec], outputs: list[TensorSpec], image_steps: Sequence[Step]
) -> Reader:
    """The reader for whatever the folder holds. Raises BadData where that cannot be told."""
    sets = [folder] if (folder / "input_0.pb").exists() else _numbered(folder.glob("test_data_set_*"))
    if sets:
        return _test_sets(sets, inputs, outputs)
    named = {p.name: folder / f"{p.name}.npy" for p in inputs}
    if named and all(path.is_file() for path in named.values()):
        extra = {p.stem: p for p in sorted(folder.glob("*.npy"))}
        return read_npy_files({**extra, **named})
    return _sample_files(folder, inputs, image_steps)


@dataclass(frozen=True, kw_only=True)
class FileReader(Reader):
    """One file per sample (or per set), loaded by a function, all of one shape."""

    files: Sequence[Path]
    load: Callable[[Path], Arrays]
    labels: np.ndarray | None = None

    def one_sample(self) -> Reader:
        shapes = ", ".join(str(f.shape[1:]) for name, f in self.fields.items() if name != LABELS)
        raise BadData("a folder already holds one sample per file", why=f"they have shape {shapes}")

    def chunks(self, names: Sequence[str], size: int) -> Iterator[Arrays]:
        for start in range(0, len(self.files), size):
            files = self.files[start : start + size]
            loaded = [self.load(file) for file in files]
            stacked = {
                name: self._stack(name, files, loaded) for name in names if name != LABELS or self.labels is None
            }
            if LABELS in names and self.labels is not None:
                stacked[LABELS] = self.labels[start : start + len(files)]
            yield stacked

    def _stack(self, name: str, files: Sequence[Path], loaded: list[Arrays]) -> np.ndarray:
        for file, arrays in zip(files, loaded, strict=True):
            shape = self.fields[name].shape[1:]
            if name not in arrays:
                raise BadData(f"{file} has no {name!r}, which the first one has")
            if not self.whole_runs and arrays[name].shape != shape:
                raise BadData(
                    f"{file} has shape {arrays[name].shape}, unlike {self.files[0].name} with {shape}",
                    fix="bring all to one size: --preprocess resize=HxW" if self.images else "give all one shape",
                )
        return np.stack([arrays[name] for arrays in loaded])


def _sample_files(folder: Path, inputs: list[TensorSpec], image_steps: Sequence[Step]) -> Reader:
    labelled = folder / f"{LABELS}.npy"
    files = _samples(folder)
    files = [f for f in files if f != labelled]
    labels = np.asarray(map_npy(labelled)) if labelled.is_file() else None
    notes: list[str] = []
    if not files:
        files, labels, notes = _classes(folder)
    if labels is not None and len(labels) != len(files):
        raise BadData(f"{folder} holds {len(files)} samples but {len(labels)} labels")
    kinds = {f.suffix.lower() in IMAGES for f in files}
    if len(kinds) > 1:
        raise BadData(f"{folder} mixes .npy files and images", fix="keep one kind in a folder")
    images = kinds == {True}
    gray = images and len(inputs) == 1 and _is_gray(inputs[0])
    load = (lambda path: {SAMPLE: load_image(path, gray, image_steps)}) if images else _load_npy
    first = load(files[0])[SAMPLE]
    fields = {SAMPLE: Field((len(files), *first.shape), first.dtype)}
    if labels is not None:
        fields[LABELS] = Field(labels.shape, labels.dtype)
    return FileReader(
        files=files, load=load, fields=fields, count=len(files), labels=labels, notes=notes, images=images
    )


def _samples(folder: Path) -> list[Path]:
    wanted = IMAGES | {".npy"}
    found = (p for p in folder.iterdir() if p.suffix.lower() in wanted and not p.name.startswith("."))
    return sorted(p for p in found if p.is_file())


def _classes(folder: Path) -> tuple[list[Path], np.ndarray, list[str]]:
    """Samples of class-per-subfolder, in order. Subfolders that are all numbers are the labels; else names, sorted."""
    subfolders = sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    held = [(p, _samples(p)) for p in subfolders]
    held = [(p, files) for p, files in held if files]
    if not held:
        raise BadData(
            f"{folder} holds no data",
            why="neither .npy files nor images nor test_data_set_* folders, nor subfolders with them",
            fix="check the path; an .npz is named itself, not its folder",
        )
    names = [p.name for p, _ in held]
    numbers = [int(n) for n in names] if all(n.isdecimal() for n in names) else list(range(len(names)))
    files = [f for _, files in held for f in files]
    labels = np.concatenate([np.full(len(f), n, np.int64) for n, (_, f) in zip(numbers, held, strict=True)])
    told = ", ".join(f"{n} = {name}" for n, name in list(zip(numbers, names, strict=True))[:10])
    return files, labels, [f"labels are the subfolders: {told}{', ...' if len(names) > 10 else ''}"]


def _load_npy(path: Path) -> Arrays:
    return {SAMPLE: np.asarray(map_npy(path))}


def _is_gray(port: TensorSpec) -> bool:
    """Whether the model wants one channel: (N, 1, H, W) or (N, H, W, 1)."""
    return port.shape is not None and len(port.shape) == 4 and 1 in (port.shape[1], port.shape[3])


def load_image(path: Path, gray: bool, steps: Sequence[Step]) -> np.ndarray:
    """An image as uint8. Shapes: (height, width, 3), or 1 channel if ``gray``."""
    try:
        from PIL import Image, ImageOps
    except ImportError as error:
        raise BadData(f"{path} is an image, and Pillow is not there", fix="pip install 'intaglio[images]'") from error
    try:
        with Image.open(path) as opened:
            turned = ImageOps.exif_transpose(opened)
            image = _in_bytes(turned, path).convert("L" if gray else "RGB")
    except BadData:
        raise
    except Exception as error:  # Pillow's many decoders raise what they like on a broken file
        raise BadData(f"cannot read the image {path}", why=f"{type(error).__name__}: {error}") from error
    for step in steps:
        image = image.resize(_new_size(image.size, step), Image.Resampling.BILINEAR) if step.key == "resize" else image
        image = image.crop(_centre(image.size, step)) if step.key == "crop" else image
    pixels = np.asarray(image)
    return pixels[:, :, None] if gray else pixels


def _in_bytes(image: Any, path: Path) -> Any:
    """The image with 8 bits a channel; of 16-bit gray Pillow itself would cut off all above 255.

    Raises:
        BadData: its numbers have no range that says what is white.
    """
    if image.mode.startswith("I;16"):
        from PIL import Image

        return Image.fromarray(((np.asarray(image, np.uint32) * 255 + 32767) // 65535).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise BadData(
            f"{path} holds {'32-bit integers' if image.mode == 'I' else 'floats'}",
            why="an image has 8 or 16 bits a channel: which of other numbers is white is not known",
            fix="save the arrays as .npy, which are taken as they are",
        )
    return image


def _new_size(size: tuple[int, int], step: Step) -> tuple[int, int]:
    """Width and height: exact, or with the short side of that length."""
    if len(step.sizes) == 2:
        return step.sizes[1], step.sizes[0]
    short = min(size)
    return max(1, round(size[0] * step.sizes[0] / short)), max(1, round(size[1] * step.sizes[0] / short))


def _centre(size: tuple[int, int], step: Step) -> tuple[int, int, int, int]:
    height, width = step.sizes if len(step.sizes) == 2 else step.sizes * 2
    left, top = round((size[0] - width) / 2), round((size[1] - height) / 2)
    if left < 0 or top < 0:
        raise BadData(f"crop={height}x{width} is larger than an image of {size[1]}x{size[0]}", fix="resize= it first")
    return left, top, left + width, top + height


def _numbered(folders: Iterator[Path]) -> list[Path]:
    """Folders such as test_data_set_10 in the order of their numbers."""
    found = [p for p in folders if (p / "input_0.pb").exists()]
    return sorted(found, key=lambda p: (len(p.name), p.name))


def _test_sets(sets: list[Path], inputs: list[TensorSpec], outputs: list[TensorSpec]) -> Reader:
    def load(folder: Path) -> Arrays:
        given = _tensors(folder, "input", [p.name for p in inputs])
        return {**given, **_tensors(folder, "output", [p.name for p in outputs])}

    first = load(sets[0])
    fields = {name: Field((len(sets), *a.shape), a.dtype) for name, a in first.items()}
    return FileReader(files=sets, load=load, fields=fields, count=len(sets), whole_runs=True)


def _tensors(folder: Path, kind: str, names: list[str]) -> Arrays:
    """``input_0.pb``, ``input_1.pb``, ... by the tensors' own names where these are the graph's, else by order."""
    paths = sorted(folder.glob(f"{kind}_*.pb"), key=lambda p: (len(p.name), p.name))
    tensors = [_load_tensor(path) for path in paths]
    own = [name for name, _ in tensors]
    if not set(own) <= set(names) or len(set(own)) < len(own):
        own = names[: len(tensors)]
    return {name: array for name, (_, array) in zip(own, tensors, strict=False)}


def _load_tensor(path: Path) -> tuple[str, np.ndarray]:
    tensor = onnx.TensorProto()
    try:
        tensor.ParseFromString(path.read_bytes())
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            raise ValueError("it points to another file")
        array = onnx.numpy_helper.to_array(tensor)
    except OSError:
        raise
    except Exception as error:
        raise BadData(f"cannot read {path} as a tensor", why=str(error).strip() or type(error).__name__) from error
    return tensor.name, array
