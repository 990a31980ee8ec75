"""One call, at least, of every operator of which something is claimed that running can show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper

from intaglio.graph.traits import OPERATORS, Trait, operator, operators

NEWEST = 26
"""The newest operator set that the runtime loads."""
CHECKED = (
    *(Trait.ELEMENTWISE, Trait.PER_CHANNEL, Trait.SAME_SHAPE, Trait.SHAPE_ONLY, Trait.MOVES, Trait.FILLS),
    *(Trait.SELECTS, Trait.SAMPLES, Trait.IDLE, Trait.HOMOGENEOUS, Trait.SHIFTS, Trait.RISING, Trait.FALLING),
    *(Trait.IN_ORDER, Trait.RECTIFIES, Trait.POLYNOMIAL, Trait.SUMS, Trait.STANDARDIZES, Trait.RANDOM),
)
UNRUN = {
    "SwiGLU": "no runtime here has operator set 28",
    "CausalConvWithState": "no kernel",
    "LinearAttention": "no kernel",
    "Scatter": "withdrawn before operator set 13",
    "Upsample": "withdrawn before operator set 13",
    **dict.fromkeys(("BConv", "BConvBits", "BGemm"), "see tests of the kernels"),
}
SHAPE = (2, 4, 6, 6)
UNIT, POSITIVE, LARGE = (-0.99, 0.99), (0.1, 3.0), (1.1, 4.0)
DOMAINS = {
    **dict.fromkeys(("Acos", "Asin", "Atanh"), UNIT),
    **dict.fromkeys(("Log", "Sqrt", "Pow", "Reciprocal", "ReduceLogSum", "Div", "Mod"), POSITIVE),
    "Acosh": LARGE,
}
"""Where an operator is tried, if not between -3 and 3."""


@dataclass(frozen=True)
class Example:
    """``operands`` stand behind the first, which is made of random numbers; None leaves one out, "x" is random too."""

    op: str
    operands: Sequence[Any] = ()
    settings: dict[str, Any] = field(default_factory=dict)
    shape: tuple[int, ...] = SHAPE
    dtype: Any = np.float32
    opset: int = 23
    name: str = ""
    first: Any = "x"

    @property
    def data(self) -> tuple[int, ...]:
        found = operator(self.op).data
        return tuple(range(1 + len(self.operands))) if found is None else found

    def draw(self, seed: int) -> list[Any]:
        """All operands, the data of them random."""
        rng = np.random.default_rng(seed)
        given = [self.first, *self.operands]
        return [self._random(rng) if isinstance(v, str) else None if v is None else np.asarray(v) for v in given]

    def _random(self, rng: np.random.Generator) -> np.ndarray:
        low, high = DOMAINS.get(self.op, (-3.0, 3.0))
        if self.dtype == np.bool_:
            return rng.integers(0, 2, self.shape).astype(bool)
        if np.issubdtype(self.dtype, np.integer):
            return rng.integers(0, 8, self.shape).astype(self.dtype)
        return rng.uniform(low, high, self.shape).astype(self.dtype)

    def run(self, operands: Sequence[np.ndarray | None]) -> np.ndarray:
        """The first output, by ONNX Runtime."""
        return self.runs(operands, 1)[0]

    def runs(self, operands: Sequence[np.ndarray | None], count: int) -> list[np.ndarray]:
        """The first outputs of several runs of one session."""
        feeds = self.feeds(operands)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        text = self.model(operands).SerializeToString()
        session = onnxruntime.InferenceSession(text, options, providers=["CPUExecutionProvider"])
        return [np.asarray(session.run(["y"], feeds)[0]) for _ in range(count)]

    def feeds(self, operands: Sequence[np.ndarray | None]) -> dict[str, np.ndarray]:
        return {f"i{k}": value for k, value in enumerate(operands) if value is not None}

    def model(self, operands: Sequence[np.ndarray | None]) -> onnx.ModelProto:
        """The call alone in a model, its operands being inputs."""
        names = [f"i{k}" if value is not None else "" for k, value in enumerate(operands)]
        names = names if any(names) else []
        domain, _, op = self.op.rpartition(":")
        outputs = ["y", *(f"y{k}" for k in range(1, {"Split": 2, "TopK": 2}.get(op, 1)))]
        node = helper.make_node(op, names, outputs, domain=domain, **self.settings)
        inputs = [
            helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape)
            for n, v in self.feeds(operands).items()
        ]
        graph = helper.make_graph([node], "one", inputs, [onnx.ValueInfoProto(name="y")])
        opsets = [helper.make_opsetid("", self.opset), helper.make_opsetid("ai.onnx.ml", 3)]
        opsets += [helper.make_opsetid("com.microsoft", 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=10)

    def constant(self) -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
        """The call with all operands as constants but those that are random, and these to feed."""
        given = self.draw(0)
        fixed = {
            f"i{k}": v for k, v in enumerate(given) if k and not isinstance(self.operands[k - 1], (str, type(None)))
        }
        proto = self.model(given)
        proto.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in fixed.items())
        ports = [port for port in proto.graph.input if port.name not in fixed]
        del proto.graph.input[:]
        proto.graph.input.extend(ports)
        return proto, {name: value for name, value in self.feeds(given).items() if name not in fixed}


def _ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


_VECTOR = np.array([0.5, -1.0, 2.0, 1.5], np.float32)
_COLUMN = np.linspace(-2, 2, 6, dtype=np.float32)
_AXES = _ints(1)
_KERNEL = {"kernel_shape": [2, 2], "strides": [2, 2]}
_ROWS = (3, 8)
_ROTATED = np.linspace(0, 1, 12, dtype=np.float32).reshape(2, 6, 1)

EXAMPLES: list[Example] = [
    *(Example(f"com.microsoft:{op}", [_COLUMN]) for op in ("BiasGelu", "FastGelu")),
    Example(
        "com.microsoft:RotaryEmbedding",
        [_ints(0), _ROTATED[0, :, :1].repeat(3, 1), _ROTATED[1, :, :1].repeat(3, 1)],
    ),
    Example("com.microsoft:SkipLayerNormalization", ["x", _COLUMN, _COLUMN, _COLUMN], shape=SHAPE[1:]),
    Example("com.microsoft:SkipSimplifiedLayerNormalization", ["x", _COLUMN, _COLUMN], shape=SHAPE[1:]),
    Example("ai.onnx.ml:ArrayFeatureExtractor", [_ints(0, 3, 3)], shape=_ROWS),
    Example("ai.onnx.ml:Binarizer", settings={"threshold": 0.3}, shape=_ROWS),
    Example(
        "ai.onnx.ml:LabelEncoder",
        settings={"keys_floats": [0.0, 1.0, 2.0], "values_floats": [5.0, 6.0, 7.0], "default_float": -1.0},
    ),
    Example("AveragePool", settings=_KERNEL),
    Example("AveragePool", settings={**_KERNEL, "ceil_mode": 1}, name="ceil"),
    Example("BatchNormalization", [_VECTOR, _VECTOR, _VECTOR, np.abs(_VECTOR)]),
    Example("Bernoulli", opset=20),
    Example("BitCast", settings={"to": 6}, opset=26),
    Example("BitShift", ["x"], {"direction": "LEFT"}, dtype=np.uint8),
    *(Example(op, ["x"], dtype=np.int32) for op in ("BitwiseAnd", "BitwiseOr", "BitwiseXor")),
    Example("BitwiseNot", dtype=np.int32),
    *(Example(op, ["x"], dtype=np.bool_) for op in ("And", "Or", "Xor")),
    Example("Not", dtype=np.bool_),
    Example("Cast", settings={"to": 7}),
    Example("CastLike", [np.zeros(3, np.int32)]),
    Example("CenterCropPad", [_ints(4, 8)], {"axes": [2, 3]}),
    Example("Clip", [np.float32(-1), np.float32(2)]),
    Example("Clip", [None, np.float32(0.5)], name="above"),
    Example("Col2Im", [_ints(4, 4), _ints(2, 2)], shape=(1, 8, 9)),
    Example("Compress", [np.array([True, False, True, True])], {"axis": 1}),
    Example("Concat", ["x", "x"], {"axis": 1}),
    Example("CumProd", [np.int64(1)], opset=26),
    Example("CumSum", [np.int64(1)]),
    Example("CumSum", [np.int64(1)], {"reverse": 1, "exclusive": 1}, name="reverse"),
    Example("DFT", [None, np.int64(1)], shape=(2, 6, 1)),
    Example("DepthToSpace", settings={"blocksize": 2}),
    Example("Dropout", [np.float32(0.5)]),
    Example("Elu", settings={"alpha": 1.5}),
    Example("Expand", [_ints(3, 2, 4, 6, 6)]),
    Example("Flatten"),
    Example("Gather", [_ints(3, 0, 0)], {"axis": 1}),
    Example("GatherElements", [_ints(1, 0, 3).reshape(1, 3, 1, 1)], {"axis": 1}),
    Example("GatherND", [_ints(1, 2, 0, 3).reshape(2, 2)]),
    Example("Gelu"),
    Example("Gelu", settings={"approximate": "tanh"}, name="tanh"),
    *(Example(op, opset=21) for op in ("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool")),
    Example("GridSample", [np.random.default_rng(0).uniform(-1, 1, (2, 3, 3, 2)).astype(np.float32)]),
    Example(
        "GridSample",
        [np.random.default_rng(0).uniform(-1, 1, (2, 3, 3, 2)).astype(np.float32)],
        {"mode": "cubic"},
        name="cubic",
    ),
    Example("GroupNormalization", [_VECTOR, _VECTOR], {"num_groups": 2}),
    Example("Hardmax"),
    Example("InstanceNormalization", [_VECTOR, _VECTOR]),
    Example("LRN", settings={"size": 3}),
    *(Example(op, [_COLUMN, _COLUMN]) for op in ("LayerNormalization",)),
    Example("LeakyRelu", settings={"alpha": -0.5}),
    *(Example(op) for op in ("LogSoftmax", "LpNormalization", "MeanVarianceNormalization", "Softmax")),
    Example("LpPool", settings={**_KERNEL, "p": 3}),
    Example("MaxPool", settings=_KERNEL),
    Example("MaxPool", settings={**_KERNEL, "pads": [1, 1, 1, 1]}, name="padded"),
    Example(
        "MaxRoiPool", [np.array([[0, 0, 0, 3, 3], [1, 1, 1, 5, 4]], np.float32)], {"pooled_shape": [2, 2]}, opset=21
    ),
    Example(
        "MaxUnpool",
        [_ints(*range(0, 16, 4)).reshape(1, 1, 2, 2)],
        {"kernel_shape": [2, 2], "strides": [2, 2]},
        (1, 1, 2, 2),
    ),
    Example("Mod", ["x"], {"fmod": 1}),
    Example("Multinomial", settings={"sample_size": 100}, shape=(2, 10), opset=20),
    Example("PRelu", [_VECTOR.reshape(4, 1, 1)]),
    Example("Pad", [_ints(0, 0, 1, 1, 0, 0, 0, 2)]),
    Example("Pad", [_ints(0, 0, 1, 1, 0, 0, 0, 2)], {"mode": "reflect"}, name="reflect"),
    Example("RMSNormalization", [_COLUMN]),
    *(Example(op, opset=20) for op in ("RandomNormalLike", "RandomUniformLike")),
    *(Example(op, settings={"shape": SHAPE}, opset=20, first=None) for op in ("RandomNormal", "RandomUniform")),
    *(Example(op, [_AXES]) for op in sorted(operators(Trait.REDUCES))),
    *(Example(op, [_ints(-1, 2)], {"keepdims": 0}, name="dropped") for op in sorted(operators(Trait.REDUCES))),
    Example("Reshape", [_ints(2, -1, 3)]),
    Example("Resize", [None, np.array([1, 1, 2, 0.5], np.float32)], {"mode": "nearest"}),
    Example("Resize", [None, np.array([1, 1, 2, 1.5], np.float32)], {"mode": "cubic"}, name="cubic"),
    Example("ReverseSequence", [_ints(1, 2, 2, 1)]),
    Example(
        "RoiAlign",
        [np.array([[0, 0, 3, 3]], np.float32), _ints(1)],
        {"output_height": 2, "output_width": 2, "mode": "avg"},
        opset=21,
    ),
    Example(
        "RotaryEmbedding", [np.cos(_ROTATED[..., :1].repeat(3, 2)), np.sin(_ROTATED[..., :1].repeat(3, 2))], shape=SHAPE
    ),
    Example("STFT", [np.int64(2), np.ones(4, np.float32), np.int64(4)], shape=(1, 16, 1)),
    Example("ScatterElements", [_ints(1, 0, 3).reshape(1, 3, 1, 1), np.ones((1, 3, 1, 1), np.float32)], {"axis": 1}),
    Example("ScatterND", [_ints(1, 0).reshape(2, 1), np.ones((2, 4, 6, 6), np.float32)]),
    Example("Shape"),
    Example("Size"),
    Example("SimplifiedLayerNormalization", [_COLUMN]),
    Example("Slice", [_ints(5, 0), _ints(0, 3), _ints(2, 1), _ints(-2, 2)]),
    Example("SpaceToDepth", settings={"blocksize": 2}),
    Example("Split", settings={"axis": 1, "num_outputs": 2}),
    Example("Squeeze", [_ints(1)], shape=(2, 1, 3)),
    Example("Swish", settings={"alpha": 1.5}, opset=24),
    Example("TensorScatter", ["x", _ints(0, 0)], {"axis": 2}, opset=24),
    Example("Tile", [_ints(1, 2, 1, 3)]),
    Example("TopK", [_ints(2)], {"axis": 1}),
    Example("TopK", [_ints(3)], {"axis": 2, "largest": 0}, name="smallest"),
    Example("Transpose", settings={"perm": [0, 2, 3, 1]}),
    Example("Trilu"),
    Example("Unsqueeze", [_ints(0, 3)]),
    Example("Where", ["x", "x"], first=np.arange(288).reshape(SHAPE) % 3 == 0),
]
_GIVEN = {e.op for e in EXAMPLES}
_CLAIMED = [op for op, row in OPERATORS.items() if any(t in row.traits for t in CHECKED) or row.bounds]
EXAMPLES += [
    Example(op, ["x"] * (op in operators(Trait.BROADCASTS)))
    for op in sorted(_CLAIMED)
    if op not in _GIVEN and op.rpartition(":")[2] not in UNRUN
]
