"""Rules of operators that compute elements of elements.

Numbers are f32 whatever their type in the graph: integers are exact below 2^24 and do not wrap, f16 and f64 are not
rounded to their own precision.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx

from .cells import Operand, elementwise, folded, function
from .node import Node, Rule, rule
from .tensor import Tensor, constant

COMMUTATIVE = ("add", "multiply", "maximum", "minimum", "equal")

# A constant condition that changes more often is computed, because its parts would be as many.
MOST_CHOSEN = 8

# What leaves the other side as it is, when it stands on the right.
NEUTRAL = {"add": 0, "subtract": 0, "multiply": 1, "divide": 1, "power": 1}

WHOLE = ("floor", "ceil", "round", "truncate", "sign", "not", "is_nan", "is_inf", "equal", "less", "less_equal")


def elementwise_rule(*op_types: str) -> Callable[[Rule], Rule]:
    """The rule of element-wise operators, for tensors that are not all constant."""

    def register(compute: Rule) -> Rule:
        @rule(*op_types)
        def computed(node: Node) -> Tensor | Sequence[Tensor]:
            given = [tensor for tensor in node.inputs if tensor is not None]
            if all(tensor.is_constant for tensor in given):
                shaping = given[:1] if node.op_type == "CastLike" else given
                return folded(node, node.inputs, node.broadcast(shaping)[1])
            return compute(node)

        return compute

    return register


# Of one element


FUNCTIONS = {
    "Neg": "negate", "Abs": "abs", "Sqrt": "sqrt", "Reciprocal": "reciprocal", "Exp": "exp", "Log": "log", "Erf": "erf",
    "Sigmoid": "sigmoid", "Tanh": "tanh", "Relu": "relu", "Softplus": "softplus", "Softsign": "softsign",
    "HardSwish": "hard_swish", "Mish": "mish", "Floor": "floor", "Ceil": "ceil", "Round": "round", "Sign": "sign",
    "Sin": "sin", "Cos": "cos", "Tan": "tan", "Asin": "asin", "Acos": "acos", "Atan": "atan", "Sinh": "sinh",
    "Cosh": "cosh", "Asinh": "asinh", "Acosh": "acosh", "Atanh": "atanh",
}

# Attributes and their defaults, by the name of the parameter.
PARAMETERS = {
    "LeakyRelu": ("leaky_relu", {"slope": ("alpha", 0.01)}),
    "Elu": ("elu", {"alpha": ("alpha", 1.0)}),
    "Selu": ("selu", {"alpha": ("alpha", 1.67326319217681884765625), "gamma": ("gamma", 1.05070102214813232421875)}),
    "Celu": ("celu", {"alpha": ("alpha", 1.0)}),
    "HardSigmoid": ("hard_sigmoid", {"scale": ("alpha", 0.2), "shift": ("beta", 0.5)}),
    "ThresholdedRelu": ("thresholded_relu", {"alpha": ("alpha", 1.0)}),
}


@elementwise_rule(*FUNCTIONS)
def simple(node: Node) -> Tensor:
    return function(node, node.require(0), FUNCTIONS[node.op_type])


@elementwise_rule(*PARAMETERS)
def with_parameters(node: Node) -> Tensor:
    name, parameters = PARAMETERS[node.op_type]
    given = {key: node.attributes.get(attribute, default) for key, (attribute, default) in parameters.items()}
    return function(node, node.require(0), name, **given)


@elementwise_rule("Gelu")
def gelu(node: Node) -> Tensor:
    is_tanh = node.attributes.get("approximate", "none") == "tanh"
    return function(node, node.require(0), "gelu_tanh" if is_tanh else "gelu")


@elementwise_rule("Swish")
def swish(node: Node) -> Tensor:
    x, alpha = node.require(0), node.attributes.get("alpha", 1.0)
    if alpha == 1:
        return function(node, x, "silu")
    return binary(node, "multiply", x, function(node, scaled(node, x, alpha), "sigmoid"))


@elementwise_rule("Shrink")
def shrink(node: Node) -> Tensor:
    x, threshold, bias = node.require(0), node.attributes.get("lambd", 0.5), node.attributes.get("bias", 0.0)
    if threshold < 0:
        raise node.error(f"its lambd is {threshold}; a negative one is not read")
    above = binary(node, "multiply", scaled(node, x, 1, -bias), binary(node, "less", number(threshold), x, bool))
    below = binary(node, "multiply", scaled(node, x, 1, bias), binary(node, "less", x, number(-threshold), bool))
    return binary(node, "add", above, below)


@elementwise_rule("Not")
def logical_not(node: Node) -> Tensor:
    return function(node, node.require(0), "not")


@elementwise_rule("IsNaN")
def is_nan(node: Node) -> Tensor:
    return function(node, node.require(0), "is_nan", bool)


@elementwise_rule("IsInf")
def is_inf(node: Node) -> Tensor:
    x = node.require(0)
    negative, positive = node.attributes.get("detect_negative", 1), node.attributes.get("detect_positive", 1)
    if negative and positive:
        return function(node, x, "is_inf", bool)
    if not negative and not positive:
        return constant(node.outputs[0], np.zeros(x.shape, dtype=bool), row=x.row)
    return binary(node, "equal", x, number(np.inf if positive else -np.inf), bool)


@elementwise_rule("Clip")
def clip(node: Node) -> Tensor:
    if node.opset < 11:
        bounds = [None if key not in node.attributes else number(node.attributes[key]) for key in ("min", "max")]
    else:
        bounds = [node.input(1), node.input(2)]
    x = node.require(0)
    known = [None if bound is None else Operand.of(bound, bound.shape).number() for bound in bounds]
    ends = zip(bounds, known, (-np.inf, np.inf))
    if all(bound is None or limit is not None or is_always(bound, end) for bound, limit, end in ends):
        if known[0] is None and known[1] is None:
            return x
        if known[0] is not None and known[1] is not None:
            known[0] = min(known)
        return function(node, x, "clip", low=known[0], high=known[1])
    for name, bound in zip(("maximum", "minimum"), bounds):
        if bound is not None:
            x = binary(node, name, x, bound)
    return x


def is_always(tensor: Tensor, value: float) -> bool:
    return tensor.is_constant and bool((tensor.constant == value).all())


@elementwise_rule("Cast", "CastLike")
def cast(node: Node) -> Tensor:
    """Integers of another size stay as they are, and floats of another precision."""
    x = node.require(0)
    if node.op_type == "CastLike":
        dtype = node.require(1).dtype
    else:
        dtype = onnx.helper.tensor_dtype_to_np_dtype(node.attributes["to"])
    dtype = np.dtype(dtype)
    if dtype.kind in "OUS":
        raise node.error("texts are not computed with; give rows of tables instead")
    if dtype.kind == "b" and x.dtype.kind != "b":
        return function(node, function(node, x, "not"), "not", dtype)
    if dtype.kind in "iu" and x.dtype.kind not in "iub":
        x = truncated(node, x)
    return dataclasses.replace(x, name=node.outputs[0], dtype=dtype)


def truncated(node: Node, tensor: Tensor) -> Tensor:
    """Elements without their fractions; a feature is truncated as a whole, so that lookups know it again."""
    known = [value for value in np.unique(tensor.values) if value >= 0] if not tensor.is_constant else []
    moved = {}
    for value in known:
        step, source = node.steps.steps[value], node.steps.sources.get(int(value))
        is_integer = source is not None and source.is_integer
        is_whole = is_integer or step.get("function") in WHOLE or step["op"] == "scenario"
        if is_whole:
            moved[value] = value
        elif source is not None:
            moved[value] = node.add("function", [value], source.width, function="truncate")
    if not known or len(moved) < len(known):
        return function(node, tensor, "truncate")
    values = tensor.values.copy()
    for value, whole in moved.items():
        values[tensor.values == value] = whole
    return dataclasses.replace(tensor, values=values)


# Of two elements and more


def number(value: float) -> Tensor:
    return constant(f"{value:g}", np.array(value, dtype=np.float32))


def scaled(node: Node, tensor: Tensor, scale: float, shift: float = 0) -> Tensor:
    return function(node, tensor, "affine", scale=float(scale), shift=float(shift))


def binary(node: Node, name: str, left: Tensor, right: Tensor, dtype: Any = None) -> Tensor:
    """A function of two tensors, element by element."""
    dtype = left.dtype if dtype is None else dtype
    if left.is_constant and right.is_constant:
        return folded_binary(node, name, left, right, dtype)
    for one, other, is_left in ((right, left, False), (left, right, True)):
        if is_neutral(node, name, one, is_left):
            shape, row, moved = node.broadcast([left, right])
            kept = moved[0 if other is left else 1]
            return dataclasses.replace(kept, name=node.outputs[0], dtype=np.dtype(dtype), row=row)
    return elementwise(node, [left, right], dtype, lambda operands: combined(node, name, *operands))


def folded_binary(node: Node, name: str, left: Tensor, right: Tensor, dtype: Any) -> Tensor:
    """Parts of a rule that are constant. Integers do not wrap, as they do not in the engine."""
    numbers = [t.constant if t.constant.dtype.kind == "f" else t.constant.astype(np.int64) for t in (left, right)]
    with np.errstate(all="ignore"):
        result = COMBINATIONS[name](*numbers).astype(dtype)
    return node.derived(f"{node.outputs[0]}.{name}", result, [left, right], left.row or right.row)


COMBINATIONS = {"add": np.add, "subtract": np.subtract, "multiply": np.multiply, "divide": np.divide,
                "maximum": np.maximum, "minimum": np.minimum, "equal": np.equal, "less": np.less}


def is_neutral(node: Node, name: str, tensor: Tensor, is_left: bool) -> bool:
    if name not in NEUTRAL or (is_left and name not in COMMUTATIVE) or tensor.name in node.steps.learned:
        return False
    if not tensor.is_constant or tensor.other is not None or tensor.size == 0:
        return False
    return bool((tensor.constant == NEUTRAL[name]).all())


def combined(node: Node, name: str, left: Operand, right: Operand) -> int:
    """The value of a function of two operands of one shape."""
    if name in COMMUTATIVE and left.is_constant:
        left, right = right, left
    by_number = with_number(node, name, left, right)
    if by_number is not None:
        return by_number
    (narrow_left, is_each_left), (narrow_right, is_each) = left.narrow(), right.narrow()
    if name in COMMUTATIVE and narrow_left.size < narrow_right.size:
        left, right = right, left
        narrow_left, is_each_left, narrow_right, is_each = narrow_right, is_each, narrow_left, is_each_left
    size = left.size
    each = True if is_each and 1 < narrow_right.size < size else None
    wide = repeated(node, narrow_left, is_each_left, size) if narrow_left.size < size else left.value(node)
    return node.add("combine", [wide, narrow_right.value(node)], size, function=name, each=each)


def repeated(node: Node, narrow: Operand, is_each: bool, size: int) -> int:
    """The elements over and over, or each over and over; a constant is written out."""
    count = size // narrow.size
    places = np.arange(narrow.size)
    if narrow.is_constant:
        return narrow.select(np.repeat(places, count) if is_each else np.tile(places, count), (size,)).value(node)
    sizes, strides = ([narrow.size, count], [1, 0]) if is_each else ([count, narrow.size], [0, 1])
    return node.add("view", [narrow.value(node)], size, start=0, sizes=sizes, strides=strides)


def with_number(node: Node, name: str, left: Operand, right: Operand) -> int | None:
    """The value where one operand is a number, and a function of the other does it."""
    size = left.size

    def apply(operand: Operand, function: str, **parameters: float) -> int:
        return node.add("function", [operand.value(node)], size, function=function, **parameters)

    c = right.number()
    if c is not None:
        match name:
            case "add" | "subtract":
                return apply(left, "affine", scale=1.0, shift=c if name == "add" else -c)
            case "multiply":
                return apply(left, "negate") if c == -1 else apply(left, "affine", scale=c, shift=0.0)
            case "divide" if c != 0 and np.frexp(c)[0] in (0.5, -0.5):
                return apply(left, "affine", scale=1 / c, shift=0.0)
            case "maximum":
                return apply(left, "relu") if c == 0 else apply(left, "clip", low=c)
            case "minimum":
                return apply(left, "clip", high=c)
            case "prelu":
                return apply(left, "leaky_relu", slope=c)
            case "power":
                return power_of(node, left.value(node), size, c)
    c = left.number()
    if c is not None and name == "subtract":
        return apply(right, "affine", scale=-1.0, shift=c)
    if c == 1 and name == "divide":
        return apply(right, "reciprocal")
    return None


def power_of(node: Node, value: int, size: int, exponent: float) -> int:
    """A power by a number; the common ones without logarithms."""

    def apply(function: str, value: int) -> int:
        return node.add("function", [value], size, function=function)

    match exponent:
        case 2.0:
            return apply("square", value)
        case 3.0:
            return node.add("combine", [apply("square", value), value], size, function="multiply")
        case 4.0:
            return apply("square", apply("square", value))
        case 0.5:
            return apply("sqrt", value)
        case -0.5:
            return apply("reciprocal", apply("sqrt", value))
        case -1.0:
            return apply("reciprocal", value)
    return node.add("function", [value], size, function="power", exponent=exponent)


ARITHMETIC = {"Add": "add", "Sub": "subtract", "Mul": "multiply", "Pow": "power", "PRelu": "prelu", "And": "multiply",
              "Or": "maximum"}


@elementwise_rule(*ARITHMETIC)
def arithmetic(node: Node) -> Tensor:
    return binary(node, ARITHMETIC[node.op_type], node.require(0), node.require(1))


@elementwise_rule("Div")
def divide(node: Node) -> Tensor:
    left, right = node.require(0), node.require(1)
    quotient = binary(node, "divide", left, right)
    return quotient if left.dtype.kind == "f" else function(node, quotient, "truncate")


@elementwise_rule("Mod")
def modulo(node: Node) -> Tensor:
    name = "remainder" if node.attributes.get("fmod", 0) else "modulo"
    return binary(node, name, node.require(0), node.require(1))


@elementwise_rule("Xor")
def exclusive_or(node: Node) -> Tensor:
    return function(node, binary(node, "equal", node.require(0), node.require(1)), "not")


COMPARISONS = {"Equal": ("equal", False), "Less": ("less", False), "LessOrEqual": ("less_equal", False),
               "Greater": ("less", True), "GreaterOrEqual": ("less_equal", True)}


@elementwise_rule(*COMPARISONS)
def compare(node: Node) -> Tensor:
    name, is_swapped = COMPARISONS[node.op_type]
    left, right = node.require(0), node.require(1)
    return binary(node, name, *((right, left) if is_swapped else (left, right)), bool)


VARIADIC = {"Max": "maximum", "Min": "minimum", "Sum": "add", "Mean": "add"}


@elementwise_rule(*VARIADIC)
def variadic(node: Node) -> Tensor:
    result = node.require(0)
    for place in range(1, len(node.inputs)):
        result = binary(node, VARIADIC[node.op_type], result, node.require(place))
    if node.op_type == "Mean" and len(node.inputs) > 1:
        result = binary(node, "divide", result, number(len(node.inputs)))
    return result


@elementwise_rule("Where")
def where(node: Node) -> Tensor:
    """A condition that is constant in few runs picks references; another one chooses numbers."""
    condition, then, otherwise = (node.require(place) for place in range(3))
    if condition.is_constant and condition.other is None:
        shape, row, moved = node.broadcast([condition, then, otherwise])
        chosen = moved[0].constant.astype(bool)
        if chosen.all() or not chosen.any():
            return dataclasses.replace(moved[1 if chosen.all() else 2], name=node.outputs[0], row=row)
        if np.count_nonzero(np.diff(chosen.ravel())) < MOST_CHOSEN:
            one, two = (references(node, tensor, shape) for tensor in (then, otherwise))
            values = np.where(chosen, one.values, two.values)
            columns = np.where(chosen, one.columns, two.columns)
            return Tensor(node.outputs[0], then.dtype, row, values=values, columns=columns)
    return choose(node, condition, then, otherwise)


def choose(node: Node, condition: Tensor, then: Tensor, otherwise: Tensor) -> Tensor:
    def emit(operands: list[Operand]) -> int:
        parts = [operand.select([0], (1,)) if operand.is_single() else operand for operand in operands]
        return node.add("choose", [part.value(node) for part in parts], max(part.size for part in parts))

    return elementwise(node, [condition, then, otherwise], then.dtype, emit)


def references(node: Node, tensor: Tensor, shape: Sequence[int]) -> Operand:
    """The elements over a shape as references; numbers become a value."""
    operand = Operand.of(tensor, shape, node.steps.learned)
    if not tensor.is_constant:
        return operand
    return Operand(tensor, np.full(shape, node.value(tensor)), operand.columns)
