"""Operators that only move elements: they move references, and nothing is computed for them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from .node import Node, rule
from .tensor import BATCHES, ROW_NUMBER, Row, Tensor, agreed, constant, is_same_for_rows, of_value, reshape_row

Move = Callable[[np.ndarray], np.ndarray]


def numbers_of(node: Node, place: int, what: str) -> tuple[list[int], list[int]]:
    """Integers of a constant input at both sizes of the batch."""
    tensor = node.require(place)
    if not tensor.is_constant or tensor.row is not None:
        raise node.error(f"{what} is computed from the inputs; it has to be constant")
    other = tensor.constant if tensor.other is None else tensor.other
    return [int(number) for number in tensor.constant.ravel()], [int(number) for number in other.ravel()]


def fixed(node: Node, place: int, what: str) -> list[int]:
    """Integers of a constant input that do not depend on the batch."""
    numbers, others = numbers_of(node, place, what)
    if numbers != others:
        raise node.error(f"{what} depends on the size of the batch")
    return numbers


def axes_of(node: Node, place: int, rank: int, since: int = 13) -> list[int] | None:
    """The attribute `axes`, an input since an opset; counted from the front of `rank`."""
    given = node.attributes.get("axes")
    if node.opset >= since:
        given = fixed(node, place, "axes") if node.input(place) is not None else None
    if given is None:
        return None
    for axis in given:
        if not -rank <= axis < rank:
            raise node.error(f"axis {axis} is not one of {rank}")
    return [axis % rank for axis in given]


def is_row_axis(tensor: Tensor, axis: int) -> bool:
    return tensor.row is not None and tensor.row.axis == axis


def is_same_for_all(node: Node, tensor: Tensor) -> bool:
    """Whether all rows of a batch have the same elements, because the request gives them."""
    if tensor.is_constant:
        return True
    return all(
        value != ROW_NUMBER and node.steps.rates[value] in ("model", "request") for value in np.unique(tensor.values)
    )


def one_row(node: Node, tensor: Tensor, what: str) -> Tensor:
    """A row of a tensor that has the same in all, without the mark."""
    row = tensor.row
    if row is None or (row.before, row.after) != (1, 1) or not is_same_for_all(node, tensor):
        raise node.mixes(what)
    return tensor.move(node.outputs[0], None, lambda array: array)


def referenced(node: Node, tensor: Tensor) -> Tensor:
    """A tensor as references; numbers become a value."""
    if not tensor.is_constant:
        return tensor
    return of_value(tensor.name, node.value(tensor), tensor.shape, tensor.dtype, tensor.row)


def moved_axes(tensor: Tensor, order: Sequence[int]) -> Row | None:
    row = tensor.row
    return None if row is None else Row(list(order).index(row.axis), row.before, row.after)


def reshaped(node: Node, tensor: Tensor, dims: Sequence[int], others: Sequence[int]) -> Tensor:
    """The tensor with an ONNX shape, given at both sizes of the batch."""
    row, local = None, list(dims)
    if tensor.row is not None:
        found = reshape_row(tensor.row, tensor.shape, dims, others)
        if found is None and is_same_for_rows(tensor):
            count = tensor.row.before * tensor.row.after
            factors = [before for before in range(1, count + 1) if count % before == 0]
            marks = (Row(tensor.row.axis, before, count // before) for before in factors)
            found = next(filter(None, (reshape_row(mark, tensor.shape, dims, others) for mark in marks)), None)
        if found is None:
            raise node.mixes("reshapes rows into one another")
        row, local = found
    return tensor.move(node.outputs[0], row, lambda array: array.reshape(local))


def resolved(node: Node, dims: Sequence[int], target: Sequence[int], allows_zero: bool) -> list[int]:
    """The shape that a Reshape to `target` gives a tensor of shape `dims`."""
    sizes = list(target)
    for axis, size in enumerate(sizes):
        if size == 0 and not allows_zero:
            if axis >= len(dims):
                raise node.error(f"the shape {list(target)} copies an axis that {list(dims)} does not have")
            sizes[axis] = dims[axis]
    total = math.prod(dims)
    if sizes.count(-1) == 1:
        rest = math.prod(size for size in sizes if size != -1)
        sizes[sizes.index(-1)] = total // rest if rest else 0
    if min(sizes, default=1) < 0 or math.prod(sizes) != total:
        detail = "the size of a batch may be fixed in the graph: export it with a dynamic first dimension"
        raise node.error(f"{shape_text(dims)} cannot become {shape_text(target)}; {detail}")
    return sizes


def shape_text(dims: Sequence[int]) -> str:
    """A shape for a message: what the batch size makes is `N`."""
    texts = []
    for size in dims:
        count, rest = divmod(size, BATCHES[0])
        texts.append(str(size) if rest or not count else "N" if count == 1 else f"{count}*N")
    return f"[{', '.join(texts)}]"


@rule("Reshape")
def reshape(node: Node) -> Tensor:
    tensor = node.require(0)
    target, other = numbers_of(node, 1, "the shape")
    allows_zero = bool(node.attributes.get("allowzero", 0))
    dims = resolved(node, tensor.dims(BATCHES[0]), target, allows_zero)
    others = resolved(node, tensor.dims(BATCHES[1]), other, allows_zero)
    return reshaped(node, tensor, dims, others)


@rule("Flatten")
def flatten(node: Node) -> Tensor:
    tensor = node.require(0)
    rank = len(tensor.shape)
    axis = node.attributes.get("axis", 1)
    if not -rank <= axis <= rank:
        raise node.error(f"axis {axis} is not one of {rank}")
    axis = axis + rank if axis < 0 else axis
    dims, others = ([math.prod(d[:axis]), math.prod(d[axis:])] for d in map(tensor.dims, BATCHES))
    return reshaped(node, tensor, dims, others)


@rule("Squeeze")
def squeeze(node: Node) -> Tensor:
    """Without axes, it takes away those of size 1 that are not the rows, whatever the batch."""
    tensor = node.require(0)
    axes = axes_of(node, 1, len(tensor.shape))
    if axes is None:
        axes = [axis for axis, size in enumerate(tensor.shape) if size == 1 and not is_row_axis(tensor, axis)]
    for axis in axes:
        if is_row_axis(tensor, axis):
            raise node.error(f"axis {axis} has the rows; it is 1 only for a batch of one")
        if tensor.shape[axis] != 1:
            raise node.error(f"axis {axis} has size {tensor.shape[axis]}, not 1")
    kept = [axis for axis in range(len(tensor.shape)) if axis not in axes]
    return tensor.move(node.outputs[0], moved_axes(tensor, kept), lambda array: np.squeeze(array, tuple(axes)))


@rule("Unsqueeze")
def unsqueeze(node: Node) -> Tensor:
    tensor = node.require(0)
    given = node.attributes["axes"] if node.opset < 13 else fixed(node, 1, "axes")
    rank = len(tensor.shape) + len(given)
    if len({axis % rank for axis in given}) != len(given) or not all(-rank <= axis < rank for axis in given):
        raise node.error(f"axes {list(given)} are not of {rank}")
    axes = {axis % rank for axis in given}
    olds = iter(range(len(tensor.shape)))
    order = [-1 if axis in axes else next(olds) for axis in range(rank)]
    return tensor.move(node.outputs[0], moved_axes(tensor, order), lambda array: np.expand_dims(array, tuple(axes)))


@rule("Transpose")
def transpose(node: Node) -> Tensor:
    tensor = node.require(0)
    order = node.attributes.get("perm", list(range(len(tensor.shape)))[::-1])
    return tensor.move(node.outputs[0], moved_axes(tensor, order), lambda array: array.transpose(order))


@rule("Identity")
def identity(node: Node) -> Tensor:
    return node.require(0)


@rule("Dropout")
def dropout(node: Node) -> list[Tensor]:
    tensor = node.require(0)
    training = node.input(2)
    if training is not None and (not training.is_constant or training.constant.any()):
        raise node.error("is exported in training mode; export the model in evaluation mode")
    mask = constant(node.outputs[-1], np.ones(tensor.shape, dtype=bool), row=tensor.row)
    return [tensor, mask][: len(node.outputs)]


@rule("Slice")
def slice_(node: Node) -> Tensor:
    tensor = node.require(0)
    rank = len(tensor.shape)
    if node.opset < 10:
        starts = other_starts = list(node.attributes["starts"])
        ends = other_ends = list(node.attributes["ends"])
        axes, strides = node.attributes.get("axes"), None
    else:
        starts, other_starts = numbers_of(node, 1, "a start")
        ends, other_ends = numbers_of(node, 2, "an end")
        axes = fixed(node, 3, "axes") if node.input(3) is not None else None
        strides = fixed(node, 4, "steps") if node.input(4) is not None else None
    axes = [node.axis(tensor, axis) for axis in (range(len(starts)) if axes is None else axes)]
    strides = [1] * len(axes) if strides is None else strides
    dims, other_dims = map(tensor.dims, BATCHES)
    places = [slice(None)] * rank
    for i, axis in enumerate(axes):
        taken = slice(starts[i], ends[i], strides[i]).indices(dims[axis])
        other = slice(other_starts[i], other_ends[i], strides[i]).indices(other_dims[axis])
        if is_row_axis(tensor, axis):
            if taken == (0, dims[axis], 1) and other == (0, other_dims[axis], 1):
                continue
            single = [(list(range(*r[:2], r[2]))[:2], n) for r, n in ((taken, dims[axis]), (other, other_dims[axis]))]
            if all(rows in ([0], [n - 1]) for rows, n in single):
                tensor = one_row(node, tensor, "takes one row out of the batch")
                continue
            raise node.mixes("takes some rows out of the batch")
        if taken != other:
            raise node.error(f"the part of axis {axis} depends on the size of the batch")
        places[axis] = slice(taken[0], None if taken[1] < 0 else taken[1], taken[2])
    return tensor.move(node.outputs[0], tensor.row, lambda array: array[tuple(places)])


@rule("Split")
def split(node: Node) -> list[Tensor]:
    tensor = node.require(0)
    axis = node.axis(tensor, node.attributes.get("axis", 0))
    if len(node.outputs) == 1:
        return [tensor]
    if is_row_axis(tensor, axis):
        raise node.mixes("splits the rows of the batch")
    size, count = tensor.shape[axis], len(node.outputs)
    parts = node.attributes.get("split")
    if parts is None and node.input(1) is not None:
        parts = fixed(node, 1, "split")
    if parts is None:
        each = -(-size // count)
        parts = [each] * (count - 1) + [size - each * (count - 1)]
    if sum(parts) != size or len(parts) != count:
        raise node.error(f"splits {size} into {list(parts)}")
    ends = np.cumsum(parts)

    def part(number: int) -> Move:
        places = [slice(None)] * axis + [slice(int(ends[number]) - parts[number], int(ends[number]))]
        return lambda array: array[tuple(places)]

    return [tensor.move(name, tensor.row, part(number)) for number, name in enumerate(node.outputs)]


@rule("Concat")
def concat(node: Node) -> Tensor:
    tensors = agreed([node.require(place) for place in range(len(node.inputs))])
    axis = node.axis(tensors[0], node.attributes["axis"])
    marks = {tensor.row for tensor in tensors}
    if any(is_row_axis(tensor, axis) for tensor in tensors):
        if len(tensors) == 1:
            return tensors[0]
        raise node.mixes("joins rows below rows")
    if len(marks) > 1:
        raise node.mixes("joins rows with what has other rows, or none")
    row = marks.pop()
    if all(tensor.is_constant for tensor in tensors):
        joined = np.concatenate([tensor.constant for tensor in tensors], axis)
        others = [tensor.constant if tensor.other is None else tensor.other for tensor in tensors]
        return constant(node.outputs[0], joined, np.concatenate(others, axis), row)
    parts = [referenced(node, tensor) for tensor in tensors if tensor.shape[axis]]
    arrays = [np.concatenate([getattr(part, key) for part in parts], axis) for key in ("values", "columns")]
    return Tensor(node.outputs[0], tensors[0].dtype, row, values=arrays[0], columns=arrays[1])


@rule("Expand")
def expand(node: Node) -> Tensor:
    tensor = node.require(0)
    shapes = numbers_of(node, 1, "the shape")
    try:
        dims, others = (np.broadcast_shapes(tensor.dims(b), s) for b, s in zip(BATCHES, shapes))
    except ValueError:
        detail = "the size of a batch may be fixed in the graph: export it with a dynamic first dimension"
        raise node.error(
            f"{shape_text(tensor.dims(BATCHES[0]))} cannot become {shape_text(shapes[0])}; {detail}"
        ) from None
    local, row = list(dims), None
    ahead = len(dims) - len(tensor.shape)
    for axis, (size, other) in enumerate(zip(dims, others)):
        if size == other:
            continue
        count = size // BATCHES[0]
        if row is not None or (size, other) != tuple(count * b for b in BATCHES):
            raise node.mixes("gives every row an element per row")
        if tensor.row is not None and tensor.row.axis + ahead == axis:
            row = Row(axis, tensor.row.before, tensor.row.after)
        else:
            row = Row(axis, 1, count)
        local[axis] = count
    return tensor.move(node.outputs[0], row, lambda array: np.broadcast_to(array, local))


@rule("Tile")
def tile(node: Node) -> Tensor:
    tensor = node.require(0)
    repeats, others = numbers_of(node, 1, "repeats")
    row, local = tensor.row, list(repeats)
    for axis, (count, other) in enumerate(zip(repeats, others)):
        if count == other:
            if is_row_axis(tensor, axis):
                row = Row(axis, tensor.row.before * count, tensor.row.after)
            continue
        local[axis] = count // BATCHES[0]
        if row is not None or (count, other) != tuple(local[axis] * b for b in BATCHES):
            raise node.mixes("repeats every row once per row")
        row = Row(axis, 1, local[axis] * tensor.shape[axis])
    node.limit(tensor.size * math.prod(local))
    return tensor.move(node.outputs[0], row, lambda array: np.tile(array, local))


@rule("Pad")
def pad(node: Node) -> Tensor:
    tensor = node.require(0)
    rank = len(tensor.shape)
    mode = node.attributes.get("mode", "constant")
    if node.opset < 11:
        pads, axes = list(node.attributes["pads"]), list(range(rank))
        filler = np.asarray(node.attributes.get("value", 0.0), dtype=tensor.dtype)
    else:
        pads = fixed(node, 1, "pads")
        axes = axes_of(node, 3, rank, since=11) or list(range(rank))
        filler = node.numbers(2, "the value to pad with") if node.input(2) is not None else np.zeros((), tensor.dtype)
    widths = [(0, 0)] * rank
    for i, axis in enumerate(axes):
        widths[axis] = (pads[i], pads[i + len(axes)])
    if tensor.row is not None and widths[tensor.row.axis] != (0, 0):
        raise node.mixes("pads the rows of the batch")
    inner = tuple(slice(max(-a, 0), size - max(-b, 0)) for (a, b), size in zip(widths, tensor.shape))
    outer = [(max(a, 0), max(b, 0)) for a, b in widths]
    node.limit(math.prod(a + b + size for (a, b), size in zip(outer, tensor.shape)))
    if mode != "constant":
        return tensor.move(node.outputs[0], tensor.row, lambda array: np.pad(array[inner], outer, mode=mode))
    if tensor.is_constant:
        filled = filler.ravel()[0]
        return tensor.move(
            node.outputs[0], tensor.row, lambda array: np.pad(array[inner], outer, constant_values=filled)
        )
    value = node.steps.constant(f"{node.outputs[0]}.padding", filler.reshape(1))
    values = np.pad(tensor.values[inner], outer, constant_values=value)
    columns = np.pad(tensor.columns[inner], outer, constant_values=0)
    return Tensor(node.outputs[0], tensor.dtype, tensor.row, values=values, columns=columns)


@rule("Trilu")
def trilu(node: Node) -> Tensor:
    tensor = node.require(0)
    rank = len(tensor.shape)
    if tensor.row is not None and tensor.row.axis >= rank - 2:
        raise node.mixes("takes a triangle of the rows")
    diagonal = int(node.numbers(1, "k").ravel()[0]) if node.input(1) is not None else 0
    keep = np.ones(tensor.shape[-2:], dtype=bool)
    keep = np.triu(keep, diagonal) if node.attributes.get("upper", 1) else np.tril(keep, diagonal)
    if tensor.is_constant:
        zero = np.zeros((), tensor.dtype)
        return tensor.move(node.outputs[0], tensor.row, lambda array: np.where(keep, array, zero))
    value = node.steps.constant(f"{node.outputs[0]}.zero", np.zeros(1))
    values, columns = np.where(keep, tensor.values, value), np.where(keep, tensor.columns, 0)
    return Tensor(node.outputs[0], tensor.dtype, tensor.row, values=values, columns=columns)


@rule("Compress")
def compress(node: Node) -> Tensor:
    tensor = node.require(0)
    condition = node.numbers(1, "the condition").ravel().astype(bool)
    axis = node.attributes.get("axis")
    if axis is None:
        if tensor.row is not None:
            raise node.mixes("takes some elements of the whole batch")
        return tensor.move(node.outputs[0], None, lambda array: np.compress(condition, array))
    axis = node.axis(tensor, axis)
    if is_row_axis(tensor, axis):
        raise node.mixes("takes some rows out of the batch")
    return tensor.move(node.outputs[0], tensor.row, lambda array: np.compress(condition, array, axis))


@rule("Shape")
def shape(node: Node) -> Tensor:
    tensor = node.require(0)
    part = slice(node.attributes.get("start", 0), node.attributes.get("end"))
    dims, others = (np.array(tensor.dims(batch)[part], dtype=np.int64) for batch in BATCHES)
    return constant(node.outputs[0], dims, others)


@rule("Size")
def size(node: Node) -> Tensor:
    tensor = node.require(0)
    count, other = (np.array(math.prod(tensor.dims(batch)), dtype=np.int64) for batch in BATCHES)
    return constant(node.outputs[0], count, other)


@rule("ConstantOfShape")
def constant_of_shape(node: Node) -> Tensor:
    dims, others = numbers_of(node, 0, "the shape")
    filler = node.attributes.get("value", np.zeros(1, dtype=np.float32)).ravel()[0]
    row, local = None, list(dims)
    for axis, (size, other) in enumerate(zip(dims, others)):
        if size == other:
            continue
        local[axis] = size // BATCHES[0]
        if row is not None or (size, other) != tuple(local[axis] * batch for batch in BATCHES):
            raise node.mixes("makes an element for every pair of rows")
        row = Row(axis, 1, local[axis])
    return constant(node.outputs[0], np.broadcast_to(filler, local), row=row)


@rule("Range")
def range_(node: Node) -> Tensor:
    (start, other_start), (limit, other_limit), (delta, other_delta) = (
        (t.constant.ravel()[0], (t.constant if t.other is None else t.other).ravel()[0])
        for t in (constant_input(node, place) for place in range(3))
    )
    if (start, limit, delta) == (other_start, other_limit, other_delta):
        node.limit(int((limit - start) / delta))
        return constant(node.outputs[0], np.arange(start, limit, delta, dtype=node.require(0).dtype))
    if (start, delta, other_start, other_delta) != (0, 1, 0, 1) or (limit, other_limit) != BATCHES:
        raise node.error("numbers that depend on the size of the batch, other than 0, 1, ... for the rows")
    place = np.full(1, ROW_NUMBER, dtype=np.int64)
    return Tensor(node.outputs[0], node.require(0).dtype, Row(0), values=place, columns=np.zeros(1, dtype=np.int64))


def constant_input(node: Node, place: int) -> Tensor:
    tensor = node.require(place)
    if not tensor.is_constant or tensor.row is not None:
        raise node.error("has a range that is computed from the inputs; it has to be constant")
    return tensor


@rule("EyeLike")
def eye_like(node: Node) -> Tensor:
    tensor = node.require(0)
    if tensor.row is not None or len(tensor.shape) != 2:
        raise node.mixes("makes a matrix of the rows")
    dtype = node.attributes.get("dtype")
    kind = tensor.dtype if dtype is None else np_dtype(dtype)
    return constant(node.outputs[0], np.eye(*tensor.shape, node.attributes.get("k", 0), dtype=kind))


def np_dtype(element: int) -> np.dtype:
    from onnx.helper import tensor_dtype_to_np_dtype

    return tensor_dtype_to_np_dtype(element)


@rule("DepthToSpace", "SpaceToDepth")
def depth(node: Node) -> Tensor:
    tensor = node.require(0)
    if tensor.row is not None and tensor.row.axis != 0:
        raise node.mixes("moves rows into pixels")
    block = node.attributes["blocksize"]
    n, c, h, w = tensor.shape
    if node.op_type == "SpaceToDepth":
        sizes, order = (n, c, h // block, block, w // block, block), (0, 3, 5, 1, 2, 4)
        final = (n, c * block * block, h // block, w // block)
    elif node.attributes.get("mode", "DCR") == "DCR":
        sizes, order = (n, block, block, c // block**2, h, w), (0, 3, 4, 1, 5, 2)
        final = (n, c // block**2, h * block, w * block)
    else:
        sizes, order = (n, c // block**2, block, block, h, w), (0, 1, 4, 2, 5, 3)
        final = (n, c // block**2, h * block, w * block)
    return tensor.move(node.outputs[0], tensor.row, lambda array: array.reshape(sizes).transpose(order).reshape(final))


# These handle constants, too, without a copy and without knowing them to be as large as a batch.
MOVES = frozenset(
    "Reshape Flatten Squeeze Unsqueeze Transpose Identity Dropout Slice Split Concat Expand Tile Pad Trilu Compress"
    " Shape Size ConstantOfShape Range EyeLike DepthToSpace SpaceToDepth".split()
)
