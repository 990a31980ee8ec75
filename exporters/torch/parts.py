"""What every written module begins with, and small functions that some need."""

from __future__ import annotations

HEAD = '''"""{title} as a torch module. Written by intaglio {version}; the weights lie beside this file, in model.safetensors."""

import json
import math
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

TRAINED = {trained}
TYPES = {{
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "BOOL": torch.bool,
    "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8,
}}


def load(path):
    """The tensors of a safetensors file, by their names."""
    content = Path(path).read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    tensors = {{}}
    for name, one in json.loads(content[8:start]).items():
        begin, end = (start + place for place in one["data_offsets"])
        kind, shape = TYPES[one["dtype"]], one["shape"]
        values = torch.frombuffer(bytearray(content[begin:end]), dtype=kind) if end > begin else torch.empty(0, dtype=kind)
        tensors[name] = values.reshape(shape)
    return tensors


#HELPERS


class Model(nn.Module):
    def __init__(self, weights=None):
        super().__init__()
        weights = weights or load(Path(__file__).with_name("model.safetensors"))
        for name, value in weights.items():
            *folders, last = name.split(".")
            module = self
            for folder in folders:
                if folder not in module._modules:
                    module.add_module(folder, nn.Module())
                module = module._modules[folder]
            if name in TRAINED:
                module.register_parameter(last, nn.Parameter(value))
            else:
                module.register_buffer(last, value)

'''
HELPERS = {
    "straight_round": '''def straight_round(x):
    """Rounded, half to even; the gradient passes as if it were not."""
    return x + (torch.round(x) - x).detach()''',
    "along": '''def along(value, rank, axis):
    """One number for each place of an axis, or one for all."""
    return value.reshape([-1 if k == axis % rank else 1 for k in range(rank)]) if value.dim() == 1 and value.numel() > 1 else value''',
    "mean_pool": '''def mean_pool(pool, x, padding, *window):
    """Averages of what is in windows, without what was padded."""
    ones = torch.ones_like(x[:1, :1])
    return pool(F.pad(x, padding), *window) / pool(F.pad(ones, padding), *window)''',
    "mirrored": '''def mirrored(x, axis, before, behind, edge):
    """More at both ends of an axis: mirrored there, or the last value again."""
    last = x.shape[axis] - 1
    places = torch.arange(-before, last + 1 + behind, device=x.device)
    return x.index_select(axis, places.clamp(0, last) if edge else last - (last - places.abs()).abs())''',
    "take": '''def take(x, axis, indices):
    """Gather, negative indices counted from the end."""
    axis, length = axis % x.dim(), x.shape[axis]
    flat = x.index_select(axis, torch.where(indices < 0, indices + length, indices).reshape(-1).long())
    return flat.reshape([*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]])''',
}
