"""Rules of norms: with the statistics of training, or of the elements along axes other than that of the rows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .arithmetic import binary, scaled
from .cells import Operand, along, elementwise, function, vectors
from .node import Node, rule
from .reductions import along_axes, kept_axes, reduced
from .tensor import Tensor, constant, period


@rule("BatchNormalization")
def batch_norm(node: Node) -> Tensor:
    """Of the channels at axis 1, with the statistics of training.

    Parts of different rates stay together, because the engine puts a norm into the layer before or after it.
    """
    x = node.require(0)
    if node.attributes.get("training_mode", 0) or any(node.outputs[1:]):
        raise node.mixes("uses the mean and variance of the batch (export the model in eval mode)")
    if node.attributes.get("spatial", 1) != 1:
        raise node.error("spatial = 0 is not read; export with operator set 9 or later")
    if x.row is not None and x.row.axis == 1:
        raise node.mixes("has the rows of the batch as channels")
    names = ("weight", "bias", "mean", "variance")
    given = {key: node.numbers(place, f"its {key}") for place, key in enumerate(names, 1)}
    epsilon = float(node.attributes.get("epsilon", 1e-5))
    channels = np.arange(x.shape[1]).reshape(-1, *[1] * (len(x.shape) - 2))
    marks = constant(f"{node.outputs[0]}.channels", channels)

    def emit(operands: list[Operand]) -> int:
        every = operands[1].columns.ravel()
        place = every[: period(every)]
        is_whole = place.size == channels.size and (place == np.arange(place.size)).all()
        tensors = {
            key: node.steps.weight(node.require(at).name, given[key] if is_whole else given[key][place])
            for at, key in enumerate(names, 1)
        }
        groups = every.size // place.size
        return node.add("batch_norm", [operands[0].value(node)], every.size, groups=groups, epsilon=epsilon, **tensors)

    return elementwise(node, [x, marks], x.dtype, emit, by_rate=False)


@rule("LayerNormalization", "RMSNormalization")
def layer_norm(node: Node) -> Tensor:
    x, scale, shift = node.require(0), node.input(1), node.input(2)
    if any(node.outputs[1:]):
        raise node.error("its mean and deviation are used; only the result of the norm is read")
    axis = node.axis(x, node.attributes.get("axis", -1))
    axes, epsilon = list(range(axis, len(x.shape))), float(node.attributes.get("epsilon", 1e-5))
    if node.op_type == "RMSNormalization":
        along(node, x, axes, "normalises over")
        total = reduced(node, function(node, x, "square"), axes, "mean")
        size = function(node, scaled(node, total, 1, epsilon), "sqrt")
        size = size.move(size.name, x.row, lambda array: array.reshape(kept_axes(x, axes)))
        return binary(node, "multiply", binary(node, "divide", x, size), scale)
    is_known = all(
        part is None or (part.is_constant and part.row is None and part.other is None) for part in (scale, shift)
    )
    result = normed(node, x, axes, epsilon, scale if is_known else None, shift if is_known else None)
    return result if is_known else scaled_and_shifted(node, result, scale, shift)


def normed(
    node: Node, x: Tensor, axes: Sequence[int], epsilon: float, scale: Tensor | None = None, shift: Tensor | None = None
) -> Tensor:
    """(x - mean) / deviation over axes, with constants for the elements of those."""
    shape = tuple(x.shape[axis] for axis in axes)

    def emit(operand: Operand) -> int:
        parts = {}
        for key, part in (("weight", scale), ("bias", shift)):
            if part is not None:
                numbers = part.constant if part.shape == shape else np.broadcast_to(part.constant, shape)
                parts[key] = node.steps.weight(part.name, numbers if len(shape) == 1 else numbers.reshape(-1))
        groups = operand.size // operand.columns.shape[-1]
        return node.add("layer_norm", [operand.value(node)], operand.size, groups=groups, epsilon=epsilon, **parts)

    return vectors(node, x, axes, "normalises over", emit)


def scaled_and_shifted(node: Node, x: Tensor, scale: Tensor | None, shift: Tensor | None) -> Tensor:
    if scale is not None:
        x = binary(node, "multiply", x, scale)
    return x if shift is None else binary(node, "add", x, shift)


@rule("InstanceNormalization")
def instance_norm(node: Node) -> Tensor:
    x = node.require(0)
    result = normed(node, x, list(range(2, len(x.shape))), float(node.attributes.get("epsilon", 1e-5)))
    return scaled_and_shifted(node, result, *(per_channel(node, node.require(place), x) for place in (1, 2)))


def per_channel(node: Node, tensor: Tensor, x: Tensor) -> Tensor:
    """Numbers of the channels, brought to axis 1."""
    if tensor.row is not None:
        raise node.error(f"`{tensor.name}` has rows")
    return tensor.move(tensor.name, None, lambda array: array.reshape(-1, *[1] * (len(x.shape) - 2)))


@rule("GroupNormalization")
def group_norm(node: Node) -> Tensor:
    """Scale and bias are those of groups up to operator set 20, of channels from 21 on."""
    x, groups = node.require(0), int(node.attributes["num_groups"])
    if x.row is None or x.row.axis != 0:
        raise node.error("the rows of the batch have to be axis 0")
    batch, channels, *rest = x.shape
    apart = x.move(x.name, x.row, lambda array: array.reshape(batch, groups, channels // groups, *rest))
    result = normed(node, apart, list(range(2, len(apart.shape))), float(node.attributes.get("epsilon", 1e-5)))
    parts = [node.require(1), node.require(2)]
    if node.opset < 21:
        return scaled_and_shifted(node, result, *(per_channel(node, part, apart) for part in parts)).move(
            node.outputs[0], x.row, lambda array: array.reshape(x.shape)
        )
    result = result.move(result.name, x.row, lambda array: array.reshape(x.shape))
    return scaled_and_shifted(node, result, *(per_channel(node, part, x) for part in parts))


@rule("LpNormalization")
def lp_norm(node: Node) -> Tensor | Sequence[Tensor]:
    x = node.require(0)
    axis = node.axis(x, node.attributes.get("axis", -1))

    def emit(operand: Operand) -> int:
        value, groups = operand.value(node), operand.size // operand.columns.shape[-1]
        if node.attributes.get("p", 2) == 2:
            return node.add("normalize", [value], operand.size, groups=groups)
        sizes = node.add("function", [value], operand.size, function="abs")
        total = node.add("reduce", [sizes], groups, function="sum", groups=groups)
        above = node.add("function", [total], groups, function="clip", low=1e-30)
        return node.add("combine", [value, above], operand.size, function="divide", each=groups > 1 or None)

    return along_axes(node, x, [axis], "normalises over", emit)


@rule("MeanVarianceNormalization")
def mean_variance_norm(node: Node) -> Tensor:
    x = node.require(0)
    axes = [node.axis(x, axis) for axis in node.attributes.get("axes", [0, 2, 3])]
    return normed(node, x, axes, 1e-18)
