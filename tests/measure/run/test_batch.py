"""A model exported for one sample takes many at once where its samples keep apart, and only there."""

from __future__ import annotations

import numpy as np
import pytest

from intaglio.graph.index import index_of
from intaglio.graph.model import Model
from intaglio.measure.run.batch import open_batch, open_for_batches
from intaglio.measure.run.session import open_session, run
from intaglio.measure.run.tensor_specs import input_specs, output_specs

from ..conftest import MakeModel

APART = {
    "element-wise": ("float[1,4] x", "float[1,4] y", "y = Relu(x)", ""),
    "flattened": ("float[1,3,2] x", "float[1,6] y", "y = Reshape(x, s)", "int64[2] s = {1, -1}"),
    "flattened by a free axis": ("float[1,3,2] x", "float[1,6] y", "y = Reshape(x, s)", "int64[2] s = {-1, 6}"),
    "shape from a node": (
        "float[1,3,2] x",
        "float[1,2,3] y",
        "s = Constant <value = int64[3] {1, 2, 3}> () y = Reshape(x, s)",
        "",
    ),
    "two readers of one shape": (
        "float[1,3,2] x",
        "float[1,6] y",
        "a = Reshape(x, s) b = Relu(x) c = Reshape(b, s) y = Add(a, c)",
        "int64[2] s = {1, 6}",
    ),
}
TOGETHER = {
    "mean over samples": ("float[1,4] x", "float[1,4] y", "m = ReduceMean <axes = [0]> (x) y = Sub(x, m)", ""),
    "a shape that cannot say so": (
        "float[1,3,2] x",
        "float[1,6] y",
        "y = Reshape <allowzero = 1> (x, s)",
        "int64[2] s = {1, 6}",
    ),
    "a constant row is joined": (
        "float[1,2] x",
        "float[1,4] y",
        "y = Concat <axis = 1> (x, c)",
        "float[1,2] c = {1.0, 2.0}",
    ),
}


@pytest.mark.parametrize("name", APART)
def test_many_samples_give_what_single_runs_give(make_model: MakeModel, name: str) -> None:
    model = make_model(*APART[name])
    opened = open_batch(model)
    assert opened is not None
    x = np.random.default_rng(3).standard_normal((5, *index_of(model).shapes.dims["x"][1:])).astype(np.float32)
    together = run(open_session(opened), {"x": x})["y"]
    session = open_session(model)
    apart = np.concatenate([run(session, {"x": row[None]})["y"] for row in x])
    np.testing.assert_array_equal(together, apart)


@pytest.mark.parametrize("name", TOGETHER)
def test_samples_that_cannot_be_kept_apart_stay_single(make_model: MakeModel, name: str) -> None:
    assert open_batch(make_model(*TOGETHER[name])) is None


def test_a_model_that_takes_any_number_is_left_alone(images: Model) -> None:
    assert open_batch(images) is None
    model, close = open_for_batches(images)
    assert model is images
    close(model)
    assert input_specs(images)[0].shape == ("N", 3, 4, 5)


def test_the_original_is_not_touched_and_closing_restores_its_shapes(make_model: MakeModel) -> None:
    model = make_model(*APART["flattened"])
    before = model.proto.SerializeToString()
    opened, close = open_for_batches(model)
    assert opened is not model
    assert isinstance((input_specs(opened)[0].shape or ())[0], str)
    close(opened)
    assert model.proto.SerializeToString() == before
    assert (input_specs(opened), output_specs(opened)) == (input_specs(model), output_specs(model))


def test_a_sequence_of_one_step_is_no_batch(make_model: MakeModel) -> None:
    """Made-up steps are not independent of each other: a cumulative sum runs along the first axis."""
    model = make_model("float[1,4] x", "float[1,4] y", "y = CumSum(x, a)", "int64 a = {0}")
    assert open_batch(model) is None
