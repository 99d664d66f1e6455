"""Rules of operators that find elements by their place.

Constant places move references, those of ids are embeddings, and computed ones are looked up or picked.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from .arithmetic import binary, choose, number, references, scaled
from .cells import Operand, folded, function, split
from .ids import source_of
from .node import Node, rule
from .tensor import ROW_NUMBER, Row, Tensor, agreed, constant

# Above it a scatter to computed places, a pass over the data for each update, is refused.
MOST_UPDATES = 256

LONGEST_LOOKUP = 1 << 24


@rule("Gather")
def gather(node: Node) -> Tensor | Sequence[Tensor]:
    data, indices = node.require(0), node.require(1)
    axis = node.axis(data, node.attributes.get("axis", 0))
    rest = len(data.shape) - axis - 1
    if data.row is not None and data.row.axis == axis:
        if is_row_number(indices):
            row = dataclasses.replace(indices.row, axis=axis + indices.row.axis)
            return taken(node, data, np.zeros(indices.shape, dtype=np.int64), axis, row)
        return taken(node, of_any_row(node, data, indices), np.zeros(indices.shape, dtype=np.int64), axis, None)
    if data.row is not None and indices.row is not None:
        raise node.mixes("looks up rows in other rows")
    row = None
    if indices.row is not None:
        row = dataclasses.replace(indices.row, axis=axis + indices.row.axis)
    elif data.row is not None:
        later = data.row.axis + len(indices.shape) - 1
        row = data.row if data.row.axis < axis else dataclasses.replace(data.row, axis=later)
    if indices.is_constant:
        return taken(node, data, indices.constant, axis, row)
    if data.is_constant:
        table = np.moveaxis(data.constant, axis, 0) if axis else data.constant
        values, columns = looked_up(node, dataclasses.replace(data, row=None, constant=table), indices)
        back = [*range(len(indices.shape), len(indices.shape) + axis), *range(len(indices.shape))]
        back += range(values.ndim - rest, values.ndim)
        values, columns = values.transpose(back), columns.transpose(back)
        return Tensor(node.outputs[0], data.dtype, row, values=values, columns=columns)
    picked = pick(node, data, indices, data.shape[:axis], [data.shape[axis]], data.shape[axis + 1 :])
    shape = (*data.shape[:axis], *indices.shape, *data.shape[axis + 1 :])
    return picked.move(node.outputs[0], row, lambda array: array.reshape(shape))


def is_row_number(tensor: Tensor) -> bool:
    return not tensor.is_constant and tensor.row is not None and bool((tensor.values == ROW_NUMBER).all())


def of_any_row(node: Node, data: Tensor, indices: Tensor) -> Tensor:
    """Data of which a constant row is taken: it has to be the same in all rows."""
    is_first = indices.is_constant and indices.other is None and np.isin(indices.constant, (0, -1)).all()
    known = {node.steps.rates[value] if value >= 0 else "pair" for value in np.unique(data.values)} if (
        not data.is_constant
    ) else set()
    if not is_first or known & {"item", "pair"} or (data.row.before, data.row.after) != (1, 1):
        raise node.mixes("takes rows by their place")
    return data


def taken(node: Node, data: Tensor, places: np.ndarray, axis: int, row: Row | None) -> Tensor:
    """Elements at constant places, counted from the end if negative."""
    size = data.shape[axis]
    places = np.asarray(places, dtype=np.int64)
    if places.size and not (-size <= places.min() and places.max() < size):
        raise node.error(f"takes element {places.max()} of {size}")
    return data.move(node.outputs[0], row, lambda array: array.take(places % max(size, 1), axis=axis))


def looked_up(node: Node, table: Tensor, indices: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """References `[*shape of indices, *shape of a row]` to rows of constant data `[rows, ...]`."""
    if table.other is not None:
        raise node.error("computes with the number of rows of the batch: a score would depend on it")
    numbers = table.constant
    if numbers.shape[0] == 0:
        raise node.error(f"`{table.name}` has no rows")
    two_axes = numbers if numbers.ndim == 2 else numbers.reshape(len(numbers), -1)
    rows, width = two_axes.shape
    name = node.steps.weight(table.name, two_axes)
    flat, places = indices.values.ravel(), indices.columns.ravel()
    values = np.empty((flat.size, width), dtype=np.int64)
    columns = np.empty((flat.size, width), dtype=np.int64)
    computed = np.zeros(flat.size, dtype=bool)
    for value in np.unique(flat):
        here = flat == value
        if value == ROW_NUMBER:
            raise node.mixes("looks up the number of a row")
        source, origin = source_of(node.steps, int(value), places[here], rows) or (None, places[here])
        if source is None:
            found = None
        elif source == node.steps.scenario:
            found = node.steps.scenario_table(name, rows, width, node.outputs[0])
        else:
            found = node.steps.embedding(source, name, rows, width, node.outputs[0], np.unique(origin).tolist())
        if found is None:
            computed |= here
            continue
        values[here] = found
        columns[here] = origin[:, None] * width + np.arange(width)
    if computed.any():
        if rows > LONGEST_LOOKUP:
            raise node.error(f"looks up a computed number in a table of {rows} rows; {LONGEST_LOOKUP} are possible")
        cells = Operand(indices, flat[computed][:, None], places[computed][:, None])

        def emit(operands: list[Operand]) -> int:
            (operand,) = operands
            return node.add("lookup", [operand.value(node)], operand.size * width, table=name)

        values[computed], columns[computed] = split(node, [cells], (len(cells.values),), emit, width)
    shape = (*indices.shape, *numbers.shape[1:])
    return values.reshape(shape), columns.reshape(shape)


def pick(
    node: Node, data: Tensor, indices: Tensor, ahead: Sequence[int], sizes: Sequence[int], rest: Sequence[int]
) -> Tensor:
    """`[groups, count, inner]`: elements of data `[*ahead, *sizes, *rest]` at flat places among `sizes`.

    The indices are the same for all groups, or `[groups, count]`. No mark.
    """
    groups, length, inner = math.prod(ahead), math.prod(sizes), math.prod(rest)
    count = indices.size if indices.shape[:1] != (groups,) or len(indices.shape) != 2 else indices.shape[1]
    places = indices.move(indices.name, None, lambda array: np.broadcast_to(array.reshape(-1, count), (groups, count)))
    data = data.move(data.name, None, lambda array: array.reshape(groups, length * inner))
    operands = [Operand.of(tensor, tensor.shape, node.steps.learned) for tensor in (data, places)]

    def emit(chosen: list[Operand]) -> int:
        parts = [operand.value(node) for operand in chosen]
        some = chosen[0].size // (length * inner)
        return node.add("pick", parts, some * count * inner, groups=some, inner=inner, count=count)

    values, columns = split(node, operands, (groups,), emit, count * inner)
    shape = (groups, count, inner)
    return Tensor(node.outputs[0], data.dtype, None, values=values.reshape(shape), columns=columns.reshape(shape))


@rule("GatherND")
def gather_nd(node: Node) -> Tensor | Sequence[Tensor]:
    data, indices, ahead = node.require(0), node.require(1), int(node.attributes.get("batch_dims", 0))
    row = None
    if data.row is not None and ahead <= data.row.axis < ahead + indices.shape[-1]:
        data, indices, row = without_rows(node, data, indices, ahead)
    elif data.row is not None and data.row.axis < ahead:
        if indices.row != data.row:
            raise node.mixes("looks up rows in other rows")
        row = data.row
    elif data.row is not None:
        if indices.row is not None:
            raise node.mixes("looks up rows in other rows")
        axis = len(indices.shape) - 1 + data.row.axis - ahead - indices.shape[-1]
        row = dataclasses.replace(data.row, axis=axis)
    else:
        row = indices.row
        if row is not None and (row.axis < ahead or row.axis == len(indices.shape) - 1):
            raise node.mixes("looks up rows in a tensor of other rows")
    depth = indices.shape[-1]
    sizes, rest = data.shape[ahead : ahead + depth], data.shape[ahead + depth :]
    shape = (*indices.shape[:-1], *rest)
    groups = math.prod(data.shape[:ahead])
    if depth == 0:
        return data.move(node.outputs[0], row, lambda array: np.broadcast_to(array, shape))
    flat = flat_places(node, indices, sizes)
    if not flat.is_constant and data.is_constant and groups == 1:
        table = data.constant.reshape(math.prod(sizes), *rest)
        arrays = looked_up(node, dataclasses.replace(data, row=None, constant=table), flat)
        values, columns = (array.reshape(shape) for array in arrays)
        return Tensor(node.outputs[0], data.dtype, row, values=values, columns=columns)
    flat = flat.move(flat.name, None, lambda array: array.reshape(groups, -1))
    if flat.is_constant:
        whole = (groups, math.prod(sizes), -1)
        places = flat.constant[:, :, None]
        return data.move(
            node.outputs[0], row, lambda array: np.take_along_axis(array.reshape(whole), places, axis=1).reshape(shape)
        )
    picked = pick(node, data, flat, data.shape[:ahead], sizes, rest)
    return picked.move(node.outputs[0], row, lambda array: array.reshape(shape))


def without_rows(node: Node, data: Tensor, indices: Tensor, ahead: int) -> tuple[Tensor, Tensor, Row | None]:
    """Data and indices without the axis of the rows, where each row finds itself; the mark of what is found."""
    first = indices.move(indices.name, indices.row, lambda array: array[..., 0])
    is_alone = data.row.axis == ahead == 0 and (data.row.before, data.row.after) == (1, 1)
    if not is_alone:
        raise node.mixes("looks up rows by their place")
    if is_row_number(first):
        row = indices.row
    else:
        of_any_row(node, data, first)
        row = None
        if indices.row is not None:
            raise node.mixes("looks up rows by their place")
    data = data.move(data.name, None, lambda array: array[0])
    return data, plain(node, indices.move(indices.name, indices.row, lambda array: array[..., 1:])), row


def plain(node: Node, tensor: Tensor) -> Tensor:
    """References to steps that are constants as a constant: what stood beside the number of the row."""
    if tensor.is_constant:
        return tensor
    numbers = np.zeros(tensor.shape, dtype=np.int64)
    for value in np.unique(tensor.values):
        step = node.steps.steps[value]
        if value < 0 or step["op"] != "constant":
            return tensor
        here = tensor.values == value
        numbers[here] = node.steps.tensors[step["tensor"]].ravel()[tensor.columns[here]]
    return constant(tensor.name, numbers, row=tensor.row)


def flat_places(node: Node, indices: Tensor, sizes: Sequence[int]) -> Tensor:
    """Places among all elements of `sizes`, from indices `[..., axes]`."""
    parts = [
        indices.move(indices.name, indices.row, lambda array: array[..., axis]) for axis in range(indices.shape[-1])
    ]
    if indices.is_constant:
        total = np.zeros(indices.shape[:-1], dtype=np.int64)
        for part, size in zip(parts, sizes):
            if part.size and not (-size <= part.constant.min() and part.constant.max() < size):
                raise node.error(f"takes element {part.constant.max()} of {size}")
            total = total * size + part.constant % size
        return constant(indices.name, total, row=indices.row)
    if len(parts) == 1:
        return parts[0]
    result = None
    for part, size in zip(parts, sizes):
        part = wrapped(node, part, size)
        result = part if result is None else binary(node, "add", scaled(node, result, size), part)
    return result


def wrapped(node: Node, indices: Tensor, size: int) -> Tensor:
    """Negative ones count from the end."""
    below = binary(node, "less", indices, number(0), np.int64)
    return binary(node, "add", indices, scaled(node, below, size))


@rule("GatherElements")
def gather_elements(node: Node) -> Tensor | Sequence[Tensor]:
    data, indices = node.require(0), node.require(1)
    axis = node.axis(data, node.attributes.get("axis", 0))
    row = row_of_both(node, data, indices, axis)
    some = tuple(slice(None) if place == axis else slice(size) for place, size in enumerate(indices.shape))
    data = data.move(data.name, data.row, lambda array: array[some])
    if indices.is_constant:
        places = indices.constant % data.shape[axis]
        return data.move(node.outputs[0], row, lambda array: np.take_along_axis(array, places, axis))
    moved = [tensor.move(tensor.name, None, lambda array: np.moveaxis(array, axis, -1)) for tensor in (data, indices)]
    shape = moved[1].shape
    count = shape[-1]
    places = moved[1].move(indices.name, None, lambda array: array.reshape(-1, count))
    picked = pick(node, moved[0], places, shape[:-1], [data.shape[axis]], [])
    return picked.move(node.outputs[0], row, lambda array: np.moveaxis(array.reshape(shape), -1, axis))


def row_of_both(node: Node, data: Tensor, indices: Tensor, axis: int, *others: Tensor) -> Row | None:
    """The mark of tensors of the same axes, which have to have the rows at the same one, not the one looked along."""
    rows = {tensor.row for tensor in agreed([data, indices, *others])}
    if len(rows) > 1:
        raise node.mixes("looks up rows in a tensor of other rows")
    (row,) = rows
    if row is not None and row.axis == axis:
        raise node.mixes("looks up rows by their place")
    return row


# Scatters

JOINS = {"add": "add", "mul": "multiply", "max": "maximum", "min": "minimum"}


@rule("ScatterElements", "Scatter")
def scatter_elements(node: Node) -> Tensor:
    data, indices, updates = (node.require(place) for place in range(3))
    axis = node.axis(data, node.attributes.get("axis", 0))
    row = row_of_both(node, data, indices, axis, updates)
    shape = data.shape
    flat = np.arange(data.size).reshape(shape)
    if indices.is_constant:
        grid = list(np.indices(indices.shape))
        grid[axis] = indices.constant % shape[axis]
        result = scattered(node, data, flat[tuple(grid)].ravel(), updates)
        return result.move(node.outputs[0], row, lambda array: array.reshape(shape))
    some = tuple(slice(None) if place == axis else slice(size) for place, size in enumerate(indices.shape))
    part = data.move(data.name, None, lambda array: np.moveaxis(array[some], axis, -1))
    places, given = (t.move(t.name, None, lambda array: np.moveaxis(array, axis, -1)) for t in (indices, updates))
    length = shape[axis]
    result = placed(node, part, wrapped(node, places, length), given, np.arange(length))
    result = result.move(node.outputs[0], None, lambda array: np.moveaxis(array, -1, axis))
    whole = references(node, data, shape)
    values, columns = whole.values.copy(), whole.columns.copy()
    values[some], columns[some] = result.values, result.columns
    return Tensor(node.outputs[0], data.dtype, row, values=values, columns=columns)


@rule("ScatterND")
def scatter_nd(node: Node) -> Tensor:
    data, indices, updates = (node.require(place) for place in range(3))
    depth = indices.shape[-1]
    row, shape = data.row, data.shape
    if row is not None and row.axis < depth:
        data, indices, _ = without_rows(node, data, indices, 0)
        if updates.row is None or indices.row is None or updates.row != indices.row:
            raise node.mixes("puts elements of all rows into each")
        depth -= 1
    elif indices.row is not None:
        raise node.mixes("puts elements of all rows into each")
    elif updates.row is not None or row is not None:
        axis = len(indices.shape) - 1 + (row.axis - depth if row is not None else 0)
        if row is None or updates.row != dataclasses.replace(row, axis=axis):
            raise node.mixes("puts elements of all rows into each")
    sizes, rest = data.shape[:depth], data.shape[depth:]
    places = flat_places(node, indices, sizes)
    inner, length = math.prod(rest), math.prod(sizes)
    updates = updates.move(updates.name, None, lambda array: array.reshape(-1, inner))
    if places.is_constant:
        flat = places.constant.reshape(-1, 1) * inner + np.arange(inner)
        result = scattered(node, dataclasses.replace(data, row=None), flat.ravel(), updates)
        return result.move(node.outputs[0], row, lambda array: array.reshape(shape))
    if depth == 1:
        places = wrapped(node, places, length)
    part = data.move(data.name, None, lambda array: array.reshape(length, inner).T)
    spread = places.move(places.name, None, lambda array: np.broadcast_to(array.reshape(1, -1), (inner, array.size)))
    turned = updates.move(updates.name, None, np.transpose)
    result = placed(node, part, spread, turned, np.arange(length))
    return result.move(node.outputs[0], row, lambda array: array.T.reshape(shape))


def scattered(node: Node, data: Tensor, places: np.ndarray, updates: Tensor) -> Tensor:
    """The flat data with updates at constant places; those that meet are joined, or the last one stays."""
    join = JOINS.get(node.attributes.get("reduction", "none"))
    whole, given = references(node, data, data.shape), references(node, updates, updates.shape)
    values, columns = whole.values.ravel().copy(), whole.columns.ravel().copy()
    new_values, new_columns = given.values.ravel(), given.columns.ravel()
    for layer in layers(places):
        here = places[layer]
        added = Tensor(updates.name, updates.dtype, None, values=new_values[layer], columns=new_columns[layer])
        if join is not None:
            known = Tensor(data.name, data.dtype, None, values=values[here], columns=columns[here])
            added = binary(node, join, known, added)
        values[here], columns[here] = added.values, added.columns
    return Tensor(node.outputs[0], data.dtype, None, values=values, columns=columns)


def layers(places: np.ndarray) -> list[np.ndarray]:
    """The updates in parts without equal places, in order."""
    left, made = np.arange(len(places)), []
    while len(left):
        _, first = np.unique(places[left], return_index=True)
        first = np.sort(first)
        made.append(left[first])
        left = np.delete(left, first)
    return made


def placed(node: Node, data: Tensor, places: Tensor, updates: Tensor, numbers: np.ndarray) -> Tensor:
    """Data `[..., length]` with updates `[..., count]` at computed places of the last axis, one after the other."""
    join = JOINS.get(node.attributes.get("reduction", "none"))
    count = places.shape[-1]
    if count > MOST_UPDATES:
        raise node.error(f"puts {count} elements at computed places; {MOST_UPDATES} are possible")
    axis = constant(f"{node.outputs[0]}.places", numbers)
    result = data
    for place in range(count):
        one, new = (t.move(t.name, None, lambda array: array[..., place : place + 1]) for t in (places, updates))
        if join is not None:
            new = binary(node, join, result, new)
        result = choose(node, binary(node, "equal", spread_to(one, data.shape), axis, bool), new, result)
    return result


def spread_to(tensor: Tensor, shape: Sequence[int]) -> Tensor:
    return tensor.move(tensor.name, None, lambda array: np.broadcast_to(array, shape))


@rule("OneHot")
def one_hot(node: Node) -> Tensor | Sequence[Tensor]:
    indices, depth = node.require(0), int(node.numbers(1, "the depth").item())
    off, on = node.numbers(2, "the list of values").tolist()
    rank = len(indices.shape) + 1
    axis = node.attributes.get("axis", -1) % rank
    row = indices.row
    if row is not None and row.axis >= axis:
        row = dataclasses.replace(row, axis=row.axis + 1)
    if indices.is_constant:
        return folded(node, node.inputs, row)
    if indices.dtype.kind == "f":
        indices = function(node, indices, "truncate")
    one = wrapped(node, indices, depth).move(indices.name, row, lambda array: np.expand_dims(array, axis))
    numbers = np.arange(depth).reshape(-1, *[1] * (rank - 1 - axis))
    result = binary(node, "equal", one, constant(f"{node.outputs[0]}.numbers", numbers), node.require(2).dtype)
    return result if (off, on) == (0, 1) else scaled(node, result, on - off, off)
