"""Rules of matrix products.

A product with constants is a `linear` of the vectors of the other side, those of different rates apart; one of two
computed sides is a `matmul` per row.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from .arithmetic import binary, number, scaled
from .cells import Operand, split
from .node import Node, rule
from .reductions import reduced, runs
from .tensor import Row, Tensor, constant


def product(node: Node, left: Tensor, right: Tensor, is_transposed: bool = False, bias: Tensor | None = None) -> Tensor:
    """`[g, rows, inner] x [g, inner, columns]`, the right one `[g, columns, inner]` if transposed; g may be 1 on a side.

    No marks. `bias`, only with a constant right side of one matrix, has a number or one for each column.
    """
    for tensor in (left, right):
        if tensor.other is not None:
            raise node.error(f"computes with the number of rows of the batch (`{tensor.name}`)")
    matrices, rows, inner = left.shape
    columns = right.shape[1 if is_transposed else 2]
    if right.shape[0] > 1 and right.is_constant and (inner == 1 or rows == columns == 1):
        if inner == 1:
            return binary(node, "multiply", left, swapped(right) if is_transposed else right)
        terms = binary(node, "multiply", left, right if is_transposed else swapped(right))
        return reduced(node, terms, [2], "sum").move(node.outputs[0], None, lambda array: array[..., None])
    if right.is_constant:
        return product_with_constants(node, left, right, is_transposed, bias)
    if left.is_constant:
        turned = right if is_transposed else swapped(right)
        return swapped(product_with_constants(node, turned, left, True, None))
    return product_of_values(node, left, swapped(right) if is_transposed else right)


def swapped(tensor: Tensor) -> Tensor:
    return tensor.move(tensor.name, None, lambda array: array.swapaxes(-1, -2))


def product_with_constants(
    node: Node, left: Tensor, weights: Tensor, is_transposed: bool, bias: Tensor | None
) -> Tensor:
    matrices, rows, _ = left.shape
    if weights.shape[0] == 1:
        values, columns = linear(node, left, weights.name, weights.constant[0], is_transposed, bias)
        return Tensor(node.outputs[0], left.dtype, None, values=values, columns=columns)
    outputs = weights.shape[1 if is_transposed else 2]
    shape = (weights.shape[0], rows, outputs)
    values, columns = np.empty(shape, dtype=np.int64), np.empty(shape, dtype=np.int64)
    for members in equal_matrices(left, weights.shape[0]):
        one = left.move(left.name, None, lambda array: array[members[:1] if matrices > 1 else [0]])
        chosen = weights.constant[members]
        beside = chosen.reshape(-1, chosen.shape[2]) if is_transposed else np.concatenate(list(chosen), axis=1)
        name = weights.name if len(members) == shape[0] else f"{weights.name}.{members[0]}"
        made = linear(node, one, name, beside, is_transposed, None)
        for array, part in zip((values, columns), made):
            array[members] = part.reshape(rows, len(members), outputs).swapaxes(0, 1)
    return Tensor(node.outputs[0], left.dtype, None, values=values, columns=columns)


def equal_matrices(left: Tensor, count: int) -> list[list[int]]:
    """The numbers of matrices that are the same, together."""
    if left.shape[0] == 1:
        return [list(range(count))]
    arrays = [left.constant] if left.is_constant else [left.values, left.columns]
    known: dict[bytes, list[int]] = {}
    for place in range(count):
        known.setdefault(b"".join(array[place].tobytes() for array in arrays), []).append(place)
    return list(known.values())


def linear(
    node: Node, left: Tensor, name: str, matrix: np.ndarray, is_transposed: bool, bias: Tensor | None
) -> tuple[np.ndarray, np.ndarray]:
    """References to the product of all vectors of the last axis with a matrix `[inputs, outputs]`, or, transposed,
    `[outputs, inputs]`.
    """
    outputs = matrix.shape[0 if is_transposed else 1]

    def emit(operands: list[Operand]) -> int:
        (operand,) = operands
        groups = operand.size // operand.columns.shape[-1]
        keys = {"weight": node.steps.weight(name, matrix), "groups": groups, "transposed": not is_transposed or None}
        if bias is not None:
            numbers = bias.constant.reshape(-1)
            numbers = numbers if numbers.size == outputs else np.broadcast_to(numbers, (outputs,))
            keys["bias"] = node.steps.weight(bias.name, numbers)
        return node.add("linear", [operand.value(node)], groups * outputs, **keys)

    *shape, _ = left.shape
    return split(node, [Operand.of(left, left.shape, node.steps.learned)], shape, emit, outputs)


def product_of_values(node: Node, left: Tensor, right: Tensor) -> Tensor:
    """Both sides computed."""
    matrices = max(left.shape[0], right.shape[0])
    rows, inner = left.shape[1:]
    columns = right.shape[2]
    if inner == 1:
        return binary(node, "multiply", left, right)
    operands = [
        spread.select(slice(None), (matrices, -1))
        for tensor in (left, right)
        for spread in [Operand.of(tensor, (matrices, *tensor.shape[1:]), node.steps.learned)]
    ]

    def emit(chosen: list[Operand]) -> int:
        lefts, rights = (operand.select(slice(None), (-1, operand.columns.shape[-1])) for operand in chosen)
        batch, m = len(lefts.columns), rows
        lefts, rights = shared(lefts), shared(rights)
        if len(rights.columns) == 1 and len(lefts.columns) == batch:
            batch, m = 1, batch * rows
        size = batch * m * columns
        rights = rights.select(slice(None), (-1, inner, columns))
        turned = Operand(rights.tensor, rights.values.swapaxes(1, 2), rights.columns.swapaxes(1, 2))
        lefts = lefts.select(slice(None), (-1, inner))
        if m == 1 and columns == 1 and len(lefts.columns) == batch:
            return node.add("dot", [lefts.value(node), turned.value(node)], size, groups=batch)
        if columns == 1:
            keys = {"batch": batch, "rows": 1, "inner": inner, "columns": m, "transposed": True}
            return node.add("matmul", [turned.value(node), lefts.value(node)], size, **keys)
        is_turned = runs(turned.values, turned.columns) < runs(rights.values, rights.columns)
        keys = {"batch": batch, "rows": m, "inner": inner, "columns": columns, "transposed": is_turned or None}
        return node.add("matmul", [lefts.value(node), (turned if is_turned else rights).value(node)], size, **keys)

    values, places = split(node, operands, (matrices,), emit, rows * columns)
    shape = (matrices, rows, columns)
    return Tensor(node.outputs[0], left.dtype, None, values=values.reshape(shape), columns=places.reshape(shape))


def shared(operand: Operand) -> Operand:
    """The first matrix, if all are the same."""
    if all((array == array[0]).all() for array in (operand.values, operand.columns)):
        return operand.select(slice(operand.columns.shape[1]), (1, -1))
    return operand


# MatMul and Gemm


@rule("MatMul")
def matmul(node: Node) -> Tensor | Sequence[Tensor]:
    return multiplied(node, node.require(0), node.require(1))


def multiplied(
    node: Node, left: Tensor, right: Tensor, bias: Tensor | None = None, is_transposed: bool = False
) -> Tensor:
    """The ONNX product; the last two axes of the right one are turned if told. `bias` has the columns of the result."""
    is_vector = (len(left.shape) == 1, len(right.shape) == 1)
    if is_vector[0]:
        left = unsqueezed(left, 0)
    if is_vector[1]:
        right = unsqueezed(right, 1)
    rank = max(len(left.shape), len(right.shape))
    inner, outer = (-1, -2) if is_transposed else (-2, -1)
    if left.shape[-1] != right.shape[inner]:
        raise node.error(f"inputs of {left.shape[-1]} and {right.shape[inner]} columns and rows do not fit")
    row = row_of_product(node, left, right, rank, inner, outer)
    batches = [tensor.shape[:-2] for tensor in (left, right)]
    try:
        batch = np.broadcast_shapes(*batches)
    except ValueError:
        raise node.error(f"inputs of shapes {left.shape} and {right.shape} do not fit") from None
    count = math.prod(batch)
    stacked = [stack(tensor, batch, count) for tensor in (left, right)]
    can_fuse = bias is not None and right.is_constant and stacked[1].shape[0] == 1 and is_bias(bias, right.shape[outer])
    result = product(node, *stacked, is_transposed, bias if can_fuse else None)
    shape = (*batch, left.shape[-2], right.shape[outer])
    if stacked[0].shape[0] < count and stacked[1].shape[0] < count:
        result = result.move(result.name, None, lambda array: np.broadcast_to(array, (count, *array.shape[1:])))
    result = result.move(node.outputs[0], row, lambda array: array.reshape(shape))
    for place, axis in ((1, rank - 1), (0, rank - 2)):
        if is_vector[place]:
            result = squeezed(result, axis)
    return result if can_fuse or bias is None else binary(node, "add", result, bias)


def is_bias(bias: Tensor, columns: int) -> bool:
    """Whether a linear layer can take an addend: finite numbers, one or one for each column."""
    if not bias.is_constant or bias.row is not None or bias.other is not None or bias.size not in (1, columns):
        return False
    return (bias.size == 1 or bias.shape[-1] == columns) and bool(np.isfinite(bias.constant).all())


def unsqueezed(tensor: Tensor, axis: int) -> Tensor:
    row = tensor.row
    if row is not None and row.axis >= axis:
        row = dataclasses.replace(row, axis=row.axis + 1)
    return tensor.move(tensor.name, row, lambda array: np.expand_dims(array, axis))


def squeezed(tensor: Tensor, axis: int) -> Tensor:
    row = tensor.row
    if row is not None and row.axis > axis:
        row = dataclasses.replace(row, axis=row.axis - 1)
    return tensor.move(tensor.name, row, lambda array: np.squeeze(array, axis))


def stack(tensor: Tensor, batch: Sequence[int], count: int) -> Tensor:
    """The matrices of a tensor in one axis: as many as there are, or one."""
    shape = tensor.shape
    if math.prod(shape[:-2]) == 1:
        return tensor.move(tensor.name, None, lambda array: array.reshape(1, *shape[-2:]))
    whole = (*batch, *shape[-2:])
    return tensor.move(
        tensor.name, None, lambda array: np.broadcast_to(array, whole).reshape(count, *shape[-2:])
    )


def row_of_product(node: Node, left: Tensor, right: Tensor, rank: int, inner: int, outer: int) -> Row | None:
    """The mark of a product, whose factors have at least two axes."""
    marks = []
    for tensor, summed, kept, place in ((left, -1, -2, -2), (right, inner, outer, -1)):
        if tensor.row is None:
            marks.append(None)
            continue
        axis = tensor.row.axis - len(tensor.shape)
        if axis == summed:
            raise node.mixes("adds up over the rows of the batch")
        marks.append(dataclasses.replace(tensor.row, axis=rank + (place if axis == kept else axis)))
    if marks[0] is None or marks[1] is None:
        row = marks[0] or marks[1]
        if row is not None and row.axis < rank - 2:
            other = right if marks[1] is None else left
            axis = row.axis - rank + len(other.shape)
            if axis >= 0 and other.shape[axis] != 1:
                raise node.mixes(f"combines the rows with a tensor of {other.shape[axis]} rows")
        return row
    if marks[0] != marks[1] or marks[0].axis >= rank - 2:
        raise node.mixes("combines rows with other rows")
    return marks[0]


@rule("Gemm")
def gemm(node: Node) -> Tensor | Sequence[Tensor]:
    left, right, addend = node.require(0), node.require(1), node.input(2)
    alpha, beta = node.attributes.get("alpha", 1.0), node.attributes.get("beta", 1.0)
    if node.attributes.get("transA", 0):
        left = transposed(left)
    if alpha != 1:
        left = binary(node, "multiply", left, number(alpha))
    if addend is not None and beta != 1:
        addend = times(node, addend, beta)
    return multiplied(node, left, right, addend, bool(node.attributes.get("transB", 0)))


def transposed(tensor: Tensor) -> Tensor:
    row = None if tensor.row is None else dataclasses.replace(tensor.row, axis=1 - tensor.row.axis)
    return tensor.move(tensor.name, row, np.transpose)


def times(node: Node, tensor: Tensor, factor: float) -> Tensor:
    if tensor.is_constant:
        return constant(tensor.name, tensor.constant * np.float32(factor), row=tensor.row)
    return scaled(node, tensor, factor)


# Einsum

Labels = list[str]


@rule("Einsum")
def einsum(node: Node) -> Tensor | Sequence[Tensor]:
    tensors = [node.require(place) for place in range(len(node.inputs))]
    operands, output = equation(node, node.attributes["equation"], tensors)
    operands = [diagonal(node, *operand) for operand in operands]
    labels, tensor = operands[0]
    for number_of, (next_labels, next_tensor) in enumerate(operands[1:], 1):
        needed = {label for later, _ in operands[number_of + 1 :] for label in later} | set(output)
        labels, tensor = contract(node, (labels, tensor), (next_labels, next_tensor), needed)
    labels, tensor = summed(node, labels, tensor, set(output))
    order = [labels.index(label) for label in output]
    row = None if tensor.row is None else dataclasses.replace(tensor.row, axis=order.index(tensor.row.axis))
    return tensor.move(node.outputs[0], row, lambda array: array.transpose(order))


def equation(node: Node, terms: str, tensors: Sequence[Tensor]) -> tuple[list[tuple[Labels, Tensor]], Labels]:
    """The labels of each operand and of the output; axes of an ellipsis are labelled by their place from its end."""
    left, arrow, right = terms.replace(" ", "").partition("->")
    parts = left.split(",")
    if len(parts) != len(tensors):
        raise node.error(f"its equation `{terms}` has {len(parts)} operands for {len(tensors)} inputs")
    operands, longest = [], 0
    for part, tensor in zip(parts, tensors):
        named = len(part.replace("...", ""))
        rest = len(tensor.shape) - named
        if rest < 0 or (rest > 0 and "..." not in part):
            raise node.error(f"its equation `{terms}` does not fit an input of {len(tensor.shape)} axes")
        longest = max(longest, rest)
        operands.append((labels_of(part, rest), tensor))
    if arrow:
        return operands, labels_of(right, longest)
    letters = [label for labels, _ in operands for label in labels if label.isalpha()]
    once = sorted(label for label in set(letters) if letters.count(label) == 1)
    return operands, [*labels_of("...", longest), *once]


def labels_of(part: str, rest: int) -> Labels:
    before, dots, after = part.partition("...")
    return [*before, *(str(place) for place in range(rest, 0, -1) if dots), *after]


def diagonal(node: Node, labels: Labels, tensor: Tensor) -> tuple[Labels, Tensor]:
    """Axes of one label become one."""
    while len(set(labels)) < len(labels):
        second = next(axis for axis, label in enumerate(labels) if label in labels[:axis])
        first = labels.index(labels[second])
        row = tensor.row
        if row is not None and row.axis in (first, second):
            raise node.mixes("compares the rows with another axis")
        kept = [axis for axis in range(len(labels)) if axis not in (first, second)]
        if row is not None:
            row = dataclasses.replace(row, axis=kept.index(row.axis))
        tensor = tensor.move(tensor.name, row, lambda array: np.diagonal(array, 0, first, second))
        labels = [labels[axis] for axis in kept] + [labels[first]]
    return labels, tensor


def summed(node: Node, labels: Labels, tensor: Tensor, needed: set[str]) -> tuple[Labels, Tensor]:
    """Adds up the axes that nothing needs."""
    axes = [axis for axis, label in enumerate(labels) if label not in needed]
    if not axes:
        return labels, tensor
    if tensor.row is not None and tensor.row.axis in axes:
        raise node.mixes("adds up over the rows of the batch")
    row = tensor.row
    if row is not None:
        row = dataclasses.replace(row, axis=row.axis - sum(axis < row.axis for axis in axes))
    kept = [label for label in labels if label in needed]
    if tensor.is_constant:
        return kept, node.derived(f"{tensor.name}.sum", tensor.constant.sum(axis=tuple(axes)), [tensor], row)
    return kept, reduced(node, tensor, axes, "sum").move(tensor.name, row, lambda array: array)


def contract(
    node: Node, one: tuple[Labels, Tensor], other: tuple[Labels, Tensor], needed: set[str]
) -> tuple[Labels, Tensor]:
    """The product of two operands, added up over the labels that are in both and that nothing else needs."""
    one, other = (summed(node, *operand, needed | set(rest[0])) for operand, rest in ((one, other), (other, one)))
    if one[1].is_constant:
        one, other = other, one
    (labels, tensor), (others, weights) = one, other
    both = [label for label in labels if label in others]
    batch, inner = ([label for label in both if (label in needed) == is_needed] for is_needed in (True, False))
    left = [label for label in labels if label not in both]
    right = [label for label in others if label not in both]
    row = row_of_contraction(node, one, other, inner, [*batch, *left, *right])
    sizes = {label: 1 for label in (*labels, *others)}
    for operand_labels, operand in (one, other):
        for label, size in zip(operand_labels, operand.shape):
            sizes[label] = max(sizes[label], size)

    def count(*parts: Labels) -> int:
        return math.prod(sizes[label] for part in parts for label in part)

    def arranged(operand: tuple[Labels, Tensor], order: Labels, rows: Labels, columns: Labels) -> Tensor:
        known, values = operand
        shape = (count(batch), count(rows), count(columns))
        return values.move(
            values.name,
            None,
            lambda array: np.broadcast_to(
                array.transpose([known.index(label) for label in order]), [sizes[label] for label in order]
            ).reshape(shape),
        )

    is_transposed = weights.is_constant and others == [*batch, *right, *inner]
    if tensor.is_constant:
        numbers = (arranged(operand, [*batch, *order], *sides).constant for operand, order, sides in (
            (one, [*left, *inner], (left, inner)), (other, [*inner, *right], (inner, right))))
        result = node.derived(node.outputs[0], np.matmul(*numbers), [tensor, weights])
    elif is_transposed:
        result = product(node, arranged(one, [*batch, *left, *inner], left, inner),
                         arranged(other, [*batch, *right, *inner], right, inner), True)
    else:
        result = product(node, arranged(one, [*batch, *left, *inner], left, inner),
                         arranged(other, [*batch, *inner, *right], inner, right))
    made = [*batch, *left, *right]
    return made, result.move(node.outputs[0], row, lambda array: array.reshape([sizes[label] for label in made]))


def row_of_contraction(
    node: Node, one: tuple[Labels, Tensor], other: tuple[Labels, Tensor], inner: Labels, made: Labels
) -> Row | None:
    marks = set()
    for (labels, tensor), (others, rest) in ((one, other), (other, one)):
        if tensor.row is None:
            continue
        label = labels[tensor.row.axis]
        if label in inner:
            raise node.mixes("adds up over the rows of the batch")
        if label in others and rest.row is None and rest.shape[others.index(label)] != 1:
            raise node.mixes(f"combines the rows with a tensor of {rest.shape[others.index(label)]} rows")
        marks.add(Row(made.index(label), tensor.row.before, tensor.row.after))
    if len(marks) > 1:
        raise node.mixes("combines rows with other rows")
    return next(iter(marks), None)
