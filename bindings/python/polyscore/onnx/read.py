"""Reads an ONNX file: the graph in one piece, with weights that stay in the file until they are needed."""

from __future__ import annotations

import dataclasses
import math
import os
import pathlib
from collections.abc import Sequence

import numpy as np
import onnx
import onnx.inliner
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto

from .tensor import OnnxError

OLDEST_OPSET = 9

# Operators that ONNX defines by others, which are read instead.
COMPOSED = ("Attention", "CenterCropPad", "RotaryEmbedding", "SwiGLU")


class Weights:
    """The initialisers of a graph by name, read when they are asked for. Those in files beside the model are mapped."""

    def __init__(self, tensors: Sequence[TensorProto], folder: pathlib.Path):
        self._protos = {tensor.name: tensor for tensor in tensors}
        self._folder = folder
        self._arrays: dict[str, np.ndarray] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._protos

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self._arrays:
            self._arrays[name] = array_of(self._protos[name], self._folder)
        return self._arrays[name]


@dataclasses.dataclass
class Graph:
    """The main graph of a model, without local functions."""

    name: str
    producer: str
    opset: int
    folder: pathlib.Path
    nodes: list[NodeProto]
    inputs: list[ValueInfoProto]
    outputs: list[str]
    weights: Weights


def load(path: str | os.PathLike) -> Graph:
    """Reads and checks a file."""
    path = pathlib.Path(path)
    if not path.is_file():
        raise OnnxError(f"{path}: is not a file")
    try:
        model = onnx.load_model(path, format="protobuf", load_external_data=False)
        onnx.checker.check_model(skeleton(model))
        if model.functions:
            model = onnx.inliner.inline_local_functions(model)
        composed = {(node.domain, node.op_type) for node in model.graph.node if node.op_type in COMPOSED}
        if composed:
            model = onnx.inliner.inline_selected_functions(model, list(composed), inline_schema_functions=True)
    except Exception as error:
        raise OnnxError(f"{path}: is not a valid ONNX model: {first_line(error)}") from error
    return graph_of(model, path)


def skeleton(model: ModelProto) -> ModelProto:
    """The model without its weights, which are as if given; outputs that do not say what they are, are scalars."""
    bare = ModelProto()
    bare.ir_version = model.ir_version
    bare.opset_import.extend(model.opset_import)
    bare.functions.extend(model.functions)
    graph = bare.graph
    graph.name = model.graph.name or "graph"
    graph.node.extend(model.graph.node)
    graph.input.extend(model.graph.input)
    known = {value.name for value in model.graph.input}
    for tensor in model.graph.initializer:
        if tensor.name not in known:
            graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    for value in model.graph.output:
        is_known = value.type.tensor_type.elem_type and value.type.tensor_type.HasField("shape")
        scalar = onnx.helper.make_tensor_value_info(value.name, TensorProto.FLOAT, [])
        graph.output.append(value if is_known else scalar)
    return bare


def graph_of(model: ModelProto, path: pathlib.Path) -> Graph:
    opset = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), None)
    newest = onnx.defs.onnx_opset_version()
    if opset is None or not OLDEST_OPSET <= opset <= newest:
        raise OnnxError(f"{path}: has opset {opset}, this importer reads {OLDEST_OPSET} to {newest}")
    graph = model.graph
    if graph.sparse_initializer:
        raise OnnxError(f"{path}: initialiser `{graph.sparse_initializer[0].values.name}` is sparse; export it dense")
    weights = Weights(graph.initializer, path.parent)
    return Graph(
        name=graph.name,
        producer=f"{model.producer_name} {model.producer_version}".strip(),
        opset=opset,
        folder=path.parent,
        nodes=list(graph.node),
        inputs=[value for value in graph.input if value.name not in weights],
        outputs=[value.name for value in graph.output],
        weights=weights,
    )


def array_of(tensor: TensorProto, folder: pathlib.Path) -> np.ndarray:
    """The numbers of a tensor; what lies in a file of its own is mapped."""
    name = tensor.name
    try:
        if tensor.data_type == TensorProto.STRING:
            raise OnnxError(f"tensor `{name}`: has texts; only numbers can be converted")
        if not onnx.external_data_helper.uses_external_data(tensor):
            return onnx.numpy_helper.to_array(tensor)
        return mapped(tensor, folder)
    except OnnxError:
        raise
    except Exception as error:
        raise OnnxError(f"tensor `{name}`: cannot be read: {first_line(error)}") from error


def mapped(tensor: TensorProto, folder: pathlib.Path) -> np.ndarray:
    info = onnx.external_data_helper.ExternalDataInfo(tensor)
    dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
    if onnx.helper.tensor_dtype_to_string(tensor.data_type).endswith("4"):
        raise OnnxError(
            f"tensor `{tensor.name}`: has 4-bit numbers in a file of its own; keep them in the model's file"
        )
    file = (folder / info.location).resolve()
    if folder.resolve() not in file.parents:
        raise OnnxError(f"tensor `{tensor.name}`: its file `{info.location}` is outside the folder of the model")
    shape = tuple(tensor.dims)
    offset, size = info.offset or 0, math.prod(shape) * dtype.itemsize
    if not file.is_file() or file.stat().st_size < offset + size:
        raise OnnxError(f"tensor `{tensor.name}`: its file `{info.location}` ends before the tensor does")
    if size == 0:
        return np.zeros(shape, dtype)
    return np.memmap(file, dtype=dtype, mode="r", offset=offset, shape=shape)


def live_nodes(nodes: Sequence[NodeProto], wanted: Sequence[str]) -> list[NodeProto]:
    """The nodes that the wanted outputs depend on, in order."""
    needed, live = set(wanted), []
    for node in reversed(nodes):
        if needed.intersection(node.output):
            needed.update(reads(node))
            live.append(node)
    return live[::-1]


def reads(node: NodeProto) -> set[str]:
    """The tensors that a node reads, those of its branches included."""
    names = set(node.input)
    for attribute in node.attribute:
        for graph in [attribute.g, *attribute.graphs]:
            names |= free(graph)
    return names - {""}


def free(graph: GraphProto) -> set[str]:
    """The tensors that a branch reads from outside."""
    inside = {tensor.name for tensor in graph.initializer} | {value.name for value in graph.input}
    names = {value.name for value in graph.output}
    for node in graph.node:
        names |= reads(node)
        inside.update(node.output)
    return names - inside


def first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0]
