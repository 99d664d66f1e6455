"""Blocks of ranking networks as exporters write them, with variations: what patterns know, and what they nearly do."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import numpy as np
import onnx

from fuzz_onnx_graph import Builder, Row, Skip, Tensor
from fuzz_onnx_movement import embedding, gather_nd, unsqueezed
from fuzz_onnx_operators import spread

Block = Callable[[Builder], Tensor]

BLOCKS: list[Block] = []


def block(function: Block) -> Block:
    BLOCKS.append(function)
    return function


def near(g: Builder, number: float) -> float:
    """The number, or another one that a pattern must not take for it."""
    return number if g.chance(0.85) else number * g.one_of(0.9, 1.01, -1.0)


def other(g: Builder, x: Tensor) -> Tensor:
    """The tensor, or another one of its shape that a pattern must not take for it."""
    return x if g.chance(0.92) else g.unary("Identity" if g.chance(0.3) else "Neg", x, -x.bound, x.bound)


def wide(g: Builder) -> Tensor:
    """A float tensor with a last axis that is not of the rows."""
    return laid_out(g, g.pick(least=1, where=lambda t: t.rank - 1 in t.free_axes()))


def laid_out(g: Builder, x: Tensor) -> Tensor:
    """The tensor, or one of its shape whose elements are computed in another order than they lie."""
    axes = [axis for axis in x.free_axes() if axis < x.rank - 1 and x.shape[axis] > 1]
    if not axes or g.opset < 13 or g.chance(0.6):
        return x
    return g.scaled(g.unary("Softmax", g.into(x, -8, 8), 0, 1, axis=g.rng.choice(axes)), 4, -1)


def dense(g: Builder, x: Tensor, outputs: int, activation: str | None = None) -> Tensor:
    """A layer of the last axis."""
    weights = g.weights(x.shape[-1], outputs)
    if x.rank == 2 and x.is_home and g.chance(0.5):
        bound = x.shape[-1] * x.bound * weights.bound + 3
        if g.chance(0.5):
            turned = g.constant(np.ascontiguousarray(weights.array.T))
            x = g.emit("Gemm", [x, turned, g.weights(outputs, scale=1)], (1, outputs), x.row, -bound, bound, transB=1)
        else:
            x = g.emit("Gemm", [x, weights, g.weights(outputs, scale=1)], (1, outputs), x.row, -bound, bound)
    else:
        x = g.matmul(x, weights)
        if g.chance(0.8):
            x = g.either("Add", x, g.weights(outputs, scale=1))
    if activation is None:
        return x
    low = {"Relu": 0.0, "Sigmoid": 0.0, "Tanh": -1.0}[activation]
    return g.unary(activation, x, low, max(x.high, 1.0) if activation == "Relu" else 1.0)


@block
def layers(g: Builder) -> Tensor:
    x = g.flat(g.pick())
    for _ in range(g.rng.randint(1, 2)):
        x = dense(g, x, g.width(), g.one_of("Relu", "Sigmoid", "Tanh", None))
        if x.bound > 20:
            x = g.unary("Tanh", x, -1, 1)
    return x


@block
def attention(g: Builder) -> Tensor:
    length, heads, depth = g.rng.randint(2, 4), g.one_of(1, 2), g.rng.randint(1, 3)
    x = g.into(g.shaped(g.pick(), length, g.rng.randint(2, 4)), -2, 2)
    of_query = x if g.chance(0.6) else g.into(g.shaped(g.pick(), g.rng.randint(1, 3), g.rng.randint(2, 4)), -2, 2)
    parts = [dense(g, of, heads * depth) for of in (of_query, x, x)]
    is_merged = heads > 1 and g.chance(0.3)
    if heads > 1 or g.chance(0.3):
        split = []
        for part in parts:
            part = g.reshape(part, (1, part.shape[1], heads, depth), Row(0))
            part = g.transpose(part, [0, 2, 1, 3])
            if is_merged:
                part = g.reshape(part, (heads, part.shape[2], depth), Row(0, 1, heads))
            split.append(part)
        parts = split
    query, key, value = parts
    rank = key.rank
    if rank == 4 and g.chance(0.3):
        scores = contracted(g, "bhqd,bhkd->bhqk", query, key)
    else:
        scores = g.matmul(query, g.transpose(key, [*range(rank - 2), rank - 1, rank - 2]))
    if g.chance(0.7):
        scores = (
            g.scaled(scores, 1 / math.sqrt(depth))
            if g.chance(0.5)
            else g.binary("Div", scores, g.scalar(math.sqrt(depth)))
        )
    scores = g.into(scores, -20, 20)
    if not is_merged and g.chance(0.4):
        scores = masked(g, scores, length)
    scores = g.unary("Softmax", scores, 0, 1, axis=scores.rank - 1)
    mixed = g.matmul(scores, value)
    if is_merged:
        mixed = g.reshape(mixed, (1, heads, mixed.shape[1], depth), Row(0))
    if mixed.rank == 4:
        mixed = g.transpose(mixed, [0, 2, 1, 3])
        mixed = g.reshape(mixed, (1, mixed.shape[1], heads * depth), Row(0))
    return dense(g, mixed, g.rng.randint(1, 4)) if g.chance(0.5) else mixed


def contracted(g: Builder, terms: str, left: Tensor, right: Tensor) -> Tensor:
    sizes = dict(zip(terms.split(",")[0], left.shape)) | dict(zip(terms.split(",")[1].split("->")[0], right.shape))
    shape = tuple(sizes[label] for label in terms.split("->")[1])
    bound = left.shape[-1] * left.bound * right.bound
    return g.emit("Einsum", [left, right], shape, left.row, -bound, bound, equation=terms)


def lengths(g: Builder, most: int) -> Tensor:
    """A length from 1 to `most` for each row, int64 [rows, 1]."""
    return g.binary("Add", g.to_int(g.indices(most, 1, may_be_negative=False)), g.constant(np.array(1)))


def masked(g: Builder, scores: Tensor, length: int) -> Tensor:
    """Scores `[rows, ..., length]` without the positions beyond a length that the row has, or of a mask."""
    below = lengths(g, length)
    places = (
        g.constant(np.arange(length))
        if g.opset < 11 or g.chance(0.5)
        else g.emit(
            "Range",
            [g.constant(np.array(number)) for number in (0, length, 1)],
            (length,),
            None,
            0,
            length - 1,
            1.0,
            "int64",
        )
    )
    mask = g.binary("Less", places, below) if g.chance(0.5) else g.binary("Greater", below, places)
    for _ in range(scores.rank - 2):
        mask = unsqueezed(g, mask, [1])
    far = g.one_of(-1e9, -(2.0**32) + 1, -1e4, np.finfo(np.float32).min)
    match g.one_of("where", "not", "add"):
        case "where":
            shape, row = g.broadcast(mask, scores)
            return g.emit("Where", [mask, scores, g.constant(np.float32(far))], shape, row, -20, 20)
        case "not":
            beyond = g.unary("Not", mask, 0, 1, 1.0)
            shape, row = g.broadcast(mask, scores)
            return g.emit("Where", [beyond, g.constant(np.float32(far)), scores], shape, row, -20, 20)
    penalty = g.scaled(g.binary("Sub", g.constant(np.float32(1)), g.to_float(mask)), -1e4)
    return dataclasses.replace(g.either("Add", scores, penalty), low=-20.0, high=20.0)


@block
def interest(g: Builder) -> Tensor:
    """Attention of a candidate to a history, with a network of the pair."""
    length, depth = g.rng.randint(2, 4), g.rng.randint(1, 3)
    history = g.into(g.shaped(g.pick(), length, depth), -2, 2)
    query = unsqueezed(g, g.into(g.shaped(g.pick(), depth), -2, 2), [1])
    if g.chance(0.5):
        repeated = g.emit(
            "Tile", [query, g.ints(1, length, 1)], history.shape, query.row, query.low, query.high, query.grain
        )
    else:
        target = g.shape_of(history.shape, Row(0)) if g.chance(0.4) else g.ints(1, length, 1)
        repeated = g.emit("Expand", [query, target], history.shape, query.row, query.low, query.high, query.grain)
    parts = [repeated, history, g.binary("Sub", repeated, history), g.binary("Mul", repeated, history)]
    shape = (1, length, 4 * depth)
    both = g.emit(
        "Concat", parts, shape, Row(0), min(p.low for p in parts), max(p.high for p in parts), axis=g.one_of(-1, 2)
    )
    hidden = dense(g, both, g.rng.randint(1, 4), g.one_of("Relu", "Sigmoid", "Tanh"))
    scores = (
        g.transpose(dense(g, hidden, 1), [0, 2, 1])
        if g.chance(0.6)
        else g.reshape(dense(g, hidden, 1), (1, 1, length), Row(0))
    )
    scores = masked(g, g.into(scores, -10, 10), length)
    if g.chance(0.7):
        scores = g.unary("Softmax", scores, 0, 1, axis=g.one_of(-1, 2))
    else:
        scores = g.unary("Sigmoid", scores, 0, 1)
    if g.chance(0.3):
        return g.reduce("ReduceSum", g.binary("Mul", history, g.transpose(scores, [0, 2, 1])), [1], g.chance(0.3))
    pooled = g.matmul(scores, history)
    return g.reshape(pooled, (1, depth), Row(0)) if g.chance(0.5) else pooled


@block
def factorisation(g: Builder) -> Tensor:
    """Half of the square of the sum less the sum of the squares."""
    fields, depth = g.rng.randint(2, 4), g.rng.randint(1, 3)
    if g.chance(0.5):
        parts = [unsqueezed(g, g.into(g.shaped(g.pick(), depth), -2, 2), [1]) for _ in range(fields)]
        low, high = min(p.low for p in parts), max(p.high for p in parts)
        x = g.emit("Concat", parts, (1, fields, depth), Row(0), low, high, min(p.grain for p in parts), axis=1)
    else:
        x = g.into(g.shaped(g.pick(), fields, depth), -2, 2)
    axis = g.one_of(1, 1, 1, 2)
    keep = g.chance(0.3)
    total = squared(g, g.reduce("ReduceSum", x, [axis], keep))
    squares = g.reduce("ReduceSum", squared(g, other(g, x)), [axis], keep)
    difference = g.binary("Sub", total, squares)
    half = near(g, 0.5)
    if g.chance(0.5):
        difference = g.scaled(difference, half)
        return g.reduce("ReduceSum", difference, [difference.rank - 1], g.chance(0.5))
    summed = g.reduce("ReduceSum", difference, [difference.rank - 1], g.chance(0.5))
    return g.scaled(summed, half) if summed.rank > 1 and g.chance(0.8) else summed


def squared(g: Builder, x: Tensor) -> Tensor:
    if g.chance(0.5):
        return g.binary("Mul", x, x)
    top = x.bound**2
    return g.emit("Pow", [x, g.scalar_beside(x, 2.0)], x.shape, x.row, 0, top, x.grain**2)


@block
def cross(g: Builder) -> Tensor:
    """Layers that multiply the input with a linear part of the last result."""
    first = g.into(g.flat(g.pick()), -2, 2)
    x, size = first, first.shape[1]
    for _ in range(g.rng.randint(1, 2)):
        if g.chance(0.5):
            gate = g.matmul(x, g.weights(size, 1))
            step = g.either("Mul", first, gate)
            if g.chance(0.7):
                step = g.either("Add", step, g.weights(size, scale=1))
        else:
            gate = dense(g, x, size)
            step = g.either("Mul", first, gate)
        x = g.into(g.either("Add", step, x), -8, 8)
    return x


@block
def experts(g: Builder) -> Tensor:
    """The sum of experts, each times its part of a gate."""
    count, depth = g.rng.randint(2, 3), g.rng.randint(1, 4)
    x = g.flat(g.pick())
    gate_of = x if g.chance(0.6) else g.flat(g.pick())
    gate = g.unary("Softmax", g.into(dense(g, gate_of, count), -20, 20), 0, 1, axis=1)
    made = [dense(g, x, depth, "Tanh") for _ in range(count)]
    match g.one_of("beside", "between", "product", "apart"):
        case "beside":
            stacked = g.emit("Concat", [unsqueezed(g, e, [1]) for e in made], (1, count, depth), Row(0), -1, 1, axis=1)
            product = g.either("Mul", stacked, unsqueezed(g, gate, [g.one_of(2, 2)]))
            return g.reduce("ReduceSum", product, [1], g.chance(0.3))
        case "between":
            stacked = g.emit(
                "Concat", [unsqueezed(g, e, [2]) for e in made], (1, depth, count), Row(0), -1, 1, axis=g.one_of(2, -1)
            )
            if g.chance(0.5):
                return g.matmul(stacked, unsqueezed(g, gate, [2]))
            return g.reduce("ReduceSum", g.either("Mul", stacked, unsqueezed(g, gate, [1])), [2], g.chance(0.3))
        case "product":
            stacked = g.emit("Concat", [unsqueezed(g, e, [1]) for e in made], (1, count, depth), Row(0), -1, 1, axis=1)
            return g.matmul(unsqueezed(g, gate, [1]), stacked)
    total = None
    for place, expert in enumerate(made):
        weight = g.emit("Gather", [gate, g.constant(np.array([place]))], (1, 1), gate.row, 0, 1, axis=1)
        part = g.either("Mul", expert, weight)
        total = part if total is None else g.either("Add", total, part)
    return total


@block
def dice(g: Builder) -> Tensor:
    """p x + (1 - p) a x."""
    x = g.into(g.flat(g.pick()) if g.chance(0.5) else wide(g), -4, 4)
    if x.rank >= 2 and x.row is not None and x.row.axis != 1 and g.chance(0.6):
        size = x.shape[1]
        norm = [g.weights(size, scale=1), g.weights(size, scale=1), g.weights(size, scale=1)]
        variance = g.constant((np.abs(g.numbers.normal(size=size)) + 0.5).astype(np.float32))
        p = g.emit("BatchNormalization", [x, *norm, variance], x.shape, x.row, -40, 40, epsilon=1e-3)
    else:
        p = x
    p = g.unary("Sigmoid", p, 0, 1)
    slope = g.scalar_beside(x, near(g, 0.25)) if g.chance(0.3) else g.weights(x.shape[-1], scale=1)
    rest = g.binary("Sub", g.scalar_beside(x, near(g, 1.0)), p)
    plain = g.either("Mul", other(g, p), x)
    match g.one_of(0, 1, 2):
        case 0:
            leaking = g.either("Mul", g.either("Mul", rest, slope), other(g, x))
        case 1:
            leaking = g.either("Mul", rest, g.either("Mul", slope, x))
        case _:
            leaking = g.either("Mul", slope, g.either("Mul", rest, x))
    return g.either("Add", plain, leaking)


@block
def gelu(g: Builder) -> Tensor:
    x = g.into(laid_out(g, g.pick()), -3, 3)
    if g.chance(0.6):
        root = (
            g.binary("Div", other(g, x), g.scalar_beside(x, near(g, math.sqrt(2))))
            if g.chance(0.6)
            else g.scaled(x, near(g, math.sqrt(0.5)))
        )
        bell = g.unary("Erf", root, -1, 1)
    else:
        cube = (
            g.binary("Mul", g.binary("Mul", x, x), x)
            if g.chance(0.5)
            else g.emit("Pow", [x, g.scalar_beside(x, 3.0)], x.shape, x.row, -(x.bound**3), x.bound**3)
        )
        inner = g.either("Add", x, g.scaled(cube, near(g, 0.044715)))
        if g.chance(0.3):
            inner = g.either("Mul", x, g.scaled(squared(g, x), near(g, 0.044715), near(g, 1.0)))
        bell = g.unary("Tanh", g.scaled(inner, near(g, math.sqrt(2 / math.pi))), -1, 1)
    gate = g.either("Add", bell, g.scalar_beside(x, near(g, 1.0)))
    half = near(g, 0.5)
    match g.one_of(0, 1, 2):
        case 0:
            return g.scaled(g.either("Mul", other(g, x), gate), half)
        case 1:
            return g.either("Mul", g.scaled(x, half), gate)
    return g.either("Mul", x, g.scaled(gate, half))


@block
def layer_norm_of_parts(g: Builder) -> Tensor:
    x = wide(g)
    if x.shape[-1] < 2:
        raise Skip
    axis = x.rank - 1
    x = spread(g, x, [axis])
    mean = g.reduce("ReduceMean", x, [axis], True)
    centred = g.binary("Sub", x, mean)
    again = centred if g.chance(0.7) else g.binary("Sub", x, mean)
    squares = squared(g, other(g, again))
    if g.chance(0.15):
        squares = g.scaled(squares, 1, 1e-3)
    variance = g.reduce(g.one_of("ReduceMean", "ReduceMean", "ReduceMean", "ReduceSum"), squares, [axis], True)
    shifted = g.either("Add", variance, g.constant(np.float32(g.one_of(1e-5, 1e-3, 0.1))))
    shifted = dataclasses.replace(shifted, low=0.1, high=max(shifted.high, 0.2))
    deviation = g.unary("Sqrt", shifted, 0.3, math.sqrt(shifted.high))
    if g.chance(0.6):
        normed = g.binary("Div", centred, deviation)
    else:
        normed = g.either("Mul", centred, g.unary("Reciprocal", deviation, 0, 1 / 0.3))
    normed = dataclasses.replace(normed, low=-3.0, high=3.0)
    if g.chance(0.6):
        normed = g.either("Mul", normed, g.weights(*((x.shape[-1],) if g.chance(0.8) else ()) or (1,), scale=1))
    if g.chance(0.6):
        normed = g.either("Add", normed, g.weights(x.shape[-1], scale=1))
    return normed


@block
def normalised(g: Builder) -> Tensor:
    """x / max(|x|, epsilon), and the cosine of two."""
    x = wide(g)
    axis = x.rank - 1
    x = spread(g, x, [axis])
    if g.chance(0.5):
        length = g.reduce("ReduceL2", x, [axis], True)
    else:
        total = dataclasses.replace(g.reduce("ReduceSum", squared(g, x), [axis], True), low=0.3)
        length = g.unary("Sqrt", total, 0.3, math.sqrt(max(total.high, 1)))
    match g.one_of("clip", "low", "max", "none"):
        case "clip":
            length = g.clip(length, 1e-12, 1e6)
        case "low" if g.opset >= 11:
            length = g.emit(
                "Clip", [length, g.constant(np.float32(1e-12))], length.shape, length.row, 0.3, max(length.high, 0.4)
            )
        case "max":
            length = g.binary("Max", length, g.scalar_beside(length, 1e-6))
    length = dataclasses.replace(length, low=0.3, high=max(length.high, 0.4))
    return dataclasses.replace(g.binary("Div", other(g, x), length), low=-2.0, high=2.0)


@block
def softmax_of_parts(g: Builder) -> Tensor:
    x = g.into(wide(g), -4, 4)
    axis = x.rank - 1
    if g.chance(0.6):
        x = g.binary("Sub", x, g.reduce("ReduceMax", x, [axis], True))
    powers = g.unary("Exp", x, math.exp(-8), math.exp(4))
    made = g.binary("Div", powers, g.reduce("ReduceSum", powers, [axis], True))
    return g.unary("Log", dataclasses.replace(made, low=1e-5, high=1.0), -14, 0) if g.chance(0.4) else made


@block
def log_of_softmax(g: Builder) -> Tensor:
    x = g.into(wide(g), -4, 4)
    return g.unary(
        "Log", g.unary("Softmax", x, 1e-6, 1, axis=x.rank - 1 if g.opset < 13 else g.one_of(-1, x.rank - 1)), -14, 0
    )


@block
def activation_of_parts(g: Builder) -> Tensor:
    x = g.into(laid_out(g, g.pick()), -4, 4)
    number = g.scalar_beside
    match g.one_of(
        "sigmoid", "softplus", "silu", "mish", "hard", "swish", "leaky", "prelu", "square", "relu6", "affine"
    ):
        case "sigmoid":
            power = g.unary("Exp", g.unary("Neg", x, -x.high, -x.low), 0.01, 60)
            total = g.either("Add", power, number(x, near(g, 1.0)))
            total = dataclasses.replace(total, low=0.02)
            if g.chance(0.5):
                return g.unary("Reciprocal", dataclasses.replace(total, low=0.5), 0, 2)
            return g.binary("Div", number(x, near(g, 1.0)), dataclasses.replace(total, low=0.5))
        case "softplus":
            total = g.either("Add", g.unary("Exp", x, 0.01, 60), number(x, 1.0))
            return g.unary("Log", total, 0, 5)
        case "silu":
            return g.either("Mul", other(g, x), g.unary("Sigmoid", x, 0, 1))
        case "mish":
            return g.either("Mul", other(g, x), g.unary("Tanh", g.unary("Softplus", x, 0, 5), 0, 1))
        case "hard":
            bent = g.clip(g.scaled(x, near(g, 0.2), near(g, 0.5)), *g.one_of((0, 1), (0, 1), (0, 2)))
            return bent
        case "swish":
            gate = g.clip(g.scaled(x, 1, near(g, 3.0)), 0, 6)
            gate = g.binary("Div", gate, number(x, 6.0)) if g.chance(0.5) else g.scaled(gate, near(g, 1 / 6))
            return g.either("Mul", x, gate)
        case "leaky":
            return g.either("Max", x, g.scaled(other(g, x), g.one_of(0.1, 0.3, 1.5, -0.2)))
        case "prelu":
            positive = g.unary("Relu", x, 0, x.bound)
            below = g.unary("Relu", g.unary("Neg", x, -x.bound, x.bound), 0, x.bound)
            slope = (
                number(x, -0.25)
                if g.chance(0.4) or not x.rank or x.rank - 1 not in x.free_axes()
                else g.weights(x.shape[-1], scale=1)
            )
            return g.either("Add", positive, g.either("Mul", below, slope))
        case "square":
            return squared(g, x)
        case "relu6":
            bent = g.binary("Max", x, number(x, near(g, 0.0))) if g.chance(0.5) else g.unary("Relu", x, 0, x.bound)
            return g.binary("Min", bent, number(x, g.one_of(6.0, 1.0, -0.5)))
    for _ in range(g.rng.randint(2, 3)):
        x = g.scaled(x, g.one_of(0.5, -1.0, 1.5, 1.0), g.one_of(0.0, 0.3, -1.0))
        x = g.unary("Neg", x, -x.high, -x.low) if g.chance(0.3) else x
    return x


@block
def product_sum(g: Builder) -> Tensor:
    """The sum over an axis of a product."""
    x = g.into(laid_out(g, g.pick(least=2, where=lambda t: bool(t.free_axes()))), -3, 3)
    second = g.into(g.partner(x), -3, 3)
    product = g.either("Mul", x, second)
    axes = product.free_axes()
    return g.reduce("ReduceSum", product, [g.rng.choice(axes)] if g.chance(0.8) else axes, g.chance(0.4))


@block
def fields(g: Builder) -> Tensor:
    """Embeddings side by side, or one below the other, with numbers."""
    parts = []
    for _ in range(g.rng.randint(2, 4)):
        try:
            parts.append(g.shaped(embedding(g) if g.chance(0.6) else g.pick(), 3))
        except Skip:
            continue
    if len(parts) < 2:
        raise Skip
    low, high, grain = min(p.low for p in parts), max(p.high for p in parts), min(p.grain for p in parts)
    if g.chance(0.5):
        return g.emit("Concat", parts, (1, 3 * len(parts)), Row(0), low, high, grain, axis=g.one_of(1, -1))
    parts = [unsqueezed(g, part, [1]) for part in parts]
    x = g.emit("Concat", parts, (1, len(parts), 3), Row(0), low, high, grain, axis=1)
    if g.chance(0.5):
        return x
    return g.reduce(g.one_of("ReduceSum", "ReduceMean", "ReduceMax"), x, [g.one_of(1, 2)], g.chance(0.3))


@block
def pooled(g: Builder) -> Tensor:
    """The mean of the embeddings of ids that are not 0."""
    index = g.pick(
        ("int64", "int32"), least=2, where=lambda t: t.is_home and t.low >= 0 and t.high <= 40 and t.rank == 2
    )
    depth = g.rng.randint(1, 3)
    table = g.weights(int(index.high) + 1, depth, scale=1)
    rows = g.emit("Gather", [table, index], (*index.shape, depth), index.row, table.low, table.high)
    equal = g.binary("Equal", index, g.constant(np.array(0, dtype=index.kind)))
    kept = unsqueezed(g, g.to_float(g.unary("Not", equal, 0, 1, 1.0)), [2])
    total = g.reduce("ReduceSum", g.either("Mul", rows, kept), [1], False)
    if g.chance(0.4):
        return total
    count = g.reduce("ReduceSum", kept, [1], False)
    least = g.clip(count, 1, 1e6) if g.chance(0.5) else g.either("Add", count, g.constant(np.float32(1e-3)))
    least = dataclasses.replace(least, low=1e-3)
    return dataclasses.replace(g.binary("Div", total, least), low=-3.0, high=3.0)


@block
def padded(g: Builder) -> Tensor:
    """The embeddings of ids but of those that are -1."""
    index = g.pick(("int64", "int32"), where=lambda t: t.is_home and t.low == -1 and 1 <= t.high <= 40 and t.rank <= 3)
    if g.opset < 12:
        raise Skip
    zero = g.constant(np.array(0, dtype=index.kind))
    known = g.either("Max", index, zero) if g.chance(0.7) else g.clip(index, 0, int(index.high) + 1)
    table = g.weights(int(index.high) + g.one_of(1, 1, 3), g.rng.randint(1, 3), scale=1)
    shape = (*index.shape, table.shape[1])
    rows = g.emit("Gather", [table, known], shape, index.row, table.low, table.high)
    if g.chance(0.2):
        return rows
    is_known = (
        g.binary("GreaterOrEqual", index, zero)
        if g.chance(0.6)
        else g.binary("Less", zero, g.either("Add", index, zero))
    )
    return g.either("Mul", rows, unsqueezed(g, g.to_float(is_known), [index.rank]))


@block
def merged(g: Builder) -> Tensor:
    """A layer over rows and positions as one axis."""
    length, depth = g.rng.randint(2, 4), g.rng.randint(1, 4)
    x = g.into(g.shaped(g.pick(), length, depth), -4, 4)
    row = Row(0, 1, length)
    if g.chance(0.3):
        x = g.transpose(x, [1, 0, 2])
        row = Row(0, length, 1)
    x = g.reshape(x, (length, depth), row)
    outputs = g.rng.randint(1, 4)
    if g.chance(0.5):
        bound = depth * x.bound * 3 + 3
        x = g.emit(
            "Gemm", [x, g.weights(depth, outputs), g.weights(outputs, scale=1)], (length, outputs), row, -bound, bound
        )
    else:
        x = dense(g, x, outputs)
    if g.chance(0.5):
        x = g.unary("Tanh", x, -1, 1)
    if g.chance(0.3):
        return x
    if row.before == 1:
        return g.reshape(x, (1, length, outputs), Row(0))
    return g.reshape(x, (length, 1, outputs), Row(1))


@block
def outer(g: Builder) -> Tensor:
    """The products of all pairs of elements."""
    left, right = (g.into(g.shaped(g.pick(), g.rng.randint(1, 4)), -3, 3) for _ in range(2))
    pair = (unsqueezed(g, left, [2]), unsqueezed(g, right, [1]))
    return g.matmul(*pair) if g.chance(0.5) else g.either("Mul", *pair)


@block
def last_of_sequence(g: Builder) -> Tensor:
    return gather_nd(g, "GatherND")


@block
def branch(g: Builder) -> Tensor:
    """An If whose condition is constant."""
    x = g.pick()
    names = [g.name("branch") for _ in range(2)]
    graphs = []
    for name, op in zip(names, ("Neg", "Abs")):
        node = onnx.helper.make_node(op, [x.name], [name])
        result = onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
        graphs.append(onnx.helper.make_graph([node], name, [], [result]))
    g.read.add(x.name)
    condition = g.constant(np.array(g.chance(0.5)))
    (name,) = g.line("If", [condition], then_branch=graphs[0], else_branch=graphs[1])
    return Tensor(name, x.kind, x.shape, x.row, -x.bound, x.bound, x.grain, x.rates)


@block
def local_function(g: Builder) -> Tensor:
    """A layer that is a function of the model."""
    x = g.flat(g.pick())
    name, size, outputs = g.name("Layer"), x.size, g.rng.randint(1, 4)
    nodes = [
        onnx.helper.make_node("MatMul", ["x", "w"], ["p"]),
        onnx.helper.make_node("Add", ["p", "b"], ["s"]),
        onnx.helper.make_node("Tanh", ["s"], ["y"]),
    ]
    opsets = [onnx.helper.make_opsetid("", g.opset)]
    g.graph.functions.append(onnx.helper.make_function("my.layers", name, ["x", "w", "b"], ["y"], nodes, opsets))
    (made,) = g.line(name, [x, g.weights(size, outputs), g.weights(outputs, scale=1)], domain="my.layers")
    return Tensor(made, "float32", (1, outputs), x.row, -1, 1, 0.0, x.rates)


@block
def tied(g: Builder) -> Tensor:
    """The products of a vector with all rows of a table that ids are looked up in."""
    table = g.rng.choice([t for t in g.tables if t.rank == 2] or [None])
    if table is None:
        raise Skip
    x = g.into(g.shaped(g.pick(), table.shape[1]), -3, 3)
    (turned,) = g.line("Transpose", [table], perm=[1, 0])
    weights = dataclasses.replace(table, name=turned, shape=table.shape[::-1], array=None)
    return g.matmul(x, weights)


@block
def scenario_parts(g: Builder) -> Tensor:
    """What depends on the scenario alone beside what depends on rows."""
    x = g.pick(("int64",), where=lambda t: t.rates == {"scenario"} and t.is_home and t.low >= 0)
    count = int(x.high) + 1
    if g.chance(0.5):
        flag = g.to_float(g.binary("Equal", x, g.constant(np.array(g.rng.randrange(count)))))
        beside = g.pick(where=lambda t: t.is_home and g.fits(t, flag))
        return g.either("Mul", beside, flag)
    table = g.weights(count, g.rng.randint(1, 4), scale=1)
    row = x.row
    return g.emit("Gather", [table, x], (*x.shape, table.shape[1]), row, table.low, table.high)
