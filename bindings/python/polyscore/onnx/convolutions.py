"""Rules of convolutions and pools: windows are references, so that a convolution is a `linear` of windows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .arithmetic import binary, number, references
from .cells import folded
from .node import Node, rule
from .products import is_bias, linear
from .reductions import reduced
from .tensor import Tensor, constant


@rule("Conv")
def convolution(node: Node) -> Tensor:
    """A `linear` of windows; one for each group of channels."""
    x, bias = node.require(0), node.input(2)
    weights = node.require(1)
    kernels = node.numbers(1, "the kernel")
    groups = int(node.attributes.get("group", 1))
    outputs, depth, *kernel = kernels.shape
    if depth * groups != x.shape[1]:
        raise node.error(f"{x.shape[1]} channels do not fit a kernel of {groups} groups of {depth}")
    seen = windows(node, x, kernel, number(0))
    spatial = seen.shape[2 : 2 + len(kernel)]
    if bias is not None and not is_bias(bias, outputs):
        raise node.error("its bias is computed from the inputs; it has to be constant")
    values, columns = [], []
    for group in range(groups):
        channels, made = slice(group * depth, (group + 1) * depth), slice(group * (outputs // groups), None)
        made = slice(made.start, made.start + outputs // groups)
        cells = seen.move(
            x.name, None,
            lambda array: np.moveaxis(array[:, channels], 1, 1 + len(kernel)).reshape(len(array), *spatial, -1),
        )
        part = bias
        if bias is not None and groups > 1:
            part = constant(f"{bias.name}.{group}", bias.constant.reshape(-1)[made])
        name = weights.name if groups == 1 else f"{weights.name}.{group}"
        v, c = linear(node, cells, name, kernels[made].reshape(outputs // groups, -1), True, part)
        values.append(v)
        columns.append(c)
    arrays = [np.moveaxis(np.concatenate(parts, axis=-1), -1, 1) for parts in (values, columns)]
    return Tensor(node.outputs[0], x.dtype, x.row, values=arrays[0], columns=arrays[1])


def windows(node: Node, x: Tensor, kernel: Sequence[int], fill: Tensor) -> Tensor:
    """The windows `[n, channels, *places, *kernel]` of `[n, channels, *sizes]`, with `fill` around."""
    if x.row is not None and x.row.axis != 0:
        raise node.mixes("moves a window over the rows of the batch, or has them as channels")
    sizes = x.shape[2:]
    steps = node.attributes.get("strides") or [1] * len(kernel)
    spread = node.attributes.get("dilations") or [1] * len(kernel)
    before, after = padding(node, sizes, kernel, steps, spread)
    operand = references(node, x, x.shape)
    arrays = [operand.values, operand.columns]
    if any(before) or any(after):
        value = node.value(fill)
        around = [(0, 0), (0, 0), *zip(before, after)]
        arrays = [np.pad(array, around, constant_values=number_of) for array, number_of in zip(arrays, (value, 0))]
    for axis, (size, step, gap) in enumerate(zip(kernel, steps, spread)):
        reach = (size - 1) * gap + 1
        count = (arrays[0].shape[2 + axis] - reach) // step + 1
        if count < 1:
            raise node.error(f"a kernel of {size} does not fit {sizes[axis]} elements")
        places = np.arange(count)[:, None] * step + np.arange(size) * gap
        arrays = [np.moveaxis(array.take(places, axis=2 + axis), 3 + axis, -1) for array in arrays]
    return Tensor(x.name, x.dtype, x.row, values=arrays[0], columns=arrays[1])


def padding(
    node: Node, sizes: Sequence[int], kernel: Sequence[int], steps: Sequence[int], spread: Sequence[int]
) -> tuple[list[int], list[int]]:
    """What is added before and after each axis; with `ceil_mode` as much after it as its last window needs."""
    kind = node.attributes.get("auto_pad", "NOTSET")
    reaches = [(size - 1) * gap + 1 for size, gap in zip(kernel, spread)]
    if kind == "NOTSET":
        pads = list(node.attributes.get("pads") or [0] * (2 * len(kernel)))
        before, after = pads[: len(kernel)], pads[len(kernel) :]
        if node.attributes.get("ceil_mode", 0):
            for axis, (size, reach, step) in enumerate(zip(sizes, reaches, steps)):
                whole = size + before[axis] + after[axis]
                count = -(-(whole - reach) // step) + 1
                if (count - 1) * step >= size + before[axis]:
                    count -= 1
                after[axis] += max((count - 1) * step + reach - whole, 0)
        return before, after
    if kind == "VALID":
        return [0] * len(kernel), [0] * len(kernel)
    missing = [max((-(-size // step) - 1) * step + reach - size, 0) for size, reach, step in zip(sizes, reaches, steps)]
    less = [total // 2 for total in missing]
    more = [total - half for total, half in zip(missing, less)]
    return (less, more) if kind == "SAME_UPPER" else (more, less)


@rule("MaxPool")
def max_pool(node: Node) -> Tensor:
    if any(node.outputs[1:]):
        raise node.error("its places are used; only the values of a pool are read")
    kernel = node.attributes["kernel_shape"]
    x = node.require(0)
    seen = windows(node, x, kernel, number(-np.inf))
    axes = list(range(len(seen.shape) - len(kernel), len(seen.shape)))
    return reduced(node, seen, axes, "max").move(node.outputs[0], x.row, lambda array: array)


@rule("AveragePool")
def average_pool(node: Node) -> Tensor:
    """The mean of a window; what is around counts only if the node says so, and what `ceil_mode` adds never."""
    x, kernel = node.require(0), node.attributes["kernel_shape"]
    seen = windows(node, x, kernel, number(0))
    axes = list(range(len(seen.shape) - len(kernel), len(seen.shape)))
    total = reduced(node, seen, axes, "sum")
    count = constant(f"{node.outputs[0]}.count", counted(node, x.shape[2:], seen.shape[2 : 2 + len(kernel)]))
    return binary(node, "divide", total, count).move(node.outputs[0], x.row, lambda array: array)


def counted(node: Node, sizes: Sequence[int], places: Sequence[int]) -> np.ndarray:
    """How many elements of each window of a mean count."""
    kernel = node.attributes["kernel_shape"]
    steps, spread = (node.attributes.get(key) or [1] * len(kernel) for key in ("strides", "dilations"))
    before, after = padding(node, sizes, kernel, steps, spread)
    around = node.attributes.get("count_include_pad", 0)
    result = np.ones((), dtype=np.float32)
    for axis, (size, count) in enumerate(zip(sizes, places)):
        end = after[axis]
        if node.attributes.get("ceil_mode", 0) and node.attributes.get("auto_pad", "NOTSET") == "NOTSET":
            end = (node.attributes.get("pads") or [0] * (2 * len(kernel)))[len(kernel) + axis]
        element = np.arange(count)[:, None] * steps[axis] + np.arange(kernel[axis]) * spread[axis] - before[axis]
        low, high = (-before[axis], size + end) if around else (0, size)
        result = np.multiply.outer(result, ((element >= low) & (element < high)).sum(axis=1).astype(np.float32))
    return result


@rule("GlobalAveragePool", "GlobalMaxPool")
def global_pool(node: Node) -> Tensor | Sequence[Tensor]:
    x = node.require(0)
    axes = list(range(2, len(x.shape)))
    if x.row is not None and x.row.axis in axes:
        raise node.mixes("reduces over the rows of the batch")
    if x.is_constant:
        return folded(node, node.inputs, x.row)
    name = "mean" if node.op_type == "GlobalAveragePool" else "max"
    shape = (*x.shape[:2], *[1] * len(axes))
    return reduced(node, x, axes, name).move(node.outputs[0], x.row, lambda array: array.reshape(shape))
