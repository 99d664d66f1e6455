"""What the fuzzer found: each a small graph that once was refused, or scored otherwise than in ONNX Runtime."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from polyscore.onnx import OnnxError, update  # noqa: E402
from polyscore.onnx import convert as convert_file  # noqa: E402

from onnx_graphs import compare, convert, model_of, parse_input, save  # noqa: E402

RNG = np.random.default_rng(11)


def f32(*numbers: float) -> np.ndarray:
    return np.array(numbers, dtype=np.float32)


def i64(*numbers: int) -> np.ndarray:
    return np.array(numbers, dtype=np.int64)


def scalar(number: float) -> np.ndarray:
    return np.array(number, dtype=np.float32)


def normal(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


# Nodes of constants alone, which the reference implementation of ONNX computes.

FOLDED = {
    "gelu of onnx runtime": ("c = com.microsoft.Gelu(a)", {"a": f32(-1, 2, 3)}, 15),
    "integer product of onnx runtime": (
        "c = com.microsoft.MatMulIntegerToFloat(a, w, s, t)",
        {"a": np.array([[1, 2]], np.uint8), "w": np.array([[1, 2, 3], [4, 5, 6]], np.uint8), "s": scalar(0.5),
         "t": scalar(0.25)},
        15,
    ),
    "bytes as weights before operator set 19": (
        "c = DequantizeLinear <axis = 0> (a, s, z)",
        {"a": np.array([1, -2, 3], np.int8), "s": f32(0.5, 0.25, 1), "z": np.array([1, 0, -1], np.int8)},
        13,
    ),
    "softmax of several axes before operator set 13": ("c = Softmax <axis = 1> (a)", {"a": normal(1, 2, 3)}, 11),
    "log softmax of axes before operator set 13": ("c = LogSoftmax <axis = -2> (a)", {"a": normal(1, 2, 3)}, 12),
    "sums so far along an axis of shape [1]": ("c = CumSum(a, axis)", {"a": f32(1, 2, 3), "axis": i64(0)}, 14),
    "one hot of a depth of shape [1]": (
        "c = OneHot(a, depth, values)", {"a": i64(2, 0), "depth": i64(3), "values": f32(0, 2)}, 14,
    ),
    "mean of several shapes": ("c = Mean(a, b, d)", {"a": normal(1, 3), "b": normal(1, 1), "d": normal(2, 1)}, 13),
    "elements of a part": (
        "c = GatherElements <axis = -1> (a, i)", {"a": normal(2, 5), "i": np.array([[4, -1, 0]])}, 13,
    ),
    "batch norm before operator set 14": (
        "c = BatchNormalization(a, w, b, m, v)",
        {"a": normal(1, 2, 3), "w": normal(2), "b": normal(2), "m": normal(2), "v": f32(0.5, 2)}, 13,
    ),
    "largest of each channel": ("c = GlobalMaxPool(a)", {"a": normal(1, 2, 4)}, 13),
    "norm by the sum of sizes": ("c = LpNormalization <p = 1> (a)", {"a": f32(-1, 0, 2)}, 13),
    "softsign of a scalar": ("c = Softsign(a)", {"a": scalar(2)}, 15),
    "reduction of a scalar": ("c = ReduceLogSumExp(a)", {"a": scalar(2)}, 13),
}


@pytest.mark.parametrize("name", FOLDED)
def test_a_constant_is_folded(tmp_path, name):
    line, constants, opset = FOLDED[name]
    compare(tmp_path, [line, "y = Add(x, c)"], ["x float 2 3"], constants, opset=opset)


@pytest.mark.parametrize("op", ["ReduceLogSum", "ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceLogSumExp"])
@pytest.mark.parametrize("has_axes", [False, True])
def test_a_reduction_over_no_axes_still_computes_its_function(tmp_path, op, has_axes):
    given, constants = ("x, axes", {"axes": i64()}) if has_axes else ("x", {})
    compare(tmp_path, [f"y = {op} <noop_with_empty_axes = 1> ({given})"], ["x float 3 positive"], constants)


@pytest.mark.parametrize("pads", ["", ", pads = [1, 0]", ", pads = [0, 1]", ", pads = [1, 1]"])
@pytest.mark.parametrize("counts", [0, 1])
def test_a_mean_does_not_count_what_a_last_window_has_beyond_the_padding(tmp_path, pads, counts):
    line = f"y = AveragePool <kernel_shape = [2], strides = [2], ceil_mode = 1, count_include_pad = {counts}{pads}> (x)"
    compare(tmp_path, [line], ["x float 2 5"], {})
    compare(tmp_path, [line.replace("[2]", "[3]")], ["x float 2 6"], {})


# Infinities, which only a `constant` may have


def test_an_infinite_addend_is_not_taken_for_the_bias_of_a_layer(tmp_path):
    nodes = ["p = MatMul(x, w)", "s = Add(p, mask)", "y = Softmax(s)"]
    found = compare(tmp_path, nodes, ["x float 4"], {"w": normal(4, 3), "mask": f32(0, -np.inf, 0)})
    assert [step.get("bias") for step in found.live if step["op"] == "linear"] == [None]


def test_an_infinite_addend_of_gemm_is_not_a_bias(tmp_path):
    compare(tmp_path, ["s = Gemm(x, w, mask)", "y = Softmax(s)"], ["x float 4"],
            {"w": normal(4, 3), "mask": f32(0, -np.inf, 0)})


def test_an_infinite_addend_is_not_taken_for_the_bias_of_a_norm(tmp_path):
    nodes = ["n = LayerNormalization(x, w)", "s = Add(n, mask)", "y = Softmax(s)"]
    compare(tmp_path, nodes, ["x float 4"], {"w": normal(4), "mask": f32(0, -np.inf, 0, 0)})


@pytest.mark.parametrize(("low", "high"), [(np.inf, 1), (-1, -np.inf), (-np.inf, 1), (-1, np.inf)])
def test_a_bound_that_is_infinite_on_the_wrong_side_is_one(tmp_path, low, high):
    compare(tmp_path, ["c = Clip(x, low, high)", "y = Sigmoid(c)"], ["x float 3"],
            {"low": scalar(low), "high": scalar(high)})


# Constants that several nodes read


def test_a_bias_that_is_a_factor_of_a_sum_of_products_too(tmp_path):
    nodes = ["g = Gemm(x, w, c)", "p = Mul(g, c)", "y = ReduceSum(p, axes)"]
    compare(tmp_path, nodes, ["x float 4"], {"w": normal(4, 2), "c": normal(2), "axes": i64(-1)})


# Slopes of Dice that lie otherwise than the elements are computed


def test_the_slopes_of_dice_go_with_their_columns_when_the_columns_are_computed_one_by_one(tmp_path):
    nodes = ["l = LogSoftmax <axis = 1> (x)", "p = Sigmoid(l)", "q = Sub(one, p)", "a = Mul(l, p)", "b = Mul(l, q)",
             "c = Mul(b, slope)", "y = Add(a, c)"]
    compare(tmp_path, nodes, ["x float 3 2"], {"one": scalar(1), "slope": f32(0.5, -1)})


# Rows among others


@pytest.mark.parametrize("last", ["y = Mul(t, z)", "y = Concat <axis = 1> (z, t)"])
def test_zeros_of_the_shape_of_repeated_rows_go_with_them(tmp_path, last):
    nodes = ["t = Tile(x, counts)", "s = Shape(t)", "z = ConstantOfShape(s)", last.replace("y =", "m ="),
             "b = Reshape(m, back)", "y = Transpose <perm = [1, 0, 2]> (b)"]
    compare(tmp_path, nodes, ["x float 4"], {"counts": i64(3, 1), "back": i64(3, -1, 8 if "Concat" in last else 4)})


def test_zeros_of_the_shape_of_repeated_rows_are_reshaped_as_they_are(tmp_path):
    nodes = ["t = Tile(x, counts)", "s = Shape(t)", "z = ConstantOfShape(s)", "b = Reshape(z, back)",
             "u = Unsqueeze(x, zero)", "a = Add(u, b)", "y = Transpose <perm = [1, 0, 2]> (a)"]
    compare(tmp_path, nodes, ["x float 4"], {"counts": i64(3, 1), "back": i64(3, -1, 4), "zero": i64(0)})


def test_a_constant_of_the_type_of_constant_rows_has_no_rows(tmp_path):
    nodes = ["s = Shape(x)", "e = Expand(wide, s)", "f = CastLike(flag, e)", "y = Min(x, f)"]
    compare(tmp_path, nodes, ["x float 3"], {"wide": normal(1, 3), "flag": np.array([[True, False, True]])})


@pytest.mark.parametrize("axis", [1, -1])
def test_elements_of_a_part_of_constant_rows(tmp_path, axis):
    nodes = ["s = Shape(x)", "n = Slice(s, zero, one)", "k = Concat <axis = 0> (n, three)", "e = Expand(wide, k)",
             "i = Expand(places, s)", f"g = GatherElements <axis = {axis}> (e, i)", "y = Add(x, g)"]
    constants = {"zero": i64(0), "one": i64(1), "three": i64(2, 3), "wide": normal(1, 2, 3),
                 "places": np.array([[[1], [-2]]])}
    compare(tmp_path, nodes, ["x float 2 1"], constants, opset=14)


def test_bytes_of_constant_rows_do_not_wrap_below_their_zero(tmp_path):
    nodes = ["s = Shape(x)", "e = Expand(bytes, s)", "f = DequantizeLinear(e, step, zero)", "y = Add(x, f)"]
    constants = {"bytes": np.array([[0, 4, 200]], np.uint8), "step": scalar(0.125), "zero": np.array(105, np.uint8)}
    compare(tmp_path, nodes, ["x float 3"], constants, opset=14)


# Ids that are clamped


@pytest.mark.parametrize("line", ["j = Max(i, zero)", "j = Clip(i, zero, far)"])
def test_negative_numbers_of_clamped_ids_are_not_lost_to_a_mask(tmp_path, line):
    nodes = [line, "e = Gather(table, j)", "b = GreaterOrEqual(i, zero)", "m = Cast <to = 1> (b)",
             "u = Unsqueeze(m, last)", "y = Mul(e, u)"]
    constants = {"zero": np.array(0), "far": np.array(9), "last": i64(-1), "table": normal(5, 2)}
    found = compare(tmp_path, nodes, ["i int64 3 <5 signed"], constants)
    assert found.description["features"][0]["kind"] == "dense"


# Inputs and golden requests


def test_an_input_of_a_negative_size_is_refused(tmp_path):
    model = model_of(["y = Sigmoid(x)"], [parse_input("x float 3")], ["y"], {}, 18)
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = -2
    with pytest.raises(OnnxError, match="input `x`: dimension 1 is -2"):
        convert(save(tmp_path, model), {"y": 3})


def test_golden_scores_are_those_of_the_network_as_it_is_written(tmp_path):
    """Optimised, ONNX Runtime multiplies by the bytes of the weights with bytes of the input."""
    nodes = ["w = DequantizeLinear(bytes, step)", "p = MatMul(x, w)", "y = Sigmoid(p)"]
    constants = {"bytes": RNG.integers(-128, 128, (64, 1)).astype(np.int8), "step": scalar(0.002)}
    model = model_of(nodes, [parse_input("x float 64")], ["y"], constants, 15)
    convert_file(save(tmp_path, model), tmp_path / "out.safetensors", golden=8)
    import polyscore

    with polyscore.Model(tmp_path / "out.safetensors") as opened:
        assert opened.info()["golden_requests"] == 3


# Weights that change from day to day


def update_to(folder, nodes, inputs, old, new, **options):
    """Converts the network with the old constants, and brings the file to the new ones."""
    for name, constants in (("old", old), ("new", new)):
        model = model_of(nodes, [parse_input(text) for text in inputs], ["y"], constants, 18)
        (folder / f"{name}.onnx").write_bytes(model.SerializeToString())
    convert_file(folder / "old.onnx", folder / "out.safetensors", golden=2, **options)
    update(folder / "out.safetensors", folder / "new.onnx", folder / "out.safetensors")


def test_weights_that_are_equal_today_may_differ_tomorrow_though_rows_are_made_of_them(tmp_path):
    nodes = ["s = Shape(x)", "n = Slice(s, zero, one)", "k = Concat <axis = 0> (n, three)", "e = Expand(w, k)",
             "r = Reshape(e, flat)", "m = Mul(x, r)", "y = ReduceSum <keepdims = 0> (m, one)"]
    constants = {"zero": i64(0), "one": i64(1), "three": i64(1, 3), "flat": i64(-1, 3)}
    update_to(tmp_path, nodes, ["x float 3"], constants | {"w": f32(3, 3, 3).reshape(1, 1, 3)},
              constants | {"w": f32(1, 2, 3).reshape(1, 1, 3)})


def test_constants_that_one_node_adds_up_may_differ_tomorrow(tmp_path):
    constants = {"b": f32(-2)}
    update_to(tmp_path, ["y = Mean(a, b, x)"], ["x float 3"], constants | {"a": f32(0, 0, 0)},
              constants | {"a": f32(1, 2, 3)}, tasks={"y": ["one", "two", "three"]})


def test_what_a_constant_condition_leaves_out_may_differ_tomorrow(tmp_path):
    nodes = ["c = Where(mask, x, rest)", "f = Flatten(c)", "y = MatMul(f, w)"]
    constants = {"mask": np.array([[[True], [False]]]), "w": normal(6, 1)}
    update_to(tmp_path, nodes, ["x float 2 3"], constants | {"rest": f32(0, 0, 0)},
              constants | {"rest": f32(1, 2, 3)})


def test_a_constant_that_a_constant_condition_takes_may_differ_tomorrow(tmp_path):
    nodes = ["c = Where(mask, x, rest)", "y = Mul(c, x)"]
    constants = {"mask": np.array([False])}
    update_to(tmp_path, nodes, ["x float 3"], constants | {"rest": f32(2, 2, 2)}, constants | {"rest": f32(1, 2, 3)},
              tasks={"y": ["one", "two", "three"]})


def test_a_constant_state_that_a_recurrent_layer_starts_from_may_differ_tomorrow(tmp_path):
    nodes = ["t = Transpose <perm = [1, 0, 2]> (x)", "s = Shape(x)", "n = Slice(s, zero, one)",
             "k = Concat <axis = 0> (one, n, two)", "h = Expand(start, k)",
             "q, l = GRU <hidden_size = 2> (t, w, r, , , h)", "y = Squeeze(l, zero)"]
    constants = {"zero": i64(0), "one": i64(1), "two": i64(2), "w": normal(1, 6, 3), "r": normal(1, 6, 2)}
    update_to(tmp_path, nodes, ["x float 2 3"], constants | {"start": f32(0, 0).reshape(1, 1, 2)},
              constants | {"start": f32(1, -1).reshape(1, 1, 2)}, tasks={"y": ["one", "two"]})


def test_one_of_some_weights_may_differ_tomorrow(tmp_path):
    nodes = ["g = Gather <axis = 1> (w, place)", "u = Unsqueeze(g, one)", "y = Mul(x, u)"]
    constants = {"place": i64(1), "one": i64(1)}
    update_to(tmp_path, nodes, ["x float 1 1"], constants | {"w": f32(1, 1, 1).reshape(1, 3)},
              constants | {"w": f32(1, 2, 3).reshape(1, 3)})
