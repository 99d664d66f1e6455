"""Every operator that the importer covers, in small graphs, against ONNX Runtime."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from onnx_graphs import compare, operations

pytest.importorskip("onnxruntime")

RNG = np.random.default_rng(7)


def normal(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


def f32(*numbers: float) -> np.ndarray:
    return np.array(numbers, dtype=np.float32)


def scalar(number: float) -> np.ndarray:
    return np.array(number, dtype=np.float32)


def i64(*numbers: int) -> np.ndarray:
    return np.array(numbers, dtype=np.int64)


def rates_of(count: int) -> list[tuple[str, ...]]:
    """The pair's rate for all inputs, and one mixture of rates after the other."""
    if count == 1:
        return [("pair",), ("request",)]
    turns = [("request", "item", "pair"), ("item", "pair", "request"), ("pair", "request", "item")]
    return [("pair",) * count, *(turn[:count] + ("pair",) * (count - 3) for turn in turns)]


def check(folder, nodes, inputs, constants=None, **options):
    """Compares the graph at all rates."""
    conversion = None
    for seed, rates in enumerate(rates_of(len(inputs))):
        found = compare(folder, nodes, inputs, constants or {}, rates=rates, seed=seed, **options)
        conversion = conversion or found
    return conversion


# Of one element

UNARY = {
    "Neg": "normal", "Abs": "normal", "Sqrt": "positive", "Reciprocal": "positive", "Exp": "normal", "Log": "positive",
    "Erf": "normal", "Sigmoid": "normal", "Tanh": "normal", "Relu": "normal", "LeakyRelu": "normal", "Elu": "normal",
    "Selu": "normal", "Celu": "normal", "Softplus": "normal", "Softsign": "normal", "HardSigmoid": "normal",
    "HardSwish": "normal", "Mish": "normal", "ThresholdedRelu": "normal", "Floor": "normal", "Ceil": "normal",
    "Round": "halves", "Sign": "halves", "Sin": "normal", "Cos": "normal", "Tan": "unit", "Asin": "unit", "Acos": "unit",
    "Atan": "normal", "Sinh": "normal", "Cosh": "normal", "Asinh": "normal", "Acosh": "above", "Atanh": "unit",
    "Identity": "normal", "Shrink": "normal",
}


@pytest.mark.parametrize("op", UNARY)
@pytest.mark.parametrize("shape", ["", "3", "2 3"])
def test_a_function_of_each_element(tmp_path, op, shape):
    check(tmp_path, [f"y = {op}(x)"], [f"x float {shape} {UNARY[op]}"])


@pytest.mark.parametrize("line", [
    "y = LeakyRelu <alpha = 0.3> (x)", "y = Elu <alpha = 0.7> (x)", "y = Selu <alpha = 1.5, gamma = 1.2> (x)",
    "y = Celu <alpha = 0.6> (x)", "y = HardSigmoid <alpha = 0.3, beta = 0.4> (x)", "y = ThresholdedRelu <alpha = 0.5> (x)",
    "y = Shrink <lambd = 0.8, bias = 0.3> (x)",
])
def test_parameters_are_those_of_the_node(tmp_path, line):
    check(tmp_path, [line], ["x float 3"])


@pytest.mark.parametrize("approximate", ["none", "tanh"])
def test_gelu(tmp_path, approximate):
    check(tmp_path, [f'y = Gelu <approximate = "{approximate}"> (x)'], ["x float 3"], opset=20)


@pytest.mark.parametrize("lines", [
    ["y = IsNaN(s)"],
    ["y = IsInf(s)"],
    ["y = IsInf <detect_negative = 0> (s)"],
    ["y = IsInf <detect_positive = 0> (s)"],
    ["a = IsNaN(s)", "b = Where(a, seven, s)", "y = Min(b, seven)", "z = Identity(y)"],
    ["i = Mul(x, infinity)", "y = IsInf(i)"],
])
def test_numbers_that_are_none(tmp_path, lines):
    """Made inside of the graph: the engine takes none, and gives none."""
    names = " ".join(lines)
    constants = {"zero": scalar(0)} | ({"seven": scalar(7)} if "seven" in names else {})
    constants |= {"infinity": scalar(np.inf)} if "infinity" in names else {}
    lines = ["s = Div(x, zero)", *lines]
    lines[-1:] = ["o = IsInf(y)", "z = Where(o, zero, y)"] if "z =" in names else lines[-1:]
    check(tmp_path, lines, ["x float 6 halves"], constants, outputs=["z" if "z =" in names else "y"], opset=20)


@pytest.mark.parametrize(("line", "constants"), [
    ("y = Clip(x)", {}),
    ("y = Clip(x, low)", {"low": scalar(-0.5)}),
    ("y = Clip(x, , high)", {"high": scalar(0.5)}),
    ("y = Clip(x, low, high)", {"low": scalar(-0.5), "high": scalar(1)}),
    ("y = Clip(x, low, high)", {"low": scalar(-np.inf), "high": scalar(np.finfo(np.float32).max)}),
])
def test_clip(tmp_path, line, constants):
    check(tmp_path, [line], ["x float 3"], constants)


def test_clip_by_attributes(tmp_path):
    check(tmp_path, ["y = Clip <min = -0.5, max = 0.25> (x)"], ["x float 3"], opset=10)


def test_clip_by_computed_bounds(tmp_path):
    check(tmp_path, ["z = Squeeze(l, axes)", "y = Clip(x, z, high)"], ["x float 3", "l float single"],
          {"axes": i64(0), "high": scalar(1)})


@pytest.mark.parametrize("source", ["float", "int64", "bool", "int32", "uint8"])
@pytest.mark.parametrize("to", [1, 6, 7, 9, 11])
def test_casts(tmp_path, source, to):
    check(tmp_path, [f"z = Cast <to = {to}> (x)", "y = Cast <to = 1> (z)"], [f"x {source} 3 signed"])


def test_a_cast_like_another(tmp_path):
    check(tmp_path, ["z = CastLike(x, t)", "y = Cast <to = 1> (z)"], ["x float 3"], {"t": i64(1)})


# Of two elements

SHAPES = [("", ""), ("3", "3"), ("3", "1"), ("1", "3"), ("2 3", "2 3"), ("2 3", "1 3"), ("2 1", "2 3"), ("2 3", "2 1"),
          ("2 1", "1 3"), ("1 3", "2 1"), ("2 1 3", "1 4 3"), ("2 4 3", "1 4 1"), ("2 4 3", "2 1 3")]


@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Div", "Max", "Min", "Pow"])
@pytest.mark.parametrize(("left", "right"), SHAPES)
def test_arithmetic_of_two_inputs(tmp_path, op, left, right):
    check(tmp_path, [f"y = {op}(a, b)"], [f"a float {left} positive", f"b float {right} positive"])


@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Div", "Max", "Min", "Pow", "PRelu"])
@pytest.mark.parametrize("shape", [(), (1,), (3,), (4, 3), (4, 1), (1, 4, 3), (1, 1, 1)])
def test_arithmetic_with_a_constant(tmp_path, op, shape):
    constant = np.abs(normal(*shape)) + np.float32(0.5)
    check(tmp_path, [f"y = {op}(x, c)"], ["x float 4 3 positive"], {"c": constant})
    if op != "PRelu":
        check(tmp_path, [f"y = {op}(c, x)"], ["x float 4 3 positive"], {"c": constant})


@pytest.mark.parametrize(("op", "number"), [
    ("Add", 0), ("Sub", 0), ("Mul", 1), ("Mul", -1), ("Div", 1), ("Div", 4), ("Div", 3), ("Max", 0), ("Pow", 0.5),
    ("Pow", 1), ("Pow", 2), ("Pow", 3), ("Pow", 4), ("Pow", -1), ("Pow", -0.5), ("Pow", 1.7),
])
def test_arithmetic_with_a_number(tmp_path, op, number):
    check(tmp_path, [f"y = {op}(x, c)"], ["x float 3 positive"], {"c": scalar(number)})
    if op != "Pow" or number > 0:
        check(tmp_path, [f"y = {op}(c, x)"], ["x float 3 positive"], {"c": scalar(number)})


@pytest.mark.parametrize("op", ["Sum", "Mean", "Max", "Min"])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_operators_of_many_inputs(tmp_path, op, count):
    names = ["a", "b", "c"][:count]
    check(tmp_path, [f"y = {op}({', '.join(names)})"], [f"{name} float 3" for name in names])


@pytest.mark.parametrize("line", ["Add", "Sub", "Mul", "Div", "Max", "Min", "Mod"])
@pytest.mark.parametrize("kind", ["int64", "int32"])
def test_integers(tmp_path, line, kind):
    nodes = ["o = Constant <value_int = 20> ()", f"p = Cast <to = {7 if kind == 'int64' else 6}> (o)", "d = Add(b, p)",
             f"y = {line}(a, d)"]
    check(tmp_path, nodes, [f"a {kind} 4 <100 signed", f"b {kind} 4 signed"])
    divisor = np.array([3, -3, 7, -2], dtype=kind)
    check(tmp_path, [f"y = {line}(a, c)"], [f"a {kind} 4 <100 signed"], {"c": divisor})


@pytest.mark.parametrize("right", ["2.5", "-2.5"])
def test_the_remainder_has_the_sign_of_the_dividend(tmp_path, right):
    check(tmp_path, ["y = Mod <fmod = 1> (x, c)"], ["x float 5"], {"c": scalar(float(right))})


@pytest.mark.parametrize("op", ["Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual"])
@pytest.mark.parametrize(("left", "right"), SHAPES[:8])
def test_comparisons(tmp_path, op, left, right):
    check(tmp_path, [f"y = {op}(a, b)"], [f"a float {left} halves", f"b float {right} halves"])


@pytest.mark.parametrize("op", ["Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual"])
def test_comparisons_with_a_number(tmp_path, op):
    check(tmp_path, [f"y = {op}(x, c)", f"z = {op}(c, x)"], ["x int64 4"], {"c": np.array(2)}, outputs=["y", "z"])


@pytest.mark.parametrize("op", ["And", "Or", "Xor"])
def test_logic(tmp_path, op):
    check(tmp_path, [f"z = {op}(a, b)", "n = Not(z)", "y = Cast <to = 1> (n)"], ["a bool 2 3", "b bool 1 3"])


@pytest.mark.parametrize("shapes", [("3", "3", "3"), ("1", "3", "3"), ("3", "1", "1"), ("2 1", "1 3", "2 3")])
def test_a_choice(tmp_path, shapes):
    c, a, b = shapes
    check(tmp_path, ["y = Where(c, a, b)"], [f"c bool {c}", f"a float {a}", f"b float {b}"])


def test_a_choice_of_numbers(tmp_path):
    constants = {"one": scalar(-1e9), "row": normal(3)}
    check(tmp_path, ["y = Where(c, x, one)", "z = Where(c, row, x)"], ["c bool 2 3", "x float 1 3"], constants,
          outputs=["y", "z"])


@pytest.mark.parametrize("mask", [[[1, 1, 1]], [[1, 1, 0]], [[1, 0, 0], [1, 1, 0], [1, 1, 1]]])
def test_a_choice_by_a_constant_moves_references(tmp_path, mask):
    condition = np.array(mask, dtype=bool)
    found = check(tmp_path, ["y = Where(m, x, low)"], ["x float 3 3"], {"m": condition, "low": scalar(-1e9)})
    assert "choose" not in operations(found)


def test_a_choice_by_a_constant_of_many_runs(tmp_path):
    mask = np.tile([True, False], 10).reshape(1, 20)
    check(tmp_path, ["y = Where(m, x, low)"], ["x float 20"], {"m": mask, "low": scalar(-1)})


def test_equal_elements_are_computed_once(tmp_path):
    nodes = ["u = Unsqueeze(x, axes)", "e = Expand(u, shape)", "s = Sigmoid(e)", "y = Add(s, e)"]
    found = check(tmp_path, nodes, ["x float 3"], {"axes": i64(1), "shape": i64(1, 4, 3)})
    steps = found.steps
    widths = {step["function"]: steps.widths[steps.steps.index(step)] for step in found.live if "function" in step}
    assert widths == {"sigmoid": 3, "add": 3}


def test_movement_and_its_inverse_around_a_function_vanish(tmp_path):
    nodes = ["t = Transpose <perm = [0, 2, 1]> (x)", "s = Sigmoid(t)", "y = Transpose <perm = [0, 2, 1]> (s)"]
    found = check(tmp_path, nodes, ["x float 3 4"])
    assert operations(found) == {"feature": 1, "sigmoid": 1}


def test_elements_of_the_request_are_computed_apart(tmp_path):
    found = compare(tmp_path, ["c = Concat <axis = 1> (a, b)", "y = Sigmoid(c)"], ["a float 3", "b float 2"], {},
                    rates=("request", "pair"))
    assert operations(found)["sigmoid"] == 2


# Along axes


@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax"])
@pytest.mark.parametrize(("opset", "axis"), [(18, -1), (18, 1), (18, 2), (13, 3), (12, 1), (12, 2), (9, 3), (11, -1)])
def test_softmax(tmp_path, op, opset, axis):
    check(tmp_path, [f"y = {op} <axis = {axis}> (x)"], ["x float 3 2 4"], opset=opset)


@pytest.mark.parametrize("opset", [12, 13])
def test_softmax_without_an_axis(tmp_path, opset):
    check(tmp_path, ["y = Softmax(x)"], ["x float 3 2"], opset=opset)


REDUCTIONS = ["ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2", "ReduceSumSquare",
              "ReduceLogSumExp", "ReduceLogSum"]


@pytest.mark.parametrize("op", REDUCTIONS)
@pytest.mark.parametrize("axes", [[1], [2], [-1], [1, 2], [1, 3], [3, 2, 1]])
@pytest.mark.parametrize("keep", [0, 1])
def test_reductions(tmp_path, op, axes, keep):
    how = "positive" if op == "ReduceLogSum" else "normal"
    check(tmp_path, [f"y = {op} <keepdims = {keep}> (x, axes)"], [f"x float 3 2 4 {how}"], {"axes": i64(*axes)})


@pytest.mark.parametrize("op", REDUCTIONS)
@pytest.mark.parametrize("opset", [9, 11, 12, 13])
def test_reductions_with_axes_as_an_attribute(tmp_path, op, opset):
    how = "positive" if op == "ReduceLogSum" else "normal"
    if op == "ReduceSum" and opset == 13:
        check(tmp_path, [f"y = {op}(x, axes)"], [f"x float 3 2 {how}"], {"axes": i64(-1)}, opset=opset)
    else:
        check(tmp_path, [f"y = {op} <axes = [2]> (x)"], [f"x float 3 2 {how}"], opset=opset)


def test_a_reduction_of_no_axes(tmp_path):
    check(tmp_path, ["y = ReduceSum <noop_with_empty_axes = 1> (x)"], ["x float 3"])


@pytest.mark.parametrize("op", ["ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd"])
@pytest.mark.parametrize("axis", [1, 2])
def test_what_lies_at_different_rates_is_reduced_apart(tmp_path, op, axis):
    nodes = ["u = Unsqueeze(a, one)", "v = Unsqueeze(b, one)", "w = Unsqueeze(c, one)", "f = Concat <axis = 1> (u, v, w)",
             f"y = {op} <keepdims = 0> (f, axes)"]
    check(tmp_path, nodes, ["a float 3", "b float 3", "c float 3"], {"one": i64(1), "axes": i64(axis)})


def test_a_reduction_of_a_transposed_value_reads_it_in_place(tmp_path):
    nodes = ["t = Transpose <perm = [0, 3, 1, 2]> (x)", "s = ReduceSum <keepdims = 0> (t, axes)", "y = Softmax(s)"]
    found = check(tmp_path, nodes, ["x float 2 4 3"], {"axes": i64(3)})
    assert operations(found) == {"feature": 1, "reduce": 1, "softmax": 1, "view": 1}


@pytest.mark.parametrize("op", ["ArgMax", "ArgMin"])
@pytest.mark.parametrize("axis", [1, 2, -1])
@pytest.mark.parametrize(("keep", "last"), [(0, 0), (1, 0), (0, 1)])
def test_the_place_of_the_largest(tmp_path, op, axis, keep, last):
    line = f"y = {op} <axis = {axis}, keepdims = {keep}, select_last_index = {last}> (x)"
    check(tmp_path, [line], ["x float 3 4 halves"])


@pytest.mark.parametrize(("opset", "axis"), [(13, 1), (13, -1), (11, 1), (11, 2)])
def test_one_for_the_largest(tmp_path, opset, axis):
    check(tmp_path, [f"y = Hardmax <axis = {axis}> (x)"], ["x float 3 4 halves"], opset=opset)


@pytest.mark.parametrize("axis", [1, -1])
@pytest.mark.parametrize("largest", [0, 1])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_the_largest_few(tmp_path, axis, largest, count):
    check(tmp_path, [f"y, z = TopK <axis = {axis}, largest = {largest}> (x, k)"], ["x float 4 3"], {"k": i64(count)},
          outputs=["y", "z"])


@pytest.mark.parametrize("axis", [1, -1])
@pytest.mark.parametrize(("exclusive", "reverse"), list(itertools.product([0, 1], repeat=2)))
def test_cumulative_sums(tmp_path, axis, exclusive, reverse):
    check(tmp_path, [f"y = CumSum <exclusive = {exclusive}, reverse = {reverse}> (x, axis)"], ["x float 4 3"],
          {"axis": np.array(axis)})


# Norms


def statistics(width: int) -> dict[str, np.ndarray]:
    return {"w": normal(width), "b": normal(width), "m": normal(width), "v": np.abs(normal(width)) + np.float32(0.1)}


@pytest.mark.parametrize("shape", ["4", "4 3", "4 2 3"])
@pytest.mark.parametrize("opset", [9, 14, 15])
def test_batch_norm(tmp_path, shape, opset):
    check(tmp_path, ["y = BatchNormalization <epsilon = 0.01> (x, w, b, m, v)"], [f"x float {shape}"], statistics(4),
          opset=opset)


def test_batch_norm_keeps_the_names_of_its_tensors(tmp_path):
    found = check(tmp_path, ["y = BatchNormalization(x, w, b, m, v)"], ["x float 4"], statistics(4))
    (step,) = [step for step in found.live if step["op"] == "batch_norm"]
    assert [step[key] for key in ("weight", "bias", "mean", "variance")] == ["w", "b", "m", "v"]


def test_batch_norm_around_a_transposition(tmp_path):
    nodes = ["t = Transpose <perm = [0, 2, 1]> (x)", "n = BatchNormalization(t, w, b, m, v)",
             "y = Transpose <perm = [0, 2, 1]> (n)"]
    check(tmp_path, nodes, ["x float 3 4"], statistics(4))


def test_batch_norm_of_parts_of_different_rates(tmp_path):
    nodes = ["c = Concat <axis = 1> (a, b)", "y = BatchNormalization(c, w, b1, m, v)"]
    constants = statistics(5)
    constants["b1"] = constants.pop("b")
    check(tmp_path, nodes, ["a float 3", "b float 2"], constants)


@pytest.mark.parametrize("axis", [-1, 1, 2])
@pytest.mark.parametrize("has_bias", [False, True])
def test_layer_norm(tmp_path, axis, has_bias):
    shape = (4,) if axis != 1 else (3, 4)
    constants = {"w": normal(*shape), "b": normal(*shape)}
    check(tmp_path, [f"y = LayerNormalization <axis = {axis}> (x, w{', b' if has_bias else ''})"], ["x float 3 4"],
          constants if has_bias else {"w": constants["w"]}, opset=17)


def test_rms_norm(tmp_path):
    check(tmp_path, ["y = RMSNormalization <axis = -1> (x, w)"], ["x float 3 4"], {"w": normal(4)}, opset=23)


def test_instance_norm(tmp_path):
    check(tmp_path, ["y = InstanceNormalization(x, w, b)"], ["x float 3 5"], {"w": normal(3), "b": normal(3)})


def test_group_norm(tmp_path):
    check(tmp_path, ["y = GroupNormalization <num_groups = 2> (x, w, b)"], ["x float 4 5"], {"w": normal(4), "b": normal(4)},
          opset=21)


@pytest.mark.parametrize("axis", [1, -1])
@pytest.mark.parametrize("p", [1, 2])
def test_lp_norm(tmp_path, axis, p):
    check(tmp_path, [f"y = LpNormalization <axis = {axis}, p = {p}> (x)"], ["x float 3 4"], opset=9)


def test_mean_variance_norm(tmp_path):
    check(tmp_path, ["y = MeanVarianceNormalization <axes = [2, 3]> (x)"], ["x float 2 3 4"])


# Products


@pytest.mark.parametrize(("shape", "matrix"), [
    ("4", (4, 3)), ("4", (4,)), ("2 4", (4, 3)), ("2 4", (4,)), ("2 5 4", (4, 3)), ("2 5 4", (2, 4, 3)), ("1 1 4", (3, 4, 2)),
    ("1 1 4", (3, 4, 1)), ("2 5 4", (1, 2, 4, 3)), ("2 1 4", (2, 4, 1)), ("2 5 1", (2, 1, 3)),
])
def test_a_product_with_a_constant_on_the_right(tmp_path, shape, matrix):
    check(tmp_path, ["y = MatMul(x, w)"], [f"x float {shape}"], {"w": normal(*matrix)})


@pytest.mark.parametrize(("shape", "matrix"), [
    ("4 3", (2, 4)), ("4 3", (4,)), ("5 4 3", (2, 4)), ("5 4 3", (5, 2, 4)), ("4 1", (3, 4)), ("1 3", (2, 1)),
])
def test_a_product_with_a_constant_on_the_left(tmp_path, shape, matrix):
    check(tmp_path, ["y = MatMul(w, x)"], [f"x float {shape}"], {"w": normal(*matrix)})


def test_a_product_where_the_rows_are_columns(tmp_path):
    nodes = ["t = Transpose <perm = [1, 0]> (x)", "p = MatMul(w, t)", "y = Transpose <perm = [1, 0]> (p)"]
    check(tmp_path, nodes, ["x float 4"], {"w": normal(3, 4)})


@pytest.mark.parametrize(("left", "right"), [
    ("2 4", "4 3"), ("1 4", "4 3"), ("2 4", "4 1"), ("1 4", "4 1"), ("2 1", "1 3"), ("5 2 4", "5 4 3"), ("5 2 4", "1 4 3"),
    ("1 2 4", "5 4 3"), ("5 1 4", "5 4 1"), ("5 1 4", "1 4 1"), ("1 1 4", "5 4 1"), ("5 2 1", "5 1 3"),
])
def test_a_product_of_two_inputs(tmp_path, left, right):
    check(tmp_path, ["y = MatMul(a, b)"], [f"a float {left}", f"b float {right}"])


@pytest.mark.parametrize("right", ["3 4", "1 4"])
def test_a_product_with_a_transposed_input(tmp_path, right):
    nodes = ["t = Transpose <perm = [0, 2, 1]> (b)", "y = MatMul(a, t)"]
    found = check(tmp_path, nodes, ["a float 2 4", f"b float {right}"])
    if right == "3 4":
        assert [step.get("transposed") for step in found.live if step["op"] == "matmul"] == [True]


def test_a_product_with_one_matrix_of_the_request(tmp_path):
    nodes = ["s = Squeeze(b, axes)", "y = MatMul(a, s)"]
    check(tmp_path, nodes, ["a float 4", "b float 4 3 single"], {"axes": i64(0)})


def test_attention_of_heads(tmp_path):
    nodes = []
    for name in "qkv":
        nodes += [f"{name}1 = MatMul(x, w{name})", f"{name}2 = Reshape({name}1, split)",
                  f"{name}3 = Transpose <perm = [0, 2, 1, 3]> ({name}2)"]
    nodes += ["k4 = Transpose <perm = [0, 1, 3, 2]> (k3)", "s = MatMul(q3, k4)", "a = Softmax(s)", "m = MatMul(a, v3)",
              "t = Transpose <perm = [0, 2, 1, 3]> (m)", "y = Reshape(t, join)"]
    constants = {f"w{name}": normal(6, 6) for name in "qkv"}
    check(tmp_path, nodes, ["x float 5 6"], constants | {"split": i64(0, 0, 2, 3), "join": i64(0, 0, -1)})


def test_attention_of_heads_among_the_rows(tmp_path):
    nodes = ["q2 = Reshape(x, split)", "q3 = Transpose <perm = [0, 2, 1, 3]> (q2)", "q4 = Reshape(q3, merge)",
             "k = Transpose <perm = [0, 2, 1]> (q4)", "s = MatMul(q4, k)", "a = Softmax(s)", "m = MatMul(a, q4)",
             "u = Reshape(m, apart)", "t = Transpose <perm = [0, 2, 1, 3]> (u)", "y = Reshape(t, join)"]
    constants = {"split": i64(-1, 5, 2, 3), "merge": i64(-1, 5, 3), "apart": i64(-1, 2, 5, 3), "join": i64(-1, 5, 6)}
    check(tmp_path, nodes, ["x float 5 6"], constants)


@pytest.mark.parametrize("trans", [0, 1])
@pytest.mark.parametrize("bias", [None, (3,), (1, 3), (1,), ()])
@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 1.0), (0.5, 2.0)])
def test_gemm(tmp_path, trans, bias, alpha, beta):
    constants = {"w": normal(3, 4) if trans else normal(4, 3)}
    if bias is not None:
        constants["c"] = normal(*bias)
    line = f"y = Gemm <alpha = {alpha}, beta = {beta}, transB = {trans}> (x, w{', c' if bias is not None else ''})"
    found = check(tmp_path, [line], ["x float 4"], constants)
    (step,) = [step for step in found.live if step["op"] == "linear"]
    assert step["weight"] == "w" and step.get("transposed", False) == (not trans)
    if bias == (3,) and beta == 1:
        assert step["bias"] == "c"


def test_gemm_of_a_transposed_left_side(tmp_path):
    nodes = ["t = Transpose <perm = [1, 0]> (x)", "y = Gemm <transA = 1> (t, w, c)"]
    check(tmp_path, nodes, ["x float 4", "c float 3"], {"w": normal(4, 3)})


EINSUMS = [
    ("nij,njk->nik", ["2 3", "3 4"]), ("nij,nkj->nik", ["2 3", "4 3"]), ("bi,bj->bij", ["3", "4"]), ("bi,bi->b", ["3", "3"]),
    ("bij,bj->bi", ["2 3", "3"]), ("bfd,bfd->bf", ["2 3", "2 3"]), ("b...d,b...d->b...", ["2 3", "2 3"]),
    ("bij->bji", ["2 3"]), ("bij->b", ["2 3"]), ("bii->bi", ["3 3"]), ("bii->b", ["3 3"]),
    ("bhmd,bnhd->bhmn", ["2 3 4", "5 2 4"]),
    ("bi,bj,bk->bijk", ["2", "3", "2"]), ("bi,bij,bj->b", ["2", "2 3", "3"]), ("b...->...b", ["2 3"]),
]


@pytest.mark.parametrize(("terms", "shapes"), EINSUMS)
def test_einsum(tmp_path, terms, shapes):
    names = "abc"[: len(shapes)]
    nodes = [f'z = Einsum <equation = "{terms}"> ({", ".join(names)})']
    rank = len(terms.partition("->")[2].replace("...", "xx"))
    if terms.endswith("...b"):
        nodes.append(f"y = Transpose <perm = [{rank - 1}, {', '.join(map(str, range(rank - 1)))}]> (z)")
    else:
        nodes[0] = nodes[0].replace("z =", "y =")
    check(tmp_path, nodes, [f"{name} float {shape}" for name, shape in zip(names, shapes)])


@pytest.mark.parametrize(("terms", "shape", "constant"), [
    ("bi,io->bo", "3", (3, 4)), ("bi,oi->bo", "3", (4, 3)), ("bti,oi->bto", "2 3", (4, 3)), ("bfi,fio->bfo", "2 3", (2, 3, 4)),
    ("bfd,fd->bf", "2 3", (2, 3)), ("bfd,f->bfd", "2 3", (2,)), ("bfd,f->bd", "2 3", (2,)), ("bi,eio->beo", "3", (2, 3, 4)),
    ("bd,d->b", "3", (3,)), ("bij,jk->bik", "2 3", (3, 4)),
])
def test_einsum_with_a_constant(tmp_path, terms, shape, constant):
    left, right = terms.partition("->")[0].split(",")
    check(tmp_path, [f'y = Einsum <equation = "{terms}"> (x, w)'], [f"x float {shape}"], {"w": normal(*constant)})
    turned = terms.replace(f"{left},{right}", f"{right},{left}")
    check(tmp_path, [f'y = Einsum <equation = "{turned}"> (w, x)'], [f"x float {shape}"], {"w": normal(*constant)})


def test_einsum_without_an_output(tmp_path):
    check(tmp_path, ['y = Einsum <equation = "aj,jk"> (x, w)'], ["x float 3"], {"w": normal(3, 4)})


@pytest.mark.parametrize(("attributes", "shape", "kernel"), [
    ("", "3 5", (4, 3, 1)), ("", "3 5", (4, 3, 2)), ("pads = [1, 1]", "3 5", (4, 3, 3)), ("strides = [2]", "3 5", (4, 3, 2)),
    ("dilations = [2]", "3 7", (4, 3, 3)), ("group = 2", "4 5", (6, 2, 2)), ("group = 4", "4 5", (4, 1, 3)),
    ("", "1 4 5", (3, 1, 2, 2)), ("", "3 4 5", (2, 3, 1, 1)), ("pads = [1, 0, 1, 0]", "2 4 5", (3, 2, 3, 1)),
    ('auto_pad = "SAME_UPPER"', "2 5", (3, 2, 2)), ('auto_pad = "SAME_LOWER"', "2 5", (3, 2, 2)),
    ('auto_pad = "VALID"', "2 5", (3, 2, 2)),
])
@pytest.mark.parametrize("has_bias", [False, True])
def test_convolutions(tmp_path, attributes, shape, kernel, has_bias):
    constants = {"w": normal(*kernel)}
    if has_bias:
        constants["c"] = normal(kernel[0])
    line = f"y = Conv <{attributes}> (x, w{', c' if has_bias else ''})".replace("<> ", "")
    check(tmp_path, [line], [f"x float {shape}"], constants)


@pytest.mark.parametrize("line", [
    "MaxPool <kernel_shape = [2]>", "MaxPool <kernel_shape = [3], strides = [2], pads = [1, 1]>",
    "AveragePool <kernel_shape = [2]>", "AveragePool <kernel_shape = [3], pads = [1, 1]>",
    "AveragePool <kernel_shape = [3], pads = [1, 1], count_include_pad = 1>",
    "MaxPool <kernel_shape = [2], strides = [2], ceil_mode = 1>",
    "GlobalAveragePool", "GlobalMaxPool",
])
def test_pools(tmp_path, line):
    check(tmp_path, [f"y = {line} (x)"], ["x float 3 5"])


def test_a_pool_of_two_axes(tmp_path):
    check(tmp_path, ["y = MaxPool <kernel_shape = [2, 3], strides = [1, 2]> (x)"], ["x float 2 4 5"])


# Quantisation. In f32, because the last bit decides how a number is rounded.


@pytest.mark.parametrize(("zero", "axis"), [
    (np.array(3, np.uint8), 1), (np.array(-5, np.int8), 1), (None, 1), (np.array([1, 2, 3], np.uint8), 1),
    (np.array([1, -2, 3, 4], np.int8), 2),
])
def test_quantise_and_back(tmp_path, zero, axis):
    count = 1 if zero is None else zero.size
    scales = f32(*np.linspace(0.05, 0.2, count)) if count > 1 else scalar(0.07)
    constants = {"s": scales} | ({} if zero is None else {"z": zero})
    given = "x, s" + ("" if zero is None else ", z")
    back = "q, s" + ("" if zero is None else ", z")
    nodes = [f"q = QuantizeLinear <axis = {axis}> ({given})", f"y = DequantizeLinear <axis = {axis}> ({back})"]
    check(tmp_path, nodes, ["x float 3 4"], constants, dtype=np.float32)


def compare_row_by_row(folder, nodes, inputs, constants, **options):
    """What is quantised dynamically is compared for a batch of one: ONNX Runtime takes the range of all rows."""
    import onnx_graphs

    batches, onnx_graphs.BATCHES = onnx_graphs.BATCHES, (1,)
    try:
        for seed in range(8):
            compare(folder, nodes, inputs, constants, seed=seed, dtype=np.float32, **options)
    finally:
        onnx_graphs.BATCHES = batches


def test_dynamic_quantisation_of_a_row(tmp_path):
    nodes = ["q, s, z = DynamicQuantizeLinear(x)", "y = DequantizeLinear(q, s, z)"]
    compare_row_by_row(tmp_path, nodes, ["x float 2 5"], {}, outputs=["y", "s"])


def test_a_dynamically_quantised_product(tmp_path):
    nodes = ["q, s, z = DynamicQuantizeLinear(x)", "p = MatMulInteger(q, w, z, wz)", "f = Cast <to = 1> (p)",
             "t = Mul(s, ws)", "y = Mul(f, t)"]
    constants = {"w": RNG.integers(-128, 128, (5, 3)).astype(np.int8), "wz": np.array(4, np.int8), "ws": scalar(0.01)}
    compare_row_by_row(tmp_path, nodes, ["x float 5"], constants, tolerance=1e-4)


def test_an_integer_product(tmp_path):
    constants = {"w": RNG.integers(0, 255, (4, 3)).astype(np.uint8), "az": np.array(7, np.uint8),
                 "bz": np.array([1, 2, 3], np.uint8)}
    check(tmp_path, ["y = MatMulInteger(x, w, az, bz)"], ["x uint8 2 4 <255"], constants)


def test_a_quantised_product(tmp_path):
    constants = {"w": RNG.integers(0, 255, (4, 3)).astype(np.uint8), "as": scalar(0.02), "az": np.array(100, np.uint8),
                 "bs": scalar(0.01), "bz": np.array(120, np.uint8), "ys": scalar(0.05), "yz": np.array(128, np.uint8)}
    check(tmp_path, ["y = QLinearMatMul(x, as, az, w, bs, bz, ys, yz)"], ["x uint8 4 <255"], constants, dtype=np.float32)


# Lookups


@pytest.mark.parametrize(("shape", "indices", "axis"), [
    ("4", np.array(2), 1), ("4", np.array(-1), 1), ("4", i64(3, 0, 3), 1), ("4 3", i64(1, -2), 1), ("4 3", i64(2, 0), 2),
    ("4 3", np.array([[0, 1], [2, 3]]), 1), ("4 3", np.array(1), -1),
])
def test_elements_at_constant_places(tmp_path, shape, indices, axis):
    check(tmp_path, [f"y = Gather <axis = {axis}> (x, i)"], [f"x float {shape}"], {"i": indices})


@pytest.mark.parametrize("names", ["a", "ab"])
def test_elements_in_no_order_are_picked_at_once(tmp_path, names):
    nodes = [f"c = Concat <axis = 1> ({', '.join(names)})", "g = Gather <axis = 1> (c, i)", "y = Softmax(g)"]
    places = np.random.default_rng(0).permutation(60 * len(names))
    found = check(tmp_path, nodes, [f"{name} float 60" for name in names], {"i": places})
    assert operations(found)["pick"] == 1 and len(operations(found)) <= 5


def test_few_views_give_parts_of_a_value_in_some_order(tmp_path):
    places = np.concatenate([np.arange(0, 20, 3), [19], np.arange(11, 3, -1)])
    found = check(tmp_path, ["g = Gather <axis = 1> (x, i)", "y = Softmax(g)"], ["x float 20"], {"i": places})
    assert operations(found) == {"feature": 1, "view": 3, "concat": 1, "softmax": 1}


@pytest.mark.parametrize("shape", ["", "1", "3", "2 3"])
def test_an_embedding(tmp_path, shape):
    found = check(tmp_path, ["y = Gather(table, x)"], [f"x int64 {shape} <7"], {"table": normal(7, 4)})
    assert operations(found).get("embedding") == 1 and found.description["features"][0]["kind"] == "id"


def test_an_embedding_by_gather_nd(tmp_path):
    nodes = ["i = Unsqueeze(x, axes)", "y = GatherND(table, i)"]
    found = check(tmp_path, nodes, ["x int64 3 <7"], {"axes": i64(-1), "table": normal(7, 4)})
    assert operations(found).get("embedding") == 1


def test_columns_of_a_matrix_are_ids(tmp_path):
    nodes = ["a = Gather <axis = 1> (x, one)", "i = Cast <to = 7> (a)", "e = Gather(table, i)",
             "b = Slice(x, start, end, axes)", "y = Concat <axis = 1> (e, b)"]
    constants = {"one": np.array(1), "table": normal(7, 4), "start": i64(2), "end": i64(4), "axes": i64(1)}
    compare(tmp_path, nodes, ["x float 4 positive"], constants)


@pytest.mark.parametrize("number", ["Floor", "Ceil"])
def test_a_computed_lookup(tmp_path, number):
    nodes = [f"f = {number}(x)", "i = Cast <to = 7> (f)", "y = Gather(table, i)"]
    found = check(tmp_path, nodes, ["x float 3 positive"], {"table": normal(7, 4)})
    assert "lookup" in operations(found)


def test_a_computed_lookup_counts_from_the_end(tmp_path):
    nodes = ["i = Sub(x, three)", "y = Gather(table, i)"]
    check(tmp_path, nodes, ["x int64 3 <6"], {"three": np.array(3), "table": normal(7, 4)})


def test_a_lookup_along_another_axis(tmp_path):
    nodes = ["j = Mod(x, three)", "y = Gather <axis = 1> (table, j)", "z = Transpose <perm = [1, 0]> (y)"]
    check(tmp_path, nodes, ["x int64 <9"], {"three": np.array(3), "table": normal(2, 4)}, outputs=["z"])


@pytest.mark.parametrize("axis", [0, 1])
def test_an_element_of_the_request_at_a_place_of_the_row(tmp_path, axis):
    turn = "y = Transpose <perm = [1, 0]> (g)" if axis else "y = Identity(g)"
    nodes = ["d = Squeeze(data, zero)", f"g = Gather <axis = {axis}> (d, i)", turn]
    check(tmp_path, nodes, ["i int64 <3", "data float 3 3 single"], {"zero": i64(0)})


@pytest.mark.parametrize(("data", "indices", "axis"), [
    ("4", "2", 1), ("4 3", "2 3", 1), ("4 3", "4 2", 2), ("4 3", "2 2", 1),
])
def test_elements_at_computed_places(tmp_path, data, indices, axis):
    nodes = ["i = Sub(x, one)", f"y = GatherElements <axis = {axis}> (data, i)"]
    check(tmp_path, nodes, [f"x int64 {indices} <3", f"data float {data}"], {"one": np.array(1)})


def test_elements_at_constant_places_of_each_row(tmp_path):
    nodes = ["s = Shape(data)", "n = Gather(s, zero)", "u = Unsqueeze(n, axes)", "c = Concat <axis = 0> (u, two)",
             "i = Expand(places, c)", "y = GatherElements <axis = 1> (data, i)"]
    constants = {"zero": np.array(0), "axes": i64(0), "two": i64(2), "places": np.array([[3, -4]])}
    check(tmp_path, nodes, ["data float 4"], constants)


@pytest.mark.parametrize(("data", "indices"), [("4", "2 1"), ("4 3", "2 1"), ("4 3", "2 2"), ("4 3", "2")])
def test_gather_nd_of_a_batch(tmp_path, data, indices):
    nodes = ["i = Sub(x, one)", "y = GatherND <batch_dims = 1> (data, i)"]
    check(tmp_path, nodes, [f"x int64 {indices} <3", f"data float {data}"], {"one": np.array(1)})


ROW_NUMBERS = ["s = Shape(x)", "n = Gather(s, zero)", "r = Range(zero, n, one)"]


def test_the_last_element_of_a_sequence(tmp_path):
    nodes = [*ROW_NUMBERS, "l = Sub(length, one)", "a = Unsqueeze(r, axes)", "b = Unsqueeze(l, axes)",
             "i = Concat <axis = 1> (a, b)", "y = GatherND(x, i)"]
    constants = {"zero": np.array(0), "one": np.array(1), "axes": i64(1)}
    check(tmp_path, nodes, ["x float 4 3", "length int64 <5"], constants)


def test_a_constant_place_beside_the_number_of_the_row(tmp_path):
    nodes = [*ROW_NUMBERS, "u = Unsqueeze(r, axes)", "e = Shape(u)", "t = Expand(two, e)", "i = Concat <axis = 1> (u, t)",
             "y = GatherND(x, i)"]
    constants = {"zero": np.array(0), "one": np.array(1), "axes": i64(1), "two": i64(2)}
    check(tmp_path, nodes, ["x float 4 3"], constants)


def test_each_row_from_itself(tmp_path):
    check(tmp_path, [*ROW_NUMBERS, "y = Gather(x, r)"], ["x float 4"], {"zero": np.array(0), "one": np.array(1)})


@pytest.mark.parametrize("reduction", ["none", "add", "mul", "max", "min"])
def test_scatter_to_constant_places(tmp_path, reduction):
    nodes = ["s = Shape(u)", "i = Expand(places, s)", f'y = ScatterElements <axis = 1, reduction = "{reduction}"> (x, i, u)']
    places = np.array([[2, -1, 0]] if reduction == "none" else [[2, -1, 2]])
    check(tmp_path, nodes, ["x float 4", "u float 3"], {"places": places})


@pytest.mark.parametrize(("reduction", "axis", "indices"), [
    ("none", 1, "1 3"), ("none", 2, "4 1"), ("add", 1, "2 3"), ("add", 2, "4 2"), ("max", 1, "2 3"), ("max", 2, "4 2"),
])
def test_scatter_to_computed_places(tmp_path, reduction, axis, indices):
    """Without a reduction the places of a row must not meet."""
    nodes = ["i = Sub(p, one)", f'y = ScatterElements <axis = {axis}, reduction = "{reduction}"> (x, i, u)']
    check(tmp_path, nodes, ["x float 4 3", f"p int64 {indices} <3", f"u float {indices}"], {"one": np.array(1)})


@pytest.mark.parametrize("reduction", ["none", "add"])
def test_scatter_nd_to_constant_places(tmp_path, reduction):
    nodes = ["t = Transpose <perm = [1, 2, 0]> (x)", "v = Transpose <perm = [1, 2, 0]> (u)",
             f'z = ScatterND <reduction = "{reduction}"> (t, i, v)', "y = Transpose <perm = [2, 0, 1]> (z)"]
    check(tmp_path, nodes, ["x float 4 3", "u float 2 3"], {"i": np.array([[3], [1]])})


def test_scatter_nd_to_a_place_of_each_row(tmp_path):
    nodes = [*ROW_NUMBERS, "a = Unsqueeze(r, axes)", "b = Unsqueeze(p, axes)", "i = Concat <axis = 1> (a, b)",
             "y = ScatterND(x, i, u)"]
    constants = {"zero": np.array(0), "one": np.array(1), "axes": i64(1)}
    check(tmp_path, nodes, ["x float 4 3", "p int64 <4", "u float 3"], constants)


@pytest.mark.parametrize("axis", [-1, 1, 2])
@pytest.mark.parametrize("values", [(0, 1), (-1, 3)])
def test_one_hot(tmp_path, axis, values):
    nodes = ["i = Sub(x, one)", f"y = OneHot <axis = {axis}> (i, depth, values)"]
    constants = {"one": np.array(1), "depth": np.array(4), "values": f32(*values)}
    check(tmp_path, nodes, ["x int64 3 <6"], constants)


def test_the_steps_do_not_depend_on_the_numbers_of_weights(tmp_path):
    """Else the next training of a network, where a bias is no longer 0, would be another network."""
    nodes = ["p = MatMul(x, w)", "a = Add(p, b)", "n = BatchNormalization(a, g, h, m, v)", "r = PRelu(n, s)",
             "t = Mul(r, u)", "k = Add(t, c)", "e = Mul(k, c)", "q = Pow(e, two)", "y = ReduceSum <keepdims = 0> (q, axes)"]
    shapes = {name: (3,) for name in "bghmsuc"} | {"w": (4, 3)}
    fixed = {"v": np.ones(3, dtype=np.float32), "two": scalar(2), "axes": i64(1)}
    first = {name: np.zeros(shape, dtype=np.float32) for name, shape in shapes.items()}
    ones = {name: np.ones(shape, dtype=np.float32) for name, shape in shapes.items()}
    trained = {name: normal(*shape) for name, shape in shapes.items()}
    steps = [compare(tmp_path, nodes, ["x float 4"], some | fixed).live for some in (first, ones, trained)]
    assert steps[0] == steps[1] == steps[2]


# What would mix rows


@pytest.mark.parametrize(("nodes", "inputs", "constants"), [
    (["y = ReduceMean <keepdims = 1> (x, axes)"], ["x float 3"], {"axes": i64(0)}),
    (["y = ReduceSum <keepdims = 1> (x)"], ["x float 3"], {}),
    (["y = Softmax <axis = 0> (x)"], ["x float 3"], {}),
    (["t = Transpose <perm = [1, 0]> (x)", "y = MatMul(x, t)"], ["x float 3"], {}),
    (["t = Transpose <perm = [1, 0]> (x)", "y = MatMul(t, x)"], ["x float 3"], {}),
    (["t = Transpose <perm = [1, 0]> (x)", "y = Sub(x, t)"], ["x float 1"], {}),
    (["y = CumSum(x, axis)"], ["x float 3"], {"axis": np.array(0)}),
    (["y = ArgMax <axis = 0> (x)"], ["x float 3"], {}),
    (["y, z = TopK <axis = 0> (x, k)"], ["x float 3"], {"k": i64(1)}),
    (['y = Einsum <equation = "bi,bj->ij"> (x, x)'], ["x float 3"], {}),
    (['y = Einsum <equation = "bi,ci->bc"> (x, x)'], ["x float 3"], {}),
    (["y = LayerNormalization <axis = 0> (x, w)"], ["x float 3"], {"w": normal(3)}),
    (["y, p, q = BatchNormalization <training_mode = 1> (x, w, b, m, v)"], ["x float 4"], statistics(4)),
    (["t = Transpose <perm = [1, 0]> (x)", "y = BatchNormalization(t, w, b, m, v)"], ["x float 4"], statistics(1)),
    (["y = Gather(x, i)"], ["x float 3", "i int64"], {}),
    (["y = Gather(x, i)"], ["x float 3"], {"i": i64(0)}),
    (["t = Transpose <perm = [1, 0]> (x)", "y = MatMul(x, t)"], ["x float 1"], {}),
    (["t = Transpose <perm = [1, 2, 0]> (x)", "y = MaxPool <kernel_shape = [1]> (t)"], ["x float 2 3"], {}),
    (["y = LpNormalization <axis = 0> (x)"], ["x float 3"], {}),
    (["i = Unsqueeze(p, axes)", "y = GatherND(x, i)"], ["x float 3", "p int64"], {"axes": i64(1)}),
])
def test_what_mixes_rows_is_refused(tmp_path, nodes, inputs, constants):
    from onnx_graphs import convert, model_of, parse_input, save
    from polyscore.onnx import OnnxError

    path = save(tmp_path, model_of(nodes, [parse_input(text) for text in inputs], ["y"], constants, 18))
    with pytest.raises(OnnxError, match="a score|the score|rows") as error:
        convert(path, {"y": 1})
    assert f"node{len(nodes) - 1}" in str(error.value)
