"""The operators of the standard domain, ai.onnx, as they are from operator set 13 on, and those in preview.

Operators of which the same holds share a row.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import inf, pi

from .trait import EVERYWHERE, NONE, Operator, Role, Runtime, Trait

BROADCAST = Trait.ELEMENTWISE | Trait.BROADCASTS
UNARY = Trait.ELEMENTWISE | Trait.SAME_SHAPE
ORDERED = Trait.RISING | Trait.IN_ORDER
FOLLOWS = Trait.HOMOGENEOUS | Trait.SHIFTS | ORDERED
"""What holds for all that moves or selects numbers."""
MOVE = Trait.MOVES | FOLLOWS
SELECT = Trait.SELECTS | FOLLOWS
AVERAGE = Trait.HOMOGENEOUS | Trait.SHIFTS | Trait.RISING
CARRIED = Trait.IDLE | Trait.SAME_SHAPE
PRODUCT = Trait.LAYER | Trait.MULTIPLIES | Trait.DYNAMIC_KERNEL | Trait.BLOCK_KERNEL
QUANTIZED = Trait.INTEGER | Trait.INTEGER_WEIGHTS
POSITIVE = (0.0, inf)
AXES = {1: Role.AXES}
ORT, OPENVINO, TENSORRT, LITERT = Runtime.ORT, Runtime.OPENVINO, Runtime.TENSORRT, Runtime.LITERT
ALL = EVERYWHERE | LITERT


def _recurrent(gates: int, extra: Trait = NONE) -> Operator:
    roles = {4: Role.COUNTS}
    return Operator(Trait.RECURRENT | extra, channels=-1, weights=(1, 2), bias=3, gates=gates, roles=roles)


def _clip(low: float | None = None, high: float | None = None) -> tuple[float, float]:
    return -inf if low is None else low, inf if high is None else high


def _hard_sigmoid(alpha: float = 0.2, beta: float = 0.5) -> tuple[float, float] | None:
    return (-beta / alpha, (1 - beta) / alpha) if alpha > 0 else None


STANDARD: Mapping[str, Operator] = {
    "Abs": Operator(UNARY | Trait.HOMOGENEOUS, bounds=POSITIVE),
    "Acos": Operator(UNARY | Trait.FALLING, bounds=(0.0, pi)),
    "Acosh Exp Softplus Sqrt": Operator(UNARY | Trait.RISING, bounds=POSITIVE),
    "Add": Operator(BROADCAST | Trait.POLYNOMIAL | Trait.HOMOGENEOUS | ORDERED, data=None, integer=ALL),
    "And BitShift BitwiseAnd BitwiseOr BitwiseXor Or Xor": Operator(BROADCAST | Trait.BITWISE, data=None),
    "Asin Atan": Operator(UNARY | Trait.RISING, bounds=(-pi / 2, pi / 2)),
    "Asinh Atanh Celu Log Sinh": Operator(UNARY | Trait.RISING),
    "Attention": Operator(caches={4: 1, 5: 2}),
    "AveragePool GlobalAveragePool": Operator(Trait.POOLS | AVERAGE, channels=1, integer=ALL),
    "BatchNormalization": Operator(Trait.PER_CHANNEL | Trait.STANDARDIZES | Trait.SAME_SHAPE, channels=1),
    "Bernoulli": Operator(Trait.RANDOM, bounds=(0.0, 1.0)),
    "BitCast": Operator(Trait.ELEMENTWISE | Trait.BITWISE),
    "BitwiseNot Not": Operator(UNARY | Trait.BITWISE),
    "Cast CastLike": Operator(Trait.ELEMENTWISE, since={2: (1, 24), 4: (1, 23)}),
    "CausalConvWithState": Operator(Trait.CONVOLVES, channels=1, weights=(1,), bias=2),
    "Ceil Floor Round": Operator(UNARY | ORDERED),
    "CenterCropPad": Operator(Trait.FILLS | Trait.HOMOGENEOUS | ORDERED, roles={1: Role.SHAPE}),
    "Clip": Operator(UNARY | ORDERED | Trait.RECTIFIES, saturation=_clip),
    "Col2Im": Operator(Trait.HOMOGENEOUS | Trait.RISING),
    "Compress": Operator(MOVE, integer=OPENVINO),
    "Concat": Operator(MOVE, data=None, integer=ALL),
    "ConstantOfShape": Operator(roles={0: Role.SHAPE}),
    "Conv": Operator(
        Trait.LAYER | Trait.CONVOLVES,
        channels=1,
        weights=(1,),
        bias=2,
        integer=ALL,
        float_out=OPENVINO | TENSORRT,
    ),
    "ConvInteger": Operator(Trait.CONVOLVES | QUANTIZED, channels=1, codes=(1,), scales=(2, 3)),
    "ConvTranspose": Operator(Trait.CONVOLVES, channels=1, weights=(1,), bias=2, integer=TENSORRT),
    "Cos Sin": Operator(UNARY, bounds=(-1.0, 1.0)),
    "Cosh": Operator(UNARY, bounds=(1.0, inf)),
    "CumProd": Operator(Trait.SAME_SHAPE, roles=AXES),
    "CumSum": Operator(Trait.SUMS | Trait.POLYNOMIAL | Trait.SAME_SHAPE | Trait.HOMOGENEOUS | Trait.RISING, roles=AXES),
    "DFT": Operator(Trait.HOMOGENEOUS, roles={2: Role.AXES}),
    "DeformConv": Operator(Trait.CONVOLVES, channels=1, weights=(1,), bias=3),
    "DepthToSpace": Operator(MOVE, channels=1, integer=ORT | OPENVINO | LITERT),
    "DequantizeLinear": Operator(Trait.QUANTIZES, codes=(0,), scales=(1, 2), since={2: (1, 24), 4: (1, 19)}),
    "Div": Operator(BROADCAST | Trait.DIVIDES, data=None),
    "Dropout": Operator(CARRIED),
    "DynamicQuantizeLinear": Operator(Trait.QUANTIZES),
    "Einsum": Operator(Trait.MULTIPLIES, data=None, weights=(1, 0)),
    "Elu Reciprocal Shrink Swish Tan": Operator(UNARY),
    "Equal Greater GreaterOrEqual Less LessOrEqual Pow": Operator(BROADCAST, data=None),
    "Erf Softsign": Operator(UNARY | Trait.RISING, bounds=(-1.0, 1.0)),
    "Tanh": Operator(UNARY | Trait.RISING, bounds=(-1.0, 1.0), integer=LITERT),
    "Expand Reshape": Operator(MOVE, roles={1: Role.SHAPE}, integer=ALL),
    "Flatten Transpose": Operator(MOVE, integer=ALL),
    "GRU": _recurrent(3),
    "Gather": Operator(MOVE | Trait.BLOCK_KERNEL, weights=(0,), roles={1: Role.INDICES}, integer=ALL),
    "GatherElements": Operator(MOVE, roles={1: Role.INDICES}),
    "GatherND": Operator(MOVE, roles={1: Role.POSITIONS}),
    "Gelu": Operator(UNARY, bounds=(-0.1701, inf)),
    "Gemm": Operator(PRODUCT, channels=1, weights=(1, 0), bias=2, integer=ALL, float_out=EVERYWHERE),
    "GlobalLpPool LpPool": Operator(Trait.POOLS | Trait.HOMOGENEOUS, channels=1, bounds=POSITIVE),
    "GlobalMaxPool": Operator(Trait.POOLS | SELECT, channels=1, integer=OPENVINO | LITERT),
    "GridSample": Operator(Trait.HOMOGENEOUS, channels=1),
    "GroupNormalization": Operator(Trait.NORMALIZES | Trait.SAME_SHAPE, channels=1),  # since 21: before, one a group
    "HardSigmoid": Operator(UNARY, bounds=(0.0, 1.0), saturation=_hard_sigmoid),
    "HardSwish": Operator(UNARY, bounds=(-0.375, inf), saturation=lambda: (-3.0, inf), integer=LITERT),
    "Hardmax": Operator(Trait.SAME_SHAPE, bounds=(0.0, 1.0), changed=13),
    "Identity": Operator(UNARY | MOVE | CARRIED),
    "If": Operator(Trait.BODIES, deciding=(0,)),
    "Loop": Operator(Trait.BODIES, deciding=(0, 1)),
    "SequenceMap ai.onnx.preview:FlexAttention": Operator(Trait.BODIES),
    "InstanceNormalization": Operator(Trait.NORMALIZES | Trait.STANDARDIZES | Trait.SAME_SHAPE, channels=1),
    "IsInf IsNaN": Operator(Trait.ELEMENTWISE),
    "LRN": Operator(Trait.SAME_SHAPE, channels=1),
    "LSTM": _recurrent(4, Trait.DYNAMIC_KERNEL),
    "LayerNormalization RMSNormalization SimplifiedLayerNormalization": Operator(
        Trait.NORMALIZES | Trait.SAME_SHAPE, channels=-1
    ),  # the last is ONNX Runtime's
    "LeakyRelu": Operator(UNARY | Trait.HOMOGENEOUS, integer=ORT | LITERT),
    "LogSoftmax": Operator(Trait.PROBABILITIES | Trait.SAME_SHAPE, bounds=(-inf, 0.0)),
    "LpNormalization": Operator(Trait.SAME_SHAPE, bounds=(-1.0, 1.0)),
    "MatMul": Operator(PRODUCT, channels=-1, weights=(1, 0), integer=ALL, float_out=EVERYWHERE),
    "MatMulInteger": Operator(Trait.MULTIPLIES | QUANTIZED, channels=-1, codes=(0, 1), scales=(2, 3)),
    "Max Min": Operator(BROADCAST | SELECT, data=None),
    "MaxPool": Operator(Trait.POOLS | SELECT, channels=1, integer=ALL),
    "MaxRoiPool": Operator(Trait.HOMOGENEOUS | ORDERED, channels=1),
    "MaxUnpool": Operator(Trait.FILLS | Trait.HOMOGENEOUS | ORDERED, channels=1),
    "Mean": Operator(BROADCAST | AVERAGE, data=None, integer=OPENVINO),
    "MeanVarianceNormalization": Operator(Trait.SAME_SHAPE),
    "Mish": Operator(UNARY, bounds=(-0.309, inf)),
    "Mod": Operator(BROADCAST | Trait.HOMOGENEOUS | Trait.DIVIDES, data=None),
    "Mul": Operator(BROADCAST | Trait.POLYNOMIAL, data=None, integer=ORT | TENSORRT | LITERT),
    "Multinomial RandomNormal RandomNormalLike RandomUniform RandomUniformLike": Operator(Trait.RANDOM),
    "Neg": Operator(UNARY | Trait.POLYNOMIAL | Trait.HOMOGENEOUS | Trait.FALLING | Trait.IN_ORDER),
    "OneHot": Operator(roles={1: Role.COUNTS}),
    "PRelu": Operator(BROADCAST | Trait.HOMOGENEOUS, changed=7),
    "Pad": Operator(
        Trait.FILLS | ORDERED | Trait.ON_INTEGERS,
        roles={1: Role.EXTENTS, 3: Role.AXES},
        integer=ORT | OPENVINO | LITERT,
    ),
    "QLinearConv": Operator(Trait.CONVOLVES | QUANTIZED, channels=1, codes=(3, 8), scales=(1, 2, 4, 5, 6, 7)),
    "QLinearMatMul": Operator(Trait.MULTIPLIES | QUANTIZED, channels=-1, codes=(0, 3), scales=(1, 2, 4, 5, 6, 7)),
    "QuantizeLinear": Operator(Trait.QUANTIZES, scales=(1, 2)),
    "RNN": _recurrent(1),
    "Range": Operator(data=None, roles=dict.fromkeys((0, 1, 2), Role.EXTENTS)),
    "ReduceL1 ReduceL2": Operator(Trait.REDUCES | Trait.SUMS | Trait.HOMOGENEOUS, bounds=POSITIVE, roles=AXES),
    "ReduceLogSum": Operator(Trait.REDUCES | Trait.SUMS | Trait.RISING, roles=AXES),
    "ReduceLogSumExp": Operator(Trait.REDUCES | Trait.SHIFTS | Trait.RISING, roles=AXES),
    "ReduceMax ReduceMin": Operator(Trait.REDUCES | SELECT, roles=AXES, integer=OPENVINO),
    "ReduceMean": Operator(Trait.REDUCES | AVERAGE, roles=AXES, integer=OPENVINO | LITERT),
    "ReduceProd": Operator(Trait.REDUCES | Trait.POLYNOMIAL, roles=AXES),
    "ReduceSum": Operator(Trait.REDUCES | Trait.POLYNOMIAL | Trait.SUMS | Trait.HOMOGENEOUS | Trait.RISING, roles=AXES),
    "ReduceSumSquare": Operator(Trait.REDUCES | Trait.POLYNOMIAL | Trait.SUMS, bounds=POSITIVE, roles=AXES),
    "Relu": Operator(
        UNARY | Trait.HOMOGENEOUS | ORDERED | Trait.RECTIFIES, bounds=POSITIVE, saturation=lambda: POSITIVE
    ),
    "Resize": Operator(
        Trait.SAMPLES | Trait.HOMOGENEOUS | Trait.SHIFTS,
        roles=dict.fromkeys((1, 2, 3), Role.EXTENTS),
        integer=ORT | OPENVINO | LITERT,
    ),
    "ReverseSequence": Operator(MOVE | Trait.SAME_SHAPE, roles={1: Role.COUNTS}),
    "RoiAlign": Operator(Trait.HOMOGENEOUS | Trait.RISING, channels=1),
    "RotaryEmbedding": Operator(Trait.SAME_SHAPE | Trait.HOMOGENEOUS),
    "STFT": Operator(Trait.HOMOGENEOUS),
    "Scan": Operator(Trait.BODIES, changed=9),
    "Scatter": Operator(MOVE | Trait.SAME_SHAPE, data=(0, 2), roles={1: Role.INDICES}),
    "ScatterElements": Operator(Trait.SAME_SHAPE, data=(0, 2), roles={1: Role.INDICES}),
    "ScatterND": Operator(Trait.SAME_SHAPE, data=(0, 2), roles={1: Role.POSITIONS}),
    "Selu": Operator(UNARY, changed=6),
    "Shape Size": Operator(Trait.SHAPE_ONLY),
    "Sigmoid": Operator(UNARY | Trait.RISING | Trait.PROBABILITIES, bounds=(0.0, 1.0), integer=ORT | LITERT),
    "Sign": Operator(UNARY | ORDERED, bounds=(-1.0, 1.0)),
    "Slice": Operator(MOVE, roles={1: Role.EXTENTS, 2: Role.EXTENTS, 3: Role.AXES, 4: Role.EXTENTS}, integer=ALL),
    "Softmax": Operator(Trait.PROBABILITIES | Trait.SAME_SHAPE, bounds=(0.0, 1.0), integer=LITERT),
    "SpaceToDepth": Operator(MOVE | Trait.ON_INTEGERS, channels=1, integer=ORT | OPENVINO | LITERT),
    "Split": Operator(MOVE, roles={1: Role.COUNTS}, integer=ALL),
    "Squeeze Unsqueeze": Operator(MOVE, roles=AXES, integer=ALL),
    "Sub": Operator(BROADCAST | Trait.POLYNOMIAL | Trait.HOMOGENEOUS, data=None, integer=OPENVINO | LITERT),
    "Sum": Operator(BROADCAST | Trait.POLYNOMIAL | Trait.HOMOGENEOUS | ORDERED, data=None, integer=OPENVINO),
    "SwiGLU": Operator(BROADCAST | Trait.SAME_SHAPE, data=None),  # of equal shapes, which need no stretching
    "TensorScatter": Operator(MOVE | Trait.SAME_SHAPE, data=(0, 1)),
    "ThresholdedRelu": Operator(UNARY, saturation=lambda alpha=1.0: (alpha, inf)),
    "Tile": Operator(MOVE, roles={1: Role.COUNTS}, integer=ORT | TENSORRT | LITERT),
    "TopK": Operator(SELECT, roles={1: Role.COUNTS}),
    "Trilu": Operator(Trait.FILLS | Trait.HOMOGENEOUS | ORDERED | Trait.SAME_SHAPE),
    "Upsample": Operator(Trait.SAMPLES | Trait.HOMOGENEOUS | Trait.SHIFTS, roles={1: Role.EXTENTS}),
    "Where": Operator(BROADCAST | MOVE, data=(1, 2)),
}

WITHOUT = """
AffineGrid ArgMax ArgMin BlackmanWindow ConcatFromSequence Constant Det EyeLike HammingWindow HannWindow
ImageDecoder LinearAttention MelWeightMatrix NegativeLogLikelihoodLoss NonMaxSuppression NonZero Optional
OptionalGetElement OptionalHasElement RegexFullMatch SequenceAt SequenceConstruct SequenceEmpty SequenceErase
SequenceInsert SequenceLength SoftmaxCrossEntropyLoss SplitToSequence StringConcat StringNormalizer StringSplit
TfIdfVectorizer Unique ai.onnx.preview.training:Adagrad ai.onnx.preview.training:Adam
ai.onnx.preview.training:Gradient ai.onnx.preview.training:Momentum
"""
"""Operators that were looked at and of which nothing holds.

Traits are said of numbers in tensors, not of strings and sequences.
"""
