"""Products, convolutions, pools, recurrent layers and quantisation in random graphs."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx

from fuzz_onnx_graph import MICROSOFT, Builder, Row, Skip, Tensor, since
from fuzz_onnx_operators import Made, operator

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
        if x.rank > 1 and g.chance(0.3):
            return vector_on_the_left(g, x)
        return g.emit(op, [x, g.weights(size)], x.shape[:-1], x.row, -bound, bound)
    if x.rank < 2:
        raise Skip
    if how == "right":
        return g.matmul(x, g.weights(x.shape[-1], g.width()))
    if how == "left":
        return g.matmul(g.weights(g.rng.randint(1, 5), x.shape[-2]), x)
    if how == "batched":
        ahead = [
            1 if x.row is not None and axis == x.row.axis else g.one_of(1, x.shape[axis]) for axis in range(x.rank - 2)
        ]
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


def vector_on_the_left(g: Builder, x: Tensor) -> Tensor:
    if x.row is not None and x.row.axis == x.rank - 2:
        raise Skip
    size = x.shape[-2]
    row = x.row
    if row is not None and row.axis == x.rank - 1:
        row = dataclasses.replace(row, axis=x.rank - 2)
    bound = size * x.bound * 3
    return g.emit("MatMul", [g.weights(size), x], (*x.shape[:-2], x.shape[-1]), row, -bound, bound)


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
    size, outputs = x.shape[inner], g.width()
    weights = g.weights(*((outputs, size) if trans_b else (size, outputs)))
    shape = (x.shape[1 - inner], outputs)
    row = None if x.row is None else dataclasses.replace(x.row, axis=0)
    given, bound = [x, weights], size * x.bound * weights.bound * 2
    if g.opset < 11 or g.chance(0.7):
        shapes = [(outputs,), (1, outputs), (1,), (), (1, 1)]
        fitting = [t for t in g.pool if t.kind == "float32" and t.row == row and t.shape in (shape, (shape[0], 1))]
        given.append(
            g.rng.choice(fitting) if fitting and g.chance(0.3) else g.weights(*g.rng.choice(shapes[:3]), scale=1)
        )
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
    return g.emit(
        op,
        given,
        (1, outputs, *made),
        x.row,
        -bound,
        bound,
        group=groups if groups > 1 else None,
        strides=steps,
        dilations=gaps,
        pads=pads,
        auto_pad=auto,
        kernel_shape=g.one_of(None, kernel),
    )


def windows(g: Builder, sizes: Sequence[int], may_have_gaps: bool = True) -> tuple[Any, ...]:
    """Kernel, strides, dilations, pads, the sizes of the result and the automatic padding."""
    kernel = [g.rng.randint(1, min(size, 3)) for size in sizes]
    steps = g.one_of(None, [g.rng.randint(1, 2) for _ in sizes])
    gaps = g.one_of(None, None, [g.rng.randint(1, 2) for _ in sizes]) if may_have_gaps else None
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
    kernel, steps, gaps, pads, made, auto = windows(g, sizes, g.opset >= (10 if op == "MaxPool" else 19))
    attributes: dict[str, Any] = {"kernel_shape": kernel, "strides": steps, "pads": pads, "auto_pad": auto}
    attributes["dilations"] = gaps
    if op == "AveragePool":
        attributes["count_include_pad"] = g.one_of(None, 0, 1)
    if g.opset >= 10 and auto in (None, "NOTSET") and g.chance(0.25):
        attributes["ceil_mode"] = 1
        step = steps or [1] * axes
        before, after = (pads[:axes], pads[axes:]) if pads else ([0] * axes, [0] * axes)
        made = []
        for size, k, d, s, a, b in zip(sizes, kernel, gaps or [1] * axes, step, before, after):
            count = -(-(size + a + b - (k - 1) * d - 1) // s) + 1
            made.append(count - ((count - 1) * s >= size + a))
    grain = x.grain if op == "MaxPool" else 0.0
    low, high = min(x.low, 0), max(x.high, 0)
    return g.emit(op, [x], (*x.shape[:2], *made), x.row, low, high, grain, **attributes)


@operator("GlobalAveragePool", "GlobalMaxPool")
def global_pool(g: Builder, op: str) -> Made:
    sizes = [g.rng.randint(1, 4) for _ in range(g.one_of(1, 2))]
    x = g.shaped(g.pick(), g.rng.randint(1, 4), *sizes)
    return g.emit(
        op, [x], (*x.shape[:2], *[1] * len(sizes)), x.row, x.low, x.high, x.grain if op == "GlobalMaxPool" else 0.0
    )


# Recurrent layers

ACTIVATIONS = ("Sigmoid", "Tanh", "Relu", "Softsign")
GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}


@operator("RNN", "GRU", "LSTM")
def recurrent(g: Builder, op: str) -> Made:
    """`[positions, rows, columns]` to the states of all positions, the last one, and for LSTM the last cell."""
    length, columns, hidden = g.rng.randint(1, 4), g.rng.randint(1, 3), g.rng.randint(1, 3)
    word = g.one_of(None, "forward", "reverse", "bidirectional")
    count, gates = 2 if word == "bidirectional" else 1, GATES[op]
    x = g.transpose(g.into(g.shaped(g.pick(), length, columns), -2, 2), [1, 0, 2])
    given: list[Any] = [
        x,
        g.weights(count, gates * hidden, columns, scale=0.7),
        g.weights(count, gates * hidden, hidden, scale=0.7),
    ]
    given.append(g.weights(count, 2 * gates * hidden, scale=0.5) if g.chance(0.7) else None)
    lengths = None
    if g.chance(0.3):
        lengths = g.to_int(
            g.binary("Add", g.to_int(g.indices(length, may_be_negative=False)), g.constant(np.array(1))), "int32"
        )
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
        if op == "RNN" and g.chance(0.2):
            attributes["activations"][0] = "Softplus"
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
    """A tensor `[rows, size]` whose every row has the same range, 0 to 255 quanta or -127 to 128; the quantum."""
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
        x = g.emit(
            "Pad",
            [x, g.ints(*pads), g.constant(filler)],
            (1, x.size + 1),
            x.row,
            low * quantum,
            high * quantum,
            x.grain,
        )
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
    factor = Tensor(
        g.line("Mul", [scale, g.constant(np.float32(2.0**-10))])[0], "float32", (), None, 0, quantum * 2.0**-10
    )
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
    return g.emit(
        op, [x, weights, g.constant(scales), zero, bias], (1, outputs), x.row, -bound, bound, domain=MICROSOFT
    )


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
        return g.emit(
            op, [x, weights, scale, scales, *zeros, bias], shape, x.row, -bound / 512, bound / 512, domain=MICROSOFT
        )
    given = [
        x,
        scale,
        zero_point(g, "uint8"),
        weights,
        g.constant(np.float32(2.0**-4)),
        zero_point(g, "uint8"),
        g.constant(np.float32(g.one_of(1.0, 2.0, 4.0))),
        zero_point(g, "uint8"),
    ]
    return g.emit(op, given, shape, x.row, 0, 255, 1.0, "uint8")
