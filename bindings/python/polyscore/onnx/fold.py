"""Evaluates a node of an ONNX graph on numbers, by the reference implementation of the `onnx` package."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator

# The first operator set that the reference implementation has an operator of as it was in all before, too.
FIRST_OPSETS = {"BatchNormalization": 14, "DequantizeLinear": 19, "Gelu": 20}

# These work on the axes from `axis` on as on one before operator set 13; the reference implementation has them since.
FLATTENING = ("Softmax", "LogSoftmax", "Hardmax")

# What the reference implementation does not take, though ONNX allows it: shape [1] for the scalar at a place, a scalar
# for the first input, inputs of several shapes.
OF_SHAPE_ONE = {"CumSum": 1, "OneHot": 1}
OF_NO_SHAPE = ("ReduceLogSumExp", "Softsign")
OF_SHAPES = ("Max", "Mean", "Min", "Sum")


def fold(
    op_type: str, opset: int, attributes: Mapping[str, Any], arrays: Sequence[np.ndarray | None], outputs: int = 1
) -> list[np.ndarray]:
    """The outputs of a node whose inputs are `arrays` (None: left out)."""
    if op_type in FLATTENING and opset < 13:
        shape = np.shape(arrays[0])
        axis = attributes.get("axis", 1) % max(len(shape), 1)
        flat = np.reshape(arrays[0], (math.prod(shape[:axis]), -1))
        return [reference(op_type, 13, {"axis": 1}, [flat], 1)[0].reshape(shape)]
    if op_type == "LpNormalization":
        axis = attributes.get("axis", -1)
        sizes = np.linalg.norm(arrays[0], attributes.get("p", 2), axis, keepdims=True)
        return [np.divide(arrays[0], sizes, out=np.zeros_like(arrays[0]), where=sizes > 0)]
    if op_type == "GlobalMaxPool":
        return [np.max(arrays[0], axis=tuple(range(2, np.ndim(arrays[0]))), keepdims=True)]
    if op_type in OF_NO_SHAPE and np.ndim(arrays[0]) == 0:
        made = reference(op_type, opset, attributes, [np.reshape(arrays[0], (1,)), *arrays[1:]], 1)
        return [np.reshape(made[0], ())]
    if op_type in OF_SHAPE_ONE:
        place = OF_SHAPE_ONE[op_type]
        arrays = [np.reshape(array, ()) if at == place else array for at, array in enumerate(arrays)]
    if op_type in OF_SHAPES:
        arrays = np.broadcast_arrays(*arrays)
    return reference(op_type, max(opset, FIRST_OPSETS.get(op_type, 0)), attributes, arrays, outputs)


def reference(
    op_type: str, opset: int, attributes: Mapping[str, Any], arrays: Sequence[np.ndarray | None], outputs: int
) -> list[np.ndarray]:
    names = [f"i{place}" if array is not None else "" for place, array in enumerate(arrays)]
    results = [f"o{place}" for place in range(outputs)]
    node = onnx.helper.make_node(op_type, names, results, **attributes)
    given = {name: np.asarray(array) for name, array in zip(names, arrays) if name}
    inputs = [
        onnx.helper.make_tensor_value_info(name, onnx.helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
        for name, array in given.items()
    ]
    made = [onnx.helper.make_value_info(name, onnx.TypeProto()) for name in results]
    graph = onnx.helper.make_graph([node], "fold", inputs, made)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)])
    with np.errstate(all="ignore"):
        return [np.asarray(array) for array in ReferenceEvaluator(model).run(None, given)]
