"""What a random graph can be made of: for each operator a function that puts nodes of it behind tensors that there are."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx

from fuzz_onnx_graph import COMPARISONS, INTEGERS, MICROSOFT, NUMBERS, ROW_NUMBER, Builder, Row, Skip, Tensor, reduced_range, since

Made = Tensor | list[Tensor]
Operator = Callable[[Builder, str], Made]

OPERATORS: dict[str, Operator] = {}


def operator(*ops: str) -> Callable[[Operator], Operator]:
    def register(function: Operator) -> Operator:
        OPERATORS.update(dict.fromkeys(ops, function))
        return function

    return register


# Of one element: the domain, and how the function runs over a range of it.


def increasing(function: Callable[[float], float]) -> Callable[[float, float], tuple[float, float]]:
    return lambda low, high: (function(low), function(high))


def falling(function: Callable[[float], float]) -> Callable[[float, float], tuple[float, float]]:
    return lambda low, high: (function(high), function(low))


def within(low: float, high: float) -> Callable[[float, float], tuple[float, float]]:
    return lambda *_: (low, high)


def even(function: Callable[[float], float]) -> Callable[[float, float], tuple[float, float]]:
    return lambda low, high: (function(0 if low <= 0 <= high else min(abs(low), abs(high))), function(max(abs(low), abs(high))))


ANY = (-math.inf, math.inf)

FUNCTIONS = {
    "Exp": ((-4, 3), increasing(math.exp)), "Log": ((0.05, math.inf), increasing(math.log)),
    "Sqrt": ((0.02, math.inf), increasing(math.sqrt)), "Erf": (ANY, increasing(math.erf)), "Sigmoid": (ANY, within(0, 1)),
    "Tanh": (ANY, increasing(math.tanh)), "Softplus": (ANY, lambda low, high: (0, max(high, 0) + 1)), "Softsign": (ANY, within(-1, 1)),
    "HardSwish": (ANY, lambda low, high: (-0.4, max(high, 0))), "Mish": (ANY, lambda low, high: (-0.4, max(high, 0))),
    "Sin": ((-9, 9), within(-1, 1)), "Cos": ((-9, 9), within(-1, 1)), "Tan": ((-1.2, 1.2), increasing(math.tan)),
    "Asin": ((-0.95, 0.95), increasing(math.asin)), "Acos": ((-0.95, 0.95), falling(math.acos)), "Atan": (ANY, increasing(math.atan)),
    "Sinh": ((-3, 3), increasing(math.sinh)), "Cosh": ((-3, 3), even(math.cosh)), "Asinh": (ANY, increasing(math.asinh)),
    "Acosh": ((1.1, math.inf), increasing(math.acosh)), "Atanh": ((-0.95, 0.95), increasing(math.atanh)),
}


@operator(*FUNCTIONS)
def function(g: Builder, op: str) -> Made:
    (least, most), run = FUNCTIONS[op]
    x = g.into(g.pick(), max(least, -1e9), min(most, 1e9)) if least == -math.inf else bounded(g, least, most)
    return g.unary(op, x, *run(x.low, x.high))


def bounded(g: Builder, least: float, most: float) -> Tensor:
    x = g.pick()
    if x.low >= least and x.high <= most:
        return x
    return g.into(x, least, most if most < math.inf else least + g.one_of(1.0, 3.0))


def apart_from_zero(g: Builder, x: Tensor) -> Tensor:
    """A tensor whose numbers are all above zero, or all below."""
    if x.low >= 0.1 or x.high <= -0.1:
        return x
    return g.into(x, *g.one_of((0.25, 2.0), (0.5, 4.0), (-2.0, -0.5)))


@operator("Reciprocal")
def reciprocal(g: Builder, op: str) -> Made:
    x = apart_from_zero(g, g.pick())
    return g.unary(op, x, 1 / x.high, 1 / x.low)


@operator("Abs", "Neg", "Relu", "Identity", "Sign", "Floor", "Ceil", "Round")
def exact_function(g: Builder, op: str) -> Made:
    is_stepped = op in ("Sign", "Floor", "Ceil", "Round")
    kinds = {"Neg": ("float32", "int64", "int32"), "Relu": ("float32",), "Sign": ("float32", "int64"), "Abs": NUMBERS,
             "Identity": (*NUMBERS, "bool")}.get(op, ("float32",))
    x = g.pick_exact(kinds) if is_stepped else g.pick(kinds)
    low, high = x.low, x.high
    match op:
        case "Abs":
            low, high = 0, x.bound
        case "Neg":
            low, high = -high, -low
        case "Relu":
            low, high = max(low, 0), max(high, 0)
        case "Sign":
            low, high = -1, 1
        case "Floor" | "Ceil" | "Round":
            low, high = math.floor(low), math.ceil(high)
    return g.unary(op, x, low, high, 1.0 if is_stepped else x.grain)


@operator("LeakyRelu", "Elu", "Celu", "Selu", "Gelu", "HardSigmoid", "Swish")
def with_parameters(g: Builder, op: str) -> Made:
    x, domain, attributes = g.pick(), "", {}
    low, high = min(x.low, -2.5), max(x.high * 1.2, 2.5)
    match op:
        case "LeakyRelu" | "Elu" | "Celu" | "Swish":
            attributes = {"alpha": g.one_of(None, 0.3, 0.05, 1.0, 0.6)}
        case "Selu":
            attributes = {"alpha": g.one_of(None, 1.5), "gamma": g.one_of(None, 1.1)}
            low, high = low * 1.2, high * 1.2
        case "HardSigmoid":
            attributes = {"alpha": g.one_of(None, 0.3, 1 / 6), "beta": g.one_of(None, 0.4, 0.5)}
            low, high = 0, 1
        case "Gelu":
            if g.opset < 20:
                domain = MICROSOFT
            else:
                attributes = {"approximate": g.one_of(None, "none", "tanh")}
    return g.unary(op, x, low, high, domain=domain, **attributes)


@operator("ThresholdedRelu", "Shrink")
def stepped_function(g: Builder, op: str) -> Made:
    x = g.pick_exact(("float32",))
    if op == "ThresholdedRelu":
        return g.unary(op, x, min(x.low, 0), max(x.high, 0), x.grain, alpha=g.one_of(None, 0.5, 1.0, -0.25))
    bias = g.one_of(None, 0.25, 1.0)
    return g.unary(op, x, x.low - 1, x.high + 1, min(x.grain, 0.25), lambd=g.one_of(None, 1.0, 0.25), bias=bias)


@operator("Not", "And", "Or", "Xor")
def logic(g: Builder, op: str) -> Made:
    x = mask(g)
    if op == "Not":
        return g.unary(op, x, 0, 1, 1.0)
    return g.binary(op, x, g.partner(x))


def mask(g: Builder) -> Tensor:
    """A tensor of booleans that there is, or a comparison."""
    found = [t for t in g.pool if t.kind == "bool"]
    return g.rng.choice(found) if found and g.chance(0.6) else comparison(g, g.one_of(*COMPARISONS))


@operator(*COMPARISONS)
def comparison(g: Builder, op: str) -> Made:
    x = g.pick_exact(("float32", "int64", "int32") if op != "Equal" or g.opset >= 11 else ("int64", "int32"))
    other = g.partner(x, is_exact=True)
    return g.binary(op, *((other, x) if g.chance(0.4) else (x, other)))


@operator("IsNaN", "IsInf")
def unusual(g: Builder, op: str) -> Made:
    x = g.pick()
    if g.chance(0.5):
        array = g.numbers.choice([0, 1, np.inf, -np.inf, 2], g.constant_shape(x)).astype(np.float32)
        extreme = dataclasses.replace(g.constant(array), low=-1, high=1)
        x = g.binary(g.one_of("Add", "Max"), x, extreme)
    attributes = {}
    if op == "IsInf":
        attributes = {"detect_negative": g.one_of(None, 0, 1), "detect_positive": g.one_of(None, 0, 1)}
    found = g.unary(op, x, 0, 1, 1.0, "bool", **attributes)
    return found if x.bound < 1e3 else g.to_float(found)


@operator("Clip")
def clip(g: Builder, op: str) -> Made:
    kinds = ("float32", "int64", "int32") if g.opset >= 12 else ("float32",)
    x = g.pick(kinds)
    if x.kind != "float32":
        return g.clip(x, g.rng.randint(-3, 1), g.rng.randint(1, 6))
    if g.opset < 11:
        low, high = g.one_of((None, 1.0), (-0.5, None), (-0.5, 1.5))
        return g.unary(op, x, clipped(x.low, low, high), clipped(x.high, low, high), min=low, max=high)
    if g.chance(0.15):
        bounds = [t for t in g.pool if t.kind == "float32" and t.size == 1 and t.row is None]
        if bounds:
            bound = g.reshape(g.rng.choice(bounds), (), None)
            return g.emit(op, [x, bound], x.shape, x.row, min(x.low, bound.low), max(x.high, bound.high), min(x.grain, bound.grain))
    low, high = g.one_of((None, 1.0), (-0.5, None), (-0.5, 1.5), (None, None), (1.0, -1.0), (0.0, 6.0))
    given = [x, *(None if bound is None else g.constant(np.float32(bound)) for bound in (low, high))]
    grain = min(x.grain, 0.5)
    return g.emit(op, given, x.shape, x.row, clipped(x.low, low, high), clipped(x.high, low, high), grain)


def clipped(x: float, low: float | None, high: float | None) -> float:
    x = x if low is None else max(x, low)
    return x if high is None else min(x, high)


@operator("Cast", "CastLike")
def cast(g: Builder, op: str) -> Made:
    x = g.pick((*NUMBERS, "bool"))
    kinds = ["float32"]
    if x.grain:
        kinds += ["bool", "int64", "int32", "float32"]
        if x.low >= 0 and x.high <= 255:
            kinds.append("uint8")
        if x.bound <= 120:
            kinds.append("int8")
        if x.bound <= 500 and x.grain >= 0.25:
            kinds.append("float16")
    kinds.append("float64")
    kind = g.rng.choice(kinds)
    low, high, grain = x.low, x.high, x.grain
    if kind == "bool":
        low, high, grain = 0, 1, 1.0
    elif kind in INTEGERS:
        low, high, grain = math.trunc(low), math.trunc(high), 1.0
    if op == "CastLike":
        like = [t for t in g.pool if t.kind == kind and not t.rates.difference(x.rates)]
        other = g.rng.choice(like) if like and g.chance(0.5) else g.scalar(1, kind)
        made = g.emit(op, [x, other], x.shape, x.row, low, high, grain, kind)
    else:
        made = g.unary(op, x, low, high, grain, kind, to=onnx.helper.np_dtype_to_tensor_dtype(np.dtype(kind)))
    if kind == "float64" and g.chance(0.5):
        made = g.binary(g.one_of("Add", "Mul"), made, g.constant(g.numbers.integers(-4, 5, ()) / 4))
    return g.to_float(made) if kind in ("float64", "float16") else made


# Of two elements and more


@operator("Add", "Sub", "Mul", "Max", "Min")
def arithmetic(g: Builder, op: str) -> Made:
    kinds = ("float32", "float32", "int64", "int32") if g.opset >= 12 or op not in ("Max", "Min") else ("float32",)
    x = g.pick(kinds)
    other = g.partner(x)
    pair = (other, x) if g.chance(0.4) else (x, other)
    return g.binary(op, *pair)


@operator("Div")
def divide(g: Builder, op: str) -> Made:
    x = g.pick(("float32", "float32", "int64", "int32"))
    if x.kind != "float32":
        sign = g.one_of(1, 1, -1)
        divisor = g.constant(sign * g.numbers.integers(1, 6, g.constant_shape(x)).astype(x.kind))
        return g.binary(op, x, divisor)
    if g.chance(0.4):
        return g.binary(op, x, g.partner(x, is_positive=True))
    below = apart_from_zero(g, g.partner(x))
    return g.binary(op, x, below)


@operator("Pow")
def power(g: Builder, op: str) -> Made:
    if g.chance(0.6):
        x = g.into(g.pick(), -4, 4)
        exponent = g.one_of(2, 2, 3, 4, 1)
        kind = g.one_of("float32", "float32", "int64") if g.opset >= 12 else "float32"
        return g.emit(op, [x, g.scalar_beside(x, exponent) if kind == "float32" else g.constant(np.array(exponent))], x.shape, x.row,
                      -(x.bound + 1) ** exponent, (x.bound + 1) ** exponent, 0.0)
    x = g.into(g.pick(), 0.25, 2.0)
    exponent = g.partner(x) if g.chance(0.5) else g.scalar_beside(x, g.one_of(0.5, -1, -0.5, 1.7, 0, -2))
    exponent = g.into(exponent, -2, 2)
    shape, row = g.broadcast(x, exponent)
    pair = [x, exponent]
    if g.chance(0.3):
        pair = [g.scalar(2.0), g.into(x, -2, 2)]
        shape, row = g.broadcast(*pair)
    return g.emit(op, pair, shape, row, 0, 17)


@operator("Mod")
def modulo(g: Builder, op: str) -> Made:
    if g.chance(0.3):
        x = g.pick_exact(("float32",))
        return g.binary(op, x, g.scalar_beside(x, g.one_of(2.0, 1.5, -2.5)), fmod=1)
    x = g.pick(("int64", "int32"))
    array = g.numbers.integers(1, 7, g.constant_shape(x)) * g.one_of(1, 1, -1)
    other = g.constant(array.astype(x.kind))
    if g.chance(0.3):
        shape, row = g.broadcast(x, other)
        return g.emit(op, [x, other], shape, row, -x.bound, x.bound, 1.0, x.kind, fmod=1)
    return g.binary(op, x, other)


@operator("PRelu")
def prelu(g: Builder, op: str) -> Made:
    """The slope may be spread over the input, not the other way."""
    x = g.pick()
    slope = g.constant(g.array_like(g.constant_shape(x), "float32", False)) if g.chance(0.7) else g.partner(x)
    shape, row = g.broadcast(x, slope)
    if (shape, row) != (x.shape, x.row):
        raise Skip
    top = x.bound * max(slope.bound, 1)
    return g.emit(op, [x, slope], shape, row, -top, top)


@operator("Sum", "Mean")
def variadic(g: Builder, op: str) -> Made:
    x = g.pick()
    given = [x]
    for _ in range(g.rng.randint(0, 3)):
        other = g.partner(x)
        if g.fits(*given, other):
            given.append(other)
    g.rng.shuffle(given)
    shape, row = g.broadcast(*given)
    low, high = sum(t.low for t in given), sum(t.high for t in given)
    grain = min(t.grain for t in given) if op == "Sum" else 0.0
    return g.emit(op, given, shape, row, low, high, grain)


@operator("Where")
def where(g: Builder, op: str) -> Made:
    x = g.pick(("float32", "float32", "int64"))
    other = g.partner(x)
    if g.chance(0.3):
        condition = g.constant(g.numbers.integers(0, 2, g.constant_shape(x)).astype(bool))
    else:
        condition = mask(g)
    shape, row = g.broadcast(condition, x, other)
    pair = (x, other) if g.chance(0.5) else (other, x)
    return g.emit(op, [condition, *pair], shape, row, min(x.low, other.low), max(x.high, other.high), min(x.grain, other.grain), x.kind)


# Along axes


@operator("Softmax", "LogSoftmax")
def softmax(g: Builder, op: str) -> Made:
    x = g.into(g.pick(least=1), -30, 30)
    least = 0 if x.row is None or g.opset >= 13 else x.row.axis + 1
    axes = [axis for axis in x.free_axes() if axis >= least]
    if not axes:
        raise Skip
    axis = g.rng.choice(axes)
    default = axis == (x.rank - 1 if g.opset >= 13 else 1)
    # Before operator set 11 an axis counts from the front.
    given = None if default and g.chance(0.4) else g.axis(axis, x.rank) if g.opset >= 11 else axis
    low, high = (0, 1) if op == "Softmax" else (-65, 0)
    return g.unary(op, x, low, high, axis=given)


@operator("Hardmax")
def hardmax(g: Builder, op: str) -> Made:
    x = g.pick_exact(("float32",), least=1)
    axes = [axis for axis in x.free_axes() if g.opset >= 13 or x.row is None or axis > x.row.axis]
    if not axes:
        raise Skip
    axis = g.rng.choice(axes)
    return g.unary(op, x, 0, 1, 1.0, axis=g.axis(axis, x.rank) if g.opset >= 11 else axis)


@operator("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2", "ReduceSumSquare",
          "ReduceLogSum", "ReduceLogSumExp")
def reduction(g: Builder, op: str) -> Made:
    whole = op in ("ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd")
    kinds = ("float32", "float32", "int64" if op == "ReduceSum" or g.opset >= 12 else "int32") if whole else ("float32",)
    x = g.pick(kinds, least=1)
    if op == "ReduceLogSum":
        x = g.into(x, 0.1, 2)
    elif op == "ReduceL2":
        x = apart_from_zero(g, x)
    elif op == "ReduceLogSumExp":
        x = g.into(x, -20, 20)
    if (g.opset >= 18 or (op == "ReduceSum" and g.opset >= 13)) and g.chance(0.05):
        given = [x] if g.chance(0.5) else [x, g.constant(np.zeros(0, dtype=np.int64))]
        return g.emit(op, given, x.shape, x.row, *reduced_range(op, x, 1), x.kind, noop_with_empty_axes=1)
    return g.reduce(op, x, g.some(x.free_axes()), g.chance(0.5))


@operator("ArgMax", "ArgMin")
def arg_extreme(g: Builder, op: str) -> Made:
    x = g.pick_exact(("float32",), least=1)
    axis = g.rng.choice(x.free_axes() or [None])
    if axis is None:
        raise Skip
    keep = g.one_of(None, 1, 0)
    shape = list(x.shape)
    shape[axis] = 1
    row = x.row
    if keep == 0:
        del shape[axis]
        row = without_axis(row, axis)
    last = g.one_of(None, 0, 1) if g.opset >= 12 else None
    given = g.axis(axis, x.rank) if g.opset >= 11 else axis
    return g.emit(op, [x], shape, row, 0, x.shape[axis] - 1, 1.0, "int64", axis=given, keepdims=keep, select_last_index=last)


def without_axis(row: Row | None, axis: int) -> Row | None:
    return None if row is None else dataclasses.replace(row, axis=row.axis - (axis < row.axis))


@operator("TopK")
def top_k(g: Builder, op: str) -> Made:
    """Its places are looked at only if no rounding can swap them."""
    x = g.pick(least=1)
    axes = x.free_axes()
    if not axes:
        raise Skip
    axis = g.rng.choice(axes)
    count = g.rng.randint(1, x.shape[axis])
    shape = tuple(count if a == axis else size for a, size in enumerate(x.shape))
    attributes: dict[str, Any] = {"axis": g.axis(axis, x.rank) if g.opset >= 11 else axis}
    given: list[Any] = [x]
    if g.opset < 10:
        attributes["k"] = count
    else:
        given.append(g.ints(count))
    if g.opset >= 11:
        attributes["largest"] = g.one_of(None, 0, 1)
    values, places = g.line(op, given, 2, **attributes)
    made = [g.tensor(values, [x], shape, x.row, "float32", x.low, x.high, x.grain)]
    if x.grain:
        made.append(g.tensor(places, [x], shape, x.row, "int64", 0, x.shape[axis] - 1, 1.0))
    return made


@operator("CumSum")
def cumulative_sum(g: Builder, op: str) -> Made:
    x = g.pick(("float32", "float32", "int64"), least=1)
    axes = x.free_axes()
    if not axes:
        raise Skip
    axis = g.rng.choice(axes)
    kind = g.one_of(np.int64, np.int32)
    given = g.constant(np.array(g.axis(axis, x.rank), dtype=kind).reshape(g.one_of((), (1,))))
    top = x.bound * x.shape[axis]
    return g.emit(op, [x, given], x.shape, x.row, -top, top, x.grain, x.kind, exclusive=g.one_of(None, 0, 1),
                  reverse=g.one_of(None, 0, 1))


# Norms


def spread(g: Builder, x: Tensor, axes: Sequence[int]) -> Tensor:
    """Numbers that differ along axes, so that a norm of them is well conditioned."""
    shape = tuple(size if axis in axes else 1 for axis, size in enumerate(x.shape))
    ramp = (np.arange(math.prod(shape)) - math.prod(shape) / 3).astype(np.float32).reshape(shape)
    return g.binary("Add", g.into(x, -0.4, 0.4), g.constant(ramp))


@operator("BatchNormalization")
def batch_norm(g: Builder, op: str) -> Made:
    x = g.pick(least=2)
    if x.row is not None and x.row.axis == 1:
        raise Skip
    channels = x.shape[1]
    variance = (np.abs(g.numbers.normal(size=channels)) + 0.3).astype(np.float32)
    given = [x, g.weights(channels, scale=1), g.weights(channels, scale=1), g.weights(channels, scale=1), g.constant(variance)]
    top = (x.bound + 3) / 0.5 * 3 + 3
    mode = g.one_of(None, 0) if g.opset >= 14 else None
    return g.emit(op, given, x.shape, x.row, -top, top, epsilon=g.one_of(None, 0.01, 1e-3), training_mode=mode)


@operator("LayerNormalization", "RMSNormalization")
def layer_norm(g: Builder, op: str) -> Made:
    x = g.pick(least=1)
    least = 0 if x.row is None else x.row.axis + 1
    if least >= x.rank:
        raise Skip
    axis = g.rng.randint(least, x.rank - 1)
    shape = x.shape[axis:]
    x = spread(g, x, range(axis, x.rank)) if math.prod(shape) > 1 else x
    given = [x, g.weights(*shape[g.rng.randint(0, len(shape) - 1) if g.chance(0.2) else 0 :], scale=1)]
    if op == "LayerNormalization" and g.chance(0.7):
        given.append(g.weights(*shape, scale=1))
    top = 3 * math.sqrt(math.prod(shape)) + 3
    default = axis == x.rank - 1
    return g.emit(op, given, x.shape, x.row, -top, top, axis=None if default and g.chance(0.5) else g.axis(axis, x.rank),
                  epsilon=g.one_of(None, 0.01, 1e-3))


@operator("InstanceNormalization", "GroupNormalization")
def channel_norm(g: Builder, op: str) -> Made:
    channels, length = g.rng.randint(1, 4), g.rng.randint(2, 5)
    groups = g.one_of(1, 2)
    if op == "GroupNormalization":
        channels *= groups
    shape = (channels, length, g.rng.randint(1, 3)) if g.chance(0.3) else (channels, length)
    x = spread(g, g.shaped(g.pick(), *shape), range(1 if op == "GroupNormalization" else 2, len(shape) + 1))
    count = channels if op == "InstanceNormalization" or g.opset >= 21 else groups
    given = [x, g.weights(count, scale=1), g.weights(count, scale=1)]
    top = 3 * math.sqrt(x.size) + 3
    attributes = {"num_groups": groups} if op == "GroupNormalization" else {}
    return g.emit(op, given, x.shape, x.row, -top, top, epsilon=g.one_of(None, 1e-3), **attributes)


@operator("LpNormalization")
def lp_norm(g: Builder, op: str) -> Made:
    x = g.pick(least=1)
    if not x.free_axes():
        raise Skip
    axis = g.rng.choice(x.free_axes())
    x = spread(g, x, [axis]) if x.shape[axis] > 1 else apart_from_zero(g, x)
    default = axis == x.rank - 1
    return g.unary(op, x, -1, 1, axis=None if default and g.chance(0.5) else g.axis(axis, x.rank), p=g.one_of(None, 1, 2))


@operator("MeanVarianceNormalization")
def mean_variance_norm(g: Builder, op: str) -> Made:
    x = g.pick(least=2)
    axes = g.some(x.free_axes())
    if math.prod(x.shape[axis] for axis in axes) == 1:
        raise Skip
    x = spread(g, x, axes)
    return g.unary(op, x, -20, 20, axes=axes)


# Products


@operator("MatMul")
def matmul(g: Builder, op: str) -> Made:
    x = g.pick(least=1)
    how = g.one_of("right", "right", "batched", "left", "vector", "both", "both", "apart")
    if how == "apart":
        parts, depth = g.rng.randint(2, 3), g.rng.randint(1, 4)
        x = g.shaped(x, parts, g.rng.randint(1, 2), depth)
        return g.matmul(x, g.weights(parts, depth, g.rng.randint(1, 4)))
    if how == "vector":
        if x.row is not None and x.row.axis == x.rank - 1:
            raise Skip
        size, bound = x.shape[-1], x.shape[-1] * x.bound * 3
        return g.emit(op, [x, g.weights(size)], x.shape[:-1], x.row, -bound, bound)
    if x.rank < 2:
        raise Skip
    if how == "right":
        return g.matmul(x, g.weights(x.shape[-1], g.rng.randint(1, 6)))
    if how == "left":
        return g.matmul(g.weights(g.rng.randint(1, 5), x.shape[-2]), x)
    if how == "batched":
        ahead = [1 if x.row is not None and axis == x.row.axis else g.one_of(1, x.shape[axis]) for axis in range(x.rank - 2)]
        ahead = ahead[g.rng.randint(0, len(ahead)) :] if ahead else []
        return g.matmul(x, g.weights(*ahead, x.shape[-1], g.rng.randint(1, 5)))
    others = [t for t in g.pool if t.kind == "float32" and t.rank >= 2]
    g.rng.shuffle(others)
    for other in others[:8]:
        for right in (other, swapped(other)):
            try:
                made = g.matmul(x, right if right is other else g.transpose(other, right))
            except Skip:
                continue
            return made
    raise Skip


def swapped(x: Tensor) -> list[int]:
    """The order of axes that swaps the last two."""
    return [*range(x.rank - 2), x.rank - 1, x.rank - 2]


@operator("Gemm")
def gemm(g: Builder, op: str) -> Made:
    x = g.pick(least=2, where=lambda t: t.rank == 2)
    trans_a, trans_b = g.one_of(None, 0), g.one_of(None, 0, 1)
    inner = 1
    if x.row is not None and x.row.axis == 1:
        trans_a, inner = 1, 0
    size, outputs = x.shape[inner], g.rng.randint(1, 6)
    weights = g.weights(*((outputs, size) if trans_b else (size, outputs)))
    shape = (x.shape[1 - inner], outputs)
    row = None if x.row is None else dataclasses.replace(x.row, axis=0)
    given, bound = [x, weights], size * x.bound * weights.bound * 2
    if g.opset < 11 or g.chance(0.7):
        shapes = [(outputs,), (1, outputs), (1,), (), (1, 1)]
        fitting = [t for t in g.pool if t.kind == "float32" and t.row == row and t.shape in (shape, (shape[0], 1))]
        given.append(g.rng.choice(fitting) if fitting and g.chance(0.3) else g.weights(*g.rng.choice(shapes[:3]), scale=1))
        bound += 2 * given[-1].bound
    alpha, beta = g.one_of(None, 1.0, 0.5), g.one_of(None, 1.0, 2.0)
    return g.emit(op, given, shape, row, -bound, bound, alpha=alpha, beta=beta, transA=trans_a, transB=trans_b)


@operator("Einsum")
def einsum(g: Builder, op: str) -> Made:
    """Labels for the axes of a tensor, and of others that share some."""
    x = g.pick(least=1, where=lambda t: t.rank <= 4)
    free = list("abcdefghijklm")
    g.rng.shuffle(free)
    sizes: dict[str, int] = {}
    rows = None

    def labels_for(t: Tensor) -> list[str]:
        nonlocal rows
        made: list[str] = []
        for axis, size in enumerate(t.shape):
            if t.row is not None and axis == t.row.axis:
                if rows is not None and rows[1] != t.row:
                    same = (rows[1].before, rows[1].after) == (t.row.before, t.row.after)
                    if not same:
                        raise Skip
                if rows is None:
                    rows = (free.pop(), t.row)
                made.append(rows[0])
                continue
            known = [label for label, s in sizes.items() if s == size and label not in made]
            repeated = [label for label in made if sizes.get(label) == size]
            if repeated and g.chance(0.1):
                made.append(repeated[0])
            elif known and g.chance(0.6):
                made.append(g.rng.choice(known))
            else:
                made.append(free.pop())
                sizes[made[-1]] = size
        return made

    operands = [(labels_for(x), x)]
    for _ in range(g.one_of(0, 1, 1, 1, 2)):
        if g.chance(0.5):
            other = g.pick(least=1, where=lambda t: t.rank <= 3)
            operands.append((labels_for(other), other))
        else:
            known = g.some(list(sizes), 0) if sizes else []
            shape = [sizes[label] for label in known]
            if g.chance(0.6):
                label = free.pop()
                sizes[label] = g.rng.randint(1, 4)
                known, shape = [*known, label], [*shape, sizes[label]]
            if not known:
                continue
            order = g.rng.sample(range(len(known)), len(known))
            operands.append(([known[o] for o in order], g.weights(*(shape[o] for o in order))))
    g.rng.shuffle(operands)
    used = sorted({label for labels, _ in operands for label in labels})
    output = g.some([label for label in used if rows is None or label != rows[0]], 0)
    if rows is not None:
        output.append(rows[0])
    g.rng.shuffle(output)
    is_implicit = g.chance(0.1)
    if is_implicit:
        counts = {label: sum(labels.count(label) for labels, _ in operands) for label in used}
        output = sorted(label for label, count in counts.items() if count == 1)
        if rows is not None and rows[0] not in output:
            raise Skip
    terms = ",".join("".join(labels) for labels, _ in operands) + ("" if is_implicit else "->" + "".join(output))
    row = None
    shape = [sizes.get(label, 1) for label in output]
    if rows is not None:
        row = dataclasses.replace(rows[1], axis=output.index(rows[0]))
        shape[row.axis] = row.before * row.after
    summed = math.prod(sizes[label] for label in used if label not in output and label in sizes)
    if math.prod(sizes.values()) > 4000:
        raise Skip
    bound = summed * math.prod(t.bound for _, t in operands)
    if bound > 1e5:
        raise Skip
    return g.emit(op, [t for _, t in operands], shape, row, -bound, bound, equation=terms)


@operator("Conv")
def convolution(g: Builder, op: str) -> Made:
    axes = g.one_of(1, 1, 2)
    groups, each = g.one_of(1, 1, 2), g.rng.randint(1, 3)
    channels, outputs = groups * each, groups * g.rng.randint(1, 3)
    if g.chance(0.15):
        groups, each, outputs = channels, 1, channels
    sizes = [g.rng.randint(2, 5) for _ in range(axes)]
    x = g.shaped(g.pick(), channels, *sizes)
    kernel, steps, gaps, pads, made, auto = windows(g, sizes)
    weights = g.weights(outputs, each, *kernel, scale=0.5)
    given = [x, weights] + ([g.weights(outputs, scale=1)] if g.chance(0.5) else [])
    bound = each * math.prod(kernel) * x.bound * weights.bound + 3
    return g.emit(op, given, (1, outputs, *made), x.row, -bound, bound, group=groups if groups > 1 else None, strides=steps,
                  dilations=gaps, pads=pads, auto_pad=auto, kernel_shape=g.one_of(None, kernel))


def windows(g: Builder, sizes: Sequence[int], is_pool: bool = False) -> tuple[Any, ...]:
    """Kernel, strides, dilations, pads, the sizes of the result and the automatic padding."""
    kernel = [g.rng.randint(1, min(size, 3)) for size in sizes]
    steps = g.one_of(None, [g.rng.randint(1, 2) for _ in sizes])
    gaps = None if is_pool else g.one_of(None, None, [g.rng.randint(1, 2) for _ in sizes])
    step, gap = steps or [1] * len(sizes), gaps or [1] * len(sizes)
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, gap)]
    auto = g.one_of(None, None, None, "NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER")
    pads = None
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        made = [-(-size // s) for size, s in zip(sizes, step)]
        if gaps is not None or any((n - 1) * s + k < size for n, s, k, size in zip(made, step, kernel, sizes)):
            raise Skip
        return kernel, steps, gaps, pads, made, auto
    if auto is None or auto == "NOTSET":
        most = [k - 1 for k in kernel]
        pads = [g.rng.randint(0, m) for m in [*most, *most]] if g.chance(0.5) else None
    before, after = (pads[: len(sizes)], pads[len(sizes) :]) if pads else ([0] * len(sizes), [0] * len(sizes))
    made = [(size + a + b - r) // s + 1 for size, a, b, r, s in zip(sizes, before, after, reach, step)]
    if min(made) < 1 or any(size + a + b < r for size, a, b, r in zip(sizes, before, after, reach)):
        raise Skip
    return kernel, steps, gaps, pads, made, auto


@operator("MaxPool", "AveragePool")
def pool(g: Builder, op: str) -> Made:
    axes = g.one_of(1, 1, 2)
    sizes = [g.rng.randint(2, 5) for _ in range(axes)]
    x = g.shaped(g.pick(), g.rng.randint(1, 3), *sizes)
    kernel, steps, _, pads, made, auto = windows(g, sizes, is_pool=True)
    attributes: dict[str, Any] = {"kernel_shape": kernel, "strides": steps, "pads": pads, "auto_pad": auto}
    if op == "AveragePool":
        attributes["count_include_pad"] = g.one_of(None, 0, 1)
    if g.opset >= 10 and auto in (None, "NOTSET") and g.chance(0.25):
        attributes["ceil_mode"] = 1
        step = steps or [1] * axes
        before, after = (pads[:axes], pads[axes:]) if pads else ([0] * axes, [0] * axes)
        made = []
        for size, k, s, a, b in zip(sizes, kernel, step, before, after):
            count = -(-(size + a + b - k) // s) + 1
            made.append(count - ((count - 1) * s >= size + a))
    grain = x.grain if op == "MaxPool" else 0.0
    low, high = min(x.low, 0), max(x.high, 0)
    return g.emit(op, [x], (*x.shape[:2], *made), x.row, low, high, grain, **attributes)


@operator("GlobalAveragePool", "GlobalMaxPool")
def global_pool(g: Builder, op: str) -> Made:
    sizes = [g.rng.randint(1, 4) for _ in range(g.one_of(1, 2))]
    x = g.shaped(g.pick(), g.rng.randint(1, 4), *sizes)
    return g.emit(
        op, [x], (*x.shape[:2], *[1] * len(sizes)), x.row, x.low, x.high, x.grain if op == "GlobalMaxPool" else 0.0)


# Recurrent layers

ACTIVATIONS = ("Sigmoid", "Tanh", "Relu", "Softsign", "Softplus")
GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}


@operator("RNN", "GRU", "LSTM")
def recurrent(g: Builder, op: str) -> Made:
    """`[positions, rows, columns]` to the states of all positions, the last one, and for LSTM the last cell."""
    length, columns, hidden = g.rng.randint(1, 4), g.rng.randint(1, 3), g.rng.randint(1, 3)
    word = g.one_of(None, "forward", "reverse", "bidirectional")
    count, gates = 2 if word == "bidirectional" else 1, GATES[op]
    x = g.transpose(g.into(g.shaped(g.pick(), length, columns), -2, 2), [1, 0, 2])
    given: list[Any] = [x, g.weights(count, gates * hidden, columns, scale=0.7), g.weights(count, gates * hidden, hidden, scale=0.7)]
    given.append(g.weights(count, 2 * gates * hidden, scale=0.5) if g.chance(0.7) else None)
    lengths = None
    if g.chance(0.3):
        lengths = g.to_int(g.binary("Add", g.to_int(g.indices(length, may_be_negative=False)), g.constant(np.array(1))), "int32")
    given.append(lengths)
    for _ in range(2 if op == "LSTM" else 1):
        state = None
        if g.chance(0.4):
            state = g.transpose(g.into(g.shaped(g.pick(), count, hidden), -1, 1), [1, 0, 2])
        given.append(state)
    if op == "LSTM":
        given.append(g.weights(count, 3 * hidden, scale=0.5) if g.chance(0.3) else None)
    attributes: dict[str, Any] = {"hidden_size": hidden, "direction": word}
    if op == "GRU":
        attributes["linear_before_reset"] = g.one_of(None, 0, 1)
    if g.chance(0.2):
        each = {"RNN": 1, "GRU": 2, "LSTM": 3}[op]
        attributes["activations"] = [g.rng.choice(ACTIVATIONS) for _ in range(each * count)]
    states, last, *cell = g.line(op, given, 3 if op == "LSTM" else 2, **attributes)
    inputs = [one for one in given if one is not None]
    made = [g.tensor(states, inputs, (length, count, 1, hidden), Row(2), "float32", -30, 30, 0.0)]
    made += [g.tensor(name, inputs, (count, 1, hidden), Row(1), "float32", -30, 30, 0.0) for name in (last, *cell)]
    return g.some(made)


# Quantisation: scales are powers of two and numbers are exact, so that what is rounded is the same everywhere.

LIMITS = {"uint8": (0, 255), "int8": (-128, 127)}


def zero_point(g: Builder, kind: str, shape: tuple[int, ...] = ()) -> Tensor:
    low = 100 if kind == "uint8" else -6
    return g.constant(g.numbers.integers(low, low + 12, shape).astype(kind))


def whole_bytes(g: Builder, kind: str) -> Tensor:
    """A tensor `[rows, ...]` of bytes."""
    found = [t for t in g.pool if t.kind == kind and t.rank >= 2]
    if found and g.chance(0.6):
        return g.rng.choice(found)
    x = g.pick_exact(("float32", "int64", "int32"))
    return g.to_int(g.clip(x, *((0, 15) if kind == "uint8" else (-8, 7))), kind)


@operator("QuantizeLinear")
def quantize(g: Builder, op: str) -> Made:
    x = g.pick_exact(("float32",))
    kind = g.one_of("uint8", "int8")
    axis, shape = 1, ()
    if g.opset >= 13 and x.free_axes() and g.chance(0.4):
        axis = g.rng.choice(x.free_axes())
        shape = (x.shape[axis],)
    scale = g.constant((2.0 ** g.numbers.integers(-3, 1, shape)).astype(np.float32))
    given = [x, scale]
    attributes: dict[str, Any] = {"axis": g.axis(axis, x.rank)} if shape else {}
    if shape or g.chance(0.7):
        given.append(zero_point(g, kind, shape))
    elif g.opset >= 21 and g.chance(0.5):
        attributes["output_dtype"] = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(kind))
    else:
        kind = "uint8"
    return g.emit(op, given, x.shape, x.row, *LIMITS[kind], 1.0, kind, **attributes)


@operator("DequantizeLinear")
def dequantize(g: Builder, op: str) -> Made:
    x = whole_bytes(g, g.one_of("uint8", "int8"))
    axis, shape = 1, ()
    if g.opset >= 13 and x.free_axes() and g.chance(0.4):
        axis = g.rng.choice(x.free_axes())
        shape = (x.shape[axis],)
    scale = g.constant((2.0 ** g.numbers.integers(-6, -2, shape)).astype(np.float32))
    given = [x, scale] + ([zero_point(g, x.kind, shape)] if g.chance(0.7) else [])
    grain = 2.0**-6
    attributes = {"axis": g.axis(axis, x.rank)} if shape else {}
    return g.emit(op, given, x.shape, x.row, -70, 70, grain, **attributes)


def full_range(g: Builder) -> tuple[Tensor, float]:
    """A tensor `[rows, size]` whose every row has the range of all rows, 0 to 255 quanta or -127 to 128; the quantum."""
    x = g.pick_exact(("float32",))
    quantum = g.one_of(1.0, 0.5, 0.25)
    low, high = g.one_of((0, 255), (-127, 128))
    x = g.flat(g.clip(x, low * quantum, high * quantum))
    ends = [high] if low == 0 else [low, high]
    for end in ends:
        pads, filler = [0, 0, 0, 0], np.float32(end * quantum)
        pads[g.one_of(1, 3)] = 1
        if g.opset < 11:
            raise Skip
        x = g.emit("Pad", [x, g.ints(*pads), g.constant(filler)], (1, x.size + 1), x.row, low * quantum, high * quantum, x.grain)
    return x, quantum


@operator("DynamicQuantizeLinear")
def dynamic_quantize(g: Builder, op: str) -> Made:
    if since(op, g.opset) is None:
        raise Skip
    x, quantum = full_range(g)
    made, scale, zero = g.line(op, [x], 3)
    whole = g.tensor(made, [x], x.shape, x.row, "uint8", 0, 255, 1.0)
    if g.chance(0.5):
        back = g.emit("DequantizeLinear", [whole, scale, zero], x.shape, x.row, x.low, x.high, quantum)
        return [whole, back] if g.chance(0.2) else back
    weights = g.constant(g.numbers.integers(-8, 8, (x.size, g.rng.randint(1, 4))).astype(np.int8))
    given: list[Any] = [whole, weights, zero]
    if g.chance(0.5):
        given.append(zero_point(g, "int8", g.one_of((), (weights.shape[1],))))
    bound = 255 * 20 * x.size
    product = g.emit("MatMulInteger", given, (1, weights.shape[1]), x.row, -bound, bound, 1.0, "int32")
    product = g.to_float(product)
    factor = Tensor(g.line("Mul", [scale, g.constant(np.float32(2.0**-10))])[0], "float32", (), None, 0, quantum * 2.0**-10)
    return g.binary("Mul", product, factor)


@operator("DynamicQuantizeMatMul")
def dynamic_matmul(g: Builder, op: str) -> Made:
    x, quantum = full_range(g)
    outputs = g.rng.randint(1, 4)
    kind = g.one_of("int8", "uint8")
    weights = g.constant(g.numbers.integers(0, 8, (x.size, outputs)).astype(kind))
    scales = (2.0 ** g.numbers.integers(-10, -7, g.one_of((), (1,), (outputs,)))).astype(np.float32)
    zero = g.one_of(None, g.constant(np.zeros(scales.shape, kind) + np.array(3, kind)))
    bias = g.weights(outputs, scale=1) if g.chance(0.5) else None
    bound = x.size * 255 * quantum * 8 / 128 + 3
    return g.emit(op, [x, weights, g.constant(scales), zero, bias], (1, outputs), x.row, -bound, bound, domain=MICROSOFT)


@operator("MatMulInteger", "MatMulIntegerToFloat", "QLinearMatMul")
def integer_matmul(g: Builder, op: str) -> Made:
    kind = g.one_of("uint8", "uint8", "int8") if op != "QLinearMatMul" else "uint8"
    x = whole_bytes(g, kind)
    if x.rank < 2 or (x.row is not None and x.row.axis == x.rank - 1):
        raise Skip
    outputs = g.rng.randint(1, 4)
    other = kind if op == "QLinearMatMul" else g.one_of("uint8", "int8") if kind == "uint8" else "int8"
    weights = g.constant(g.numbers.integers(0, 16, (x.shape[-1], outputs)).astype(other))
    shape = (*x.shape[:-1], outputs)
    bound = 255 * 32 * x.shape[-1]
    if op == "MatMulInteger":
        zeros = [g.one_of(None, zero_point(g, kind)), g.one_of(None, zero_point(g, other, g.one_of((), (outputs,))))]
        made = g.emit(op, [x, weights, *zeros], shape, x.row, -bound, bound, 1.0, "int32")
        return g.scaled(g.to_float(made), 1 / 1024)
    scale = g.constant(np.float32(2.0**-6))
    if op == "MatMulIntegerToFloat":
        scales = g.constant((2.0 ** g.numbers.integers(-6, -3, g.one_of((), (outputs,)))).astype(np.float32))
        zeros = [g.one_of(None, zero_point(g, kind)), g.one_of(None, zero_point(g, other, scales.shape))]
        bias = g.one_of(None, g.weights(outputs, scale=1))
        return g.emit(op, [x, weights, scale, scales, *zeros, bias], shape, x.row, -bound / 512, bound / 512, domain=MICROSOFT)
    given = [x, scale, zero_point(g, "uint8"), weights, g.constant(np.float32(2.0**-4)), zero_point(g, "uint8"),
             g.constant(np.float32(g.one_of(1.0, 2.0, 4.0))), zero_point(g, "uint8")]
    return g.emit(op, given, shape, x.row, 0, 255, 1.0, "uint8")


# Movement

ALL = (*NUMBERS, "bool")


def moved(g: Builder, op: str, x: Tensor, shape: Sequence[int], row: Row | None, *more: Any, **attributes: Any) -> Tensor:
    return g.emit(op, [x, *more], shape, row, x.low, x.high, x.grain, x.kind, **attributes)


@operator("Dropout")
def dropout(g: Builder, op: str) -> Made:
    x = g.pick()
    if g.opset < 12:
        return moved(g, op, x, x.shape, x.row, ratio=0.3)
    more = [g.one_of(None, g.constant(np.float32(0.3)))]
    if g.chance(0.5):
        more.append(g.constant(np.array(False)))
    if g.chance(0.3):
        made, mask = g.line(op, [x, *more], 2)
        return [dataclasses.replace(x, name=made, array=None), g.tensor(mask, [x], x.shape, x.row, "bool", 1, 1, 1.0)]
    return moved(g, op, x, x.shape, x.row, *more)


def factored(g: Builder, number: int) -> list[int]:
    """Factors of a number, in order, ones among them."""
    parts = []
    while number > 1 and len(parts) < 3:
        factors = [f for f in range(2, number + 1) if number % f == 0]
        part = g.rng.choice(factors)
        parts.append(part)
        number //= part
    if number > 1:
        parts.append(number)
    if g.chance(0.15):
        parts.insert(g.rng.randint(0, len(parts)), 1)
    return parts


@operator("Reshape")
def reshape(g: Builder, op: str) -> Made:
    x = g.pick(ALL)
    if x.row is None:
        return g.reshape(x, factored(g, x.size), None)
    row = x.row
    ahead = math.prod(x.shape[: row.axis]) * row.before
    behind = math.prod(x.shape[row.axis + 1 :]) * row.after
    before, after = (
        g.rng.choice([f for f in range(1, count + 1) if count % f == 0]) if g.chance(0.3) else 1 for count in (ahead, behind)
    )
    left, right = factored(g, ahead // before), factored(g, behind // after)
    return g.reshape(x, [*left, before * after, *right], Row(len(left), before, after))


@operator("Flatten")
def flatten(g: Builder, op: str) -> Made:
    x = g.pick(("float32", "int64"), least=1)
    axis = g.rng.randint(0, x.rank)
    shape = (math.prod(x.shape[:axis]), math.prod(x.shape[axis:]))
    row = x.row
    if row is not None:
        start, stop, place = (0, axis, 0) if row.axis < axis else (axis, x.rank, 1)
        before, after = math.prod(x.shape[start : row.axis]), math.prod(x.shape[row.axis + 1 : stop])
        row = Row(place, before * row.before, row.after * after)
    given = axis if axis == x.rank or g.opset < 11 else g.axis(axis, x.rank)
    return moved(g, op, x, shape, row, axis=None if given == 1 else given)


@operator("Squeeze")
def squeeze(g: Builder, op: str) -> Made:
    x = g.pick(ALL, where=lambda t: any(t.shape[axis] == 1 for axis in t.free_axes()))
    ones = [axis for axis in x.free_axes() if x.shape[axis] == 1]
    is_all = x.row is None or x.row.before * x.row.after > 1
    axes = ones if is_all and g.chance(0.2) else g.some(ones)
    shape = [size for axis, size in enumerate(x.shape) if axis not in axes]
    row = None if x.row is None else dataclasses.replace(x.row, axis=x.row.axis - sum(axis < x.row.axis for axis in axes))
    if axes == ones and is_all and g.chance(0.5):
        return moved(g, op, x, shape, row)
    if g.opset < 13:
        return moved(g, op, x, shape, row, axes=[g.axis(axis, x.rank) if g.opset >= 11 else axis for axis in axes])
    return moved(g, op, x, shape, row, g.ints(*(g.axis(axis, x.rank) for axis in axes)))


@operator("Unsqueeze")
def unsqueeze(g: Builder, op: str) -> Made:
    x = g.pick(ALL, where=lambda t: t.rank <= 4)
    rank = x.rank + g.one_of(1, 1, 2)
    axes = g.rng.sample(range(rank), rank - x.rank)
    return unsqueezed(g, x, axes)


def unsqueezed(g: Builder, x: Tensor, axes: Sequence[int]) -> Tensor:
    rank = x.rank + len(axes)
    olds = [axis for axis in range(rank) if axis not in axes]
    shape = [1] * rank
    for axis, size in zip(olds, x.shape):
        shape[axis] = size
    row = None if x.row is None else dataclasses.replace(x.row, axis=olds[x.row.axis])
    given = [g.axis(axis, rank) if g.opset >= 11 else axis for axis in axes]
    if g.opset < 13:
        return moved(g, "Unsqueeze", x, shape, row, axes=given)
    return moved(g, "Unsqueeze", x, shape, row, g.ints(*given))


@operator("Transpose")
def transpose(g: Builder, op: str) -> Made:
    x = g.pick(ALL, least=2)
    order = list(range(x.rank))
    g.rng.shuffle(order)
    if g.chance(0.2):
        order = list(range(x.rank))[::-1]
    return g.transpose(x, order)


@operator("Slice")
def slice_(g: Builder, op: str) -> Made:
    x = g.pick(ALL, least=1)
    axes = g.some(range(x.rank))
    shape, starts, ends, steps = list(x.shape), [], [], []
    is_stepped = g.opset >= 10 and g.chance(0.4)
    for axis in axes:
        size = x.shape[axis]
        if axis not in x.free_axes():
            start, end, step = 0, g.one_of(2**31, 2**62), 1
        else:
            first, last = sorted(g.rng.randrange(size) for _ in range(2))
            step = g.one_of(1, 2, -1, -2) if is_stepped else 1
            start, end = (first, last + 1) if step > 0 else (last, first - 1)
            shape[axis] = len(range(start, end, step))
            if step > 0:
                start = start - size if g.chance(0.3) else start
                end = g.one_of(2**31, 2**62) if end == size and g.chance(0.5) else end - size if end < size and g.chance(0.3) else end
            else:
                start = g.one_of(2**31, start) if start == size - 1 else start - size if g.chance(0.3) else start
                end = -(2**62) if end < 0 else end - size if g.chance(0.3) else end
        starts.append(start)
        ends.append(end)
        steps.append(step)
    if g.opset < 10:
        return moved(g, op, x, shape, x.row, starts=starts, ends=ends, axes=axes)
    more: list[Any] = [g.ints(*starts), g.ints(*ends)]
    if axes != list(range(len(axes))) or g.chance(0.6) or is_stepped:
        more.append(g.ints(*(g.axis(axis, x.rank) for axis in axes)))
    if is_stepped:
        more.append(g.ints(*steps))
    return moved(g, op, x, shape, x.row, *more)


@operator("Split")
def split(g: Builder, op: str) -> Made:
    x = g.pick(ALL if g.opset >= 13 else ("float32",), where=lambda t: any(t.shape[axis] > 1 for axis in t.free_axes()))
    axis = g.rng.choice([axis for axis in x.free_axes() if x.shape[axis] > 1])
    size = x.shape[axis]
    count = g.rng.randint(2, min(size, 4))
    attributes: dict[str, Any] = {"axis": g.axis(axis, x.rank) if g.opset >= 11 else axis}
    more: list[Any] = []
    each = -(-size // count)
    parts = [each] * (count - 1) + [size - each * (count - 1)]
    is_even = size % count == 0 and g.chance(0.5)
    if g.opset >= 18 and parts[-1] > 0 and (is_even or g.chance(0.3)):
        attributes["num_outputs"] = count
    elif not is_even or g.opset >= 18:
        cuts = sorted(g.rng.sample(range(1, size), count - 1))
        parts = [b - a for a, b in zip([0, *cuts], [*cuts, size])]
        if g.opset >= 13:
            more.append(g.ints(*parts))
        else:
            attributes["split"] = parts
    names = g.line(op, [x, *more], count, **attributes)
    made = []
    for name, part in zip(names, parts):
        shape = [part if a == axis else s for a, s in enumerate(x.shape)]
        made.append(g.tensor(name, [x], shape, x.row, x.kind, x.low, x.high, x.grain))
    return g.some(made) if g.chance(0.3) else made


@operator("Concat")
def concat(g: Builder, op: str) -> Made:
    x = g.pick(ALL, least=1)
    axes = x.free_axes()
    if not axes:
        raise Skip
    axis = g.rng.choice(axes)

    def is_beside(t: Tensor) -> bool:
        return (t.kind, t.row, t.rank) == (x.kind, x.row, x.rank) and all(
            a == axis or t.shape[a] == size for a, size in enumerate(x.shape)
        )

    parts = [x, *(g.pick((x.kind,), where=is_beside) for _ in range(g.rng.randint(0, 3)))]
    if g.chance(0.05):
        parts.append(dataclasses.replace(x, name=g.sliced(x, [0], [0], [axis])[0], shape=tuple(
            0 if a == axis else size for a, size in enumerate(x.shape))))
    if x.row is None and g.chance(0.3):
        parts.append(g.constant(g.array_like(x.shape, x.kind, x.grain > 0)))
    elif x.is_home and g.chance(0.2):
        shape = [g.rng.randint(1, 3) if a == axis else size for a, size in enumerate(x.shape)]
        wide = g.constant(g.array_like(shape, x.kind, x.grain > 0))
        target = g.shape_of(shape, Row(0))
        parts.append(g.emit("Expand", [wide, target], shape, Row(0), wide.low, wide.high, wide.grain, wide.kind))
    g.rng.shuffle(parts)
    shape = [sum(t.shape[a] for t in parts) if a == axis else size for a, size in enumerate(x.shape)]
    low, high = min(t.low for t in parts), max(t.high for t in parts)
    given = g.axis(axis, x.rank) if g.opset >= 11 else axis
    return g.emit(op, parts, shape, x.row, low, high, min(t.grain for t in parts), x.kind, axis=given)


@operator("Expand")
def expand(g: Builder, op: str) -> Made:
    if g.chance(0.2):
        x = g.pick(ALL, where=lambda t: t.row is None)
        return g.spread_over_rows(x)
    x = g.pick(ALL)
    if g.chance(0.3):
        like = g.pick(ALL, where=lambda t: g.fits(x, t))
        shape, row = g.broadcast(x, like)
        (target,) = g.line("Shape", [like])
        return moved(g, op, x, shape, row, target)
    shape = [g.rng.randint(1, 4) if size == 1 and axis in x.free_axes() else size for axis, size in enumerate(x.shape)]
    ahead = [g.rng.randint(1, 3) for _ in range(g.one_of(0, 0, 1))]
    target = [1 if size == 1 or axis not in x.free_axes() or g.chance(0.3) and size == x.shape[axis] else size
              for axis, size in enumerate(shape)]
    row = None if x.row is None else dataclasses.replace(x.row, axis=x.row.axis + len(ahead))
    target = [*ahead, *target]
    drop = 0
    while drop < len(target) and not ahead and target[drop] == 1 and g.chance(0.3):
        drop += 1
    return moved(g, op, x, [*ahead, *shape], row, g.ints(*target[drop:]))


@operator("Tile")
def tile(g: Builder, op: str) -> Made:
    x = g.pick(ALL, least=1)
    if g.chance(0.15):
        x = g.pick(ALL, least=1, where=lambda t: t.row is None and t.shape[0] <= 4)
        repeats = [1] * x.rank
        shape = list(x.shape)
        target = g.shape_of(repeats, Row(0))
        return moved(g, op, x, shape, Row(0, 1, x.shape[0]), target)
    repeats = [g.one_of(1, 1, 2, 3) for _ in x.shape]
    row = x.row
    if row is not None:
        row = dataclasses.replace(row, before=row.before * repeats[row.axis])
    shape = [size * count for size, count in zip(x.shape, repeats)]
    return moved(g, op, x, shape, row, g.ints(*repeats))


@operator("Pad")
def pad(g: Builder, op: str) -> Made:
    x = g.pick(("float32", "float32", "int64") if g.opset >= 11 else ("float32",), least=1)
    if not x.free_axes():
        raise Skip
    modes = ["constant", "constant", "edge", "reflect"] + (["wrap"] if g.opset >= 19 else [])
    mode = g.rng.choice(modes)
    axes = g.some(x.free_axes())
    before, after = [0] * x.rank, [0] * x.rank
    for axis in axes:
        most = 2 if mode in ("constant", "edge") else min(x.shape[axis] - 1, 2)
        before[axis], after[axis] = g.rng.randint(0, most), g.rng.randint(0, most)
        if mode == "constant" and g.chance(0.2) and x.shape[axis] > 1:
            before[axis] = -1
    shape = [size + a + b for size, a, b in zip(x.shape, before, after)]
    low, high, grain = x.low, x.high, x.grain
    value = g.one_of(None, 0.0, 1.0, -2.0) if mode == "constant" else None
    if mode == "constant":
        low, high, grain = min(low, value or 0), max(high, value or 0), min(grain, 1.0)
    attributes = {"mode": None if mode == "constant" and g.chance(0.5) else mode}
    if g.opset < 11:
        return g.emit(op, [x], shape, x.row, low, high, grain, pads=[*before, *after], value=value, **attributes)
    fill = None if value is None else g.constant(np.array(value, dtype=x.kind))
    if g.opset >= 18 and g.chance(0.4):
        g.rng.shuffle(axes)
        pads = g.ints(*(before[axis] for axis in axes), *(after[axis] for axis in axes))
        given = [x, pads, fill, g.ints(*(g.axis(axis, x.rank) for axis in axes))]
    else:
        given = [x, g.ints(*before, *after), fill]
    return g.emit(op, given, shape, x.row, low, high, grain, x.kind, **attributes)


@operator("Trilu")
def trilu(g: Builder, op: str) -> Made:
    x = g.pick(("float32", "int64"), least=2)
    if x.row is not None and x.row.axis >= x.rank - 2:
        raise Skip
    more = [g.constant(np.array(g.rng.randint(-2, 2)))] if g.chance(0.6) else []
    return g.emit(op, [x, *more], x.shape, x.row, min(x.low, 0), max(x.high, 0), x.grain, x.kind, upper=g.one_of(None, 0, 1))


@operator("Compress")
def compress(g: Builder, op: str) -> Made:
    x = g.pick(least=1)
    if x.row is None and g.chance(0.3):
        size, axis = x.size, None
    else:
        axes = x.free_axes()
        if not axes:
            raise Skip
        axis = g.rng.choice(axes)
        size = x.shape[axis]
    condition = g.numbers.integers(0, 2, g.rng.randint(1, size)).astype(bool)
    condition[g.rng.randrange(len(condition))] = True
    count = int(condition.sum())
    shape = (count,) if axis is None else [count if a == axis else s for a, s in enumerate(x.shape)]
    given = None if axis is None else g.axis(axis, x.rank) if g.opset >= 11 else axis
    return moved(g, op, x, shape, x.row, g.constant(condition), axis=given)


@operator("Shape")
def shape(g: Builder, op: str) -> Made:
    """A reshape to the shape of another tensor, or of its own and back."""
    x = g.pick(("float32", "int64"), where=lambda t: t.row is not None)
    if g.chance(0.5):
        (known,) = g.line(op, [x])
        flat = g.reshape(x, [x.size], Row(0, math.prod(x.shape[: x.row.axis]) * x.row.before,
                                          math.prod(x.shape[x.row.axis + 1 :]) * x.row.after))
        return moved(g, "Reshape", flat, x.shape, x.row, known)
    if g.opset >= 15 and x.rank > 1 and g.chance(0.5):
        axis = g.rng.choice(x.free_axes() or [None])
        if axis is None:
            raise Skip
        (known,) = g.line(op, [x], start=axis, end=axis + 1)
        number = Tensor(known, "int64", (1,), None, x.shape[axis], x.shape[axis], 1.0)
        return g.binary("Div", g.to_float(x), g.to_float(number)) if x.kind == "float32" else g.binary("Add", x, number)
    target = g.shape_of(x.shape, x.row)
    return moved(g, "Reshape", x, x.shape, x.row, target)


@operator("Size")
def size(g: Builder, op: str) -> Made:
    x = g.pick(ALL, where=lambda t: t.row is None)
    number = g.emit(op, [x], (), None, x.size, x.size, 1.0, "int64")
    other = g.pick()
    return g.binary(g.one_of("Div", "Add"), other, g.to_float(number))


@operator("ConstantOfShape")
def constant_of_shape(g: Builder, op: str) -> Made:
    x = g.pick(("float32", "int64"))
    value = g.numbers.integers(-2, 3, 1).astype(x.kind)
    filler = onnx.numpy_helper.from_array(value, "value")
    if x.row is not None and g.chance(0.5):
        (known,) = g.line("Shape", [x])
        made = g.emit(op, [known], x.shape, x.row, value[0], value[0], 1.0, x.kind, value=filler)
    else:
        sizes = g.constant_shape(x)
        made = g.emit(op, [g.ints(*sizes)], sizes, None, value[0], value[0], 1.0, x.kind, value=filler)
    return g.either(g.one_of("Add", "Mul"), x, made)


@operator("Range")
def range_(g: Builder, op: str) -> Made:
    kind = g.one_of("int64", "float32", "int32")
    x = g.pick((kind,), least=1)
    if not x.free_axes():
        raise Skip
    axis = g.rng.choice(x.free_axes())
    start, step = g.rng.randint(-2, 2), g.one_of(1, 2, -1)
    count = x.shape[axis]
    given = [g.constant(np.array(number, dtype=kind)) for number in (start, start + count * step, step)]
    made = g.emit(op, given, (count,), None, min(start, start + count * step), max(start, start + count * step), 1.0, kind)
    if axis < x.rank - 1:
        made = g.reshape(made, (count, *[1] * (x.rank - 1 - axis)), None)
    made = g.either(g.one_of("Add", "Mul"), x, made) if not x.grain or g.chance(0.5) else g.binary(g.one_of("Less", "Greater"), made, x)
    return made


@operator("EyeLike")
def eye_like(g: Builder, op: str) -> Made:
    x = g.pick(least=2)
    if x.row is not None and x.row.axis == x.rank - 1:
        raise Skip
    count = x.shape[-1]
    k = g.one_of(None, 1, -1, 0)
    dtype = g.one_of(None, onnx.TensorProto.FLOAT)
    like = g.constant(np.zeros((count, count), dtype=np.float32 if dtype is None else np.int64))
    eye = g.emit(op, [like], (count, count), None, 0, 1, 1.0, k=k, dtype=dtype)
    return g.matmul(x, eye)


@operator("DepthToSpace", "SpaceToDepth")
def depth(g: Builder, op: str) -> Made:
    n = 2
    high, wide, each = g.rng.randint(1, 2), g.rng.randint(1, 2), g.rng.randint(1, 2)
    if op == "DepthToSpace":
        x = g.shaped(g.pick(), each * n * n, high, wide)
        mode = g.one_of(None, "DCR", "CRD") if g.opset >= 11 else None
        return moved(g, op, x, (1, each, high * n, wide * n), x.row, blocksize=n, mode=mode)
    x = g.shaped(g.pick(), each, high * n, wide * n)
    return moved(g, op, x, (1, each * n * n, high, wide), x.row, blocksize=n)


# Lookups


@operator("Gather")
def gather(g: Builder, op: str) -> Made:
    how = g.one_of("table", "table", "table", "constant", "constant", "computed", "request", "rows")
    if how == "rows":
        x = g.pick(least=1, where=lambda t: t.is_home)
        return without_number(moved(g, op, x, x.shape, Row(0), row_numbers(g), axis=g.one_of(None, 0)))
    if how == "table":
        return embedding(g)
    if how == "constant":
        x = g.pick(ALL, least=1)
        if not x.free_axes():
            raise Skip
        axis = g.rng.choice(x.free_axes())
        shape = g.one_of((), (1,), (2,), (3,), (2, 2))
        places = g.numbers.integers(-x.shape[axis], x.shape[axis], shape).astype(g.one_of("int64", "int32"))
        row = x.row
        if row is not None and row.axis > axis:
            row = dataclasses.replace(row, axis=row.axis + len(shape) - 1)
        made = (*x.shape[:axis], *shape, *x.shape[axis + 1 :])
        given = g.axis(axis, x.rank)
        return moved(g, op, x, made, row, g.constant(places), axis=None if given == 0 else given)
    if how == "request":
        return row_of_request(g)
    data = g.pick(least=1, where=lambda t: t.row is None)
    axis = g.rng.randrange(data.rank)
    places = g.indices(data.shape[axis], *g.one_of((), (1,), (2,)))
    made = (*data.shape[:axis], *places.shape, *data.shape[axis + 1 :])
    return g.emit(op, [data, places], made, Row(axis), data.low, data.high, data.grain, data.kind, axis=axis)


def row_of_request(g: Builder) -> Tensor:
    """A row of what all rows have the same."""
    x = g.pick(least=2, where=lambda t: t.is_home and t.rates == {"request"})
    if g.chance(0.5):
        place = g.constant(np.array(g.one_of(0, -1)).reshape(g.one_of((), (1,))))
        return moved(g, "Gather", x, (*place.shape, *x.shape[1:]), None, place)
    made = g.sliced(x, [0], [1], [0])[0]
    return Tensor(made, x.kind, x.shape, None, x.low, x.high, x.grain, x.rates)


def embedding(g: Builder) -> Tensor:
    """Rows of a table for ids, or for numbers that are computed."""
    ids = [t for t in g.pool if t.kind in ("int64", "int32") and t.low >= 0 and t.high <= 40]
    if not ids:
        raise Skip
    index = g.rng.choice(ids)
    if g.chance(0.2):
        index = g.indices(g.rng.randint(2, 9), *g.one_of((), (1,), (2,)))
    elif g.chance(0.3):
        index = guarded(g, index)
    count = int(index.high) + 1 + g.one_of(0, 0, 1, 3)
    if index.low < 0:
        count = max(count, int(-index.low))
    rest = g.one_of((3,), (4,), (1,), (2, 2), ())
    name_of = [t for t in g.tables if t.shape[0] >= count and t.rank == 1 + len(rest) and index.low >= 0]
    axis = 0
    if name_of and g.chance(0.3):
        table = g.rng.choice(name_of)
        rest = table.shape[1:]
    elif g.chance(0.1) and rest:
        axis = 1
        table = g.constant(g.array_like((rest[0], count, *rest[1:]), "float32", g.chance(0.3)))
    else:
        table = g.constant(g.array_like((count, *rest), "float32", g.chance(0.3)))
        g.tables.append(table)
    row = None if index.row is None else dataclasses.replace(index.row, axis=index.row.axis + axis)
    shape = (*index.shape, *rest) if axis == 0 else (rest[0], *index.shape, *rest[1:])
    given = g.one_of(None, 0, -table.rank) if axis == 0 else axis
    return g.emit("Gather", [table, index], shape, row, table.low, table.high, table.grain, axis=given)


def guarded(g: Builder, index: Tensor) -> Tensor:
    """Ids as they are, by nodes that exporters put before a lookup."""
    number = g.constant(np.array(int(index.high) + 1, dtype=index.kind))
    zero = g.constant(np.array(0, dtype=index.kind))
    match g.one_of("wrap", "modulo", "max", "float"):
        case "wrap":
            below = g.binary("Less", index, zero)
            return g.emit("Where", [below, g.binary("Add", index, number), index], index.shape, index.row, 0, index.high, 1.0, index.kind)
        case "modulo" if g.opset >= 10:
            return dataclasses.replace(g.binary("Mod", index, number), high=index.high)
        case "max" if g.opset >= 12:
            return g.binary("Max", index, zero)
        case "float":
            return g.to_int(g.to_float(index), g.one_of("int64", "int32"))
    return index


@operator("GatherElements")
def gather_elements(g: Builder, op: str) -> Made:
    x = g.pick(least=2, where=lambda t: t.is_home)
    axis = g.rng.randint(1, x.rank - 1)
    count = g.rng.randint(1, 4)
    shape = [count if a == axis else g.rng.randint(1, size) for a, size in enumerate(x.shape)]
    if g.chance(0.3):
        places = g.constant(g.numbers.integers(-x.shape[axis], x.shape[axis], shape))
        target = g.shape_of(shape, Row(0))
        index = g.emit("Expand", [places, target], shape, Row(0), places.low, places.high, 1.0, "int64")
    else:
        index = g.indices(x.shape[axis], *shape[1:])
    return moved(g, op, x, shape, Row(0), index, axis=g.axis(axis, x.rank))


@operator("GatherND")
def gather_nd(g: Builder, op: str) -> Made:
    if since(op, g.opset) is None:
        raise Skip
    how = g.one_of("batch", "table", "constant", "rows")
    if how == "batch" and g.opset >= 12:
        x = g.pick(least=2, where=lambda t: t.is_home)
        depth_of = g.rng.randint(1, min(x.rank - 1, 2))
        count = g.one_of((), (2,), (1,))
        index = stacked(g, x.shape[1 : 1 + depth_of], count)
        return moved(g, op, x, (1, *count, *x.shape[1 + depth_of :]), Row(0), index, batch_dims=1)
    if how == "table":
        sizes = [g.rng.randint(2, 4) for _ in range(g.one_of(1, 2))]
        rest = g.one_of((), (3,))
        table = g.constant(g.array_like((*sizes, *rest), "float32", False))
        count = g.one_of((), (2,))
        index = stacked(g, sizes, count)
        return g.emit(op, [table, index], (1, *count, *rest), Row(0), table.low, table.high, table.grain)
    if how == "constant":
        x = g.pick(least=2, where=lambda t: t.row is None or t.row.axis > 0)
        depth_of = x.row.axis if x.row is not None else g.rng.randint(1, x.rank)
        depth_of = g.rng.randint(1, depth_of)
        count = g.one_of((1,), (2,), (2, 2))
        places = np.stack([g.numbers.integers(-size, size, count) for size in x.shape[:depth_of]], axis=-1)
        row = None if x.row is None else dataclasses.replace(x.row, axis=x.row.axis - depth_of + len(count))
        return moved(g, op, x, (*count, *x.shape[depth_of:]), row, g.constant(places))
    x = g.pick(least=2, where=lambda t: t.is_home)
    return without_number(moved(g, op, x, (1, *x.shape[2:]), Row(0), beside_row_number(g, x)))


def without_number(x: Tensor) -> Tensor:
    """What is found by the number of a row does not depend on it."""
    return dataclasses.replace(x, rates=x.rates - {ROW_NUMBER})


def stacked(g: Builder, sizes: Sequence[int], count: Sequence[int]) -> Tensor:
    """Computed places `[rows, *count, axes]` among elements of sizes."""
    parts = [unsqueezed(g, g.to_int(g.indices(size, *count)), [len(count) + 1]) for size in sizes]
    if len(parts) == 1:
        return parts[0]
    shape = (1, *count, len(parts))
    return g.emit("Concat", parts, shape, Row(0), min(p.low for p in parts), max(p.high for p in parts), 1.0, "int64", axis=-1)


def row_numbers(g: Builder) -> Tensor:
    """0, 1, ... for the rows."""
    rows = g.rows()
    if g.opset < 11:
        raise Skip
    count = g.line("Squeeze", [rows] + ([g.ints(0)] if g.opset >= 13 else []), **({} if g.opset >= 13 else {"axes": [0]}))[0]
    zero, one = (g.constant(np.array(number)) for number in (0, 1))
    return Tensor(g.line("Range", [zero, count, one])[0], "int64", (1,), Row(0), 0, ROWS_TOP, 1.0, frozenset([ROW_NUMBER]))


ROWS_TOP = 100.0


def beside_row_number(g: Builder, x: Tensor) -> Tensor:
    """`[rows, 2]`: each row's own number and a place on the next axis of a tensor."""
    number = unsqueezed(g, row_numbers(g), [1])
    if g.chance(0.3):
        place = g.constant(g.numbers.integers(0, x.shape[1], 1))
        (known,) = g.line("Shape", [number])
        place = g.emit("Expand", [place, known], (1, 1), Row(0), place.low, place.high, 1.0, "int64")
    else:
        place = g.to_int(g.indices(x.shape[1], 1))
    return g.emit("Concat", [number, place], (1, 2), Row(0), -ROWS_TOP, ROWS_TOP, 1.0, "int64", axis=g.one_of(1, -1))


def reduction_of_scatter(g: Builder) -> str | None:
    if g.opset >= 18:
        return g.one_of(None, "none", "add", "mul", "max", "min")
    return g.one_of(None, "none", "add", "mul") if g.opset >= 16 else None


@operator("Scatter", "ScatterElements")
def scatter_elements(g: Builder, op: str) -> Made:
    x = g.into(g.pick(least=2, where=lambda t: t.is_home and t.size <= 60), -8, 8)
    axis = g.rng.randint(1, x.rank - 1)
    join = None if op == "Scatter" else reduction_of_scatter(g)
    is_joined = join not in (None, "none")
    shape = [g.rng.randint(1, size) for size in x.shape]
    size = x.shape[axis]
    if g.chance(0.5):
        shape[axis] = g.rng.randint(1, 3) if is_joined else g.rng.randint(1, min(size, 3))
        if is_joined:
            places = g.numbers.integers(-size, size, shape)
        else:
            places = np.broadcast_to(g.numbers.permutation(size)[: shape[axis]].reshape([-1 if a == axis else 1 for a in range(x.rank)]), shape)
        places = g.constant(np.ascontiguousarray(places).astype(np.int64))
        target = g.shape_of(shape, Row(0))
        index = g.emit("Expand", [places, target], shape, Row(0), places.low, places.high, 1.0, "int64")
    else:
        shape[axis] = g.rng.randint(1, 2) if is_joined else 1
        index = g.indices(size, *shape[1:])
    updates = g.into(g.shaped(g.pick(), *shape[1:]), -4, 4)
    top = max(x.bound * max(updates.bound, 1) ** 3, x.bound + 3 * updates.bound)
    if top > 1e4:
        raise Skip
    return g.emit(op, [x, index, updates], x.shape, x.row, -top, top, axis=g.axis(axis, x.rank), reduction=join)


@operator("ScatterND")
def scatter_nd(g: Builder, op: str) -> Made:
    join = reduction_of_scatter(g)
    if g.chance(0.4):
        x = g.pick(least=2, where=lambda t: t.is_home and t.size <= 60)
        index = beside_row_number(g, x)
        updates = g.shaped(g.pick(), *x.shape[2:]) if x.rank > 2 else g.reshape(g.shaped(g.pick(), 1), (1,), Row(0))
        shape, row, depth_of = x.shape, x.row, 2
    else:
        x = g.pick(least=2, where=lambda t: t.size <= 60)
        if x.row is not None and x.row.axis == 0:
            x = g.transpose(x, [*range(1, x.rank), 0])
        shape, row = x.shape, x.row
        depth_of = g.rng.randint(1, x.rank if row is None else row.axis)
        flat = math.prod(shape[:depth_of])
        count = g.rng.randint(1, min(flat, 3))
        chosen = g.numbers.permutation(flat)[:count]
        if join not in (None, "none") and g.chance(0.5):
            chosen = g.numbers.integers(0, flat, count)
        places = np.stack(np.unravel_index(chosen, shape[:depth_of]), axis=-1)
        index = g.constant(places.astype(np.int64))
        rest = shape[depth_of:]
        if row is None:
            updates = g.constant(g.array_like((count, *rest), "float32", False))
        else:
            axis = row.axis - depth_of
            source = g.shaped(g.pick(), count * (row.before * row.after), *rest[:axis], *rest[axis + 1 :])
            if (row.before, row.after) != (1, 1):
                raise Skip
            order = [1, *range(2, 2 + axis), 0, *range(2 + axis, source.rank)]
            updates = g.transpose(source, order)
            if updates.shape != (count, *rest):
                raise Skip
    updates = g.into(updates, -4, 4)
    top = max(x.bound * max(updates.bound, 1) ** 3, x.bound + 3 * updates.bound)
    if top > 1e4:
        raise Skip
    return without_number(g.emit(op, [x, index, updates], shape, row, -top, top, reduction=join))


@operator("OneHot")
def one_hot(g: Builder, op: str) -> Made:
    x = g.pick(("int64", "int64", "float32"), least=1, where=lambda t: t.grain == 1 and t.bound < 100)
    count = g.rng.randint(1, 6)
    off, on = g.one_of((0, 1), (0, 1), (-1, 2), (0.5, 0.25))
    axis = g.rng.randint(0, x.rank)
    if x.kind == "float32" and x.low < 0:
        raise Skip
    kinds = ("float32", "float32", "int64") if x.kind == "int64" and (off, on) != (0.5, 0.25) else ("float32",)
    kind = g.rng.choice(kinds)
    shape = (*x.shape[:axis], count, *x.shape[axis:])
    row = x.row
    if row is not None and row.axis >= axis:
        row = dataclasses.replace(row, axis=row.axis + 1)
    size = g.constant(np.array(count, dtype="float32" if x.kind == "float32" else "int64").reshape(g.one_of((), (1,))))
    given = None if axis == x.rank and g.chance(0.5) else axis - x.rank - 1 if g.chance(0.4) else axis
    return g.emit(op, [x, size, g.constant(np.array([off, on], dtype=kind))], shape, row, min(off, on), max(off, on), 0.25, kind, axis=given)
