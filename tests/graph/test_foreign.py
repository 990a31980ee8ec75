"""Shapes and element types of operators outside the standard, against those that ONNX Runtime makes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

import numpy as np
import onnx
import onnxruntime
import pytest

from intaglio.graph import foreign
from intaglio.graph.cost import cost
from intaglio.graph.coupling import analyse
from intaglio.graph.errors import BadModel
from intaglio.graph.io.load import from_proto
from intaglio.graph.io.save import to_proto
from intaglio.graph.shapes import infer_shapes
from intaglio.graph.traits import OPERATORS, Trait, operator_key
from tests.graph.coupling.examples import EXAMPLES, Example
from tests.graph.coupling.foreign_examples import LEARNERS, several
from tests.graph.coupling.test_operators import feeds
from tests.zoo.graph import Graph

NO_KERNEL = {"FloatQuant", "Trunc"}
ELSEWHERE = {"FusedConv", "FusedGemm", "Attention", "EmbedLayerNormalization", "Binarizer", "ArrayFeatureExtractor"}
"""Parted on load, or tried with the standard operators."""


def learners(g: Graph, x: str) -> list[str]:
    """Those that stay as they are."""
    tree = {
        "nodes_treeids": [0] * 3, "nodes_nodeids": [0, 1, 2], "nodes_featureids": [1, 0, 0], "nodes_values": [0.1, 0.0, 0.0],
        "nodes_modes": ["BRANCH_LEQ", "LEAF", "LEAF"], "nodes_truenodeids": [1, 0, 0], "nodes_falsenodeids": [2, 0, 0],
    }  # fmt: skip
    votes = {"treeids": [0, 0], "nodeids": [1, 2], "ids": [0, 1], "weights": [0.5, 2.0]}
    targets = {f"target_{k}": v for k, v in votes.items()}
    classes = {f"class_{k}": v for k, v in votes.items()}
    vectors = {"kernel_type": "LINEAR", "kernel_params": [0.0, 0.0, 0.0], "coefficients": [0.5] * 6, "rho": [0.1]}
    (a,) = several(g, LEARNERS, "TreeEnsembleRegressor", [None], x, n_targets=2, **tree, **targets)
    _, b = several(g, LEARNERS, "TreeEnsembleClassifier", [None] * 2, x, classlabels_int64s=[3, 4], **tree, **classes)
    (c,) = several(g, LEARNERS, "SVMRegressor", [None], x, **vectors)
    _, d = several(
        g, LEARNERS, "SVMClassifier", [None] * 2, x, classlabels_ints=[0, 1], **{**vectors, "coefficients": [0.5] * 12}
    )
    (e,) = several(g, LEARNERS, "FeatureVectorizer", [None], x, x, inputdimensions=[6, 6])
    (f,) = several(g, LEARNERS, "OneHotEncoder", [None], g.op("Round", x), cats_int64s=[0, 1, 2], zeros=1)
    return [a, b, c, d, e, f]


FOREIGN = [e for e in EXAMPLES if ":" in e.op and not e.op.startswith("intaglio")]
FOREIGN = list({e.name.partition("_")[2]: e for e in FOREIGN}.values())
FOREIGN.append(Example(f"{LEARNERS}:SVMRegressor", learners, (4, 6), 17, "learners_rest"))


def bare(example: Example) -> onnx.ModelProto:
    """The example's model, of which no shape is said but those of its inputs."""
    g = Graph(example.name, example.opset)
    g.inputs.append(onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, example.shape))
    made = example.build(g, "x")
    values = [onnx.ValueInfoProto(name=name) for name in ([made] if isinstance(made, str) else made)]
    graph = onnx.helper.make_graph(g.nodes, g.name, g.inputs, values, g.constants)
    imports = [onnx.helper.make_opsetid(*item) for item in {"": g.opset, **g.domains}.items()]
    return onnx.helper.make_model(graph, opset_imports=imports, ir_version=8, functions=g.functions)


@pytest.mark.parametrize("example", FOREIGN, ids=lambda e: e.name)
def test_shapes_and_types_are_those_of_the_runtime(example: Example) -> None:
    model = from_proto(bare(example))
    known = infer_shapes(model)
    proto = to_proto(model)
    names = [name for node in proto.graph.node for name in node.output if name]
    del proto.graph.output[:]
    proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    for name, value in zip(names, session.run(names, feeds(example)), strict=True):
        assert known.dims[name] == np.asarray(value).shape, name
        assert onnx.helper.tensor_dtype_to_np_dtype(known.dtypes[name]) == np.asarray(value).dtype, name


def test_every_rule_is_tried() -> None:
    tried = {operator_key(node) for example in FOREIGN for node in bare(example).graph.node}
    told = {key for key, row in OPERATORS.items() if ":" in key and (row.like or row.traits & Trait.SAME_SHAPE)}
    left = {key.rpartition(":")[2] for key in {*foreign._RULES, *told} - tried}
    assert left <= NO_KERNEL | ELSEWHERE | {"FlexAttention"}


def damaged(proto: onnx.ModelProto) -> Iterator[onnx.ModelProto]:
    """The model without one operand, or without one attribute, of a node that is outside the standard."""
    for k, node in enumerate(proto.graph.node):
        if not node.domain:
            continue
        for i in range(len(node.input)):
            broken = copy(proto)
            broken.graph.node[k].input[i] = ""
            yield broken
        for i in range(len(node.attribute)):
            broken = copy(proto)
            del broken.graph.node[k].attribute[i]
            yield broken


def copy(proto: onnx.ModelProto) -> onnx.ModelProto:
    made = onnx.ModelProto()
    made.CopyFrom(proto)
    return made


@pytest.mark.parametrize("example", FOREIGN, ids=lambda e: e.name)
def test_nodes_that_are_not_as_defined_end_no_process(example: Example) -> None:
    for proto in damaged(bare(example)):
        with suppress(BadModel):
            model = from_proto(proto)
            assert cost(model).params >= 0
            assert all(group.channels > 0 for group in analyse(model).groups)
