"""Whole random networks: inputs of all rates, operators and blocks behind them, and tasks. And what must be refused: a
network with an operation that mixes rows, and one that is damaged.
"""

from __future__ import annotations

import dataclasses
import math
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx

from fuzz_onnx_blocks import BLOCKS
from fuzz_onnx_graph import ROWS, Builder, Given, Graph, Row, Skip, Tensor
from fuzz_onnx_operators import OPERATORS, comparison, row_numbers, unsqueezed

# The most tensors that the tasks of a graph are made of.
MOST_LEAVES = 12


class Unsupported(Exception):
    """ONNX Runtime does not run a network."""


def session(model: onnx.ModelProto) -> Any:
    """ONNX Runtime on a model as it is written."""
    import onnxruntime

    onnxruntime.set_default_logger_severity(4)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def opset_of(rng: random.Random) -> int:
    kind = rng.random()
    if kind < 0.12:
        return rng.randint(9, 12)
    return rng.randint(22, 24) if kind > 0.9 else rng.randint(13, 21)


# Inputs


def give(g: Builder, kind: str, shape: tuple[int, ...], rate: str, numbers: Callable[[tuple[int, ...]], np.ndarray], low: float,
         high: float, grain: float, is_single: bool = False, columns: list[Any] | None = None) -> Tensor:
    name = g.one_of("x", "input_", "user.", "in:") + str(len(g.graph.givens))
    rows = 1 if is_single else ROWS
    values = numbers((rows, *shape)).astype(kind)
    has_dynamic_length = bool(shape) and not columns and g.chance(0.04)
    g.graph.givens.append(Given(name, kind, shape, rate, values, is_single, columns, has_dynamic_length))
    row = None if is_single else Row(0)
    return Tensor(name, kind, (1, *shape), row, low, high, grain, frozenset([rate]))


def give_numbers(g: Builder, rate: str, is_single: bool = False) -> Tensor:
    shape = g.one_of((3,), (4,), (1,), (2, 3), (4, 2), (), (2, 1), (3, 2, 2))
    draw = g.numbers
    match g.one_of("grid", "grid", "normal", "normal", "whole"):
        case "grid":
            return give(g, "float32", shape, rate, lambda s: draw.integers(-8, 9, s) / 4, -2, 2, 0.25, is_single)
        case "normal":
            return give(g, "float32", shape, rate, lambda s: draw.normal(size=s).clip(-3, 3), -3, 3, 0.0, is_single)
    return give(g, "float32", shape, rate, lambda s: draw.integers(-4, 5, s), -4, 4, 1.0, is_single)


def give_ids(g: Builder, rate: str, is_single: bool = False) -> Tensor:
    shape, below = g.one_of((), (), (1,), (2,), (4,), (2, 2)), g.rng.randint(2, 12)
    kind = g.one_of("int64", "int64", "int64", "int32")
    return give(g, kind, shape, rate, lambda s: g.numbers.integers(0, below, s), 0, below - 1, 1.0, is_single)


def give_unusual(g: Builder, rate: str) -> Tensor:
    shape, draw = g.one_of((3,), (1,), (2, 2)), g.numbers
    kind = g.one_of("bool", "uint8", "int8", "float64", "int32")
    low, high = {"bool": (0, 1), "uint8": (0, 20), "float64": (-2, 2)}.get(kind, (-5, 5))
    x = give(g, kind, shape, rate, lambda s: draw.integers(low, high + 1, s), low, high, 1.0)
    return g.to_float(x) if kind == "float64" else x


def give_matrix(g: Builder) -> list[Tensor]:
    """A wide matrix whose columns are features: ids, as floats, and numbers."""
    count, width = g.rng.randint(1, 2), g.rng.randint(1, 3)
    below = [g.rng.randint(2, 9) for _ in range(count)]
    draw = g.numbers
    ids = [lambda s, b=b: draw.integers(0, b, (s[0], 1)) for b in below]
    columns: list[Any] = [f"id{len(g.graph.givens)}_{place}" for place in range(count)]
    columns.append((f"numbers{len(g.graph.givens)}", width) if width > 1 or g.chance(0.5) else f"number{len(g.graph.givens)}")
    x = give(g, "float32", (count + width,), "pair", lambda s: np.concatenate([*(draw_of(s) for draw_of in ids),
             draw.integers(-4, 5, (s[0], width)) / 2], axis=1), -4, 12, 0.5, columns=columns if g.chance(0.7) else None)
    made = [part_of(g, x, count, count + width)]
    made[0] = dataclasses.replace(made[0], low=-2.0, high=2.0)
    for place, most in enumerate(below):
        if g.chance(0.5):
            part = g.emit("Gather", [x, g.constant(np.array(place))], (1,), Row(0), 0, most - 1, 1.0, axis=1)
        else:
            part = dataclasses.replace(part_of(g, x, place, place + 1), low=0.0, high=float(most - 1), grain=1.0)
        made.append(g.to_int(part))
    return made


def part_of(g: Builder, x: Tensor, start: int, end: int) -> Tensor:
    (name,) = g.sliced(x, [start], [end], [1])
    return Tensor(name, x.kind, (1, end - start), Row(0), x.low, x.high, x.grain, x.rates)


def give_scenario(g: Builder) -> Tensor:
    count = g.rng.randint(2, 4)
    numbers = list(range(count)) if g.chance(0.7) else sorted(g.rng.sample(range(10), count))
    g.graph.scenarios = numbers
    x = give(g, "int64", g.one_of((), (1,)), "scenario", lambda s: np.zeros(s), 0, numbers[-1], 1.0)
    given = g.graph.givens[-1]
    given.values = np.array(numbers, dtype=np.int64).reshape(-1, *given.shape)
    return x


def inputs(g: Builder) -> None:
    """One to four inputs, one at least with exact numbers, and a scenario sometimes."""
    rates = [g.one_of("pair", "pair", "request", "item") for _ in range(g.rng.randint(1, 4))]
    if "pair" not in rates and "item" not in rates:
        rates[0] = "pair"
    for rate in rates:
        match g.one_of("numbers", "numbers", "numbers", "ids", "ids", "matrix", "unusual"):
            case "numbers":
                g.pool.append(give_numbers(g, rate, rate == "request" and g.chance(0.4)))
            case "ids":
                g.pool.append(give_ids(g, rate, rate == "request" and g.chance(0.3)))
            case "matrix":
                g.pool += give_matrix(g)
            case "unusual":
                g.pool.append(give_unusual(g, rate))
    if not any(t.kind == "float32" for t in g.pool):
        g.pool.append(give_numbers(g, "pair"))
    if g.chance(0.12):
        g.pool.append(give_scenario(g))
    if g.chance(0.3):
        give_constants(g)


def give_constants(g: Builder) -> None:
    """Constants that operators may be put behind, as behind inputs; some have a row for each of the rows."""
    for _ in range(g.rng.randint(1, 2)):
        kind = g.one_of("float32", "float32", "int64", "bool")
        x = g.constant(g.array_like(g.one_of((3,), (1, 4), (1, 2, 3), ()), kind, g.chance(0.5)))
        g.pool.append(x)
        if g.chance(0.5):
            g.pool.append(dataclasses.replace(g.spread_over_rows(x), array=None))


# Networks


def grown(seed: int) -> Builder:
    """Inputs, and operators and blocks behind them."""
    rng = random.Random(seed)
    g = Builder(seed, opset_of(rng))
    inputs(g)
    names = sorted(OPERATORS)
    wanted = rng.choice((3, 5, 8, 8, 12, 18, 30))
    tries = 0
    while wanted and tries < 120:
        tries += 1
        try:
            made = rng.choice(BLOCKS)(g) if rng.random() < 0.2 else OPERATORS[name](g, name) if (name := rng.choice(names)) else []
            for tensor in made if isinstance(made, list) else [made]:
                g.add(tensor)
        except Skip:
            continue
        wanted -= 1
    return g


def leaves_of(g: Builder) -> list[Tensor]:
    """Tensors that nothing reads, and a few others."""
    found = [t for t in g.pool if t.name not in g.read and t.rates and t.array is None]
    if len(found) > MOST_LEAVES:
        found = g.rng.sample(found, MOST_LEAVES)
    rest = [t for t in g.pool if t.rates and t not in found and t.array is None]
    if rest and (not found or g.chance(0.3)):
        found.append(g.rng.choice(rest))
    return found


def measured(g: Builder, leaves: list[Tensor]) -> list[tuple[Tensor, float]]:
    """The leaves that have finite numbers, and by what to divide to have them near 1; not less than what keeps the rounding
    of f32 small.
    """
    if not leaves:
        raise Skip
    graph = dataclasses.replace(g.graph, outputs=[leaf.name for leaf in leaves])
    model = graph.model()
    for output, leaf in zip(model.graph.output, leaves):
        output.type.tensor_type.elem_type = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(leaf.kind))
    try:
        arrays = session(model).run(None, graph.feeds(ROWS))
    except Exception as error:
        raise Unsupported(str(error)) from error
    kept = []
    for leaf, array in zip(leaves, arrays):
        expected = [size * ROWS if leaf.row is not None and axis == leaf.row.axis else size for axis, size in enumerate(leaf.shape)]
        assert list(array.shape) == expected, f"{leaf.name} is {array.shape}, not {expected}"
        numbers = np.asarray(array, dtype=np.float64)
        top = np.abs(numbers).max() if numbers.size else np.inf
        if np.isfinite(top) and top < 1e6:
            kept.append((leaf, max(float(numbers.std()), 0.05 * float(top), 0.05)))
    return kept


def finish(g: Builder, leaves: list[tuple[Tensor, float]]) -> Graph:
    """Tasks of the leaves: sigmoids of linear layers."""
    g.rng.shuffle(leaves)
    count = min(g.one_of(1, 1, 1, 2, 3), len(leaves))
    for part in range(count):
        g.graph.outputs.append(task(g, leaves[part::count]))
    if g.chance(0.15):
        first = Tensor(g.graph.outputs[0], "float32", (1, g.graph.sizes[g.graph.outputs[0]]), Row(0), 0, 1)
        made = plain(g, g.one_of("Mul", "Add"), [first, g.constant(np.float32(0.5))], first.shape)
        g.graph.outputs.append(made.name)
        g.graph.sizes[made.name] = first.size
    return g.graph


def task(g: Builder, leaves: list[tuple[Tensor, float]]) -> str:
    columns = g.one_of(1, 1, 2, 4)
    parts = []
    for leaf, size in leaves:
        flat = g.flat(g.to_float(leaf))
        parts.append((flat, g.numbers.normal(size=(flat.shape[1], columns)) / size / math.sqrt(flat.shape[1] * len(leaves)) * 1.5))
    if len(parts) > 1 and g.chance(0.5):
        names = [flat for flat, _ in parts]
        width = sum(flat.shape[1] for flat in names)
        weights = np.concatenate([weight for _, weight in parts])
        logits = plain(g, "Concat", names, (1, width), axis=1)
        logits = plain(g, "MatMul", [logits, g.constant(weights.astype(np.float32))], (1, columns))
    else:
        logits = None
        for flat, weight in parts:
            made = plain(g, "MatMul", [flat, g.constant(weight.astype(np.float32))], (1, columns))
            logits = made if logits is None else plain(g, "Add", [logits, made], (1, columns))
    if g.chance(0.5):
        logits = plain(g, "Add", [logits, g.weights(columns, scale=1)], (1, columns))
    made = plain(g, "Sigmoid", [logits], (1, columns))
    if columns == 1 and g.chance(0.3):
        made = g.reshape(made, (1,), Row(0))
    if columns == 4 and g.chance(0.3):
        made = plain(g, "Mul", [made, plain(g, "Gather", [made, g.ints(3, 0, 0, 1)], (1, 4), axis=1)], (1, 4))
    if g.chance(0.05) and made.rank == 2:
        made = plain(g, "Transpose", [made], (columns, 1), perm=[1, 0])
    g.graph.sizes[made.name] = columns
    return made.name


def plain(g: Builder, op: str, given: list[Any], shape: tuple[int, ...], **attributes: Any) -> Tensor:
    """A node of rows, whatever its range."""
    (name,) = g.line(op, given, **attributes)
    return Tensor(name, "float32", shape, Row(0), -1e6, 1e6)


def network(seed: int) -> Graph:
    """A network to be converted."""
    g = grown(seed)
    leaves = measured(g, leaves_of(g))
    if not leaves:
        raise Skip
    return finish(g, leaves)


# Networks that mix rows


def over_rows(g: Builder, x: Tensor) -> Tensor:
    op = g.one_of("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceL2", "ReduceSumSquare", "ReduceLogSumExp")
    axes = [0] if x.rank == 1 or g.chance(0.6) else [0, g.rng.randint(1, x.rank - 1)]
    if g.opset >= (13 if op == "ReduceSum" else 18):
        (name,) = g.line(op, [x, g.ints(*axes)])
    else:
        (name,) = g.line(op, [x], axes=axes)
    return like(g, x, g.line(g.one_of("Add", "Sub", "Mul"), [x, name])[0])


def like(g: Builder, x: Tensor, name: str) -> Tensor:
    return dataclasses.replace(x, name=name, low=-1e6, high=1e6, grain=0.0, kind="float32")


def softmax_of_rows(g: Builder, x: Tensor) -> Tensor:
    return like(g, x, g.line(g.one_of("Softmax", "LogSoftmax"), [x], axis=0)[0])


def norm_of_rows(g: Builder, x: Tensor) -> Tensor:
    return like(g, x, g.line("LpNormalization", [x], axis=0, p=g.one_of(1, 2))[0])


def mean_variance_of_rows(g: Builder, x: Tensor) -> Tensor:
    return like(g, x, g.line("MeanVarianceNormalization", [x], axes=[0])[0])


def sums_up_rows(g: Builder, x: Tensor) -> Tensor:
    if g.opset < 11:
        raise Skip
    return like(g, x, g.line("CumSum", [x, g.constant(np.array(0))])[0])


def product_of_rows(g: Builder, x: Tensor) -> Tensor:
    x = g.flat(x)
    turned = g.line("Transpose", [x], perm=[1, 0])[0]
    scores = g.line("MatMul", [x, turned])[0]
    return like(g, x, g.line("MatMul", [scores, x])[0])


def einsum_of_rows(g: Builder, x: Tensor) -> Tensor:
    if g.opset < 12:
        raise Skip
    x = g.flat(x)
    terms = g.one_of("ni,mi,mj->nj", "ni,nj,mi->mj", "ni,mj->mj")
    given = [x] * terms.count(",") + [x]
    return like(g, x, g.line("Einsum", given, equation=terms)[0])


def first_row(g: Builder, x: Tensor) -> Tensor:
    if g.chance(0.5):
        first = g.sliced(x, [0], [1], [0])[0]
    else:
        first = g.line("Gather", [x, g.ints(g.one_of(0, -1))])[0]
    return like(g, x, g.line("Sub", [x, first])[0])


def reversed_rows(g: Builder, x: Tensor) -> Tensor:
    if g.opset < 10:
        raise Skip
    given = [g.ints(number) for number in (-1, -(2**62), 0, -1)]
    return like(g, x, g.line("Slice", [x, *given])[0])


def shifted_rows(g: Builder, x: Tensor) -> Tensor:
    first = g.sliced(x, [0], [1], [0])[0]
    both = g.line("Concat", [first, x], axis=0)[0]
    return like(g, x, g.sliced(both, [0], [-1], [0])[0])


def mixed_by_reshape(g: Builder, x: Tensor) -> Tensor:
    x = g.shaped(x, g.rng.randint(2, 4))
    turned = g.line("Transpose", [x], perm=[1, 0])[0]
    return like(g, x, g.line("Reshape", [turned, g.ints(-1, x.shape[1])])[0])


def divided_by_rows(g: Builder, x: Tensor) -> Tensor:
    count = g.line("Cast", [g.rows()], to=onnx.TensorProto.FLOAT)[0]
    return like(g, x, g.line(g.one_of("Div", "Mul"), [x, count])[0])


def chosen_by_rows(g: Builder, x: Tensor) -> Tensor:
    more = g.line("Greater", [g.rows(), g.ints(3)])[0]
    return like(g, x, g.line("Where", [more, x, g.line("Neg", [x])[0]])[0])


def with_row_number(g: Builder, x: Tensor) -> Tensor:
    number = g.line("Cast", [row_numbers(g)], to=onnx.TensorProto.FLOAT)[0]
    x = g.flat(x)
    beside = g.unsqueezed(number, 1)[0]
    return like(g, x, g.line("Add", [x, beside])[0])


def channels_of_rows(g: Builder, x: Tensor) -> Tensor:
    x = g.flat(x)
    turned = g.line("Transpose", [x], perm=[1, 0])[0]
    apart = g.unsqueezed(turned, 0)[0]
    kernel = g.weights(x.shape[1], x.shape[1], 3)
    made = g.line("Conv", [apart, kernel], pads=[1, 1])[0]
    back = g.line("Squeeze", [made] + ([g.ints(0)] if g.opset >= 13 else []), **({} if g.opset >= 13 else {"axes": [0]}))[0]
    return like(g, x, g.line("Transpose", [back], perm=[1, 0])[0])


def largest_of_rows(g: Builder, x: Tensor) -> Tensor:
    if g.opset < 11:
        raise Skip
    top = g.line("TopK", [x, g.ints(1)], 2, axis=0)[0]
    return like(g, x, g.line("Sub", [x, top])[0])


def compared_rows(g: Builder, x: Tensor) -> Tensor:
    x = g.flat(x)
    one = g.line("ReduceSum", [x] + ([g.ints(1)] if g.opset >= 13 else []), **({} if g.opset >= 13 else {"axes": [1]}))[0]
    turned = g.line("Transpose", [one], perm=[1, 0])[0]
    pairs = g.line("Sub", [one, turned])[0]
    return like(g, x, g.line("MatMul", [g.line("Tanh", [pairs])[0], x])[0])


def places_of_rows(g: Builder, x: Tensor) -> Tensor:
    if g.opset < 11:
        raise Skip
    x = g.flat(x)
    place = g.line("ArgMax", [x], axis=0, keepdims=1)[0]
    return like(g, x, g.line("Add", [x, g.line("Cast", [place], to=onnx.TensorProto.FLOAT)[0]])[0])


def gathered_rows(g: Builder, x: Tensor) -> Tensor:
    """The row whose number the row has: 0 or 1."""
    x = g.flat(x)
    if g.opset < 13:
        raise Skip
    at = g.line("Gather", [x, g.constant(np.array(0))], axis=1)[0]
    index = g.line("Cast", [g.line("Greater", [at, g.constant(np.float32(0))])[0]], to=onnx.TensorProto.INT64)[0]
    index = g.line("Sub", [index, g.constant(np.array(1))])[0]
    return like(g, x, g.line("Gather", [x, index])[0])


def batch_statistics(g: Builder, x: Tensor) -> Tensor:
    if g.opset < 14:
        raise Skip
    x = g.flat(x)
    size = x.shape[1]
    norm = [g.weights(size, scale=1) for _ in range(3)]
    variance = g.constant(np.ones(size, dtype=np.float32))
    made, _, _ = g.line("BatchNormalization", [x, *norm, variance], 3, training_mode=1)
    return like(g, x, made)


MIXERS = [over_rows, softmax_of_rows, norm_of_rows, mean_variance_of_rows, sums_up_rows, product_of_rows, einsum_of_rows, first_row,
          reversed_rows, shifted_rows, mixed_by_reshape, divided_by_rows, chosen_by_rows, with_row_number, channels_of_rows,
          largest_of_rows, compared_rows, places_of_rows, gathered_rows, batch_statistics]


def mixing_network(seed: int) -> tuple[Graph, str]:
    """A network in which one operation mixes the rows, and which that is."""
    g = grown(seed)
    wanted = [t for t in g.pool if t.kind == "float32" and t.row is not None and t.rates & {"pair", "item"} and t.array is None]
    leaves = measured(g, wanted)
    leaves = [(leaf, size) for leaf, size in leaves if size > 0.05]
    if not leaves:
        raise Skip
    leaf, size = g.rng.choice(leaves)
    mixer = g.rng.choice(MIXERS)
    mixed = mixer(g, g.home(leaf))
    count = g.one_of(0, 1, 2)
    g.graph.outputs.append(task(g, [(mixed, size), *g.rng.sample(leaves, min(count, len(leaves)))]))
    return g.graph, mixer.__name__


# Damage


def damaged(graph: Graph, rng: random.Random) -> tuple[onnx.ModelProto, str]:
    """The model with one thing wrong, or with one that only looks so, and what was done."""
    model = graph.model()
    change = rng.choice(DAMAGES)
    change(model, rng)
    return model, change.__name__


def any_node(model: onnx.ModelProto, rng: random.Random, has_attributes: bool = False) -> onnx.NodeProto:
    nodes = [node for node in model.graph.node if node.attribute or not has_attributes]
    if not nodes:
        raise Skip
    return rng.choice(nodes)


def attribute_value(model: onnx.ModelProto, rng: random.Random) -> None:
    attribute = rng.choice(any_node(model, rng, True).attribute)
    match attribute.type:
        case onnx.AttributeProto.INT:
            attribute.i = rng.choice((-1, 0, 1, 2, 3, 7, -5, 1 << 40, -(1 << 63)))
        case onnx.AttributeProto.FLOAT:
            attribute.f = rng.choice((math.nan, math.inf, -math.inf, 0.0, -1.0, 1e30))
        case onnx.AttributeProto.STRING:
            attribute.s = rng.choice((b"", b"\xff", b"none", b"edge", b"bij->", b"ab,->", b"...", b"aa"))
        case onnx.AttributeProto.INTS:
            numbers = list(attribute.ints)
            rng.choice((numbers.clear, lambda: numbers.append(rng.choice((-1, 0, 1, 9))), lambda: numbers and numbers.pop(),
                        lambda: numbers and numbers.__setitem__(0, rng.choice((-9, 0, 5, 1 << 40)))))()
            del attribute.ints[:]
            attribute.ints.extend(numbers)
        case onnx.AttributeProto.TENSOR:
            attribute.t.CopyFrom(onnx.numpy_helper.from_array(np.zeros(rng.choice(((), (0,), (2, 2))), np.float32), "t"))


def attribute_type(model: onnx.ModelProto, rng: random.Random) -> None:
    node = any_node(model, rng, True)
    place = rng.randrange(len(node.attribute))
    value = rng.choice((1, 1.5, "text", [1, 2], [0.5]))
    node.attribute[place].CopyFrom(onnx.helper.make_attribute(node.attribute[place].name, value))


def attribute_gone(model: onnx.ModelProto, rng: random.Random) -> None:
    node = any_node(model, rng, True)
    del node.attribute[rng.randrange(len(node.attribute))]


def attribute_new(model: onnx.ModelProto, rng: random.Random) -> None:
    name = rng.choice(("axis", "axes", "keepdims", "perm", "to", "mode", "alpha", "p", "k", "group", "pads", "equation"))
    value = rng.choice((-1, 0, 5, 0.5, "text", [0], [1, 0], []))
    if value == []:
        any_node(model, rng).attribute.append(onnx.AttributeProto(name=name, type=onnx.AttributeProto.INTS))
    else:
        any_node(model, rng).attribute.append(onnx.helper.make_attribute(name, value))


def constant_shape(model: onnx.ModelProto, rng: random.Random) -> None:
    if not model.graph.initializer:
        raise Skip
    tensor = rng.choice(model.graph.initializer)
    array = onnx.numpy_helper.to_array(tensor)
    made = rng.choice((lambda: array.reshape(-1), lambda: array[..., None], lambda: array.reshape(-1)[:0], lambda: np.resize(
        array, (*array.shape[:-1], array.shape[-1] + 1) if array.ndim else (2,)), lambda: array.T))()
    tensor.CopyFrom(onnx.numpy_helper.from_array(np.ascontiguousarray(made), tensor.name))


def constant_type(model: onnx.ModelProto, rng: random.Random) -> None:
    if not model.graph.initializer:
        raise Skip
    tensor = rng.choice(model.graph.initializer)
    kind = rng.choice((np.int64, np.int32, np.float64, np.float32, np.bool_, np.uint8, np.float16))
    tensor.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor).astype(kind), tensor.name))


def constant_numbers(model: onnx.ModelProto, rng: random.Random) -> None:
    if not model.graph.initializer:
        raise Skip
    tensor = rng.choice(model.graph.initializer)
    array = onnx.numpy_helper.to_array(tensor).copy()
    bad = (math.nan, math.inf, 1e38) if array.dtype.kind == "f" else (-1, 100, np.iinfo(array.dtype).max) if array.dtype.kind in "iu" else (0,)
    array[...] = np.asarray(rng.choice(bad)).astype(array.dtype)
    tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))


def constant_data(model: onnx.ModelProto, rng: random.Random) -> None:
    """Fewer bytes than the shape says, or a strange shape."""
    if not model.graph.initializer:
        raise Skip
    tensor = rng.choice(model.graph.initializer)
    if rng.random() < 0.5:
        tensor.raw_data = tensor.raw_data[:-1]
    else:
        tensor.dims.append(rng.choice((0, -1, 3, 1 << 40)))


def input_gone(model: onnx.ModelProto, rng: random.Random) -> None:
    node = any_node(model, rng)
    if not node.input:
        raise Skip
    if rng.random() < 0.5:
        del node.input[rng.randrange(len(node.input))]
    else:
        node.input[rng.randrange(len(node.input))] = ""


def input_new(model: onnx.ModelProto, rng: random.Random) -> None:
    node = any_node(model, rng)
    node.input.extend([node.input[0] if node.input else "x0"] * rng.choice((1, 3)))


def input_other(model: onnx.ModelProto, rng: random.Random) -> None:
    node = any_node(model, rng)
    if not node.input:
        raise Skip
    names = [name for other in model.graph.node for name in (*other.input, *other.output)] + ["nothing"]
    node.input[rng.randrange(len(node.input))] = rng.choice(names)


def operator_other(model: onnx.ModelProto, rng: random.Random) -> None:
    any_node(model, rng).op_type = rng.choice((*OPERATORS, "NonZero", "LSTM", "Loop", "RandomNormalLike", "Nothing", "Unique"))


def domain_other(model: onnx.ModelProto, rng: random.Random) -> None:
    any_node(model, rng).domain = rng.choice(("ai.onnx", "com.microsoft", "my.own"))


def output_other(model: onnx.ModelProto, rng: random.Random) -> None:
    node = any_node(model, rng)
    match rng.randrange(4):
        case 0:
            node.output.append("more")
        case 1:
            node.output[0] = rng.choice(any_node(model, rng).output)
        case 2:
            model.graph.output[0].name = rng.choice(("nothing", node.output[0]))
        case 3:
            del node.output[0]


def network_input(model: onnx.ModelProto, rng: random.Random) -> None:
    value = rng.choice(model.graph.input)
    kind = value.type.tensor_type
    match rng.randrange(5):
        case 0:
            kind.elem_type = rng.choice((0, 1, 6, 7, 8, 9, 10, 14, 99))
        case 1:
            kind.shape.dim.add().dim_value = rng.choice((0, 1, 3, -2))
        case 2 if kind.shape.dim:
            kind.shape.dim[0].dim_value = rng.choice((0, 2, 7))
        case 3 if kind.shape.dim:
            del kind.shape.dim[-1]
        case 4 if len(kind.shape.dim) > 1:
            kind.shape.dim[-1].dim_param = rng.choice(("N", "L", ""))
        case _:
            kind.ClearField("shape")


def opset_other(model: onnx.ModelProto, rng: random.Random) -> None:
    model.opset_import[0].version = rng.choice((1, 8, 9, 10, 11, 12, 13, 17, 18, 21, 23, 99))


def order_other(model: onnx.ModelProto, rng: random.Random) -> None:
    nodes = list(model.graph.node)
    if len(nodes) < 2:
        raise Skip
    rng.shuffle(nodes)
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def node_gone(model: onnx.ModelProto, rng: random.Random) -> None:
    del model.graph.node[rng.randrange(len(model.graph.node))]


DAMAGES = [attribute_value, attribute_value, attribute_value, attribute_type, attribute_gone, attribute_new, constant_shape,
           constant_shape, constant_type, constant_numbers, constant_data, input_gone, input_new, input_other, input_other,
           operator_other, operator_other, domain_other, output_other, network_input, opset_other, order_other, node_gone]
