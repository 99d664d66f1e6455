"""Operators that move elements or find them by their place, in random graphs."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx

from fuzz_onnx_graph import NUMBERS, ROW_NUMBER, Builder, Row, Skip, Tensor, since
from fuzz_onnx_operators import Made, operator

# Movement

ALL = (*NUMBERS, "bool")


def moved(
    g: Builder, op: str, x: Tensor, shape: Sequence[int], row: Row | None, *more: Any, **attributes: Any
) -> Tensor:
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
        g.rng.choice([f for f in range(1, count + 1) if count % f == 0]) if g.chance(0.3) else 1
        for count in (ahead, behind)
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
    row = (
        None if x.row is None else dataclasses.replace(x.row, axis=x.row.axis - sum(axis < x.row.axis for axis in axes))
    )
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
                end = (
                    g.one_of(2**31, 2**62)
                    if end == size and g.chance(0.5)
                    else end - size
                    if end < size and g.chance(0.3)
                    else end
                )
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
        parts.append(
            dataclasses.replace(
                x,
                name=g.sliced(x, [0], [0], [axis])[0],
                shape=tuple(0 if a == axis else size for a, size in enumerate(x.shape)),
            )
        )
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
    target = [
        1 if size == 1 or axis not in x.free_axes() or g.chance(0.3) and size == x.shape[axis] else size
        for axis, size in enumerate(shape)
    ]
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
    return g.emit(
        op, [x, *more], x.shape, x.row, min(x.low, 0), max(x.high, 0), x.grain, x.kind, upper=g.one_of(None, 0, 1)
    )


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
        flat = g.reshape(
            x,
            [x.size],
            Row(0, math.prod(x.shape[: x.row.axis]) * x.row.before, math.prod(x.shape[x.row.axis + 1 :]) * x.row.after),
        )
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
    made = g.emit(
        op, given, (count,), None, min(start, start + count * step), max(start, start + count * step), 1.0, kind
    )
    if axis < x.rank - 1:
        made = g.reshape(made, (count, *[1] * (x.rank - 1 - axis)), None)
    made = (
        g.either(g.one_of("Add", "Mul"), x, made)
        if not x.grain or g.chance(0.5)
        else g.binary(g.one_of("Less", "Greater"), made, x)
    )
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
    data = g.pick(least=1, where=lambda t: t.row is None and t.rates)
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
            return g.emit(
                "Where",
                [below, g.binary("Add", index, number), index],
                index.shape,
                index.row,
                0,
                index.high,
                1.0,
                index.kind,
            )
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
    return g.emit(
        "Concat", parts, shape, Row(0), min(p.low for p in parts), max(p.high for p in parts), 1.0, "int64", axis=-1
    )


def row_numbers(g: Builder) -> Tensor:
    """0, 1, ... for the rows."""
    rows = g.rows()
    if g.opset < 11:
        raise Skip
    count = g.line(
        "Squeeze", [rows] + ([g.ints(0)] if g.opset >= 13 else []), **({} if g.opset >= 13 else {"axes": [0]})
    )[0]
    zero, one = (g.constant(np.array(number)) for number in (0, 1))
    return Tensor(
        g.line("Range", [zero, count, one])[0], "int64", (1,), Row(0), 0, ROWS_TOP, 1.0, frozenset([ROW_NUMBER])
    )


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
            places = np.broadcast_to(
                g.numbers.permutation(size)[: shape[axis]].reshape([-1 if a == axis else 1 for a in range(x.rank)]),
                shape,
            )
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
    return g.emit(
        op,
        [x, size, g.constant(np.array([off, on], dtype=kind))],
        shape,
        row,
        min(off, on),
        max(off, on),
        0.25,
        kind,
        axis=given,
    )
