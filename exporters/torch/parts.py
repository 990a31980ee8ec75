"""What every written module begins with."""

from __future__ import annotations

HEAD = '''"""{title} as a torch module. Written by intaglio {version}; the weights lie beside this file, in model.safetensors."""

from __future__ import annotations

import json
import math
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

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
        weights = load(Path(__file__).with_name("model.safetensors")) if weights is None else weights
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
