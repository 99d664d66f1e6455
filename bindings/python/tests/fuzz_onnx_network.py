"""Whole random networks: inputs of all rates, operators and blocks behind them, and tasks."""

from __future__ import annotations

import dataclasses
import math
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx

import fuzz_onnx_products  # noqa: F401
from fuzz_onnx_blocks import BLOCKS
from fuzz_onnx_graph import ROWS, Builder, Given, Graph, Row, Skip, Tensor
from fuzz_onnx_operators import OPERATORS
from onnx_graphs import session

# The most tensors that the tasks of a graph are made of.
MOST_LEAVES = 12


class Unsupported(Exception):
    """ONNX Runtime does not run a network."""


def opset_of(rng: random.Random) -> int:
    kind = rng.random()
    if kind < 0.12:
        return rng.randint(9, 12)
    return rng.randint(22, 24) if kind > 0.9 else rng.randint(13, 21)


# Inputs


def give(
    g: Builder,
    kind: str,
    shape: tuple[int, ...],
    rate: str,
    numbers: Callable[[tuple[int, ...]], np.ndarray],
    low: float,
    high: float,
    grain: float,
    is_single: bool = False,
    columns: list[Any] | None = None,
) -> Tensor:
    name = g.one_of("x", "input_", "user.", "in:") + str(len(g.graph.givens))
    rows = 1 if is_single else ROWS
    values = numbers((rows, *shape)).astype(kind)
    has_dynamic_length = bool(shape) and not columns and g.chance(0.04)
    g.graph.givens.append(Given(name, kind, shape, rate, values, is_single, columns, has_dynamic_length))
    row = None if is_single else Row(0)
    return Tensor(name, kind, (1, *shape), row, low, high, grain, frozenset([rate]))


def give_numbers(g: Builder, rate: str, is_single: bool = False) -> Tensor:
    shape = g.one_of((3,), (4,), (1,), (2, 3), (4, 2), (), (2, 1), (3, 2, 2), (g.rng.randint(5, 40),))
    draw = g.numbers
    match g.one_of("grid", "grid", "normal", "normal", "whole"):
        case "grid":
            return give(g, "float32", shape, rate, lambda s: draw.integers(-8, 9, s) / 4, -2, 2, 0.25, is_single)
        case "normal":
            return give(g, "float32", shape, rate, lambda s: draw.normal(size=s).clip(-3, 3), -3, 3, 0.0, is_single)
    return give(g, "float32", shape, rate, lambda s: draw.integers(-4, 5, s), -4, 4, 1.0, is_single)


def give_ids(g: Builder, rate: str, is_single: bool = False) -> Tensor:
    shape, below = g.one_of((), (), (1,), (2,), (4,), (2, 2)), g.rng.randint(2, 12)
    kind, low = g.one_of("int64", "int64", "int64", "int32"), g.one_of(0, 0, 0, 0, -1)
    return give(g, kind, shape, rate, lambda s: g.numbers.integers(low, below, s), low, below - 1, 1.0, is_single)


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
    columns.append(
        (f"numbers{len(g.graph.givens)}", width) if width > 1 or g.chance(0.5) else f"number{len(g.graph.givens)}"
    )
    x = give(
        g,
        "float32",
        (count + width,),
        "pair",
        lambda s: np.concatenate([*(draw_of(s) for draw_of in ids), draw.integers(-4, 5, (s[0], width)) / 2], axis=1),
        -4,
        12,
        0.5,
        columns=columns if g.chance(0.7) else None,
    )
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
        give_constants(g, g.one_of(1, 2, 6))


def give_constants(g: Builder, count: int) -> None:
    """Constants that operators may be put behind, as behind inputs; some have a row for each of the rows."""
    for _ in range(count):
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
            made = (
                rng.choice(BLOCKS)(g)
                if rng.random() < 0.3
                else OPERATORS[name](g, name)
                if (name := rng.choice(names))
                else []
            )
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
    """The leaves that have finite numbers, and by what to divide to have them near 1; not less than what keeps the
    rounding of f32 small.
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
        expected = [
            size * ROWS if leaf.row is not None and axis == leaf.row.axis else size
            for axis, size in enumerate(leaf.shape)
        ]
        assert list(array.shape) == expected, f"{leaf.name} is {array.shape}, not {expected}"
        numbers = np.asarray(array, dtype=np.float64)
        top = np.abs(numbers).max() if numbers.size else np.inf
        if np.isfinite(top) and top < 1e6:
            kept.append((leaf, max(float(numbers.std()), 0.05 * float(top), 0.05, min(0.002 * leaf.bound, 0.2))))
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
        parts.append(
            (
                flat,
                g.numbers.normal(size=(flat.shape[1], columns)) / size / math.sqrt(flat.shape[1] * len(leaves)) * 1.5,
            )
        )
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
