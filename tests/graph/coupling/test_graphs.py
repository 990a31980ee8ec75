"""Graphs as strangers build them: computed shapes, symbolic sizes, control flow, ties, ends in odd places."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from .texts import holds, net

X, Y = "float[2,6] x", "float[2,3] y"
DYNAMIC = {"n": 5, "t": 3, "h": 7, "w": 4}


def test_the_scale_of_attention_keeps_its_meaning_when_it_is_read_from_a_shape() -> None:
    body = """
        q = MatMul (x, wq)
        k = MatMul (x, wk)
        v = MatMul (x, wv)
        s = Shape (q)
        d = Gather (s, last)
        f = Cast <to = 1> (d)
        r = Sqrt (f)
        kt = Transpose <perm = [0, 2, 1]> (k)
        a = MatMul (q, kt)
        b = Div (a, r)
        p = Softmax (b)
        o = MatMul (p, v)
        y = MatMul (o, wo)
    """
    weights = {"wq": (6, 8), "wk": (6, 8), "wv": (6, 8), "wo": (8, 3), "last": -1}
    holds(net(body, "float[n,t,6] x", "float[n,t,3] y", **weights), prunable=[8, 8], sizes=DYNAMIC)


def test_heads_are_found_behind_shapes_computed_at_run_time() -> None:
    body = """
        a = MatMul (x, w)
        s = Shape (a)
        front = Slice (s, zero, two)
        target = Concat <axis = 0> (front, heads)
        r = Reshape (a, target)
        t = Transpose <perm = [0, 2, 1, 3]> (r)
        g = MatMul (t, u)
        b = Transpose <perm = [0, 2, 1, 3]> (g)
        f = Reshape (b, back)
        y = MatMul (f, v)
    """
    weights = {"w": (6, 12), "zero": [0], "two": [2], "heads": [3, 4], "u": (4, 5), "back": [0, 0, 15], "v": (15, 3)}
    holds(net(body, "float[n,t,6] x", "float[n,t,3] y", **weights), prunable=[3, 4, 5], sizes=DYNAMIC)


def test_a_tensor_may_take_its_shape_from_another() -> None:
    body = """
        a = MatMul (x, w)
        b = MatMul (x, u)
        s = Shape (b)
        c = Reshape (a, s)
        r = ReduceSum <keepdims = 1> (b, one)
        e = Expand (r, s)
        z = ConstantOfShape <value = float[1] {0.5}> (s)
        f = Sum (c, e, z, b)
        y = MatMul (f, v)
    """
    holds(net(body, "float[n,6] x", "float[n,3] y", w=(6, 8), u=(6, 8), one=[1], v=(8, 3)), prunable=[8], sizes=DYNAMIC)


def test_a_reshape_that_copies_an_axis_by_zero_follows_when_that_axis_shrinks() -> None:
    """The second 0 copies a length that is 2 by accident: a repeat, where the result has its time axis."""
    body = """
        a = MatMul (x, w)
        r = Reshape (a, split)
        t = Transpose <perm = [0, 2, 1, 3]> (r)
        u = Unsqueeze (t, two)
        e = Expand (u, many)
        h = Reshape (e, merged)
        b = Transpose <perm = [0, 2, 1, 3]> (h)
        f = Reshape (b, flat)
        y = MatMul (f, v)
    """
    shapes = {"split": [3, 2, 2, 4], "two": [2], "many": [3, 2, 2, 2, 4], "merged": [-1, 4, 0, 4], "flat": [3, 2, 16]}
    holds(net(body, "float[3,2,6] x", "float[3,2,3] y", w=(6, 8), v=(16, 3), **shapes), prunable=[2, 2, 4])


def test_a_squeeze_without_axes_drops_no_channel_that_is_left_alone() -> None:
    body = "a = Conv (x, w) g = GlobalAveragePool (a) s = Squeeze (g) y = MatMul (s, v)"
    holds(net(body, "float[2,3,6,6] x", Y, w=(8, 3, 1, 1), v=(8, 3)), prunable=[8])
    body = "a = MatMul (x, w) s = Squeeze (a) y = MatMul (s, v)"
    holds(net(body, X, Y, w=(6, 8), v=(8, 3)), prunable=[8])


def test_flatten_and_reshape_take_every_form() -> None:
    body = """
        a = Conv (x, w)
        whole = Flatten <axis = 0> (a)
        row = Flatten <axis = -3> (a)
        column = Flatten <axis = 4> (a)
        again = Reshape <allowzero = 1> (row, target)
        t = Transpose (column)
        z = Sum (whole, t, again)
        y = MatMul (z, v)
    """
    holds(net(body, "float[1,3,2,2] x", "float[1,3] y", w=(6, 3, 1, 1), target=[1, -1], v=(24, 3)), prunable=[6])


def test_windows_are_cut_from_a_dynamic_batch() -> None:
    body = """
        a = Conv (x, w)
        b = Reshape (a, r1)
        c = Transpose <perm = [0, 2, 4, 3, 5, 1]> (b)
        d = Reshape (c, r2)
        e = MatMul (d, u)
        g = Reshape (e, r3)
        h = Transpose <perm = [0, 5, 1, 3, 2, 4]> (g)
        i = Reshape (h, r4)
        y = Conv (i, v)
    """
    shapes = {"r1": [-1, 8, 2, 2, 2, 2], "r2": [-1, 4, 8], "r3": [-1, 2, 2, 2, 2, 6], "r4": [-1, 6, 4, 4]}
    weights = {"w": (8, 3, 1, 1), "u": (8, 6), "v": (2, 6, 1, 1)}
    model = net(body, "float[n,3,4,4] x", "float[n,2,4,4] y", **shapes, **weights)
    holds(model, prunable=[8, 6], sizes=DYNAMIC)


def test_heads_merged_into_the_batch_are_free_only_if_the_batch_is_fixed() -> None:
    body = """
        a = MatMul (x, w)
        b = Reshape (a, r1)
        c = Transpose <perm = [0, 2, 1, 3]> (b)
        d = Reshape (c, r2)
        t = Transpose <perm = [0, 2, 1]> (d)
        s = MatMul (d, t)
        p = Softmax (s)
        o = MatMul (p, d)
        g = Reshape (o, r3)
        h = Transpose <perm = [0, 2, 1, 3]> (g)
        i = Reshape (h, r4)
        y = MatMul (i, v)
    """
    for batch, first, prunable in (("2", 2, [3, 4]), ("n", -1, [4])):
        shapes = {"r1": [first, 5, 3, 4], "r2": [first * 3 if first > 0 else -1, 5, 4]}
        shapes |= {"r3": [first, 3, 5, 4], "r4": [first, 5, 12]}
        model = net(body, f"float[{batch},5,6] x", f"float[{batch},5,3] y", w=(6, 12), v=(12, 3), **shapes)
        holds(model, prunable=prunable, sizes=DYNAMIC if batch == "n" else None)


def test_a_class_token_is_repeated_along_a_dynamic_batch() -> None:
    body = """
        a = MatMul (x, w)
        s = Shape (a)
        n = Gather (s, zero)
        first = Unsqueeze (n, axis)
        asked = Concat <axis = 0> (first, any, any)
        open = Equal (asked, anys)
        target = Where (open, ones, asked)
        e = Expand (token, target)
        c = Concat <axis = 1> (e, a)
        d = Add (c, positions)
        f = Gather <axis = 1> (d, zero)
        y = MatMul (f, v)
    """
    numbers = {"zero": 0, "axis": [0], "any": [-1], "anys": [-1, -1, -1], "ones": [1, 1, 1]}
    weights = {"w": (6, 8), "v": (8, 3), "token": (1, 1, 8), "positions": (1, 6, 8)}
    holds(net(body, "float[n,5,6] x", "float[n,3] y", **numbers, **weights), prunable=[8], sizes=DYNAMIC)


def test_an_image_is_resized_to_sizes_computed_from_its_own() -> None:
    body = """
        a = Conv (x, w)
        s = Shape (a)
        front = Slice (s, zero, two)
        back = Slice (s, two, four)
        double = Mul (back, two)
        sizes = Concat <axis = 0> (front, double)
        b = Resize <mode = "nearest", coordinate_transformation_mode = "asymmetric"> (a, _, _, sizes)
        y = Conv (b, v)
    """
    numbers = {"zero": [0], "two": [2], "four": [4]}
    model = net(body, "float[n,3,h,w] x", "float[n,2,hh,ww] y", w=(8, 3, 1, 1), v=(2, 8, 1, 1), **numbers)
    holds(model, prunable=[8], sizes=DYNAMIC)


def test_every_axis_may_be_symbolic_but_the_channels() -> None:
    body = """
        a = Conv <pads = [1, 1, 1, 1]> (x, w)
        b = Relu (a)
        c = Conv <pads = [1, 1, 1, 1]> (b, u)
        d = Add (b, c)
        g = GlobalAveragePool (d)
        f = Flatten (g)
        y = Gemm <transB = 1> (f, v)
    """
    model = net(body, "float[n,3,h,w] x", "float[n,3] y", w=(8, 3, 3, 3), u=(8, 8, 3, 3), v=(3, 8))
    holds(model, prunable=[8], sizes=DYNAMIC)


def test_lengths_that_become_values_stay_true() -> None:
    """A range over the channels is as long as they are, and a division by their number goes on dividing by it."""
    body = """
        a = MatMul (x, w)
        s = Shape (a)
        c = Gather (s, one)
        r = Range (zero, c, one)
        f = Cast <to = 1> (r)
        b = Mul (a, f)
        m = Cast <to = 1> (c)
        d = Div (b, m)
        y = MatMul (d, v)
    """
    holds(net(body, "float[n,6] x", "float[n,3] y", w=(6, 8), v=(8, 3), one=1, zero=0), prunable=[8], sizes=DYNAMIC)


def test_a_count_of_elements_that_depends_on_the_batch_freezes() -> None:
    body = "a = MatMul (x, w) s = Size (a) c = Cast <to = 1> (s) d = Div (a, c) y = MatMul (d, v)"
    coupling = holds(net(body, "float[n,6] x", "float[n,3] y", w=(6, 8), v=(8, 3)), prunable=[], sizes=DYNAMIC)
    assert any("counts its elements" in str(g.frozen_by) for g in coupling.groups)


def test_an_input_without_a_shape_freezes_everything_and_breaks_nothing() -> None:
    model = net("a = MatMul (x, w) b = Relu (a) y = MatMul (b, v)", X, Y, w=(6, 8), v=(8, 3))
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.ClearField("shape")
    from .equality import analysed

    assert not any(g.prunable for g in analysed(model).groups)


def test_what_a_graph_gives_out_stays_whole() -> None:
    body = "a = MatMul (x, w) h = Relu (a) y = MatMul (h, v)"
    holds(net(body, X, f"{Y}, float[2,8] h", w=(6, 8), v=(8, 3)), prunable=[])
    holds(net(body, X, f"{Y}, float[6,8] w", w=(6, 8), v=(8, 3)), prunable=[])
    holds(net(f"{body} z = Identity (x)", X, f"{Y}, float[2,6] z", w=(6, 8), v=(8, 3)), prunable=[8])


def test_a_shared_constant_that_is_an_output_stays_whole_as_one() -> None:
    body = "a = MatMul (x, w) c = Add (a, b) d = MatMul (c, v) e = Add (d, b) y = MatMul (e, u)"
    model = net(body, X, f"{Y}, float[8] b", w=(6, 8), v=(8, 8), u=(8, 3), b=(8,))
    holds(model, prunable=[8, 8])


def _if(condition: str, then: list[onnx.NodeProto], otherwise: list[onnx.NodeProto], output: str) -> onnx.NodeProto:
    def branch(nodes: list[onnx.NodeProto]) -> onnx.GraphProto:
        value = helper.make_tensor_value_info(nodes[-1].output[0], TensorProto.FLOAT, None)
        return helper.make_graph(nodes, "branch", [], [value])

    return helper.make_node("If", [condition], [output], then_branch=branch(then), else_branch=branch(otherwise))


def _with_branches(body: str, outputs: str, node: onnx.NodeProto, **weights: object) -> onnx.ModelProto:
    body += " s = ReduceSum <keepdims = 0> (x) c = Greater (s, zero)"
    model = net(body, X, outputs, zero=np.float32(0), **weights)
    model.graph.node.append(node)
    return model


def test_branches_freeze_what_they_read() -> None:
    node = _if("c", [helper.make_node("Add", ["h", "b"], ["t"])], [helper.make_node("Sub", ["h", "b"], ["e"])], "z")
    body = "a = MatMul (x, w) h = Add (a, b) y = MatMul (h, v)"
    coupling = holds(_with_branches(body, f"{Y}, float[2,8] z", node, w=(6, 8), b=(8,), v=(8, 3)), prunable=[])
    assert any("inside a subgraph" in str(g.frozen_by) for g in coupling.groups)


def test_a_constant_that_layers_share_with_a_branch_is_parted_from_it() -> None:
    """What the branch reads must stay as long as it was, whatever the layers' copies lose."""
    node = _if("c", [helper.make_node("Identity", ["b"], ["t"])], [helper.make_node("Neg", ["b"], ["e"])], "z")
    body = "a = MatMul (x, w) h = Add (a, b) r = Relu (h) g = MatMul (r, u) k = Add (g, b) y = MatMul (k, v)"
    model = _with_branches(body, f"{Y}, float[8] z", node, w=(6, 8), u=(8, 8), b=(8,), v=(8, 3))
    holds(model, prunable=[8, 8])


def test_loops_and_functions_freeze_what_they_touch_and_no_more() -> None:
    body = "a = MatMul (x, w) b = my.F (a, u) c = MatMul (b, v) y = MatMul (c, k)"
    model = net(body, X, Y, w=(6, 8), u=(8, 8), v=(8, 7), k=(7, 3))
    model.opset_import.append(helper.make_opsetid("my", 1))
    inner = [helper.make_node("MatMul", ["p", "q"], ["r"])]
    model.functions.append(helper.make_function("my", "F", ["p", "q"], ["r"], inner, [helper.make_opsetid("", 17)]))
    holds(model, prunable=[7])


def test_sequences_freeze_what_they_hold() -> None:
    body = """
        a = MatMul (x, w)
        q = SequenceConstruct (a, a)
        c = ConcatFromSequence <axis = 1> (q)
        d = MatMul (c, v)
        y = MatMul (d, u)
    """
    holds(net(body, X, Y, w=(6, 8), v=(16, 7), u=(7, 3)), prunable=[])


def test_sparse_weights_are_left_alone() -> None:
    model = net("a = MatMul (x, w) b = MatMul (a, s) y = MatMul (b, v)", X, Y, w=(6, 8), v=(8, 3))
    values = numpy_helper.from_array(np.array([1, 2, 3], np.float32), "s")
    places = numpy_helper.from_array(np.array([0, 9, 20], np.int64), "places")
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, places, [8, 8]))
    holds(model, prunable=[], checked=False)


def test_an_embedding_stays_tied_to_the_layer_that_reads_it_backwards() -> None:
    for last in ("t = Transpose (table) y = MatMul (h, t)", "y = Gemm <transB = 1> (h, table)"):
        body = f"e = Gather (table, ids) a = MatMul (e, w) b = Relu (a) h = MatMul (b, u) {last}"
        model = net(body, "int64[5] ids", "float[5,11] y", table=(11, 6), w=(6, 8), u=(8, 6))
        holds(model, prunable=[6, 8])


def test_depthwise_and_grouped_layers_meet_at_any_multiplier() -> None:
    body = "a = Conv (x, w) b = Conv <group = 6> (a, d) c = Conv <group = 3> (b, e) y = Conv (c, v)"
    weights = {"w": (6, 3, 1, 1), "d": (18, 1, 1, 1), "e": (9, 6, 1, 1), "v": (2, 9, 1, 1)}
    holds(net(body, "float[1,3,4,4] x", "float[1,2,4,4] y", **weights), prunable=[3, 2, 3, 3])


def test_padding_strides_and_output_padding_do_not_matter() -> None:
    body = """
        a = Conv <auto_pad = "SAME_UPPER", strides = [2, 2]> (x, w, b)
        c = ConvTranspose <strides = [2, 2], output_padding = [1, 1]> (a, u)
        y = Conv (c, v)
    """
    weights = {"w": (8, 3, 3, 3), "b": (8,), "u": (8, 6, 2, 2), "v": (2, 6, 1, 1)}
    holds(net(body, "float[1,3,7,7] x", "float[1,2,9,9] y", **weights), prunable=[8, 6])


def test_letters_repeat_and_go_missing_in_an_einsum() -> None:
    body = """
        a = MatMul (x, w)
        b = Einsum <equation = "ij,jk"> (a, u)
        c = Einsum <equation = "ij->ji"> (b)
        d = Einsum <equation = "ki,kj->ij"> (c, c)
        y = Einsum <equation = "ii->i"> (d)
        z = Einsum <equation = "ki->i"> (c)
    """
    holds(net(body, "float[4,6] x", "float[4] y, float[4] z", w=(6, 8), u=(8, 7)), prunable=[8, 7])


def test_a_two_dimensional_table_of_repeated_indices_is_solved() -> None:
    """Reading an index twice states that two products are one: refining them must come to an end."""
    body = """
        a = MatMul (x, w)
        g = Gather <axis = -1> (a, table)
        m = MatMul (g, u)
        y = Einsum <equation = "nrz,ry->nzy"> (m, v)
    """
    model = net(body, X, "float[2,3,4] y", w=(6, 8), table=[[0, -6, 2], [3, -1, 5]], u=(3, 3), v=(2, 4))
    from .equality import analysed

    assert analysed(model).solution.rounds < 16
