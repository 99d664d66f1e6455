"""Evaluates a node of an ONNX graph on numbers, by the reference implementation of the `onnx` package."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator

# The operator set that an operator came to ONNX with, which was of the domain of ONNX Runtime before.
FIRST_OPSETS = {"Gelu": 20}


def fold(
    op_type: str, opset: int, attributes: Mapping[str, Any], arrays: Sequence[np.ndarray | None], outputs: int = 1
) -> list[np.ndarray]:
    """The outputs of a node whose inputs are `arrays` (None: left out)."""
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
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", max(opset, FIRST_OPSETS.get(op_type, 0)))])
    with np.errstate(all="ignore"):
        return [np.asarray(array) for array in ReferenceEvaluator(model).run(None, given)]
