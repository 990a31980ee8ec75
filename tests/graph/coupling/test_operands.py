"""Operands as strangers write them: left out, scalar, negative, doubled, of old operator sets."""

from __future__ import annotations

import numpy as np
import onnx

from .texts import holds, net

X, Y = "float[2,6] x", "float[2,3] y"


def test_a_recurrent_layer_may_leave_outputs_out() -> None:
    body = """
        a = MatMul (x, w)
        _, h = LSTM <hidden_size = 5> (a, W, R, B)
        _, _, c = LSTM <hidden_size = 5> (a, W2, R2)
        s = Add (h, c)
        q = Squeeze (s, zero)
        y = MatMul (q, v)
    """
    more = {"W": (1, 20, 8), "R": (1, 20, 5), "B": (1, 40), "W2": (1, 20, 8), "R2": (1, 20, 5)}
    holds(net(body, "float[4,2,6] x", Y, w=(6, 8), v=(5, 3), zero=[0], **more), prunable=[8, 5])


def test_a_gated_unit_resets_before_or_after_its_product() -> None:
    body = """
        _, h = GRU <hidden_size = 6, linear_before_reset = 1, direction = "bidirectional"> (x, W, R, B)
        t = Transpose <perm = [1, 0, 2]> (h)
        q = Reshape (t, s)
        y = MatMul (q, v)
    """
    weights = {"W": (2, 18, 6), "R": (2, 18, 6), "B": (2, 36), "v": (12, 3), "s": [0, -1]}
    holds(net(body, "float[4,2,6] x", Y, **weights), prunable=[6])


def test_statistics_of_a_normalization_may_be_left_out() -> None:
    body = "a = MatMul (x, w) n, _, d = LayerNormalization (a, s) q = Mul (n, d) y = MatMul (q, v)"
    holds(net(body, X, Y, w=(6, 8), s=(8,), v=(8, 3)), prunable=[8])


def test_optional_inputs_may_be_left_out() -> None:
    body = """
        a = MatMul (x, w)
        b = Clip (a, _, high)
        c = Conv (image, k, _)
        d = ReduceMean <axes = [2, 3], keepdims = 0> (c)
        e = Add (b, d)
        y = MatMul (e, v)
    """
    weights = {"w": (6, 8), "v": (8, 3), "high": np.float32(0.3), "k": (8, 3, 1, 1)}
    holds(net(body, f"{X}, float[2,3,4,4] image", Y, **weights), prunable=[8])


def test_two_summed_axes_of_one_operand_are_both_masked() -> None:
    body = """
        a = MatMul (x, w)
        b = Einsum <equation = "bsd,sk->bkd"> (a, u)
        y = ReduceSum <keepdims = 0> (b, axes)
    """
    holds(net(body, "float[2,5,6] x", "float[2] y", w=(6, 8), u=(5, 7), axes=[1, -1]), prunable=[7, 8])


def test_a_reduction_without_axes_is_over_all_of_them() -> None:
    body = "a = MatMul (x, w) y = ReduceL2 <keepdims = 0> (a)"
    holds(net(body, X, "float y", w=(6, 8)), prunable=[8])
    body = "a = MatMul (x, w) b = ReduceMean (a) c = Sub (a, b) y = MatMul (c, v)"
    holds(net(body, X, Y, 18, w=(6, 8), v=(8, 3)), prunable=[8])


def test_a_reduction_told_to_do_nothing_without_axes_passes_channels() -> None:
    body = "a = MatMul (x, w) b = ReduceSum <noop_with_empty_axes = 1> (a) y = MatMul (b, v)"
    (group,) = (g for g in holds(net(body, X, Y, w=(6, 8), v=(8, 3)), prunable=[8]).groups if g.prunable)
    assert group.exact


def test_one_tensor_may_be_both_operands() -> None:
    body = """
        a = MatMul (x, w)
        b = Add (a, a)
        c = Concat <axis = -1> (b, b)
        d = Mul (c, c)
        e = Gemm <transB = 1> (d, d)
        f = MatMul (d, v)
        y = Add (e, k)
    """
    weights = {"w": (6, 8), "v": (16, 3), "k": (4, 4)}
    holds(net(body, "float[4,6] x", "float[4,4] y, float[4,3] f", **weights), prunable=[8])


def test_a_weight_may_be_both_operands_of_a_product() -> None:
    body = "v2 = MatMul (v, v) a = MatMul (x, w) b = MatMul (a, v2) y = MatMul (b, u)"
    holds(net(body, X, Y, w=(6, 8), v=(8, 8), u=(8, 3)), prunable=[8])


def test_a_weight_may_be_added_too() -> None:
    """Silencing its rows in the product must not silence them in the sum."""
    body = "a = MatMul (x, w) b = MatMul (a, k) c = Add (b, k) y = MatMul (c, v)"
    holds(net(body, "float[8,6] x", "float[8,3] y", w=(6, 8), k=(8, 8), v=(8, 3)), prunable=[8, 8])


def test_vectors_multiply_from_either_side() -> None:
    body = "a = MatMul (w, x) b = MatMul (u, a) c = MatMul (b, k) y = MatMul (c, v)"
    weights = {"w": (8, 5), "u": (8,), "k": (6, 7), "v": (7,)}
    holds(net(body, "float[5,6] x", "float y", **weights), prunable=[8, 7])


def test_every_form_of_addend_fits_a_gemm() -> None:
    body = """
        a = Gemm <beta = 0.5> (x, w1, c1)
        b = Gemm <alpha = 2.0> (a, w2, c2)
        c = Gemm (b, w3, c3)
        d = Gemm (c, w4, c4)
        y = Gemm (d, v)
    """
    weights = {"w1": (6, 8), "w2": (8, 7), "w3": (7, 9), "w4": (9, 5), "v": (5, 3)}
    addends = {"c1": np.float32(0.5), "c2": (4, 1), "c3": (1,), "c4": (4, 5)}
    holds(net(body, "float[4,6] x", "float[4,3] y", **weights, **addends), prunable=[8, 7, 9, 5])


def test_a_product_without_weights_is_masked_in_front() -> None:
    body = "a = MatMul (x, w) b = MatMul (x, u) y = Gemm <transB = 1> (a, b)"
    holds(net(body, "float[4,6] x", "float[4,4] y", w=(6, 8), u=(6, 8)), prunable=[8])


def test_axes_count_from_the_end() -> None:
    body = """
        a = Conv (x, w)
        s = Softmax <axis = -1> (a)
        c = Concat <axis = -3> (a, s)
        p, q = Split <axis = -3> (c)
        g = Gather <axis = -3> (q, i)
        r = ReduceMean <axes = [-1, -2], keepdims = 0> (g)
        u = Unsqueeze (r, last)
        t = Squeeze (u, last)
        y = MatMul (t, v)
    """
    weights = {"w": (8, 3, 1, 1), "i": [-1, -2, 0, 3], "last": [-1], "v": (4, 3)}
    holds(net(body, "float[2,3,6,6] x", Y, **weights), prunable=[4, 4])


def test_a_slice_runs_backwards_to_the_very_first_index() -> None:
    def short(*values: int) -> np.ndarray:
        return np.array(values, dtype=np.int32)

    body = "a = MatMul (x, w) b = Slice (a, start, end, axis, step) y = MatMul (b, v)"
    bounds = {"start": short(-1), "end": short(-(2**31)), "axis": short(-1), "step": short(-2)}
    holds(net(body, X, Y, w=(6, 8), v=(4, 3), **bounds), prunable=[4, 4])


def test_an_uneven_split_by_number_follows() -> None:
    body = """
        a = MatMul (x, w)
        p, q, r = Split <axis = -1, num_outputs = 3> (a)
        c = Concat <axis = 1> (r, p, q)
        y = MatMul (c, v)
    """
    holds(net(body, X, Y, 18, w=(6, 8), v=(8, 3)), prunable=[8])


def test_split_sizes_may_be_computed() -> None:
    body = """
        a = MatMul (x, w)
        s = Shape (z)
        p, q = Split <axis = -1> (a, s)
        t = Tanh (q)
        c = Concat <axis = 1> (t, p)
        y = MatMul (c, v)
    """
    holds(net(body, "float[n,6] x, float[3,5] z", "float[n,3] y", w=(6, 8), v=(8, 3)), prunable=[8], sizes={"n": 5})


def test_a_part_that_nobody_reads_goes_freely() -> None:
    body = "a = MatMul (x, w) p, q = Split <axis = -1> (a) y = MatMul (q, v)"
    holds(net(body, X, Y, w=(6, 8), v=(4, 3)), prunable=[4, 4])


def test_a_pad_that_cuts_channels_off_follows_when_one_of_those_goes() -> None:
    body = """
        a = MatMul (x, w)
        s = Slice (a, one, end, one)
        p = Pad (s, amounts)
        y = Neg (p)
    """
    weights = {"w": (6, 6), "one": [1], "end": [9], "amounts": [0, -1, 0, 2]}
    holds(net(body, X, "float[2,6] y", **weights), prunable=[2])


def test_index_tables_that_serve_as_numbers_too_are_parted() -> None:
    body = """
        a = MatMul (x, w)
        b = Gather <axis = 1> (a, i)
        c = Cast <to = 1> (i)
        d = Unsqueeze (c, zero)
        g = MatMul (d, u)
        h = MatMul (b, v)
        y = Add (h, g)
    """
    holds(net(body, X, Y, w=(6, 8), i=[3, 1, 0, 7], zero=[0], u=(4, 3), v=(4, 3)), prunable=[4, 4, 4])


def test_empty_parts_of_a_concat_change_nothing() -> None:
    body = "a = MatMul (x, w) b = Concat <axis = 1> (a, none) y = MatMul (b, v)"
    holds(net(body, X, Y, w=(6, 8), none=np.zeros((2, 0), np.float32), v=(8, 3)), prunable=[8])


def test_scalars_and_single_elements_broadcast() -> None:
    body = """
        a = MatMul (x, w)
        b = Mul (a, scalar)
        c = Add (b, single)
        d = Pow (c, two)
        e = Sub (square, d)
        y = MatMul (e, v)
    """
    ones = {"scalar": np.float32(0.5), "single": np.ones(1, np.float32), "two": np.float32(2)}
    holds(net(body, X, Y, w=(6, 8), v=(8, 3), square=np.ones((1, 1), np.float32), **ones), prunable=[8])


def test_a_constant_may_have_more_axes_than_what_it_is_added_to() -> None:
    body = "a = MatMul (x, w) b = Add (table, a) c = ReduceSum <keepdims = 0> (b, zero) y = MatMul (c, v)"
    holds(net(body, X, Y, w=(6, 8), v=(8, 3), table=(3, 2, 8), zero=[0]), prunable=[8, 3])


def test_normalizations_take_tensors_of_any_rank() -> None:
    body = """
        a = MatMul (x, w)
        n = BatchNormalization (a, s, b, b, s2)
        u = Unsqueeze (n, two)
        m = BatchNormalization (u, s, b, b, s2)
        i = InstanceNormalization (t, s, b)
        q = Squeeze (m, two)
        r = ReduceMean <axes = [2], keepdims = 0> (i)
        z = Add (q, r)
        y = MatMul (z, v)
    """
    weights = {"w": (6, 8), "v": (8, 3), "s": (8,), "b": (8,), "s2": np.ones(8, np.float32), "two": [2]}
    body = body.replace("i = Inst", "t = Conv (image, k) i = Inst")
    holds(net(body, f"{X}, float[2,3,7] image", Y, k=(8, 3, 1), **weights), prunable=[8])


def test_slopes_of_one_table_belong_to_two_layers() -> None:
    body = "a = Conv (x, w) b = PRelu (a, s) c = Conv (b, u) d = PRelu (c, s) y = Conv (d, v)"
    weights = {"w": (8, 3, 1, 1), "u": (8, 8, 1, 1), "v": (2, 8, 1, 1), "s": (8, 1, 1)}
    holds(net(body, "float[2,3,4,4] x", "float[2,2,4,4] y", **weights), prunable=[8, 8])


def test_truth_values_have_channels() -> None:
    body = """
        a = MatMul (x, w)
        g = Greater (a, zero)
        n = Not (g)
        h = Or (g, even)
        k = And (h, low)
        b = Where (k, a, table)
        c = Cast <to = 1> (n)
        d = Add (b, c)
        y = MatMul (d, v)
    """
    masks = {"even": np.arange(8) % 2 == 0, "low": np.arange(8) < 6, "zero": np.float32(0)}
    holds(net(body, X, Y, w=(6, 8), v=(8, 3), table=(8,), **masks), prunable=[8])


def test_integers_are_summed_exactly() -> None:
    body = """
        a = MatMul (x, w)
        i = Cast <to = 7> (a)
        j = Mul (i, k)
        r = ReduceSum <keepdims = 1> (j, one)
        y = Cast <to = 1> (r)
    """
    holds(net(body, X, "float[2,1] y", w=(6, 8), k=list(range(1, 9)), one=[1]), prunable=[8])


def test_doubles_and_halves_prune() -> None:
    weights = {n: np.random.default_rng(0).standard_normal(s) for n, s in (("w", (6, 8)), ("v", (3, 8)))}
    body = "a = MatMul (x, w) b = Relu (a) y = Gemm <transB = 1> (b, v)"
    holds(net(body, "double[4,6] x", "double[4,3] y", **weights), prunable=[8])
    halves = {n: v.astype(np.float16) for n, v in weights.items()}
    body = "a = MatMul (x, w) b = Relu (a) z = ReduceSumSquare <axes = [1]> (b) y = Gemm <transB = 1> (b, v)"
    holds(net(body, "float16[4,6] x", "float16[4,3] y, float16[4,1] z", **halves), prunable=[8])


def test_attributes_of_old_operator_sets_follow() -> None:
    for kept in ("", "h = Hardmax (single)"):
        body = f"""
            a = Conv (x, w)
            s = Slice <starts = [0], ends = [5], axes = [1]> (a)
            t = Slice <starts = [5], ends = [9223372036854775807], axes = [1]> (a)
            c = Concat <axis = 1> (t, s)
            p = Pad <pads = [0, 1, 0, 0, 0, 1, 0, 0], mode = "constant", value = 0.5> (c)
            q, r = Split <axis = 1, split = [4, 6]> (p)
            l = Clip <min = -0.5, max = 0.5> (r)
            d = Concat <axis = 1> (l, q)
            m = ReduceMean <axes = [2, 3], keepdims = 1> (d)
            f = Squeeze <axes = [2, 3]> (m)
            u = Unsqueeze <axes = [2]> (f)
            e = Reshape (u, target)
            {kept}
            g = Mul (e, {"h" if kept else "single"})
            y = Gemm <transB = 1> (g, v, b)
        """
        weights = {"w": (8, 3, 1, 1), "target": [0, -1], "v": (3, 10), "b": (3,), "single": np.ones((1, 1), np.float32)}
        holds(net(body, "float[2,3,4,4] x", Y, 9, 4, **weights), prunable=[8, 2])


def test_an_old_softmax_weighs_all_axes_behind_its_own() -> None:
    """Hardmax keeps the model as old as it is."""
    for axis, channels in ((2, [8]), (1, [])):
        body = f"a = Conv (x, w) s = Softmax <axis = {axis}> (a) h = Hardmax (single) m = Mul (s, h) y = Conv (m, v)"
        weights = {"w": (8, 3, 1, 1), "v": (3, 8, 1, 1), "single": np.ones((1, 1), np.float32)}
        holds(net(body, "float[2,3,4,4] x", "float[2,3,4,4] y", 11, 4, **weights), prunable=channels)


def test_weights_listed_as_inputs_are_weights() -> None:
    body = "a = Conv (x, w) b = Relu (a) y = Conv (b, v)"
    inputs = "float[2,3,4,4] x, float[8,3,1,1] w, float[3,8,1,1] v"
    holds(net(body, inputs, "float[2,3,4,4] y", 9, 3, w=(8, 3, 1, 1), v=(3, 8, 1, 1)), prunable=[8])


def test_a_weight_stays_tied_between_a_convolution_and_its_transpose() -> None:
    body = "a = Conv (x, w) b = Relu (a) c = ConvTranspose (b, w) y = Conv (c, v)"
    holds(net(body, "float[1,6,5,5] x", "float[1,2,5,5] y", w=(8, 6, 3, 3), v=(2, 6, 1, 1)), prunable=[8])
    body = "a = Conv (x, w) b = Relu (a) t = Transpose <perm = [1, 0, 2, 3]> (w) c = Conv (b, t) y = Conv (c, v)"
    model = net(body, "float[1,6,5,5] x", "float[1,2,5,5] y", w=(8, 6, 1, 1), v=(2, 6, 1, 1))
    coupling = holds(model, prunable=[8])
    assert sum(t.name == "w" for t in model.graph.initializer) == 1
    assert coupling.axes("t")[1] is coupling.axes("w")[0]


def test_weights_may_be_computed_from_an_input() -> None:
    body = "a = MatMul (x, w) k = Reshape (a, s) c = Conv (image, g) d = Conv (c, k) y = Conv (d, v)"
    weights = {"w": (6, 48), "s": [8, 6, 1, 1], "g": (6, 3, 1, 1), "v": (2, 8, 1, 1)}
    holds(net(body, "float[1,6] x, float[1,3,5,5] image", "float[1,2,5,5] y", **weights), prunable=[8, 6])


def test_strange_names_do_not_matter() -> None:
    model = net("a = MatMul (x, w) b = Relu (a) y = MatMul (b, v)", X, Y, w=(6, 8), v=(8, 3))
    names = {"x": "in put:0", "w": "w w", "a": "a b/ü:0", "b": "->[]\"'\\", "v": "v\n", "y": "out.put"}
    for node in model.graph.node:
        node.input[:] = [names[n] for n in node.input]
        node.output[:] = [names[n] for n in node.output]
    for thing in (*model.graph.input, *model.graph.output, *model.graph.initializer):
        thing.name = names[thing.name]
    holds(model, prunable=[8])


def test_names_that_look_like_ours_are_left_alone() -> None:
    body = """
        a = MatMul (x, w)
        a_patched = Add (a, b)
        mask = Add (a_patched, b__1)
        a_raw = Add (mask, b)
        g = Mul (a_raw, y_kept)
        h = Gather <axis = 1> (g, i)
        a_whole = Mul (h, a_const)
        z = Add (a_whole, h_const)
        y = ReduceSum <keepdims = 0> (z, axes)
    """
    tables: dict[str, tuple[int, ...]] = {n: (8,) for n in ("b", "b__1", "y_kept", "a_const", "h_const")}
    model = net(body, X, "float[2] y", w=(6, 8), axes=[1], i=[1, 0, 3, 2, 5, 4, 7, 6], **tables)
    for old, new in (("mask", "mask/y.0.1"), ("y_kept", "mask/y.0.1.kept")):
        for node in model.graph.node:
            node.input[:] = [new if n == old else n for n in node.input]
            node.output[:] = [new if n == old else n for n in node.output]
        for tensor in model.graph.initializer:
            tensor.name = new if tensor.name == old else tensor.name
    holds(model, prunable=[8])


def test_a_node_that_no_schema_knows_freezes_what_it_touches() -> None:
    body = "a = MatMul (x, w) b = com.microsoft.Trilu (a) c = MatMul (b, v) d = Relu (c) y = MatMul (d, u)"
    model = net(body, X, Y, w=(6, 8), v=(8, 7), u=(7, 3))
    model.opset_import.append(onnx.helper.make_opsetid("com.microsoft", 1))
    coupling = holds(model, prunable=[], checked=False)
    assert any("Trilu" in str(g.frozen_by) for g in coupling.groups)
