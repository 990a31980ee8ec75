"""A zoo of small networks, one for every structure that the coupling analysis has to understand.

    names()                                     every network
    entry(name)                                 its inputs, exporters and tags
    build(name, exporter, folder)               write it as ONNX, return the file
    random_inputs(name or file, seed, batch)    valid inputs for it
    torch_outputs(name, inputs)                 what the torch original gives

Add one by writing a function in `families/` under `@network` (torch) or `@handmade` (ONNX). All weights are random
values of healthy size, so no zero bias, unit scale or tiny layer scale hides an error.
"""

from __future__ import annotations

from .files import build, random_inputs, torch_module, torch_outputs
from .inputs import Input
from .registry import TORCH_EXPORTERS, Entry, entry, names

__all__ = [
    "TORCH_EXPORTERS",
    "Entry",
    "Input",
    "build",
    "entry",
    "names",
    "random_inputs",
    "torch_module",
    "torch_outputs",
]
