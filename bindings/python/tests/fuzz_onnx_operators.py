"""Operators of elements or along axes in random graphs: functions that put nodes behind tensors that there are."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx

from fuzz_onnx_graph import COMPARISONS, INTEGERS, MICROSOFT, NUMBERS, Builder, Row, Skip, Tensor, reduced_range

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
    return lambda low, high: (
        function(0 if low <= 0 <= high else min(abs(low), abs(high))),
        function(max(abs(low), abs(high))),
    )


ANY = (-math.inf, math.inf)

FUNCTIONS = {
    "Exp": ((-4, 3), increasing(math.exp)),
    "Log": ((0.05, math.inf), increasing(math.log)),
    "Sqrt": ((0.02, math.inf), increasing(math.sqrt)),
    "Erf": (ANY, increasing(math.erf)),
    "Sigmoid": (ANY, within(0, 1)),
    "Tanh": (ANY, increasing(math.tanh)),
    "Softplus": (ANY, lambda low, high: (0, max(high, 0) + 1)),
    "Softsign": (ANY, within(-1, 1)),
    "HardSwish": (ANY, lambda low, high: (-0.4, max(high, 0))),
    "Mish": (ANY, lambda low, high: (-0.4, max(high, 0))),
    "Sin": ((-9, 9), within(-1, 1)),
    "Cos": ((-9, 9), within(-1, 1)),
    "Tan": ((-1.2, 1.2), increasing(math.tan)),
    "Asin": ((-0.95, 0.95), increasing(math.asin)),
    "Acos": ((-0.95, 0.95), falling(math.acos)),
    "Atan": (ANY, increasing(math.atan)),
    "Sinh": ((-3, 3), increasing(math.sinh)),
    "Cosh": ((-3, 3), even(math.cosh)),
    "Asinh": (ANY, increasing(math.asinh)),
    "Acosh": ((1.1, math.inf), increasing(math.acosh)),
    "Atanh": ((-0.95, 0.95), increasing(math.atanh)),
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
    kinds = {
        "Neg": ("float32", "int64", "int32"),
        "Relu": ("float32",),
        "Sign": ("float32", "int64"),
        "Abs": NUMBERS,
        "Identity": (*NUMBERS, "bool"),
    }.get(op, ("float32",))
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
        g.pool = [t for t in g.pool if t is not x]
    attributes = {}
    if op == "IsInf":
        attributes = {"detect_negative": g.one_of(None, 0, 1), "detect_positive": g.one_of(None, 0, 1)}
    return g.unary(op, x, 0, 1, 1.0, "bool", **attributes)


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
            return g.emit(
                op,
                [x, bound],
                x.shape,
                x.row,
                min(x.low, bound.low),
                max(x.high, bound.high),
                min(x.grain, bound.grain),
            )
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
        return g.emit(
            op,
            [x, g.scalar_beside(x, exponent) if kind == "float32" else g.constant(np.array(exponent))],
            x.shape,
            x.row,
            -((x.bound + 1) ** exponent),
            (x.bound + 1) ** exponent,
            0.0,
        )
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
    return g.emit(
        op,
        [condition, *pair],
        shape,
        row,
        min(x.low, other.low),
        max(x.high, other.high),
        min(x.grain, other.grain),
        x.kind,
    )


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


@operator(
    "ReduceSum",
    "ReduceMean",
    "ReduceMax",
    "ReduceMin",
    "ReduceProd",
    "ReduceL1",
    "ReduceL2",
    "ReduceSumSquare",
    "ReduceLogSum",
    "ReduceLogSumExp",
)
def reduction(g: Builder, op: str) -> Made:
    whole = op in ("ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd")
    kinds = (
        ("float32", "float32", "int64" if op == "ReduceSum" or g.opset >= 12 else "int32") if whole else ("float32",)
    )
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
    return g.emit(
        op, [x], shape, row, 0, x.shape[axis] - 1, 1.0, "int64", axis=given, keepdims=keep, select_last_index=last
    )


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
    return g.emit(
        op,
        [x, given],
        x.shape,
        x.row,
        -top,
        top,
        x.grain,
        x.kind,
        exclusive=g.one_of(None, 0, 1),
        reverse=g.one_of(None, 0, 1),
    )


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
    given = [
        x,
        g.weights(channels, scale=1),
        g.weights(channels, scale=1),
        g.weights(channels, scale=1),
        g.constant(variance),
    ]
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
    return g.emit(
        op,
        given,
        x.shape,
        x.row,
        -top,
        top,
        axis=None if default and g.chance(0.5) else g.axis(axis, x.rank),
        epsilon=g.one_of(None, 0.01, 1e-3),
    )


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
    return g.unary(
        op, x, -1, 1, axis=None if default and g.chance(0.5) else g.axis(axis, x.rank), p=g.one_of(None, 1, 2)
    )


@operator("MeanVarianceNormalization")
def mean_variance_norm(g: Builder, op: str) -> Made:
    x = g.pick(least=2)
    axes = g.some(x.free_axes())
    if math.prod(x.shape[axis] for axis in axes) == 1:
        raise Skip
    x = spread(g, x, axes)
    return g.unary(op, x, -20, 20, axes=axes)
