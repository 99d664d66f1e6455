"""Rules of quantised numbers and products.

They are computed in f32: whole numbers, and their sums of products, are exact while they are below 2^24.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import onnx

from .arithmetic import binary, number
from .cells import function
from .node import Node, rule
from .products import multiplied, unsqueezed
from .reductions import reduced
from .tensor import Tensor, constant

RANGES = {"uint8": (0, 255), "int8": (-128, 127), "uint16": (0, 65535), "int16": (-32768, 32767), "uint4": (0, 15),
          "int4": (-8, 7)}


@rule("QuantizeLinear")
def quantize(node: Node) -> Tensor:
    x, scale, zero = node.require(0), node.require(1), node.input(2)
    kind = quantized_type(node, zero)
    return quantized(node, x, at_axis(node, scale, x), None if zero is None else at_axis(node, zero, x), kind)


def quantized_type(node: Node, zero: Tensor | None) -> np.dtype:
    if zero is not None:
        return zero.dtype
    to = node.attributes.get("output_dtype", 0)
    return np.dtype(onnx.helper.tensor_dtype_to_np_dtype(to)) if to else np.dtype(np.uint8)


def at_axis(node: Node, tensor: Tensor, x: Tensor) -> Tensor:
    """Scales, one for all or one for each index of the axis, brought to the axis."""
    if node.attributes.get("block_size", 0):
        raise node.error("scales of blocks are not read")
    if tensor.size == 1 or len(tensor.shape) != 1:
        return tensor
    axis = node.axis(x, node.attributes.get("axis", 1))
    return tensor.move(tensor.name, None, lambda array: array.reshape(-1, *[1] * (len(x.shape) - 1 - axis)))


def quantized(node: Node, x: Tensor, scale: Tensor | None, zero: Tensor | None, kind: np.dtype) -> Tensor:
    """The whole numbers of x over the scale, clipped to the range of their type."""
    if kind.name not in RANGES:
        raise node.error(f"numbers of type {kind.name} are not read")
    low, high = RANGES[kind.name]
    rounded = function(node, x if scale is None else binary(node, "divide", x, scale), "round")
    if zero is not None:
        rounded = binary(node, "add", rounded, zero)
    return function(node, rounded, "clip", kind, low=float(low), high=float(high))


@rule("DequantizeLinear")
def dequantize(node: Node) -> Tensor:
    x, scale, zero = node.require(0), node.require(1), node.input(2)
    if zero is not None:
        x = binary(node, "subtract", x, at_axis(node, zero, x), np.float32)
    return binary(node, "multiply", x, at_axis(node, scale, x), np.float32)


@rule("DynamicQuantizeLinear")
def dynamic_quantize(node: Node) -> Sequence[Tensor]:
    """The scale is that of the row alone, as the graph computes it for a batch of one.

    In a larger batch ONNX Runtime takes the range of all rows together.
    """
    return dynamically_quantized(node, node.require(0))


def dynamically_quantized(node: Node, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Whole numbers 0 to 255, their scale and their zero."""
    flat = x.move(x.name, None, lambda array: array.reshape(-1))
    low = binary(node, "minimum", reduced(node, flat, [0], "min"), number(0))
    high = binary(node, "maximum", reduced(node, flat, [0], "max"), number(0))
    scale = binary(node, "divide", binary(node, "subtract", high, low), number(255))
    scale = binary(node, "add", scale, function(node, scale, "not", np.float32))
    zero = function(node, binary(node, "divide", function(node, low, "negate"), scale), "clip", low=0.0, high=255.0)
    zero = function(node, zero, "round", np.uint8)
    return quantized(node, x, scale, zero, np.dtype(np.uint8)), scale, zero


@rule("MatMulInteger")
def matmul_integer(node: Node) -> Tensor:
    """The sums are f32: exact while they are below 2^24."""
    left, right = node.require(0), node.require(1)
    left = without_zero(node, left, node.input(2), is_left=True)
    right = without_zero(node, right, node.input(3), is_left=False)
    return dataclasses.replace(multiplied(node, left, right), dtype=np.dtype(np.int32))


def without_zero(node: Node, tensor: Tensor, zero: Tensor | None, is_left: bool) -> Tensor:
    """Less the zero point: one, or one for each row of the left side or column of the right one."""
    if zero is None:
        return dataclasses.replace(tensor, dtype=np.dtype(np.float32))
    if is_left and zero.size > 1 and len(zero.shape) == 1:
        zero = unsqueezed(zero, 1)
    if tensor.is_constant and zero.is_constant:
        numbers = tensor.constant.astype(np.float32) - zero.constant.astype(np.float32)
        return constant(tensor.name, numbers, row=tensor.row)
    return binary(node, "subtract", tensor, zero, np.float32)


@rule("QLinearMatMul")
def matmul_quantized(node: Node) -> Tensor:
    """The product of the whole numbers, and then one scale."""
    left, right = (
        without_zero(node, node.require(place), node.input(place + 2), is_left)
        for place, is_left in ((0, True), (3, False))
    )
    own, others, made = (node.require(place) for place in (1, 4, 6))
    if own.size > 1 and len(own.shape) == 1:
        own = unsqueezed(own, 1)
    scale = binary(node, "divide", binary(node, "multiply", own, others), at_axis(node, made, left))
    zero = node.require(7)
    return quantized(node, binary(node, "multiply", multiplied(node, left, right), scale), None, zero, zero.dtype)


@rule("DynamicQuantizeMatMul")
def matmul_dynamic(node: Node) -> Tensor:
    """Of ONNX Runtime: the left side is quantised as by `DynamicQuantizeLinear`, row by row."""
    left, scale, zero = dynamically_quantized(node, node.require(0))
    left = without_zero(node, left, zero, is_left=True)
    right = without_zero(node, node.require(1), node.input(3), is_left=False)
    result = binary(node, "multiply", multiplied(node, left, right), scale)
    result = binary(node, "multiply", result, node.require(2))
    bias = node.input(4)
    return result if bias is None else binary(node, "add", result, bias)


@rule("MatMulIntegerToFloat")
def matmul_integer_to_float(node: Node) -> Tensor:
    """Of ONNX Runtime."""
    left = without_zero(node, node.require(0), node.input(4), is_left=True)
    right = without_zero(node, node.require(1), node.input(5), is_left=False)
    result = multiplied(node, left, right)
    for place in (2, 3):
        result = binary(node, "multiply", result, node.require(place), np.float32)
    bias = node.input(6)
    return result if bias is None else binary(node, "add", result, bias)
