"""Rules of operators along axes other than that of the rows: softmax, reductions, the largest elements, sums so far."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from .arithmetic import binary, number, scaled
from .cells import Operand, along, classes, folded, function, is_whole, rates, split, vectors, without_axes
from .node import Node, rule
from .tensor import Tensor


def axes_of(node: Node, tensor: Tensor, since: int = 18) -> list[int]:
    """The axes of a reduction: an attribute, or an input in the operator sets `since` one; all, if none are given."""
    axes = node.attributes.get("axes")
    if node.opset >= since and node.input(1) is not None:
        axes = node.numbers(1, "the list of axes").ravel().tolist()
    if not axes:
        return [] if node.attributes.get("noop_with_empty_axes", 0) else list(range(len(tensor.shape)))
    return sorted({node.axis(tensor, axis) for axis in axes})


@rule("Softmax", "LogSoftmax")
def softmax(node: Node) -> Tensor | Sequence[Tensor]:
    """Up to operator set 12 over the elements of all axes from `axis` on."""
    x = node.require(0)
    axis = node.axis(x, node.attributes.get("axis", 1 if node.opset < 13 else -1))
    axes = list(range(axis, len(x.shape))) if node.opset < 13 else [axis]

    def emit(operand: Operand) -> int:
        value, groups = operand.value(node), operand.size // operand.columns.shape[-1]
        if node.op_type == "Softmax":
            return node.add("softmax", [value], operand.size, groups=groups)
        total = node.add("reduce", [value], groups, function="log_sum_exp", groups=groups)
        return node.add("combine", [value, total], operand.size, function="subtract", each=groups > 1 or None)

    return along_axes(node, x, axes, "normalises over", emit)


def along_axes(
    node: Node, tensor: Tensor, axes: Sequence[int], what: str, emit: Callable[[Operand], int]
) -> Tensor | Sequence[Tensor]:
    """As `vectors`; constants that have rows are folded."""
    if tensor.is_constant:
        along(node, tensor, axes, what)
        return folded(node, node.inputs, tensor.row)
    return vectors(node, tensor, axes, what, emit)


REDUCTIONS = {
    "ReduceSum": (None, "sum", None), "ReduceMean": (None, "mean", None), "ReduceMax": (None, "max", None),
    "ReduceMin": (None, "min", None), "ReduceProd": (None, "product", None), "ReduceL1": ("abs", "sum", None),
    "ReduceL2": ("square", "sum", "sqrt"), "ReduceSumSquare": ("square", "sum", None),
    "ReduceLogSum": (None, "sum", "log"), "ReduceLogSumExp": (None, "log_sum_exp", None),
}

# Up to so many whole values are joined one after the other, without bringing them side by side first.
MOST_JOINED = 3

# What joins the results of parts.
JOINED = {"sum": "add", "mean": "add", "max": "maximum", "min": "minimum", "product": "multiply"}


@rule(*REDUCTIONS)
def reduce(node: Node) -> Tensor | Sequence[Tensor]:
    before, name, after = REDUCTIONS[node.op_type]
    x = node.require(0)
    axes = axes_of(node, x, 13 if node.op_type == "ReduceSum" else 18)
    kept = kept_axes(x, axes) if node.attributes.get("keepdims", 1) else None
    operand, others = along(node, x, axes, "reduces over")
    row = x.row if kept is not None else without_axes(x.row, axes)
    if x.is_constant:
        return folded(node, node.inputs, row)
    if before is not None:
        x = function(node, x, before)
    result = reduced(node, x, axes, name)
    if after is not None:
        result = function(node, result, after)
    if name == "mean" and x.dtype.kind in "iu":
        result = function(node, result, "truncate")
    shape = kept if kept is not None else tuple(x.shape[axis] for axis in others)
    return result.move(node.outputs[0], row, lambda array: array.reshape(shape))


def kept_axes(tensor: Tensor, axes: Sequence[int]) -> tuple[int, ...]:
    return tuple(1 if axis in axes else size for axis, size in enumerate(tensor.shape))


def reduced(node: Node, tensor: Tensor, axes: Sequence[int], name: str) -> Tensor:
    """The reduction along axes, which go away; what lies there at different rates is reduced apart. No mark."""
    order = [axis for axis in range(len(tensor.shape)) if axis not in axes]
    shape = tuple(tensor.shape[axis] for axis in order)
    moved = tensor.move(tensor.name, None, lambda array: array.transpose(*order, *axes).reshape(*shape, -1))
    operand = Operand.of(moved, moved.shape, node.steps.learned)
    length = operand.columns.shape[-1]
    if length == 0:
        raise node.error("reduces over nothing")
    bits = classes(np.bitwise_or.reduce(rates(node, operand).reshape(-1, length), axis=0))
    places = [np.flatnonzero(bits == rate) for rate in np.unique(bits)]
    if len(places) == 1 or name not in JOINED:
        return reduced_part(node, moved, name)
    function_name = "sum" if name == "mean" else name
    chosen = [moved.move(moved.name, None, lambda array: array[..., place]) for place in places]
    parts = [reduced_part(node, part, function_name) for part in chosen]
    result = parts[0]
    for part in parts[1:]:
        result = binary(node, JOINED[name], result, part)
    return binary(node, "divide", result, number(length)) if name == "mean" else result


def is_value(node: Node, tensor: Tensor) -> bool:
    return is_whole(node, Operand.of(tensor, tensor.shape, node.steps.learned))


def reduced_part(node: Node, tensor: Tensor, name: str) -> Tensor:
    """The reduction along the last axis."""
    *shape, length = tensor.shape
    if length == 1:
        return tensor.move(node.outputs[0], None, lambda array: array[..., 0])
    columns = [tensor.move(tensor.name, None, lambda array: array[..., place]) for place in range(length)]
    if length <= MOST_JOINED and name in JOINED and all(is_value(node, column) for column in columns):
        result = columns[0]
        for column in columns[1:]:
            result = binary(node, JOINED[name], result, column)
        return binary(node, "divide", result, number(length)) if name == "mean" else result

    def emit(operands: list[Operand]) -> tuple[int, np.ndarray]:
        (operand,) = operands
        cells = operand.select(slice(None), (-1, length))
        groups, inner, order = layout(node, cells)
        if order is None:
            order = np.arange(len(cells.columns))
            chosen = cells if inner == 1 else Operand(cells.tensor, cells.values.T, cells.columns.T)
            value = chosen.value(node)
        else:
            value = int(cells.values[0, 0])
        made = node.add("reduce", [value], len(order), function=name, groups=groups, inner=inner)
        return made, np.argsort(order)

    operand = Operand.of(tensor, tensor.shape, node.steps.learned)
    values, columns = split(node, [operand], shape, emit, 1)
    return Tensor(node.outputs[0], tensor.dtype, None, values=values[..., 0], columns=columns[..., 0])


def layout(node: Node, cells: Operand) -> tuple[int, int, np.ndarray | None]:
    """How the cells `[n, length]` lie in a value `[groups, length, inner]`, and their order in it.

    No order if they have to be brought together: inner 1 for cell by cell, else element by element.
    """
    count, length = cells.columns.shape
    value = int(cells.values[0, 0])
    inner = int(cells.columns[0, 1] - cells.columns[0, 0])
    order = np.argsort(cells.columns[:, 0], kind="stable")
    is_whole_value = value >= 0 and (cells.values == value).all() and node.steps.widths[value] == cells.size
    if is_whole_value and inner > 0 and count % inner == 0:
        first = np.arange(count) // inner * length * inner + np.arange(count) % inner
        if (cells.columns[order] == first[:, None] + np.arange(length) * inner).all():
            return count // inner, inner, order
    if runs(cells.values, cells.columns) <= runs(cells.values.T, cells.columns.T):
        return count, 1, None
    return 1, count, None


def runs(values: np.ndarray, columns: np.ndarray) -> int:
    """How many pieces of values lie side by side."""
    return int(np.count_nonzero((np.diff(columns.ravel()) != 1) | (np.diff(values.ravel()) != 0))) + 1


@rule("ArgMax", "ArgMin")
def arg_extreme(node: Node) -> Tensor | Sequence[Tensor]:
    x = node.require(0)
    axis = node.axis(x, node.attributes.get("axis", 0))
    keep = node.attributes.get("keepdims", 1)
    row = x.row if keep else without_axes(x.row, [axis])
    along(node, x, [axis], "searches")
    if x.is_constant:
        return folded(node, node.inputs, row)
    is_last, length = node.attributes.get("select_last_index", 0), x.shape[axis]
    if is_last:
        x = x.move(x.name, x.row, lambda array: np.flip(array, axis))
    _, places = extremes(node, x, axis, 1, node.op_type == "ArgMin")
    if is_last:
        places = scaled(node, places, -1, length - 1)
    return places.move(node.outputs[0], row, lambda array: array if keep else array.squeeze(axis))


@rule("Hardmax")
def hardmax(node: Node) -> Tensor | Sequence[Tensor]:
    """1 at the first largest element, 0 elsewhere; up to operator set 12 of all axes from `axis` on."""
    x = node.require(0)
    axis = node.axis(x, node.attributes.get("axis", 1 if node.opset < 13 else -1))
    axes = list(range(axis, len(x.shape))) if node.opset < 13 else [axis]

    def emit(operand: Operand) -> int:
        groups = operand.size // operand.columns.shape[-1]
        return node.add("argmax", [operand.value(node)], operand.size, groups=groups)

    return along_axes(node, x, axes, "searches", emit)


@rule("TopK")
def top_k(node: Node) -> Sequence[Tensor]:
    x = node.require(0)
    axis = node.axis(x, node.attributes.get("axis", -1))
    along(node, x, [axis], "sorts")
    if x.is_constant:
        return folded(node, node.inputs, x.row)
    count = int(node.attributes["k"] if node.opset < 10 else node.numbers(1, "k").item())
    if not 0 < count <= x.shape[axis]:
        raise node.error(f"k is {count}, of {x.shape[axis]} elements")
    return extremes(node, x, axis, count, not node.attributes.get("largest", 1))


def extremes(node: Node, tensor: Tensor, axis: int, count: int, is_smallest: bool) -> tuple[Tensor, Tensor]:
    """The largest elements along an axis and their places, sorted."""
    operand, kept = along(node, tensor, [axis], "sorts")
    *shape, _ = operand.columns.shape

    def emit(operands: list[Operand]) -> tuple[int, np.ndarray]:
        cells = operands[0]
        groups = cells.size // cells.columns.shape[-1]
        smallest = True if is_smallest else None
        keys = {"groups": groups, "count": count, "smallest": smallest}
        value = node.add("top_k", [cells.value(node)], 2 * groups * count, **keys)
        columns = np.arange(groups * count).reshape(groups, count)
        return value, np.concatenate([columns, columns + groups * count], axis=1)

    arrays = split(node, [operand], shape, emit, 2 * count)
    values, columns = (np.moveaxis(array, -1, axis) for array in arrays)
    first, second = (np.arange(count) + start for start in (0, count))
    outputs = [*node.outputs, ""]
    return (
        Tensor(outputs[0], tensor.dtype, tensor.row, values=values.take(first, axis), columns=columns.take(first, axis)),
        Tensor(outputs[1] or outputs[0], np.dtype(np.int64), tensor.row,
               values=values.take(second, axis), columns=columns.take(second, axis)),
    )


@rule("CumSum")
def cumulative_sum(node: Node) -> Tensor | Sequence[Tensor]:
    """A product with a triangle of ones."""
    x = node.require(0)
    axis = node.axis(x, int(node.numbers(1, "the axis").item()))
    length = x.shape[axis]
    is_exclusive, is_reverse = node.attributes.get("exclusive", 0), node.attributes.get("reverse", 0)

    def emit(operand: Operand) -> int:
        triangle = np.tri(length, k=-1 if is_exclusive else 0, dtype=np.float32)
        weight = node.steps.weight(f"{node.outputs[0]}.triangle", triangle.T if is_reverse else triangle)
        groups = operand.size // length
        return node.add("linear", [operand.value(node)], operand.size, weight=weight, groups=groups)

    return along_axes(node, x, [axis], "adds up", emit)
