"""Small ONNX graphs written as lines, and their comparison: ONNX Runtime, the steps in NumPy, and the engine."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnx.parser

import polyscore
import steps as truth
from polyscore.onnx.convert import Conversion, build, write
from polyscore.onnx.options import Options

BATCHES = (1, 5, 64)

# The engine has at most 64 tasks.
MOST_TASKS = 60

TYPES = {"float": np.float32, "double": np.float64, "int64": np.int64, "int32": np.int32, "bool": np.bool_,
         "uint8": np.uint8, "int8": np.int8, "float16": np.float16}


@dataclasses.dataclass
class Input:
    """An input `[N, *shape]`: numbers of a distribution, `ids` below a number or `single` of shape [1, ...]."""

    name: str
    type: str
    shape: tuple[int, ...]
    how: str = "normal"
    below: int = 5
    is_single: bool = False

    def values(self, rng: np.random.Generator, rows: int) -> np.ndarray:
        shape = (rows, *self.shape)
        if self.type == "bool":
            return rng.integers(0, 2, shape).astype(bool)
        if self.type != "float" and self.type != "double":
            low = -self.below if self.how == "signed" else 0
            return rng.integers(low, self.below, shape).astype(TYPES[self.type])
        draw = {
            "normal": lambda: rng.normal(size=shape) * 2,
            "positive": lambda: rng.uniform(0.1, 3, shape),
            "unit": lambda: rng.uniform(-0.95, 0.95, shape),
            "above": lambda: rng.uniform(1.1, 4, shape),
            "signed": lambda: rng.uniform(-self.below, self.below, shape),
            "halves": lambda: rng.integers(-9, 10, shape) / 2,
        }[self.how]()
        return draw.astype(TYPES[self.type])


def parse_input(text: str) -> Input:
    """`x float 3 4 positive`: name, type, sizes after the rows, and how its values are."""
    name, kind, *rest = text.split()
    sizes = [int(word) for word in rest if word.lstrip("-").isdigit()]
    words = [word for word in rest if not word.lstrip("-").isdigit()]
    below = next((int(word[1:]) for word in words if word[0] == "<"), 5)
    how = next((word for word in words if word[0] != "<" and word != "single"), "normal")
    return Input(name, kind, tuple(sizes), how, below, "single" in words)


def model_of(
    nodes: Sequence[str], inputs: Sequence[Input], outputs: Sequence[str], constants: Mapping[str, np.ndarray], opset: int
) -> onnx.ModelProto:
    """A model of the lines of its nodes, as ONNX's own parser reads them."""
    graph = onnx.helper.make_graph(
        [onnx.parser.parse_node(line) for line in nodes],
        "g",
        [
            onnx.helper.make_tensor_value_info(
                one.name, onnx.helper.np_dtype_to_tensor_dtype(np.dtype(TYPES[one.type])),
                [1 if one.is_single else "N", *one.shape],
            )
            for one in inputs
        ],
        [onnx.helper.make_value_info(name, onnx.TypeProto()) for name in outputs],
        [onnx.numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
    )
    for number, node in enumerate(graph.node):
        node.name = f"node{number}"
    domains = sorted({node.domain for node in graph.node} - {""})
    opsets = [onnx.helper.make_opsetid("", opset), *(onnx.helper.make_opsetid(domain, 1) for domain in domains)]
    model = onnx.helper.make_model(graph, opset_imports=opsets)
    model.ir_version = 10
    for output, known in zip(model.graph.output, session(model).get_outputs()):
        kind = getattr(onnx.TensorProto, known.type[len("tensor(") : -1].upper())
        output.CopyFrom(onnx.helper.make_tensor_value_info(known.name, kind, known.shape))
    return model


def save(folder: pathlib.Path, model: onnx.ModelProto) -> pathlib.Path:
    path = folder / "graph.onnx"
    onnx.save(model, path)
    return path


def session(model: onnx.ModelProto) -> Any:
    import onnxruntime

    onnxruntime.set_default_logger_severity(4)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def convert(path: pathlib.Path, outputs: Mapping[str, int], **options: Any) -> Conversion:
    """The conversion where every element of the outputs, of which the numbers are given, is a task."""
    tasks: dict[str, Any] = {}
    total = sum(outputs.values())
    for name, size in outputs.items():
        step = max(-(-total // MOST_TASKS), 1)
        tasks[name] = [f"{name}-{place}" if place % step == 0 else None for place in range(size)]
    return build(path, Options(**{"request": [], "candidate": [], "item": [], "tasks": tasks, "scenario": None,
                                  "scenarios": None, "columns": {}, "lengths": {}, "features": {}, "dtype": None,
                                  "tolerance": 1e-5} | options))


def columns_of(conversion: Conversion, values: Mapping[str, np.ndarray], rows: int) -> dict[str, np.ndarray]:
    """The columns of each feature."""
    columns = {}
    for entry in conversion.inputs:
        flat = np.broadcast_to(np.asarray(values[entry.name]), (rows, *entry.shape)).reshape(rows, -1)
        for part in entry.parts:
            columns[part.feature] = flat[:, part.start : part.start + part.width]
    return columns


def evaluated(conversion: Conversion, values: Mapping[str, np.ndarray], rows: int, dtype: Any) -> dict[str, np.ndarray]:
    columns = columns_of(conversion, values, rows)
    return truth.evaluate(conversion.description, conversion.steps.tensors, columns, rows, dtype=dtype)


def scored(
    conversion: Conversion, scorer: polyscore.Scorer, values: Mapping[str, np.ndarray], rows: int
) -> dict[str, np.ndarray]:
    """The scores of the engine."""
    columns = columns_of(conversion, values, rows)
    request, candidates = {}, {}
    for feature in conversion.description["features"]:
        name = feature["name"]
        column = columns[name].astype(np.int64 if feature["kind"] == "id" else np.float32)
        column = column[:, 0] if column.shape[1] == 1 else column
        if feature["rate"] == "request":
            request[name] = column[0]
        else:
            candidates[name] = column
    scorer.prepare(None, request)
    return scorer.score(candidates, count=rows)


def compare(
    folder: pathlib.Path,
    nodes: Sequence[str],
    inputs: Sequence[str],
    constants: Mapping[str, np.ndarray],
    outputs: Sequence[str] = ("y",),
    opset: int = 18,
    tolerance: float = 2e-5,
    rates: Sequence[str] = (),
    dtype: Any = np.float64,
    seed: int = 0,
) -> Conversion:
    """Converts the graph with the inputs at the rates (the pair's, if none are given), and compares every output."""
    known = [parse_input(text) for text in inputs]
    model = model_of(nodes, known, outputs, constants, opset)
    runtime, path = session(model), save(folder, model)
    rng = np.random.default_rng(seed)
    rates = [*rates, *["pair"] * (len(known) - len(rates))]
    rates = ["request" if one.is_single else rate for one, rate in zip(known, rates)]
    options: dict[str, list[str]] = {"request": [], "item": [], "candidate": []}
    for one, rate in zip(known, rates):
        options["candidate" if rate == "pair" else rate].append(one.name)
    if not options["item"] and not options["request"]:
        options["candidate"] = []
    conversion = None
    for rows in BATCHES:
        values = {}
        for one, rate in zip(known, rates):
            whole = one.values(rng, 1 if one.is_single or rate == "request" else rows)
            values[one.name] = whole if one.is_single else np.repeat(whole, rows // len(whole), axis=0)
        expected = dict(zip(outputs, runtime.run(None, values)))
        if conversion is None:
            conversion = convert(path, {name: array.size for name, array in expected.items()}, **options)
            write(conversion, folder / "out.safetensors", [])
            scorer = polyscore.Model(folder / "out.safetensors").scorer()
        results = [evaluated(conversion, values, rows, dtype), scored(conversion, scorer, values, rows)]
        for name, array in expected.items():
            flat = np.asarray(array, dtype=np.float64).reshape(rows, -1)
            for result in results:
                for place in range(flat.shape[1]):
                    if f"{name}-{place}" in result:
                        np.testing.assert_allclose(result[f"{name}-{place}"], flat[:, place], tolerance, tolerance,
                                                   err_msg=f"{name}[{place}] of {rows} rows")
    return conversion


def operations(conversion: Conversion) -> dict[str, int]:
    """How often each operation is in the steps; functions and combinations by their names, views of tasks left out."""
    counts: dict[str, int] = {}
    tasks = set(conversion.description["network"]["outputs"].values())
    for step in conversion.live:
        if step["op"] == "view" and step["name"] in tasks:
            continue
        name = step.get("function", step["op"]) if step["op"] in ("function", "combine") else step["op"]
        counts[name] = counts.get(name, 0) + 1
    return counts
