"""Recognises parts of the written graph that fewer steps do: by what the steps compute, never by their names.

A pattern looks at one step. If that is the last of a part it knows, the step becomes another one of the same value, and
the steps that only led to it are left without readers; the file does not get those.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .finish import TENSOR_KEYS
from .tensor import Steps

Step = dict[str, Any]


class Graph:
    """The steps with those that read each, as far as outputs need them."""

    def __init__(self, steps: Steps, outputs: Sequence[int]):
        self.steps = steps
        self.values = {step["name"]: value for value, step in enumerate(steps.steps)}
        self.outputs = {steps.steps[value]["name"] for value in outputs}
        self.readers: dict[str, set[str]] = {}
        self.find_readers()

    def find_readers(self) -> None:
        self.readers = {name: set() for name in self.outputs}
        waiting = list(self.outputs)
        while waiting:
            name = waiting.pop()
            for read in self.step(name).get("inputs", []):
                if read not in self.readers:
                    self.readers[read] = set()
                    waiting.append(read)
                self.readers[read].add(name)

    def step(self, name: str) -> Step:
        return self.steps.steps[self.values[name]]

    def inputs(self, step: Step) -> list[Step]:
        return [self.step(name) for name in step.get("inputs", [])]

    def width(self, step: Step) -> int:
        return self.steps.widths[self.values[step["name"]]]

    def is_live(self, step: Step) -> bool:
        return step["name"] in self.readers

    def is_alone(self, step: Step) -> bool:
        """Whether one step alone reads it."""
        return step["name"] not in self.outputs and len(self.readers.get(step["name"], ())) <= 1

    def add(self, op: str, inputs: Sequence[Step], width: int, name: str, **keys: Any) -> Step:
        value = self.steps.add(op, [self.values[step["name"]] for step in inputs], width, name, **keys)
        made = self.steps.steps[value]
        self.values[made["name"]] = value
        return made

    def replace(self, step: Step, op: str, inputs: Sequence[Step], **keys: Any) -> bool:
        """The step computes its value another way from now on."""
        name = step["name"]
        step.clear()
        step.update({"name": name, "op": op, "inputs": [other["name"] for other in inputs]})
        step.update({key: value for key, value in keys.items() if value is not None})
        self.find_readers()
        return True

    def shaped(self, step: Step, shape: Sequence[int]) -> str:
        """The tensor of a constant with another shape, under its name unless a step that is none reads it, too."""
        name = step["tensor"]
        tensor = self.steps.tensors[name].reshape(shape)
        if any(name in map(other.get, TENSOR_KEYS) and other["op"] != "constant" for other in self.steps.steps):
            return self.steps.weight(name, tensor)
        self.steps.tensors[name] = tensor
        return name

    def constant(self, step: Step) -> np.ndarray | None:
        """The flat numbers of a constant."""
        return self.steps.tensors[step["tensor"]].reshape(-1) if step["op"] == "constant" else None

    def is_finite(self, step: Step) -> bool:
        """Whether a constant may be the tensor of another step: only constants may hold infinities."""
        return bool(np.isfinite(self.steps.tensors[step["tensor"]]).all())

    def number(self, step: Step) -> float | None:
        numbers = self.constant(step)
        return float(numbers[0]) if numbers is not None and numbers.size == 1 else None


Pattern = Callable[[Graph, Step], bool]


def fuse(steps: Steps, outputs: Sequence[int]) -> dict[str, int]:
    """Applies the patterns until none is found; the number of finds of each."""
    graph = Graph(steps, outputs)
    counts: dict[str, int] = {}
    is_changed = True
    while is_changed:
        is_changed = False
        for step in list(steps.steps):
            for name, pattern in PATTERNS:
                if graph.is_live(step) and pattern(graph, step):
                    is_changed = True
                    counts[name] = counts.get(name, 0) + 1
    return counts


# What a step is


def is_function(step: Step, name: str) -> bool:
    return step["op"] == "function" and step["function"] == name


def is_combine(step: Step, name: str) -> bool:
    return step["op"] == "combine" and step["function"] == name


def is_reduce(step: Step, name: str) -> bool:
    return step["op"] == "reduce" and step["function"] == name


def groups_of(step: Step) -> int:
    return step.get("groups", 1)


def is_spread(graph: Graph, step: Step, groups: int) -> bool:
    """Whether the right side of a combination has a number for each of so many parts of the left one."""
    left, right = graph.inputs(step)
    if graph.width(right) != groups:
        return False
    return groups == 1 or graph.width(left) == groups or step.get("each", False)


def either_way(graph: Graph, step: Step) -> list[tuple[Step, Step]]:
    """The two inputs, and the two turned."""
    one, other = graph.inputs(step)
    return [(one, other), (other, one)]


def scaled(graph: Graph, step: Step) -> tuple[Step, float]:
    """What a step is a multiple of, and the factor; itself and 1, if of nothing."""
    if is_function(step, "affine") and step["shift"] == 0:
        return graph.inputs(step)[0], step["scale"]
    if is_function(step, "negate"):
        return graph.inputs(step)[0], -1.0
    if is_combine(step, "divide"):
        number = graph.number(graph.inputs(step)[1])
        if number:
            return graph.inputs(step)[0], 1 / number
    return step, 1.0


def is_near(number: float, wanted: float) -> bool:
    return math.isclose(number, wanted, rel_tol=1e-4)


# Functions of each element


def affine(graph: Graph, step: Step) -> bool:
    """(x s + t) u + v = x (s u) + (t u + v)."""
    if not is_function(step, "affine") and not is_function(step, "negate"):
        return False
    (inner,) = graph.inputs(step)
    if not (is_function(inner, "affine") or is_function(inner, "negate")) or not graph.is_alone(inner):
        return False
    (first, shift), (second, then) = (
        (-1.0, 0.0) if part["function"] == "negate" else (part["scale"], part["shift"]) for part in (inner, step)
    )
    keys = {"scale": first * second, "shift": shift * second + then}
    return graph.replace(step, "function", graph.inputs(inner), function="affine", **keys)


def clip(graph: Graph, step: Step) -> bool:
    """min(max(x, a), b), where a is not above b."""
    if not is_function(step, "clip"):
        return False
    (inner,) = graph.inputs(step)
    if not (is_function(inner, "clip") or is_function(inner, "relu")) or not graph.is_alone(inner):
        return False
    low = 0.0 if inner["function"] == "relu" else inner.get("low")
    if "high" in inner or "low" in step or low is None or low > step["high"]:
        return False
    return graph.replace(step, "function", graph.inputs(inner), function="clip", low=low, high=step["high"])


def square(graph: Graph, step: Step) -> bool:
    """x x."""
    if not is_combine(step, "multiply") or step["inputs"][0] != step["inputs"][1]:
        return False
    return graph.replace(step, "function", graph.inputs(step)[:1], function="square")


def sigmoid(graph: Graph, step: Step) -> bool:
    """1 / (1 + exp(-x))."""
    if not is_function(step, "reciprocal"):
        return False
    (total,) = graph.inputs(step)
    if not is_function(total, "affine") or (total["scale"], total["shift"]) != (1, 1):
        return False
    (power,) = graph.inputs(total)
    if not is_function(power, "exp"):
        return False
    base, factor = scaled(graph, graph.inputs(power)[0])
    return factor == -1 and graph.replace(step, "function", [base], function="sigmoid")


def softplus(graph: Graph, step: Step) -> bool:
    """log(1 + exp(x))."""
    if not is_function(step, "log"):
        return False
    (total,) = graph.inputs(step)
    if not is_function(total, "affine") or (total["scale"], total["shift"]) != (1, 1):
        return False
    (power,) = graph.inputs(total)
    return is_function(power, "exp") and graph.replace(step, "function", graph.inputs(power), function="softplus")


def gated(function: str, gate: str) -> Pattern:
    """x gate(x)."""

    def pattern(graph: Graph, step: Step) -> bool:
        if not is_combine(step, "multiply") or step["inputs"][0] == step["inputs"][1]:
            return False
        for x, other in either_way(graph, step):
            if not is_function(other, gate) or other["inputs"] != [x["name"]]:
                continue
            if gate == "hard_sigmoid" and not (is_near(other["scale"], 1 / 6) and is_near(other["shift"], 0.5)):
                continue
            return graph.replace(step, "function", [x], function=function)
        return False

    return pattern


def mish(graph: Graph, step: Step) -> bool:
    """x tanh(softplus(x))."""
    if not is_combine(step, "multiply"):
        return False
    for x, other in either_way(graph, step):
        if is_function(other, "tanh"):
            (inner,) = graph.inputs(other)
            if is_function(inner, "softplus") and inner["inputs"] == [x["name"]]:
                return graph.replace(step, "function", [x], function="mish")
    return False


def hard_sigmoid(graph: Graph, step: Step) -> bool:
    """min(max(x a + b, 0), 1)."""
    if not is_function(step, "clip") or (step.get("low"), step.get("high")) != (0, 1):
        return False
    (inner,) = graph.inputs(step)
    if not is_function(inner, "affine") or not graph.is_alone(inner):
        return False
    keys = {"scale": inner["scale"], "shift": inner["shift"]}
    return graph.replace(step, "function", graph.inputs(inner), function="hard_sigmoid", **keys)


def leaky_relu(graph: Graph, step: Step) -> bool:
    """max(x, a x), a from 0 to 1."""
    if not is_combine(step, "maximum"):
        return False
    for x, other in either_way(graph, step):
        base, factor = scaled(graph, other)
        if base is x and 0 <= factor <= 1 and base is not other:
            return graph.replace(step, "function", [x], function="leaky_relu", slope=factor)
    return False


def prelu(graph: Graph, step: Step) -> bool:
    """relu(x) + a relu(-x), where a is constant: x where it is positive, else -a x."""
    if not is_combine(step, "add"):
        return False
    for above, below in either_way(graph, step):
        if not is_function(above, "relu"):
            continue
        (x,) = graph.inputs(above)
        base, factor = scaled(graph, below)
        slopes, each = None, None
        if base is below:
            if not is_combine(below, "multiply"):
                continue
            base, slopes = graph.inputs(below)
            each = below.get("each")
            if slopes["op"] != "constant":
                continue
        if not is_function(base, "relu"):
            continue
        turned, sign = scaled(graph, graph.inputs(base)[0])
        if turned is not x or sign != -1:
            continue
        if slopes is None:
            return graph.replace(step, "function", [x], function="leaky_relu", slope=-factor)
        numbers = graph.steps.tensors[slopes["tensor"]]
        name = graph.steps.weight(f"{slopes['tensor']}.negated", -numbers)
        negated = graph.add("constant", [], numbers.size, name, rate="model", tensor=name)
        return graph.replace(step, "combine", [x, negated], function="prelu", each=each)
    return False


def gelu(graph: Graph, step: Step) -> bool:
    """x (1 + erf(x / sqrt(2))) / 2, or the same by tanh(sqrt(2 / pi) (x + 0.044715 x^3)); the half may be anywhere."""
    product, outer = scaled(graph, step)
    if not is_combine(product, "multiply") or (product is not step and not graph.is_alone(product)):
        return False
    for one, gate in either_way(graph, product):
        x, half = scaled(graph, one)
        if not is_function(gate, "affine"):
            continue
        (bell,) = graph.inputs(gate)
        total = outer * half
        if not (is_near(total * gate["scale"], 0.5) and is_near(total * gate["shift"], 0.5)):
            continue
        if is_function(bell, "erf"):
            base, factor = scaled(graph, graph.inputs(bell)[0])
            if base is x and is_near(factor, math.sqrt(0.5)):
                return graph.replace(step, "function", [x], function="gelu")
        if is_function(bell, "tanh") and is_cubic(graph, graph.inputs(bell)[0], x):
            return graph.replace(step, "function", [x], function="gelu_tanh")
    return False


def is_cubic(graph: Graph, step: Step, x: Step) -> bool:
    """Whether a step is sqrt(2 / pi) (x + 0.044715 x^3)."""
    total, factor = scaled(graph, step)
    if not is_near(factor, math.sqrt(2 / math.pi)):
        return False
    for one, other in either_way(graph, total) if is_combine(total, "add") or is_combine(total, "multiply") else []:
        if one is not x:
            continue
        if is_combine(total, "add"):
            cube, small = scaled(graph, other)
            return is_near(small, 0.044715) and is_cube(graph, cube, x)
        if is_function(other, "affine") and is_near(other["scale"], 0.044715) and other["shift"] == 1:
            (squared,) = graph.inputs(other)
            return is_function(squared, "square") and squared["inputs"] == [x["name"]]
    return False


def is_cube(graph: Graph, step: Step, x: Step) -> bool:
    if not is_combine(step, "multiply"):
        return False
    for one, other in either_way(graph, step):
        if one is x and is_function(other, "square") and other["inputs"] == [x["name"]]:
            return True
    return False


# Sums of products


def factors(graph: Graph, step: Step, product: bool = False) -> tuple[list[Step], float]:
    """The factors of a product of products, and a number."""
    base, number = scaled(graph, step)
    if base is not step and (graph.is_alone(step) or not product):
        parts, inner = factors(graph, base, True)
        return parts, number * inner
    if not is_combine(step, "multiply") or (product and not graph.is_alone(step)):
        return [step], 1.0
    left, right = graph.inputs(step)
    is_spread_out = step.get("each", False) and 1 < graph.width(right) < graph.width(left)
    if is_spread_out or (graph.width(left) != graph.width(right) and right["op"] != "constant"):
        return [step], 1.0
    parts, total = factors(graph, left, True)
    more, inner = ([right], 1.0) if right["op"] == "constant" else factors(graph, right, True)
    return parts + more, total * number * inner


def dice(graph: Graph, step: Step) -> bool:
    """p x + (1 - p) a x = x (p (1 - a) + a), where a is constant."""
    if not is_combine(step, "add") or graph.width(graph.inputs(step)[0]) != graph.width(graph.inputs(step)[1]):
        return False
    for plain, leaking in either_way(graph, step):
        (ones, unit), (others, number) = factors(graph, plain), factors(graph, leaking)
        slopes = [part for part in others if part["op"] == "constant"]
        rest = [part for part in others if part["op"] != "constant"]
        if unit != 1 or len(ones) != 2 or len(rest) != 2 or len(slopes) > 1:
            continue
        for p, x in (ones, ones[::-1]):
            for complement, same in (rest, rest[::-1]):
                leak = leak_of(graph, complement, p)
                if same is x and leak is not None:
                    return leaked(graph, step, x, p, slopes, leak * number)
    return False


def leak_of(graph: Graph, step: Step, p: Step) -> float | None:
    """The a of a step that is a (1 - p)."""
    if not is_function(step, "affine") or graph.inputs(step)[0] is not p or step["scale"] != -step["shift"]:
        return None
    return step["shift"]


def leaked(graph: Graph, step: Step, x: Step, p: Step, slopes: Sequence[Step], number: float) -> bool:
    width = graph.width(step)
    if not slopes:
        gate = graph.add("function", [p], width, step["name"], function="affine", scale=1 - number, shift=number)
        return graph.replace(step, "combine", [gate, x], function="multiply")
    (slope,) = slopes
    if number != 1 or width % graph.width(slope):
        return False
    tensor = graph.steps.tensors[slope["tensor"]]
    name = graph.steps.weight(f"{slope['tensor']}.rest", 1 - tensor)
    rest = graph.add("constant", [], tensor.size, name, rate="model", tensor=name)
    opened = graph.add("combine", [p, rest], width, step["name"], function="multiply")
    gate = graph.add("combine", [opened, slope], width, step["name"], function="add")
    return graph.replace(step, "combine", [gate, x], function="multiply")


def bias(graph: Graph, step: Step) -> bool:
    """x W + b."""
    number = None
    if is_combine(step, "add"):
        layer, constant = graph.inputs(step)
        if constant["op"] != "constant" or (step.get("each") and graph.width(constant) > 1):
            return False
        if not graph.is_finite(constant):
            return False
    elif is_function(step, "affine") and step["scale"] == 1:
        (layer,), number, constant = graph.inputs(step), step["shift"], None
    else:
        return False
    if layer["op"] != "linear" or "bias" in layer or not graph.is_alone(layer):
        return False
    width = graph.width(layer) // groups_of(layer)
    if constant is not None and graph.width(constant) == width:
        tensor = graph.shaped(constant, (-1,))
    elif constant is None or graph.width(constant) == 1:
        number = graph.number(constant) if number is None else number
        tensor = graph.steps.weight(f"{step['name']}.bias", np.full(width, number, dtype=np.float32))
    else:
        return False
    keys = {key: value for key, value in layer.items() if key not in ("name", "op", "inputs")}
    return graph.replace(step, "linear", graph.inputs(layer), **keys, bias=tensor)


def mixture(graph: Graph, step: Step) -> bool:
    """The sum of experts, each times its part of a gate."""
    found = gated_parts(graph, step)
    if found is None:
        return False
    gate, experts = found
    return graph.replace(step, "mixture", [gate, *experts])


def gated_parts(graph: Graph, step: Step) -> tuple[Step, list[Step]] | None:
    width = graph.width(step)
    if is_reduce(step, "sum"):
        (product,) = graph.inputs(step)
        if not is_combine(product, "multiply") or not graph.is_alone(product):
            return None
        parts, gate = graph.inputs(product)
        inner = step.get("inner", 1)
        is_beside = groups_of(step) == 1 and inner == width and parts["op"] == "concat"
        is_between = inner == 1 and groups_of(step) == width and parts["op"] == "interleave"
        if is_beside and not (product.get("each") or width == 1):
            return None
        if is_between and product.get("each"):
            return None
    elif step["op"] == "matmul" and (step.get("batch", 1), step["rows"]) == (1, 1):
        gate, parts = graph.inputs(step)
        is_beside = parts["op"] == "concat" and not step.get("transposed")
        is_between = parts["op"] == "interleave" and bool(step.get("transposed"))
    else:
        return None
    if not is_beside and not is_between:
        return None
    experts = graph.inputs(parts)
    if len(experts) != graph.width(gate) or len(experts) < 2 or any(graph.width(expert) != width for expert in experts):
        return None
    if is_between and (parts["groups"] != width or any(part != 1 for part in parts["widths"])):
        return None
    return gate, experts


def weighted_sum(graph: Graph, step: Step) -> bool:
    """The sum of vectors side by side, each times a number: a product of a row with a matrix."""
    if not is_reduce(step, "sum") or step.get("inner", 1) == 1:
        return False
    (product,) = graph.inputs(step)
    if not is_combine(product, "multiply") or not product.get("each") or not graph.is_alone(product):
        return False
    vectors, weights = graph.inputs(product)
    groups, columns = groups_of(step), step["inner"]
    inner = graph.width(vectors) // (groups * columns)
    if graph.width(weights) != groups * inner:
        return False
    keys = {"batch": groups, "rows": 1, "inner": inner, "columns": columns}
    return graph.replace(step, "matmul", [weights, vectors], **keys)


def dot(graph: Graph, step: Step) -> bool:
    """The sum of products of elements: of two vectors, of one vector with each of some, or of each with a constant."""
    if not is_reduce(step, "sum") or step.get("inner", 1) != 1:
        return False
    (product,) = graph.inputs(step)
    if not graph.is_alone(product):
        return False
    groups = groups_of(step)
    length = graph.width(product) // groups
    if is_function(product, "square"):
        (x,) = graph.inputs(product)
        return graph.replace(step, "dot", [x, x], groups=groups)
    if not is_combine(product, "multiply") or length == 1:
        return False
    left, right = graph.inputs(product)
    if graph.width(left) != graph.width(product):
        return False
    if right["op"] == "constant":
        if graph.width(right) != length or product.get("each") or not graph.is_finite(right):
            return False
        return graph.replace(step, "linear", [left], weight=graph.shaped(right, (1, -1)), groups=groups)
    if graph.width(right) == graph.width(left):
        return graph.replace(step, "dot", [left, right], groups=groups)
    if graph.width(right) == length and not product.get("each"):
        keys = {"rows": 1, "inner": length, "columns": groups, "transposed": True}
        return graph.replace(step, "matmul", [right, left], **keys)
    return False


def pairwise(graph: Graph, step: Step) -> bool:
    """The sum over all elements of (sum of vectors)^2 - sum of their squares, as in a factorisation machine.

    Becomes S.S - V.V - W.W..., so that the part of vectors that are the request's is computed with the request.
    """
    if not is_reduce(step, "sum") or step.get("inner", 1) != 1 or groups_of(step) != 1:
        return False
    difference, factor = scaled(graph, graph.inputs(step)[0])
    if not is_combine(difference, "subtract") or not graph.is_alone(difference):
        return False
    total, squares = graph.inputs(difference)
    if not is_function(total, "square") or graph.width(squares) != graph.width(total):
        return False
    parts = []
    for part in terms(graph, squares):
        if is_reduce(part, "sum"):
            (part,) = graph.inputs(part)
        if not is_function(part, "square"):
            return False
        parts.append(graph.inputs(part)[0])
    result = self_dot(graph, graph.inputs(total)[0], step)
    for part in parts[:-1] if factor == 1 else parts:
        result = graph.add("combine", [result, self_dot(graph, part, step)], 1, step["name"], function="subtract")
    if factor == 1:
        return graph.replace(step, "combine", [result, self_dot(graph, parts[-1], step)], function="subtract")
    return graph.replace(step, "function", [result], function="affine", scale=factor, shift=0.0)


def self_dot(graph: Graph, vector: Step, step: Step) -> Step:
    return graph.add("dot", [vector, vector], 1, step["name"])


def terms(graph: Graph, step: Step) -> list[Step]:
    """The parts of a chain of sums of equal widths."""
    if not is_combine(step, "add") or not graph.is_alone(step):
        return [step]
    left, right = graph.inputs(step)
    if graph.width(left) != graph.width(right):
        return [step]
    return terms(graph, left) + terms(graph, right)


# Along parts


def layer_norm(graph: Graph, step: Step) -> bool:
    """(x - mean) / sqrt(variance + epsilon), of each part."""
    if is_combine(step, "divide"):
        centred, deviation = graph.inputs(step)
    elif is_combine(step, "multiply"):
        centred, deviation = graph.inputs(step)
        if not is_function(deviation, "reciprocal"):
            return False
        (deviation,) = graph.inputs(deviation)
    else:
        return False
    if not is_combine(centred, "subtract") or not is_function(deviation, "sqrt"):
        return False
    x, mean = graph.inputs(centred)
    groups = groups_of(mean)
    is_mean = is_reduce(mean, "mean") and mean.get("inner", 1) == 1 and graph.inputs(mean)[0] is x
    if not is_mean or not is_spread(graph, centred, groups) or not is_spread(graph, step, groups):
        return False
    found = variance_of(graph, graph.inputs(deviation)[0], centred, groups)
    if found is None:
        return False
    epsilon, size = found
    if size == 1:
        return graph.replace(step, "layer_norm", [x], groups=groups, epsilon=epsilon)
    normed = graph.add("layer_norm", [x], graph.width(x), step["name"], groups=groups, epsilon=epsilon)
    return graph.replace(step, "function", [normed], function="affine", scale=size**-0.5, shift=0.0)


def variance_of(graph: Graph, step: Step, centred: Step, groups: int) -> tuple[float, int] | None:
    """The epsilon of a step that is `variance + epsilon`, times the second number."""
    length = graph.width(centred) // groups
    epsilon, is_inside = 0.0, False
    if is_function(step, "affine") and step["scale"] == 1:
        epsilon, (step,) = step["shift"], graph.inputs(step)
    if step["op"] == "dot" and groups_of(step) == groups and step["inputs"] == [centred["name"]] * 2:
        return epsilon / length, length
    if not (is_reduce(step, "mean") or is_reduce(step, "sum")):
        return None
    if groups_of(step) != groups or step.get("inner", 1) != 1:
        return None
    size = length if step["function"] == "sum" else 1
    (squares,) = graph.inputs(step)
    if is_function(squares, "affine") and squares["scale"] == 1:
        is_inside = True
        epsilon, (squares,) = epsilon / size + squares["shift"], graph.inputs(squares)
    if not is_function(squares, "square") or graph.inputs(squares)[0] is not centred:
        return None
    return (epsilon if is_inside else epsilon / size), size


def norm_weight(graph: Graph, step: Step) -> bool:
    """The weight of a norm."""
    return norm_part(graph, step, "multiply", "weight", ("weight", "bias"))


def norm_bias(graph: Graph, step: Step) -> bool:
    """The bias of a norm."""
    return norm_part(graph, step, "add", "bias", ("bias",))


def norm_part(graph: Graph, step: Step, function: str, key: str, present: Sequence[str]) -> bool:
    if not is_combine(step, function) or step.get("each"):
        return False
    norm, constant = graph.inputs(step)
    if norm["op"] != "layer_norm" or constant["op"] != "constant" or not graph.is_alone(norm):
        return False
    if graph.width(constant) != graph.width(norm) // groups_of(norm) or any(name in norm for name in present):
        return False
    if not graph.is_finite(constant):
        return False
    tensor = graph.shaped(constant, (-1,))
    keys = {name: value for name, value in norm.items() if name not in ("name", "op", "inputs")}
    return graph.replace(step, "layer_norm", graph.inputs(norm), **keys, **{key: tensor})


def softmax(graph: Graph, step: Step) -> bool:
    """exp(x - max) / sum, of each part."""
    if not is_combine(step, "divide"):
        return False
    powers, total = graph.inputs(step)
    groups = groups_of(total)
    is_total = is_reduce(total, "sum") and total.get("inner", 1) == 1 and graph.inputs(total)[0] is powers
    if not is_function(powers, "exp") or not is_total or not is_spread(graph, step, groups):
        return False
    (x,) = graph.inputs(powers)
    if is_combine(x, "subtract"):
        base, top = graph.inputs(x)
        is_top = is_reduce(top, "max") and groups_of(top) == groups and top.get("inner", 1) == 1
        if is_top and graph.inputs(top)[0] is base and is_spread(graph, x, groups):
            x = base
    return graph.replace(step, "softmax", [x], groups=groups)


def log_softmax(graph: Graph, step: Step) -> bool:
    """log(softmax(x)) = x - log(sum exp(x)), which has no logarithm of 0."""
    if not is_function(step, "log"):
        return False
    (inner,) = graph.inputs(step)
    if inner["op"] != "softmax":
        return False
    groups = groups_of(inner)
    (x,) = graph.inputs(inner)
    total = graph.add("reduce", [x], groups, step["name"], function="log_sum_exp", groups=groups)
    return graph.replace(step, "combine", [x, total], function="subtract", each=groups > 1 or None)


def normalize(graph: Graph, step: Step) -> bool:
    """x / max(|x|, epsilon), of each part."""
    if not is_combine(step, "divide"):
        return False
    x, size = graph.inputs(step)
    if not is_function(size, "clip") or "high" in size or not 0 < size["low"] < 1:
        return False
    (root,) = graph.inputs(size)
    if not is_function(root, "sqrt"):
        return False
    (total,) = graph.inputs(root)
    if total["op"] != "dot" or total["inputs"] != [x["name"]] * 2 or not is_spread(graph, step, groups_of(total)):
        return False
    return graph.replace(step, "normalize", [x], groups=groups_of(total), epsilon=size["low"])


PATTERNS: list[tuple[str, Pattern]] = [
    ("square", square),
    ("affine", affine),
    ("clip", clip),
    ("sigmoid", sigmoid),
    ("softplus", softplus),
    ("silu", gated("silu", "sigmoid")),
    ("hard sigmoid", hard_sigmoid),
    ("hard swish", gated("hard_swish", "hard_sigmoid")),
    ("mish", mish),
    ("leaky relu", leaky_relu),
    ("prelu", prelu),
    ("gelu", gelu),
    ("dice", dice),
    ("factorisation machine", pairwise),
    ("layer norm", layer_norm),
    ("norm weight", norm_weight),
    ("norm bias", norm_bias),
    ("softmax", softmax),
    ("log softmax", log_softmax),
    ("mixture", mixture),
    ("weighted sum", weighted_sum),
    ("dot", dot),
    ("normalize", normalize),
    ("bias", bias),
]
