"""The parts of a graph that become one step: each is recognised whatever its tensors are called, and scores the same."""

from __future__ import annotations

import random
import re

import numpy as np
import pytest

from onnx_graphs import compare, operations

pytest.importorskip("onnxruntime")

RNG = np.random.default_rng(11)

WORD = re.compile(r"[A-Za-z_]\w*")


def normal(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


def scalar(number: float) -> np.ndarray:
    return np.array(number, dtype=np.float32)


def i64(*numbers: int) -> np.ndarray:
    return np.array(numbers, dtype=np.int64)


def renamed(nodes, constants, kept):
    """The same graph with other names for all that is computed and constant."""
    made = [name for line in nodes for name in WORD.findall(line.partition("=")[0]) if name not in kept]
    names = [*made, *constants]
    tokens = [f"t{number}" for number in range(len(names))]
    random.Random(3).shuffle(tokens)
    mapping = dict(zip(names, tokens))

    def line_of(line):
        outputs, _, call = line.partition("=")
        operator, _, arguments = call.rpartition("(")
        return "=".join([WORD.sub(lambda m: mapping.get(m[0], m[0]), outputs), operator]) + "(" + WORD.sub(
            lambda m: mapping.get(m[0], m[0]), arguments
        )

    return [line_of(line) for line in nodes], {mapping[name]: array for name, array in constants.items()}


def check(folder, nodes, inputs, constants, found, wanted, outputs=("y",), rates=(), **options):
    """The graph has the pattern `found` (name and number) and becomes the steps `wanted`, under these names and others."""
    kept = {*outputs, *(text.split()[0] for text in inputs)}
    for lines, tensors in ((nodes, constants), renamed(nodes, constants, kept)):
        conversion = compare(folder, lines, inputs, tensors, outputs=outputs, rates=rates, **options)
        assert {name: conversion.fused.get(name, 0) for name in found} == found, conversion.fused
        counts = operations(conversion)
        for name in ("feature", "constant"):
            counts.pop(name, None)
        assert counts == wanted
    return conversion


def test_a_product_and_a_sum_are_a_layer_with_a_bias(tmp_path):
    constants = {"w": normal(4, 3), "b": normal(3)}
    found = check(tmp_path, ["p = MatMul(x, w)", "y = Add(p, b)"], ["x float 4"], constants, {"bias": 1}, {"linear": 1})
    (step,) = [step for step in found.live if step["op"] == "linear"]
    assert step["transposed"] and {step["weight"], step["bias"]} <= set(found.steps.tensors)


@pytest.mark.parametrize("shape", [(3,), (1, 3), (1, 1, 3), (), (1,)])
def test_the_bias_of_groups(tmp_path, shape):
    constants = {"w": normal(4, 3), "b": normal(*shape)}
    check(tmp_path, ["p = MatMul(x, w)", "y = Add(b, p)"], ["x float 5 4"], constants, {"bias": 1}, {"linear": 1})


def test_a_sum_that_another_step_needs_without_the_bias_stays(tmp_path):
    constants = {"w": normal(4, 3), "b": normal(3)}
    nodes = ["p = MatMul(x, w)", "s = Add(p, b)", "y = Mul(s, p)"]
    check(tmp_path, nodes, ["x float 4"], constants, {"bias": 0}, {"linear": 1, "add": 1, "multiply": 1})


@pytest.mark.parametrize("form", ["divide", "reciprocal", "sum"])
@pytest.mark.parametrize("shape", ["6", "3 6"])
def test_a_layer_norm_in_parts(tmp_path, form, shape):
    nodes = ["m = ReduceMean(x, axes)", "d = Sub(x, m)", "s = Pow(d, two)", "v = ReduceMean(s, axes)", "e = Add(v, eps)",
             "r = Sqrt(e)", "n = Div(d, r)", "t = Mul(n, w)", "y = Add(t, b)"]
    constants = {"axes": i64(-1), "two": scalar(2), "eps": scalar(1e-3), "w": normal(6), "b": normal(6)}
    if form == "reciprocal":
        nodes[2:3], nodes[6:7] = ["s = Mul(d, d)"], ["i = Reciprocal(r)", "n = Mul(d, i)"]
        del constants["two"]
    wanted = {"layer_norm": 1}
    if form == "sum":
        nodes[3:5] = ["e = ReduceSum(u, axes)"]
        nodes[3:3] = ["u = Add(s, eps)"]
        wanted |= {"affine": 1, "multiply": 1, "add": 1}
        check(tmp_path, nodes, [f"x float {shape}"], constants, {"layer norm": 1}, wanted)
    else:
        check(tmp_path, nodes, [f"x float {shape}"], constants, {"layer norm": 1, "norm weight": 1, "norm bias": 1}, wanted)


@pytest.mark.parametrize("form", ["half last", "half first", "half of the gate", "product"])
def test_gelu(tmp_path, form):
    start = ["d = Div(x, root)" if form != "product" else "d = Mul(x, root)", "e = Erf(d)", "o = Add(e, one)"]
    end = {
        "half last": ["p = Mul(x, o)", "y = Mul(p, half)"],
        "half first": ["h = Mul(half, x)", "y = Mul(h, o)"],
        "half of the gate": ["g = Mul(o, half)", "y = Mul(g, x)"],
        "product": ["p = Mul(o, x)", "y = Mul(half, p)"],
    }[form]
    root = np.sqrt(0.5) if form == "product" else np.sqrt(2)
    check(tmp_path, start + end, ["x float 5"], {"root": scalar(root), "one": scalar(1), "half": scalar(0.5)}, {"gelu": 1},
          {"gelu": 1})


@pytest.mark.parametrize("form", ["power", "factored"])
def test_gelu_by_tanh(tmp_path, form):
    inner = ["c = Pow(x, three)", "k = Mul(c, small)", "s = Add(x, k)"]
    if form == "factored":
        inner = ["c = Mul(x, x)", "k = Mul(c, small)", "l = Add(k, one)", "s = Mul(x, l)"]
    nodes = [*inner, "m = Mul(s, root)", "t = Tanh(m)", "o = Add(t, one)", "h = Mul(x, half)", "y = Mul(h, o)"]
    constants = {"three": scalar(3), "small": scalar(0.044715), "root": scalar(np.sqrt(2 / np.pi)), "one": scalar(1),
                 "half": scalar(0.5)}
    if form == "factored":
        del constants["three"]
    check(tmp_path, nodes, ["x float 5"], constants, {"gelu": 1}, {"gelu_tanh": 1})


@pytest.mark.parametrize("form", [
    ["s = Mul(a, q)", "u = Mul(s, x)", "v = Mul(p, x)", "y = Add(u, v)"],
    ["s = Mul(q, x)", "u = Mul(s, a)", "v = Mul(x, p)", "y = Add(v, u)"],
    ["s = Mul(x, a)", "u = Mul(q, s)", "v = Mul(p, x)", "y = Add(v, u)"],
])
@pytest.mark.parametrize("shape", [(6,), ()])
def test_dice(tmp_path, form, shape):
    nodes = ["p = Sigmoid(z)", "q = Sub(one, p)", *form]
    wanted = {"sigmoid": 1, "multiply": 2, "add": 1} if shape else {"sigmoid": 1, "affine": 1, "multiply": 1}
    constants = {"one": scalar(1), "a": normal(*shape)}
    check(tmp_path, nodes, ["x float 4 6", "z float 4 6"], constants, {"dice": 1}, wanted)


@pytest.mark.parametrize("form", ["stack", "last", "matmul", "einsum"])
def test_a_mixture_of_experts(tmp_path, form):
    nodes = [line for e in range(3) for line in (f"l{e} = MatMul(x, w{e})", f"e{e} = Relu(l{e})")]
    nodes += ["z = MatMul(x, wg)", "g = Softmax(z)"]
    axis = "last" if form == "last" else "one"
    nodes += [f"u{e} = Unsqueeze(e{e}, {axis})" for e in range(3)]
    nodes += {
        "stack": ["s = Concat <axis = 1> (u0, u1, u2)", "h = Unsqueeze(g, last)", "m = Mul(s, h)",
                  "y = ReduceSum <keepdims = 0> (m, one)"],
        "last": ["s = Concat <axis = -1> (u0, u1, u2)", "h = Unsqueeze(g, one)", "m = Mul(h, s)",
                 "y = ReduceSum <keepdims = 0> (m, last)"],
        "matmul": ["s = Concat <axis = 1> (u0, u1, u2)", "h = Unsqueeze(g, one)", "m = MatMul(h, s)",
                   "y = Squeeze(m, one)"],
        "einsum": ["s = Concat <axis = 1> (u0, u1, u2)", 'y = Einsum <equation = "be,bed->bd"> (g, s)'],
    }[form]
    constants = {f"w{e}": normal(5, 4) for e in range(3)} | {"wg": normal(5, 3)}
    constants |= {"one": i64(1)} | ({"last": i64(-1)} if form in ("stack", "last") else {})
    check(tmp_path, nodes, ["x float 5"], constants, {"mixture": 1}, {"linear": 4, "relu": 3, "softmax": 1, "mixture": 1})


def test_a_weighted_sum_of_a_history(tmp_path):
    nodes = ["u = Unsqueeze(w, last)", "m = Mul(h, u)", "y = ReduceSum <keepdims = 0> (m, one)"]
    constants = {"last": i64(-1), "one": i64(1)}
    check(tmp_path, nodes, ["h float 5 4", "w float 5"], constants, {"weighted sum": 1}, {"matmul": 1},
          rates=("request", "pair"))


def test_scores_of_a_history(tmp_path):
    nodes = ["u = Unsqueeze(q, one)", "m = Mul(h, u)", "y = ReduceSum <keepdims = 0> (m, last)"]
    check(tmp_path, nodes, ["h float 5 4", "q float 4"], {"last": i64(-1), "one": i64(1)}, {"dot": 1}, {"matmul": 1},
          rates=("request", "item"))


def test_products_that_are_added_up(tmp_path):
    nodes = ["m = Mul(a, b)", "y = ReduceSum <keepdims = 0> (m, last)"]
    check(tmp_path, nodes, ["a float 3 4", "b float 3 4"], {"last": i64(-1)}, {"dot": 1}, {"dot": 1})


def test_squares_that_are_added_up(tmp_path):
    line = "y = ReduceSumSquare <keepdims = 0> (a, last)"
    check(tmp_path, [line], ["a float 3 4"], {"last": i64(-1)}, {"dot": 1}, {"dot": 1})


def test_products_with_a_constant_that_are_added_up(tmp_path):
    nodes = ["m = Mul(a, w)", "y = ReduceSum <keepdims = 0> (m, last)"]
    check(tmp_path, nodes, ["a float 3 4"], {"last": i64(-1), "w": normal(4)}, {"dot": 1}, {"linear": 1})


@pytest.mark.parametrize("half", [True, False])
def test_a_factorisation_machine(tmp_path, half):
    nodes = [f"u{n} = Unsqueeze({n}, one)" for n in "abc"]
    nodes += ["v = Concat <axis = 1> (ua, ub, uc)", "s = ReduceSum <keepdims = 0> (v, one)", "q = Mul(s, s)",
              "r = Mul(v, v)", "t = ReduceSum <keepdims = 0> (r, one)", "d = Sub(q, t)"]
    nodes += ["h = Mul(d, half)", "y = ReduceSum <keepdims = 1> (h, one)"] if half else ["y = ReduceSum (d, one)"]
    constants = {"one": i64(1)} | ({"half": scalar(0.5)} if half else {})
    found = check(tmp_path, nodes, ["a float 4", "b float 4", "c float 4"], constants, {"factorisation machine": 1},
                  {"concat": 1, "add": 2, "dot": 3, "subtract": 2} | ({"affine": 1} if half else {}),
                  rates=("request", "request", "item"))
    rates = [found.steps.rates[found.steps.steps.index(step)] for step in found.live if step["op"] == "dot"]
    assert sorted(rates) == ["item", "pair", "request"]


@pytest.mark.parametrize(("nodes", "constants", "name", "step"), [
    (["s = Sigmoid(x)", "y = Mul(x, s)"], {}, "silu", "silu"),
    (["s = Sigmoid(x)", "y = Mul(s, x)"], {}, "silu", "silu"),
    (["y = Mul(x, x)"], {}, "square", "square"),
    (["y = Pow(x, c)"], {"c": scalar(2)}, "square", "square"),
    (["s = Softplus(x)", "t = Tanh(s)", "y = Mul(x, t)"], {}, "mish", "mish"),
    (["e = Exp(x)", "o = Add(e, c)", "y = Log(o)"], {"c": scalar(1)}, "softplus", "softplus"),
    (["n = Neg(x)", "e = Exp(n)", "o = Add(e, c)", "y = Reciprocal(o)"], {"c": scalar(1)}, "sigmoid", "sigmoid"),
    (["n = Neg(x)", "e = Exp(n)", "o = Add(e, c)", "y = Div(c, o)"], {"c": scalar(1)}, "sigmoid", "sigmoid"),
    (["m = Mul(x, c)", "y = Max(x, m)"], {"c": scalar(0.2)}, "leaky relu", "leaky_relu"),
    (["m = Mul(x, a)", "o = Add(m, b)", "y = Clip(o, z, c)"],
     {"a": scalar(0.2), "b": scalar(0.4), "z": scalar(0), "c": scalar(1)}, "hard sigmoid", "hard_sigmoid"),
    (["h = HardSigmoid <alpha = 0.16666667, beta = 0.5> (x)", "y = Mul(x, h)"], {}, "hard swish", "hard_swish"),
    (["m = Mul(x, a)", "o = Add(m, b)", "n = Neg(o)", "y = Mul(n, c)"], {"a": scalar(2), "b": scalar(3), "c": scalar(4)},
     "affine", "affine"),
    (["m = Max(x, a)", "y = Min(m, b)"], {"a": scalar(-1), "b": scalar(1)}, "clip", "clip"),
    (["m = Relu(x)", "y = Min(m, b)"], {"b": scalar(1)}, "clip", "clip"),
])
def test_functions_in_parts(tmp_path, nodes, constants, name, step):
    found = {} if "Pow" in nodes[0] else {name: 3 if name == "affine" else 1}
    check(tmp_path, nodes, ["x float 5"], constants, found, {step: 1})


@pytest.mark.parametrize("shape", [(4,), ()])
def test_prelu_in_parts(tmp_path, shape):
    nodes = ["r = Relu(x)", "n = Neg(x)", "s = Relu(n)", "m = Mul(a, s)", "y = Add(r, m)"]
    wanted = {"prelu" if shape else "leaky_relu": 1}
    check(tmp_path, nodes, ["x float 3 4"], {"a": normal(*shape)}, {"prelu": 1}, wanted)


@pytest.mark.parametrize("has_top", [True, False])
@pytest.mark.parametrize("shape", ["4", "3 4"])
def test_softmax_in_parts(tmp_path, has_top, shape):
    nodes = ["m = ReduceMax(x, axes)", "d = Sub(x, m)", "e = Exp(d)", "s = ReduceSum(e, axes)", "y = Div(e, s)"]
    if not has_top:
        nodes[:3] = ["e = Exp(x)"]
    check(tmp_path, nodes, [f"x float {shape}"], {"axes": i64(-1)}, {"softmax": 1}, {"softmax": 1})


@pytest.mark.parametrize("shape", ["4", "3 4"])
def test_log_softmax_in_parts(tmp_path, shape):
    wanted = {"reduce": 1, "subtract": 1}
    check(tmp_path, ["s = Softmax(x)", "y = Log(s)"], [f"x float {shape}"], {}, {"log softmax": 1}, wanted)


@pytest.mark.parametrize("shape", ["4", "3 4"])
def test_a_vector_over_its_length(tmp_path, shape):
    nodes = ["l = ReduceL2(x, axes)", "m = Clip(l, low)", "e = Shape(x)", "b = Expand(m, e)", "y = Div(x, b)"]
    constants = {"axes": i64(-1), "low": scalar(1e-12)}
    check(tmp_path, nodes, [f"x float {shape}"], constants, {"normalize": 1}, {"normalize": 1})


def test_the_same_numbers_with_other_constants_are_no_pattern(tmp_path):
    nodes = ["d = Mul(x, root)", "e = Erf(d)", "o = Add(e, one)", "p = Mul(x, o)", "y = Mul(p, half)"]
    constants = {"root": scalar(0.9), "one": scalar(1), "half": scalar(0.5)}
    check(tmp_path, nodes, ["x float 5"], constants, {"gelu": 0}, {"erf": 1, "affine": 3, "multiply": 1})


def test_a_norm_over_other_parts_than_its_mean_is_no_layer_norm(tmp_path):
    nodes = ["m = ReduceMean(x, one)", "d = Sub(x, m)", "s = Mul(d, d)", "v = ReduceMean(s, two)", "e = Add(v, eps)",
             "r = Sqrt(e)", "y = Div(d, r)"]
    constants = {"one": i64(1), "two": i64(1, 2), "eps": scalar(1e-3)}
    conversion = compare(tmp_path, nodes, ["x float 3 4"], constants)
    assert "layer norm" not in conversion.fused
