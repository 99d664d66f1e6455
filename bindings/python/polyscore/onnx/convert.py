"""Converts an ONNX network to a model file."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..export import ExportError, encode
from ..export import write as write_file
from . import finish, golden as goldens, patterns, read
from .inputs import NAME, Input, listing, read_inputs, tensor_of
from .options import Options, plain
from .tensor import OnnxError, Row, Steps, Tensor
from .walk import Passed, Walk

MAX_NETWORK_VALUES = 262_144

# How far scores may be from those of the original, at least, where weights are rounded.
ROUNDING = {"f16": 5e-3, "bf16": 2e-2}


@dataclasses.dataclass
class Output:
    """An output of the ONNX graph: its local shape, where its rows are, and the task of each element, or None."""

    name: str
    shape: tuple[int, ...]
    row: Row | None
    tasks: list[str | None]


@dataclasses.dataclass
class Conversion:
    """A network as it is written: its description (without golden requests), the tensors, and how it came about."""

    path: pathlib.Path
    graph: read.Graph
    options: Options
    inputs: list[Input]
    outputs: list[Output]
    steps: Steps
    live: list[dict[str, Any]]
    description: dict[str, Any]
    passed: list[Passed]
    fused: dict[str, int]
    unused: list[str]

    @property
    def renamed(self) -> dict[str, str]:
        """The features that have another name than their input."""
        return {e.name: e.parts[0].feature for e in self.inputs if len(e.parts) == 1 and e.name != e.parts[0].feature}

    def __str__(self) -> str:
        count = sum(entry.op_type != "Identity" for entry in self.passed)
        lines = [f"{count} operators of ONNX became {len(self.live)} steps"]
        if self.fused:
            lines.append("fused: " + ", ".join(f"{count} {name}" for name, count in sorted(self.fused.items())))
        lines += [f"input `{name}` is the feature `{feature}`" for name, feature in self.renamed.items()]
        if self.unused:
            lines.append(f"inputs that no task depends on, left out: {listing(self.unused)}")
        return "\n".join(lines)


def convert(
    path: str | os.PathLike,
    out: str | os.PathLike,
    request: Sequence[str] = (),
    candidate: Sequence[str] = (),
    item: Sequence[str] = (),
    tasks: Mapping[str, Any] | None = None,
    scenario: str | None = None,
    scenarios: Sequence[Any] | None = None,
    columns: Mapping[str, Sequence[Any]] | None = None,
    lengths: Mapping[str, int] | None = None,
    golden: int | Sequence[Mapping[str, Any]] = 8,
    features: Mapping[str, Mapping[str, Any]] | None = None,
    dtype: str | None = None,
    tolerance: float = 1e-5,
) -> Conversion:
    """Writes the network of the ONNX file `path` to the model file `out`.

    - `request`, `item`, `candidate`: inputs that are given once per request; that are facts of the ad alone; that
      belong to the pair of request and ad. Without `candidate` the inputs that are not named are of the pair.
    - `tasks`: by output its task, or a list with the task of each of its columns (None: not wanted). Without it every
      output is a task.
    - `scenario`: the input that is the number of the scenario; `scenarios`: its numbers, or `{"name": ..., "id": ...}`
      for each. Without `scenarios` they are the rows of the tables that are looked up with it.
    - `columns`: by input of shape [rows, k] the names of its columns, `("name", width)` where one is several.
    - `lengths`: the length of a dynamic dimension other than the first, by the name of its input or its own.
    - `golden`: how many candidates three made-up requests have, or a list of requests in the form of the JSON lines,
      or 0. ONNX Runtime scores them, and the engine has to reproduce the scores within `tolerance` when it opens the
      file.
      A network that quantises dynamically is scored a row at a time, because its scales would mix the rows of a batch.
    - `features`: keys to set in the entry of a feature, such as `transform` and `oov`.
    - `dtype`: "f16" or "bf16" rounds tables and the weights of linear layers; the tolerance is then at least 5e-3 or
      2e-2.

    An input is a feature of its name; characters other than letters, digits, `_` and `-` become `_`. An integer input
    that is used as rows of tables is an `id`: its ids are the rows, and those outside the table count as unknown. Any
    other is `dense`; integers are exact below 2^24.
    """
    options = Options(
        request=list(request),
        candidate=list(candidate),
        item=list(item),
        tasks=dict(tasks or {}),
        scenario=scenario,
        scenarios=scenarios,
        columns=dict(columns or {}),
        lengths=dict(lengths or {}),
        features=dict(features or {}),
        dtype=dtype,
        tolerance=tolerance,
    )
    conversion = build(path, options)
    requests = goldens.made_up(conversion, golden) if isinstance(golden, int) else golden
    write(conversion, out, requests)
    return conversion


def build(path: str | os.PathLike, options: Options, numeric: frozenset[str] = frozenset()) -> Conversion:
    """Converts without writing. The features `numeric` are no ids where a lookup clamps them."""
    path = pathlib.Path(path)
    graph = read.load(path)
    inputs = read_inputs(graph.inputs, options)
    scenarios = scenario_entries(options)
    steps = Steps(numeric)
    ids = None if scenarios is None else [entry["id"] for entry in scenarios]
    walk = Walk(graph, steps, [tensor_of(entry, steps, ids) for entry in inputs])
    wanted = wanted_outputs(graph, options)
    outputs, values = [], {}
    for name, tensor in zip(wanted, walk.run(wanted)):
        output = Output(name, tensor.shape, tensor.row, task_names(name, tensor.size, options))
        outputs.append(output)
        for place, task in enumerate(output.tasks):
            if task in values:
                raise OnnxError(f"tasks: `{task}` is named twice")
            if task is not None:
                values[task] = steps.materialise(element(tensor, place), f"output `{name}`")
    if not values:
        raise OnnxError("tasks: no output is wanted")
    results = list(values.values())
    fused = patterns.fuse(steps, results)
    if clamped := finish.numeric(steps, results):
        return build(path, options, numeric | clamped)
    entries, unused = finish.settle(steps, inputs, results)
    live = finish.ordered(steps, results)
    if not entries:
        raise OnnxError(f"{path}: no output depends on an input")
    for entry in entries:
        entry.update(options.features.get(entry["name"], {}))
    description: dict[str, Any] = {
        "format_version": 1,
        "name": path.stem,
        "provenance": provenance(graph, options),
        "features": entries,
        "scenarios": settled_scenarios(steps, live, scenarios, options),
        "tasks": [{"name": task} for task in values],
        "network": {
            "type": "graph",
            "steps": live,
            "outputs": {task: steps.steps[value]["name"] for task, value in values.items()},
        },
    }
    if count_values(description["network"]) > MAX_NETWORK_VALUES:
        raise OnnxError(f"{path}: its {len(live)} steps are more than a file describes")
    return Conversion(path, graph, options, inputs, outputs, steps, live, description, walk.passed, fused, unused)


def provenance(graph: read.Graph, options: Options) -> dict[str, str]:
    return {"format": "onnx", "producer": graph.producer, "opset": str(graph.opset), "options": options.text()}


def element(tensor: Tensor, place: int) -> Tensor:
    """An element of a tensor, alone."""
    return tensor.move(
        f"{tensor.name}.{place}" if tensor.size > 1 else tensor.name, None, lambda a: a.reshape(-1)[[place]]
    )


def wanted_outputs(graph: read.Graph, options: Options) -> list[str]:
    for name in options.tasks:
        if name not in graph.outputs:
            raise OnnxError(f"tasks: `{name}` is not an output; the outputs are {listing(graph.outputs)}")
    return list(options.tasks) or graph.outputs


def task_names(output: str, size: int, options: Options) -> list[str | None]:
    given = options.tasks.get(output)
    if given is None:
        if size != 1:
            raise OnnxError(
                f'output `{output}`: has {size} numbers per row; name them, as in tasks={{"{output}": ["ctr", ...]}}'
            )
        legal = "".join(c if NAME.fullmatch(c) else "_" for c in output)[:64]
        return [legal]
    names = [given] if isinstance(given, str) else list(given)
    if len(names) != size:
        raise OnnxError(f"tasks.{output}: names {len(names)}, the output has {size} numbers per row")
    for name in names:
        if name is not None and not NAME.fullmatch(name):
            raise OnnxError(f"tasks.{output}: `{name}` is not 1 to 64 letters, digits, `_` and `-`")
    return names


def scenario_entries(options: Options) -> list[dict[str, Any]] | None:
    if options.scenarios is None:
        return None
    entries = [
        dict(entry) if isinstance(entry, Mapping) else {"name": str(entry), "id": int(entry)}
        for entry in options.scenarios
    ]
    if not entries or any(not isinstance(entry.get("id"), int) or "name" not in entry for entry in entries):
        raise OnnxError('scenarios: give numbers, or {"name": ..., "id": ...} for each')
    return entries


def settled_scenarios(
    steps: Steps, live: Sequence[dict[str, Any]], given: list[dict[str, Any]] | None, options: Options
) -> list[dict[str, Any]]:
    """The scenarios; puts the tensor of their numbers into the file if a step reads it."""
    if options.scenario is None or not any(step["op"] == "scenario" for step in live):
        return given or []
    if steps.scenarios is None:
        raise OnnxError(
            f"scenario: `{options.scenario}` is no row of a table, so that its numbers are not known; give them, as in"
            " scenarios=[0, 1, 2]"
        )
    numbers = np.array(steps.scenarios, dtype=np.float32).reshape(-1, 1)
    steps.tensors[steps.steps[steps.scenario]["tensor"]] = numbers
    return given or [{"name": str(number), "id": number} for number in steps.scenarios]


def count_values(tree: Any) -> int:
    if isinstance(tree, Mapping):
        return 1 + sum(map(count_values, tree.values()))
    return 1 + sum(map(count_values, tree)) if isinstance(tree, list) else 1


def encoded(conversion: Conversion) -> dict[str, tuple[str, tuple[int, ...], Any]]:
    """The tensors as the file has them. Only what is nothing but a table or the weight of a layer is rounded."""
    uses = finish.tensors_of(conversion.live)
    tensors = {}
    for name, places in uses.items():
        is_rounded = name not in conversion.steps.whole_tensors and all(
            place in (("linear", "weight"), ("embedding", "table"), ("lookup", "table")) for place in places
        )
        may_be_infinite = all(op == "constant" for op, _ in places)
        dtype = conversion.options.dtype if is_rounded else None
        try:
            tensors[name] = encode(name, conversion.steps.tensors[name], dtype, may_be_infinite)
        except ExportError as error:
            raise OnnxError(f"tensor {error}") from error
    return tensors


def write(conversion: Conversion, out: str | os.PathLike, golden: Sequence[Mapping[str, Any]]) -> None:
    """Writes the file, with golden requests if there are any."""
    description = dict(conversion.description)
    tensors = encoded(conversion)
    if golden:
        tolerance = max(conversion.options.tolerance, ROUNDING.get(conversion.options.dtype or "f32", 0.0))
        description["golden"] = {"tolerance": tolerance, "requests": []}
        for head, columns in goldens.entries(conversion, golden):
            description["golden"]["requests"].append(head)
            tensors.update(columns)
    try:
        text = json.dumps(description, ensure_ascii=False, separators=(",", ":"), allow_nan=False, default=plain)
    except ValueError as error:
        raise OnnxError(f"{conversion.path}: a step has a number that is not finite: {error}") from error
    write_file(out, text, tensors)
