"""A node of the ONNX graph with its tensors, and the table of what each operator becomes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .fold import fold
from .tensor import OnnxError, Row, Steps, Tensor, agreed, constant, of_value

# The most numbers of a value per row.
MAX_NUMBERS = 1 << 22

Rule = Callable[["Node"], "Tensor | Sequence[Tensor]"]

# What each operator becomes, by ONNX op_type; the modules of rules fill it.
RULES: dict[str, Rule] = {}


def rule(*op_types: str) -> Callable[[Rule], Rule]:
    """Makes a function the rule of operators. It gets the node when at least one input is not a plain constant."""

    def register(function: Rule) -> Rule:
        for op_type in op_types:
            RULES[op_type] = function
        return function

    return register


@dataclasses.dataclass
class Node:
    """A node: inputs are None where they are left out."""

    name: str
    op_type: str
    opset: int
    inputs: list[Tensor | None]
    outputs: list[str]
    attributes: dict[str, Any]
    steps: Steps

    def __str__(self) -> str:
        return f"node `{self.name}` ({self.op_type})"

    def error(self, detail: str) -> OnnxError:
        return OnnxError(f"{self}: {detail}")

    def mixes(self, what: str) -> OnnxError:
        return self.error(f"{what}: the score of a row would depend on its neighbours")

    def input(self, place: int) -> Tensor | None:
        return self.inputs[place] if place < len(self.inputs) else None

    def require(self, place: int) -> Tensor:
        tensor = self.input(place)
        if tensor is None:
            raise self.error(f"has no input {place}")
        return tensor

    def numbers(self, place: int, what: str) -> np.ndarray:
        """An input that has to be constant, and the same for every batch."""
        tensor = self.require(place)
        if not tensor.is_constant or tensor.other is not None:
            raise self.error(f"{what} is computed from the inputs; it has to be constant")
        return tensor.constant

    def limit(self, count: int) -> None:
        """Refuses a tensor of too many numbers per row, before it takes memory."""
        if count > MAX_NUMBERS:
            raise self.error(f"makes {count} numbers per row, at most {MAX_NUMBERS} are allowed")

    def value(self, tensor: Tensor) -> int:
        """The value of a tensor, row-major."""
        return self.steps.materialise(tensor, str(self))

    def made(self, value: int, shape: Sequence[int], dtype: Any, row: Row | None, output: int = 0) -> Tensor:
        """The output that has the columns of a value."""
        return of_value(self.outputs[output], value, shape, dtype, row)

    def add(self, op: str, inputs: Sequence[int], width: int, **keys: Any) -> int:
        """A step named after the first output of the node."""
        return self.steps.add(op, inputs, width, self.outputs[0], **keys)

    def call(self, op_type: str, inputs: Sequence[Tensor], name: str, **attributes: Any) -> Tensor:
        """The output of another operator, as a part of this one."""
        part = Node(self.name, op_type, self.opset, list(inputs), [name], attributes, self.steps)
        if all(tensor.is_constant and tensor.row is None for tensor in inputs):
            (array,) = fold(op_type, self.opset, attributes, [tensor.constant for tensor in inputs])
            zeros = [tensor for tensor in inputs if tensor.name not in self.steps.learned and not tensor.constant.any()]
            stays_zero = op_type in ("MatMul", "Mul") and zeros
            return self.derived(name, array, () if stays_zero else inputs)
        made = RULES[op_type](part)
        return made if isinstance(made, Tensor) else made[0]

    def derived(self, name: str, array: np.ndarray, of: Sequence[Tensor], row: Row | None = None) -> Tensor:
        """A constant that is computed of others: training may change it if it may change them."""
        if any(map(self.steps.passes_on, of)):
            self.steps.derive(name)
        return constant(name, array, row=row)

    def axis(self, tensor: Tensor, axis: int) -> int:
        """An axis attribute, counted from the front."""
        rank = len(tensor.shape)
        if not -rank <= axis < rank:
            raise self.error(f"axis {axis} is not one of {rank}")
        return axis % rank

    def broadcast(self, tensors: Sequence[Tensor]) -> tuple[tuple[int, ...], Row | None, list[Tensor]]:
        """The local shape, the mark and the tensors brought to it, by the rules of ONNX; refuses what compares rows."""
        tensors = agreed(tensors)
        rank = max(len(tensor.shape) for tensor in tensors)
        marks = {}
        for tensor in tensors:
            if tensor.row is not None:
                axis = tensor.row.axis + rank - len(tensor.shape)
                marks[Row(axis, tensor.row.before, tensor.row.after)] = tensor
        if len(marks) > 1:
            raise self.mixes("combines rows with other rows")
        row = next(iter(marks), None)
        shape = [1] * rank
        for tensor in tensors:
            for axis, size in enumerate(tensor.shape, rank - len(tensor.shape)):
                if row is not None and axis == row.axis and tensor.row is None and size != 1:
                    raise self.mixes(f"combines the rows with a tensor of {size} rows")
                if size != 1:
                    if shape[axis] not in (1, size):
                        raise self.error(f"inputs of sizes {shape[axis]} and {size} do not fit at axis {axis}")
                    shape[axis] = size
        moved = []
        for tensor in tensors:
            mark = row if tensor.row is not None else None
            moved.append(tensor.move(tensor.name, mark, lambda array: np.broadcast_to(array, shape)))
        return tuple(shape), row, moved
