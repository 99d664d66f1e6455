"""Arithmetic over tensors of references: equal cells are computed once, and cells of different rates apart.

A cell is what an operation computes on its own: an element of an element-wise one, a vector of one along an axis. The
result of an operation refers to the cells that were computed, in whatever order they lie.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .fold import fold
from .node import Node
from .tensor import Row, Tensor, constant, period

# The place of an element of a constant is told as a column of this value.
CONSTANT = -2

# More runs of one rate are brought together.
MOST_RUNS = 16

# A rate as bits, so that the rate of what reads two values is their `or`.
BITS = {"model": 0, "request": 1, "item": 2, "pair": 3, "scenario": 4}


@dataclasses.dataclass
class Operand:
    """Elements of a tensor, chosen by place: references, or for a constant the places of its numbers."""

    tensor: Tensor
    values: np.ndarray
    columns: np.ndarray

    @classmethod
    def of(cls, tensor: Tensor, shape: Sequence[int], learned: frozenset | set = frozenset()) -> Operand:
        """A tensor spread over a shape. A constant of equal numbers is one number, unless training may change that."""
        if not tensor.is_constant:
            return cls(tensor, np.broadcast_to(tensor.values, shape), np.broadcast_to(tensor.columns, shape))
        places = np.arange(tensor.size).reshape(tensor.shape)
        if tensor.name not in learned and tensor.other is None and tensor.is_single():
            places = np.zeros_like(places)
        return cls(tensor, np.full(shape, CONSTANT), np.broadcast_to(places, shape))

    @property
    def size(self) -> int:
        return self.columns.size

    @property
    def is_constant(self) -> bool:
        return self.tensor.is_constant

    def select(self, cells: Any, shape: Sequence[int]) -> Operand:
        """The elements at places of the flat operand."""
        values, columns = self.values.ravel()[cells], self.columns.ravel()[cells]
        return Operand(self.tensor, values.reshape(shape), columns.reshape(shape))

    def taken(self) -> Tensor:
        """The elements as a tensor without rows; a constant that is all there is the one it was."""
        tensor = self.tensor
        if not self.is_constant:
            return Tensor(tensor.name, tensor.dtype, None, values=self.values, columns=self.columns)
        if self.size == tensor.size and (self.columns.ravel() == np.arange(self.size)).all():
            return tensor
        numbers = tensor.constant.ravel()[self.columns]
        other = None if tensor.other is None else tensor.other.ravel()[self.columns]
        return constant(tensor.name, numbers, other)

    def value(self, node: Node) -> int:
        return node.value(self.taken())

    def is_single(self) -> bool:
        return bool((self.values == self.values.flat[0]).all() and (self.columns == self.columns.flat[0]).all())

    def number(self) -> float | None:
        """The one finite number that all elements are, as f32; None if they are not one."""
        if not self.is_constant or self.tensor.other is not None or not self.is_single():
            return None
        with np.errstate(over="ignore"):
            number = float(np.float32(self.tensor.constant.flat[self.columns.flat[0]]))
        return number if np.isfinite(number) else None

    def narrow(self) -> tuple[Operand, bool]:
        """The fewest elements that give all when they are repeated: as a whole, or (True) each in its place."""
        keys = self.values.ravel() * (1 << 40) + self.columns.ravel()
        size, repeated = keys.size, period(keys)
        changes = np.flatnonzero(keys != keys[0])
        run = int(changes[0]) if len(changes) else size
        if size % run or not (keys.reshape(-1, run) == keys[::run, None]).all():
            run = 1
        if run > 1 and size // run < repeated:
            return self.select(np.arange(0, size, run), (size // run,)), True
        return self.select(np.arange(repeated), (repeated,) if repeated < size else self.columns.shape), False


# Gives a value that has the results of the cells in order, or with the columns that have them.
Emit = Callable[[list[Operand]], "int | tuple[int, np.ndarray]"]


def rates(node: Node, operand: Operand) -> np.ndarray:
    """The rates of elements, as bits."""
    if operand.is_constant:
        return np.zeros(operand.columns.shape, dtype=np.int64)
    known, places = np.unique(operand.values, return_inverse=True)
    bits = [BITS[node.steps.rates[value]] if value >= 0 else BITS["pair"] for value in known]
    return np.array(bits, dtype=np.int64)[places.reshape(operand.values.shape)]


def classes(bits: np.ndarray) -> np.ndarray:
    """Rates as bits, where a scenario's value among others counts as theirs."""
    return np.where(bits & 3, bits & 3, bits)


def is_whole(node: Node, operand: Operand) -> bool:
    """Whether the elements, in their order, are a value that there is."""
    value = int(operand.values.flat[0])
    if value < 0 or operand.size != node.steps.widths[value]:
        return False
    return bool((operand.values == value).all() and (operand.columns.ravel() == np.arange(operand.size)).all())


def split(
    node: Node, operands: Sequence[Operand], shape: Sequence[int], emit: Emit, length: int, by_rate: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """Computes cells of the operands, which are `[*shape, k]` each (`k` may differ), by `emit`, which gets the distinct
    ones of one rate at a time (all, if told), `[..., k]`, and gives a value of `length` columns for each. References
    `[*shape, length]`.
    """
    count = int(np.prod(shape, dtype=np.int64))
    flat = [operand.select(slice(None), (count, -1)) for operand in operands]
    keys = [array for operand in flat for array in (operand.values, operand.columns)]
    if any(not operand.is_constant and is_distinct(operand) for operand in flat):
        first = inverse = np.arange(count)
    else:
        _, first, inverse = np.unique(np.concatenate(keys, axis=1), axis=0, return_index=True, return_inverse=True)
        inverse = inverse.ravel()
        order = np.argsort(first)
        places = np.empty_like(order)
        places[order] = np.arange(len(order))
        first, inverse = first[order], places[inverse]
    bits = classes(np.bitwise_or.reduce([np.bitwise_or.reduce(rates(node, operand), axis=1) for operand in flat]))
    values = np.empty((len(first), length), dtype=np.int64)
    columns = np.empty((len(first), length), dtype=np.int64)
    whole = shape if len(first) == count else (len(first),)
    for members in parts_of(bits[first].reshape(whole)) if by_rate else [np.arange(len(first))]:
        members, block = arranged(node, flat, first, members, shape)
        chosen = [
            operand.select((first[members][:, None] * width + np.arange(width)).ravel(), (*block, width))
            for operand in flat
            for width in [operand.columns.shape[1]]
        ]
        made = emit(chosen)
        value, places = made if isinstance(made, tuple) else (made, np.arange(len(members) * length))
        values[members] = value
        columns[members] = places.reshape(-1, length)
    return values[inverse].reshape(*shape, length), columns[inverse].reshape(*shape, length)


def parts_of(bits: np.ndarray) -> list[np.ndarray]:
    """The places of each run of one rate along the axis that the rates depend on; of each rate, if there is no such axis
    or the runs are many.
    """
    places = np.arange(bits.size).reshape(bits.shape)
    for axis in range(bits.ndim):
        along_axis = np.moveaxis(bits, axis, 0).reshape(bits.shape[axis], -1)
        if (along_axis == along_axis[:, :1]).all():
            ends = np.flatnonzero(np.diff(along_axis[:, 0])) + 1
            if len(ends) < MOST_RUNS:
                return [part.ravel() for part in np.split(places, ends, axis=axis)]
    return [np.flatnonzero(bits == rate) for rate in np.unique(bits)]


def is_distinct(operand: Operand) -> bool:
    keys = operand.values[:, 0] * (1 << 40) + operand.columns[:, 0]
    return len(np.unique(keys)) == len(keys)


def arranged(
    node: Node, operands: Sequence[Operand], first: np.ndarray, members: np.ndarray, shape: Sequence[int]
) -> tuple[np.ndarray, tuple[int, ...]]:
    """The order to compute cells in, and their shape: as they are, or as an operand has them in memory."""
    count = int(np.prod(shape, dtype=np.int64))
    block = block_of(first[members], shape) if len(members) < count else tuple(shape)
    for operand in operands:
        if operand.is_constant:
            continue
        chosen = Operand(operand.tensor, operand.values[first[members]], operand.columns[first[members]])
        if is_whole(node, chosen):
            break
        order = np.lexsort((chosen.columns[:, 0], chosen.values[:, 0]))
        if is_whole(node, Operand(operand.tensor, chosen.values[order], chosen.columns[order])):
            return members[order], (len(order),)
    return members, block


def block_of(places: np.ndarray, shape: Sequence[int]) -> tuple[int, ...]:
    """The shape of places that are all combinations of some indices of each axis; else their number."""
    sizes = tuple(len(np.unique(index)) for index in np.unravel_index(places, shape))
    return sizes if int(np.prod(sizes, dtype=np.int64)) == len(places) else (len(places),)


def folded(node: Node, tensors: Sequence[Tensor | None], row: Row | None) -> list[Tensor]:
    """The outputs of the node for constants that have rows."""

    def run(arrays: list[np.ndarray | None]) -> list[np.ndarray]:
        return fold(node.op_type, node.opset, node.attributes, arrays, len(node.outputs))

    results = run([None if tensor is None else tensor.constant for tensor in tensors])
    others = results
    if any(tensor is not None and tensor.other is not None for tensor in tensors):
        second = [None if t is None else t.constant if t.other is None else t.other for t in tensors]
        others = run(second)
    return [constant(*named, row=row) for named in zip(node.outputs, results, others)]


def elementwise(node: Node, tensors: Sequence[Tensor], dtype: Any, emit: Emit, by_rate: bool = True) -> Tensor:
    """The tensor of an element-wise operation; `emit` gets operands of one shape and gives a value of their width."""
    shape, row, _ = node.broadcast(tensors)
    operands = [Operand.of(tensor, shape, node.steps.learned) for tensor in tensors]
    flat = [operand.select(slice(None), (*shape, 1)) for operand in operands]

    def scalars(chosen: list[Operand]) -> int:
        return emit([operand.select(slice(None), operand.columns.shape[:-1]) for operand in chosen])

    values, columns = split(node, flat, shape, scalars, 1, by_rate)
    return Tensor(node.outputs[0], np.dtype(dtype), row, values=values.reshape(shape), columns=columns.reshape(shape))


def function(node: Node, tensor: Tensor, name: str, dtype: Any = None, **parameters: float | None) -> Tensor:
    """A function of every element."""

    def emit(operands: list[Operand]) -> int:
        (operand,) = operands
        return node.add("function", [operand.value(node)], operand.size, function=name, **parameters)

    return elementwise(node, [tensor], tensor.dtype if dtype is None else dtype, emit)


def along(node: Node, tensor: Tensor, axes: Sequence[int], what: str) -> tuple[Operand, tuple[int, ...]]:
    """The operand `[*kept, length]` of an operation along axes, and the kept axes; refused if rows lie on one."""
    if tensor.row is not None and tensor.row.axis in axes:
        raise node.mixes(f"{what} the rows of the batch")
    kept = tuple(axis for axis in range(len(tensor.shape)) if axis not in axes)
    operand = Operand.of(tensor, tensor.shape, node.steps.learned)
    shape = (*(tensor.shape[axis] for axis in kept), -1)
    move = [array.transpose(*kept, *axes).reshape(shape) for array in (operand.values, operand.columns)]
    return Operand(tensor, *move), kept


def vectors(
    node: Node, tensor: Tensor, axes: Sequence[int], what: str, emit: Callable[[Operand], int], dtype: Any = None
) -> Tensor:
    """The tensor of an operation that makes vectors of vectors along axes, as long as they are."""
    operand, kept = along(node, tensor, axes, what)
    *groups, length = operand.columns.shape
    back = np.argsort([*kept, *axes])
    arrays = split(node, [operand], groups, lambda chosen: emit(chosen[0]), length)
    shape = [tensor.shape[axis] for axis in (*kept, *axes)]
    values, columns = (array.reshape(shape).transpose(back) for array in arrays)
    return Tensor(node.outputs[0], np.dtype(dtype or tensor.dtype), tensor.row, values=values, columns=columns)


def without_axes(row: Row | None, axes: Sequence[int]) -> Row | None:
    """The mark when axes other than that of the rows go away."""
    return None if row is None else dataclasses.replace(row, axis=row.axis - sum(axis < row.axis for axis in axes))
