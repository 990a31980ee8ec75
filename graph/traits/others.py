"""Operators of other domains: of ai.onnx.ml all; of ONNX Runtime those that are met here; our own on bits."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf

from .standard import MOVE, ORDERED, QUANTIZED, UNARY
from .trait import Operator, Trait

_INTEGER_PRODUCT = Trait.MULTIPLIES | QUANTIZED

MACHINE_LEARNING: Mapping[str, Operator] = {
    "ArrayFeatureExtractor": Operator(MOVE),
    "Binarizer": Operator(UNARY | ORDERED, bounds=(0.0, 1.0)),
    "LabelEncoder": Operator(Trait.ELEMENTWISE),
}
MACHINE_LEARNING_WITHOUT = """
CastMap CategoryMapper DictVectorizer FeatureVectorizer Imputer LinearClassifier LinearRegressor Normalizer
OneHotEncoder SVMClassifier SVMRegressor Scaler TreeEnsemble TreeEnsembleClassifier TreeEnsembleRegressor ZipMap
"""

MICROSOFT: Mapping[str, Operator] = {
    "BiasGelu FastGelu": Operator(Trait.SAME_SHAPE, channels=-1),
    "DequantizeLinear": Operator(Trait.QUANTIZES, codes=(0,), scales=(1, 2), like="Identity", typed=(1,)),
    "DynamicQuantizeLSTM": Operator(
        Trait.RECURRENT | QUANTIZED, channels=-1, bias=3, gates=4, codes=(1, 2), scales=(8, 9, 10, 11)
    ),
    "DynamicQuantizeMatMul": Operator(
        _INTEGER_PRODUCT, channels=-1, codes=(1,), scales=(2, 3), like="MatMul", like_of=(0, 1)
    ),
    "FusedConv": Operator(Trait.CONVOLVES, channels=1, weights=(1,), bias=2, like="Conv", like_of=(0, 1)),
    "FusedGemm": Operator(Trait.MULTIPLIES, channels=1, weights=(1, 0), bias=2, like="Gemm", like_of=(0, 1)),
    "FusedMatMul": Operator(Trait.MULTIPLIES, channels=-1, weights=(1, 0)),
    "GatherBlockQuantized": Operator(
        QUANTIZED, codes=(0,), scales=(2, 3), code_bits=4, since=dict.fromkeys((2, 4, 8), (1, 23))
    ),
    "Gelu": Operator(UNARY, bounds=(-0.1701, inf)),
    "GroupQueryAttention": Operator(caches={3: 1, 4: 2}),
    "MatMulBnb4": Operator(Trait.MULTIPLIES | Trait.INTEGER_WEIGHTS, channels=-1, codes=(1,), scales=(2,)),
    "MatMulIntegerToFloat": Operator(
        _INTEGER_PRODUCT, channels=-1, codes=(0, 1), scales=(2, 3, 4, 5), like="MatMul", like_of=(0, 1), typed=(2,)
    ),
    "MatMulInteger16": Operator(_INTEGER_PRODUCT, channels=-1, codes=(0, 1)),
    "MatMulNBits": Operator(
        _INTEGER_PRODUCT,
        channels=-1,
        codes=(1,),
        scales=(2, 3),
        code_bits=4,
        since={2: (1, 24), 4: (1, 19), 8: (1, 22)},
    ),
    "MultiHeadAttention": Operator(caches={6: 1, 7: 2}),
    "QAttention": Operator(QUANTIZED, codes=(1,), scales=(3, 4, 6, 7)),
    "QEmbedLayerNormalization": Operator(QUANTIZED, codes=(2, 3, 4, 5, 6), scales=tuple(range(8, 18))),
    "QGemm": Operator(
        _INTEGER_PRODUCT,
        channels=1,
        codes=(0, 3, 6),
        scales=(1, 2, 4, 5, 7, 8),
        like="Gemm",
        like_of=(0, 3),
        typed=(8, 1),
    ),
    "QLinearAdd QLinearMul": Operator(
        Trait.INTEGER, codes=(0, 3), scales=(1, 2, 4, 5, 6, 7), like="Add", like_of=(0, 3)
    ),
    "QLinearAveragePool": Operator(Trait.INTEGER, scales=(1, 2, 3, 4), like="AveragePool"),
    "QLinearConcat": Operator(Trait.INTEGER, scales=(0, 1), like="Concat", like_of=(-2,), typed=(1,)),
    "QLinearConv": Operator(
        Trait.CONVOLVES | QUANTIZED,
        channels=1,
        codes=(3, 8),
        scales=(1, 2, 4, 5, 6, 7),
        like="Conv",
        like_of=(0, 3),
        typed=(7,),
    ),
    "QLinearGlobalAveragePool": Operator(Trait.INTEGER, scales=(1, 2, 3, 4), like="GlobalAveragePool"),
    "QLinearLeakyRelu QLinearSigmoid QLinearSoftmax": Operator(Trait.INTEGER, scales=(1, 2, 3, 4), like="Identity"),
    "QLinearWhere": Operator(Trait.INTEGER, scales=(2, 3, 5, 6, 7, 8), like="Sum", like_of=(0, 1, 4), typed=(1,)),
    "QuantizeLinear": Operator(Trait.QUANTIZES, scales=(1, 2), like="Identity", typed=(2,)),
    "QuickGelu": Operator(UNARY),
    "RotaryEmbedding": Operator(Trait.SAME_SHAPE | Trait.HOMOGENEOUS),
    "SkipLayerNormalization SkipSimplifiedLayerNormalization": Operator(Trait.SAME_SHAPE, channels=-1),
}
MICROSOFT_WITHOUT = "Attention EmbedLayerNormalization"

ON_BITS: Mapping[str, Operator] = {
    "BConv BConvBits": Operator(Trait.CONVOLVES | Trait.ON_BITS),
    "BGemm BGemmBits MatMul1Bit MatMul1BitInt8": Operator(Trait.MULTIPLIES | Trait.ON_BITS),
    "BMaxPool": Operator(Trait.POOLS | Trait.ON_BITS),
    "BitPack UnpackWeight": Operator(Trait.ON_BITS),
}
"""Their operands are told by ``graph.bits``."""
