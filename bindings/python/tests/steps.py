"""The scalar truth of the steps of a `graph` network: each operation in NumPy, as the format says, never optimised.

Values are arrays `[n, width]`. Everything is computed in `dtype`, float64 unless told; tensors are taken as they are.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


def evaluate(
    description: Mapping[str, Any],
    tensors: Mapping[str, np.ndarray],
    columns: Mapping[str, Any],
    n: int,
    scenario: Any = 0,
    dtype: Any = np.float64,
) -> dict[str, np.ndarray]:
    """The outputs `[n]` by task of the graph of a model, for `n` rows.

    `columns` has the numbers `[n, width]` of each dense feature and the table rows `[n, length]` of each id feature;
    `scenario` is a row of the scenario tensors, or one for each of the `n` rows.
    """
    network = description["network"]
    values = run(network["steps"], tensors, columns, n, scenario, dtype, features(description))
    return {task: values[step][:, 0] for task, step in network["outputs"].items()}


def features(description: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    return {feature["name"]: feature for feature in description.get("features", [])}


def run(
    steps: Sequence[Mapping[str, Any]],
    tensors: Mapping[str, np.ndarray],
    columns: Mapping[str, Any],
    n: int,
    scenario: Any = 0,
    dtype: Any = np.float64,
    known: Mapping[str, Mapping[str, Any]] | None = None,
) -> dict[str, np.ndarray]:
    """The value `[n, width]` of every step, by its name. `known` are the features, for the tables and `oov` of ids."""
    values: dict[str, np.ndarray] = {}
    scenarios = np.broadcast_to(np.asarray(scenario, dtype=np.int64), (n,))
    context = {"tensors": tensors, "columns": columns, "n": n, "scenarios": scenarios, "dtype": dtype, "known": known or {}}
    for step in steps:
        assert step["name"] not in values, f"step `{step['name']}` is there twice"
        inputs = [values[name] for name in step.get("inputs", [])]
        with np.errstate(all="ignore"):
            value = OPERATIONS[step["op"]](step, inputs, context)
        values[step["name"]] = np.asarray(value, dtype=dtype).reshape(n, -1)
    return values


def tensor(step: Mapping[str, Any], key: str, context: Mapping[str, Any]) -> np.ndarray | None:
    name = step.get(key)
    return None if name is None else np.asarray(context["tensors"][name]).astype(context["dtype"])


def feature(step, inputs, context):
    return np.asarray(context["columns"][step["feature"]], dtype=context["dtype"]).reshape(context["n"], -1)


def rows(step, inputs, context):
    return table_rows(step["feature"], context)


def table_rows(name: str, context: Mapping[str, Any]) -> np.ndarray:
    """The table rows of an identity id feature: ids outside its own table go to `oov`."""
    ids = np.asarray(context["columns"][name], dtype=np.int64).reshape(context["n"], -1)
    known = context["known"].get(name, {})
    if "table" not in known:
        return ids
    count = np.asarray(context["tensors"][known["table"]]).shape[0]
    return np.where((ids >= 0) & (ids < count), ids, known.get("oov", 0))


def embedding(step, inputs, context):
    table = tensor(step, "table", context)
    return table[table_rows(step["feature"], context)]


def scenario(step, inputs, context):
    parts = tensor(step, "tensor", context)
    return parts.reshape(len(parts), -1)[context["scenarios"]]


def constant(step, inputs, context):
    numbers = tensor(step, "tensor", context).ravel()
    return np.broadcast_to(numbers, (context["n"], numbers.size))


def concat(step, inputs, context):
    return np.concatenate(inputs, axis=1)


def interleave(step, inputs, context):
    groups, parts = step["groups"], []
    for value, width in zip(inputs, step["widths"], strict=True):
        assert value.shape[1] in (width, groups * width)
        parts.append(np.broadcast_to(value.reshape(len(value), -1, width), (len(value), groups, width)))
    return np.concatenate(parts, axis=2)


def view(step, inputs, context):
    (value,) = inputs
    columns = np.full((), step["start"])
    for size, stride in zip(step["sizes"], step["strides"], strict=True):
        columns = columns[..., None] + np.arange(size) * stride
    assert columns.min() >= 0 and columns.max() < value.shape[1]
    return value[:, columns.ravel()]


def linear(step, inputs, context):
    (value,) = inputs
    groups = step.get("groups", 1)
    weight, bias = tensor(step, "weight", context), tensor(step, "bias", context)
    if not step.get("transposed", False):
        weight = weight.T
    assert value.shape[1] == groups * weight.shape[0]
    out = value.reshape(len(value), groups, -1) @ weight
    return out if bias is None else out + bias.reshape(weight.shape[1])


def matmul(step, inputs, context):
    left, right = inputs
    n, batch = len(left), step.get("batch", 1)
    rows, inner, columns = step["rows"], step["inner"], step["columns"]
    assert left.shape[1] in (rows * inner, batch * rows * inner)
    assert right.shape[1] in (inner * columns, batch * inner * columns)
    left = left.reshape(n, -1, rows, inner)
    if step.get("transposed", False):
        right = right.reshape(n, -1, columns, inner).swapaxes(2, 3)
    else:
        right = right.reshape(n, -1, inner, columns)
    return np.broadcast_to(left @ right, (n, batch, rows, columns))


def batch_norm(step, inputs, context):
    value = grouped(inputs[0], step)
    mean, variance = tensor(step, "mean", context), tensor(step, "variance", context)
    assert mean.size == variance.size == value.shape[2]
    out = (value - mean.ravel()) / np.sqrt(variance.ravel() + step["epsilon"])
    return scaled(out, step, context)


def scaled(value: np.ndarray, step: Mapping[str, Any], context: Mapping[str, Any]) -> np.ndarray:
    weight, bias = tensor(step, "weight", context), tensor(step, "bias", context)
    for part in (weight, bias):
        assert part is None or part.size == value.shape[-1]
    if weight is not None:
        value = value * weight.ravel()
    return value if bias is None else value + bias.ravel()


def grouped(value: np.ndarray, step: Mapping[str, Any]) -> np.ndarray:
    groups = step.get("groups", 1)
    assert value.shape[1] % groups == 0
    return value.reshape(len(value), groups, -1)


def layer_norm(step, inputs, context):
    value = grouped(inputs[0], step)
    centred = value - value.mean(axis=2, keepdims=True)
    out = centred / np.sqrt((centred * centred).mean(axis=2, keepdims=True) + step["epsilon"])
    return scaled(out, step, context)


def normalize(step, inputs, context):
    value = grouped(inputs[0], step)
    length = np.sqrt((value * value).sum(axis=2, keepdims=True))
    return value / np.maximum(length, step.get("epsilon", 1e-12))


def softmax(step, inputs, context):
    value = grouped(inputs[0], step)
    powers = np.exp(value - value.max(axis=2, keepdims=True))
    return powers / powers.sum(axis=2, keepdims=True)


def argmax(step, inputs, context):
    value = grouped(inputs[0], step)
    return np.arange(value.shape[2]) == value.argmax(axis=2)[..., None]


def top_k(step, inputs, context):
    value = grouped(inputs[0], step)
    order = np.argsort(value if step.get("smallest", False) else -value, axis=2, kind="stable")[:, :, : step["count"]]
    values = np.take_along_axis(value, order, axis=2)
    return np.concatenate([values.reshape(len(value), -1), order.reshape(len(value), -1)], axis=1)


def function(step, inputs, context):
    return FUNCTIONS[step["function"]](inputs[0], step)


def combine(step, inputs, context):
    left, right = inputs
    width, part = left.shape[1], right.shape[1]
    assert width % part == 0
    repeated = np.repeat(right, width // part, axis=1) if step.get("each", False) else np.tile(right, (1, width // part))
    return COMBINATIONS[step["function"]](left, repeated)


def choose(step, inputs, context):
    width = max(value.shape[1] for value in inputs)
    assert all(value.shape[1] in (1, width) for value in inputs)
    condition, then, otherwise = inputs
    return np.where(condition != 0, then, otherwise)


def reduce(step, inputs, context):
    (value,) = inputs
    groups, inner = step.get("groups", 1), step.get("inner", 1)
    assert value.shape[1] % (groups * inner) == 0
    return REDUCTIONS[step["function"]](value.reshape(len(value), groups, -1, inner))


def lookup(step, inputs, context):
    (index,) = inputs
    table = tensor(step, "table", context)
    number = np.where(index < 0, index + len(table), index)
    number = np.where((number >= 0) & (number < len(table)), number, 0).astype(np.int64)
    return table[number]


def pick(step, inputs, context):
    value, index = inputs
    groups, inner, count = step.get("groups", 1), step.get("inner", 1), step["count"]
    value, index = value.reshape(len(value), groups, -1, inner), index.reshape(len(index), groups, count)
    length = value.shape[2]
    number = np.clip(np.where(index < 0, index + length, index), 0, length - 1).astype(np.int64)
    return np.take_along_axis(value, number[..., None], axis=2)


def mixture(step, inputs, context):
    gate, *experts = inputs
    assert gate.shape[1] == len(experts)
    return sum(gate[:, e : e + 1] * expert for e, expert in enumerate(experts))


def dot(step, inputs, context):
    left, right = (grouped(value, step) for value in inputs)
    return (left * right).sum(axis=2)


OPERATIONS = {
    operation.__name__: operation
    for operation in (feature, embedding, rows, scenario, constant, concat, interleave, view, linear, matmul, batch_norm,
                      layer_norm, normalize, softmax, argmax, top_k, function, combine, choose, reduce, lookup, pick,
                      mixture, dot)
}

ERF = np.vectorize(math.erf, otypes=[np.float64])


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def softplus(x: np.ndarray) -> np.ndarray:
    return np.logaddexp(x, 0)


def negative_part(x: np.ndarray, alpha: float, scale: float = 1) -> np.ndarray:
    """`alpha (e^(x / scale) - 1)` of the negative, the others as they are."""
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0) / scale))


FUNCTIONS = {
    "abs": lambda x, p: np.abs(x),
    "negate": lambda x, p: -x,
    "exp": lambda x, p: np.exp(x),
    "log": lambda x, p: np.log(x),
    "sqrt": lambda x, p: np.sqrt(x),
    "reciprocal": lambda x, p: 1 / x,
    "square": lambda x, p: x * x,
    "erf": lambda x, p: ERF(x),
    "gelu": lambda x, p: x * (1 + ERF(x / math.sqrt(2))) / 2,
    "gelu_tanh": lambda x, p: x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))) / 2,
    "sigmoid": lambda x, p: sigmoid(x),
    "tanh": lambda x, p: np.tanh(x),
    "relu": lambda x, p: np.maximum(x, 0),
    "leaky_relu": lambda x, p: np.where(x > 0, x, p["slope"] * x),
    "elu": lambda x, p: negative_part(x, p["alpha"]),
    "selu": lambda x, p: p["gamma"] * negative_part(x, p["alpha"]),
    "celu": lambda x, p: negative_part(x, p["alpha"], p["alpha"]),
    "softplus": lambda x, p: softplus(x),
    "softsign": lambda x, p: x / (1 + np.abs(x)),
    "mish": lambda x, p: x * np.tanh(softplus(x)),
    "silu": lambda x, p: x * sigmoid(x),
    "hard_sigmoid": lambda x, p: np.clip(x * p["scale"] + p["shift"], 0, 1),
    "hard_swish": lambda x, p: x * np.clip(x / 6 + 0.5, 0, 1),
    "thresholded_relu": lambda x, p: np.where(x > p["alpha"], x, 0),
    "affine": lambda x, p: x * p["scale"] + p["shift"],
    "clip": lambda x, p: np.clip(x, p.get("low", -np.inf), p.get("high", np.inf)),
    "power": lambda x, p: np.power(x, p["exponent"]),
    "floor": lambda x, p: np.floor(x),
    "ceil": lambda x, p: np.ceil(x),
    "round": lambda x, p: np.rint(x),
    "truncate": lambda x, p: np.trunc(x),
    "sign": lambda x, p: np.sign(x),
    "not": lambda x, p: x == 0,
    "is_nan": lambda x, p: np.isnan(x),
    "is_inf": lambda x, p: np.isinf(x),
    "sin": lambda x, p: np.sin(x),
    "cos": lambda x, p: np.cos(x),
    "tan": lambda x, p: np.tan(x),
    "asin": lambda x, p: np.arcsin(x),
    "acos": lambda x, p: np.arccos(x),
    "atan": lambda x, p: np.arctan(x),
    "sinh": lambda x, p: np.sinh(x),
    "cosh": lambda x, p: np.cosh(x),
    "asinh": lambda x, p: np.arcsinh(x),
    "acosh": lambda x, p: np.arccosh(x),
    "atanh": lambda x, p: np.arctanh(x),
}

COMBINATIONS = {
    "add": np.add,
    "subtract": np.subtract,
    "multiply": np.multiply,
    "divide": np.divide,
    "maximum": np.maximum,
    "minimum": np.minimum,
    "power": np.power,
    "modulo": np.mod,
    "remainder": np.fmod,
    "equal": np.equal,
    "less": np.less,
    "less_equal": np.less_equal,
    "prelu": lambda left, right: np.where(left > 0, left, right * left),
}


def log_sum_exp(value: np.ndarray) -> np.ndarray:
    top = value.max(axis=2, keepdims=True)
    top = np.where(np.isfinite(top), top, 0)
    return (np.log(np.exp(value - top).sum(axis=2, keepdims=True)) + top)[:, :, 0]


REDUCTIONS = {
    "sum": lambda value: value.sum(axis=2),
    "mean": lambda value: value.mean(axis=2),
    "max": lambda value: value.max(axis=2),
    "min": lambda value: value.min(axis=2),
    "product": lambda value: value.prod(axis=2),
    "log_sum_exp": log_sum_exp,
}
