"""A workload of `workloads/`: its model file, its requests, and what float64 gives for them.

A file of `workloads/` states features, table, network, batch sizes; all else follows from it and a seed. Weights have the
spread of trained ones: tables of deviation 0.5, layers He-scaled, norms that saw random requests, last layers scaled so that
the logits of random requests have deviation 1. With the initial weights of PyTorch every precision would pass every bound.
The model file is the one source of weights: every engine and the reference read it.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import os
import pathlib
import warnings
from typing import Any

import numpy as np

HERE = pathlib.Path(__file__).parent
FOLDER = HERE.parent / "build/bench"
TABLE_STD = 0.5
LOGIT_STD = 1.0
REQUESTS = 64
# Golden requests and their candidates, unless the workload says otherwise: as many rows as errors are taken over, of many users,
# because what chooses precisions by a bound has to see the tail of the errors.
GOLDEN = (32, 128)
# A large table repeats one block of this many rows: which numbers a row holds changes no time.
BLOCK = 1 << 20


@dataclasses.dataclass
class Request:
    """What a graph takes: `request` int64 `[1, fields]`, `candidates` int64 `[n, fields]`, and where the workload has them
    `history` int64 `[1, positions]` and `scenario` int64 `[1]`."""

    inputs: dict[str, np.ndarray]

    @property
    def count(self) -> int:
        return len(self.inputs["candidates"])


class Workload:
    """A workload, by the stem of its file. `quick`: few rows and candidates; `small`: `small_rows` rows, where it has them."""

    def __init__(self, name: str, quick: bool = False, small: bool = False):
        path = HERE / "workloads" / f"{name}.json"
        self.data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if small and "small_rows" in self.data:
            self.data["rows"] = self.data["small_rows"]
        if quick:
            self.data["rows"] = 64 * (self.data["request_fields"] + self.data["item_fields"])
            self.data |= {"candidates": [1, 7], "requests": 4, "golden": [2, 16]}
        self.name, self.tasks = self.data["name"], self.data["tasks"]
        self.request_fields, self.item_fields = self.data["request_fields"], self.data["item_fields"]
        self.table = self.data.get("table", {"type": "f32", "is_shared": False})
        self.history = self.data.get("history")

    @property
    def inputs(self) -> list[str]:
        """The names of what a graph takes, in order."""
        optional = [name for name, key in (("history", "history"), ("scenario", "scenarios")) if key in self.data]
        return ["request", "candidates", *optional]

    @functools.cached_property
    def fields(self) -> list[str]:
        """The features but the history: `request_fields` of the request, then those of the ad."""
        return [f"u{n}" for n in range(self.request_fields)] + [f"i{n}" for n in range(self.item_fields)]

    def table_of(self, field: str) -> str:
        return "embedding.weight" if self.table["is_shared"] else f"embeddings.{field}.weight"

    @functools.cached_property
    def description(self) -> dict[str, Any]:
        features = [{"name": field, "rate": "request" if field[0] == "u" else "item", "kind": "id", "oov": 0,
                     "table": self.table_of(field), "transform": {"type": "identity"}} for field in self.fields]
        if self.history:
            features.append({"name": self.history["name"], "rate": "request", "kind": "sequence", "oov": 0,
                             "length": self.history["length"], "table": self.table_of(self.history["of"]),
                             "transform": {"type": "identity"}})
        scenarios = [{"name": f"s{n}", "id": n} for n in range(self.data.get("scenarios", 0))]
        described = {"format_version": 1, "name": self.name, "features": features, "scenarios": scenarios,
                     "tasks": [{"name": task} for task in self.tasks], "network": self.data["network"]}
        return described | ({"fallback_scenario": "s0"} if scenarios else {})

    def ids(self, generator: np.random.Generator, shape: tuple[int, int], first: int) -> np.ndarray:
        """Random ids `[rows, fields]` of the fields from `first` on; a field of a shared table has a range of its rows."""
        rows = self.data["rows"] // (len(self.fields) if self.table["is_shared"] else 1)
        if "zipf" not in self.data:
            drawn = generator.integers(rows, size=shape)
        else:
            # The inverse of the distribution function, then ranks scattered over the range by a prime above it.
            power = 1.0 - self.data["zipf"]
            rank = (generator.random(shape) * (rows**power - 1.0) + 1.0) ** (1.0 / power)
            drawn = np.minimum(rank.astype(np.int64), rows - 1) * 2654435761 % rows
        offsets = np.arange(first, first + shape[1]) * rows if self.table["is_shared"] else 0
        return np.ascontiguousarray(drawn + offsets, dtype=np.int64)

    def request(self, generator: np.random.Generator, count: int, users: int = 1) -> Request:
        """A random request; `users` above 1 is as many users as candidates, for statistics."""
        made = {"request": self.ids(generator, (users, self.request_fields), 0),
                "candidates": self.ids(generator, (count, self.item_fields), self.request_fields)}
        if self.history:
            made["history"] = generator.integers(self.data["rows"], size=(users, self.history["length"]))
        if "scenarios" in self.data:
            made["scenario"] = generator.integers(self.data["scenarios"], size=users)
        return Request(made)

    def requests(self, count: int, seed: int = 1, limit: int | None = None) -> list[Request]:
        """The requests of `count` candidates: as many as the workload says, or the first `limit` of them."""
        number = self.data.get("requests", REQUESTS)
        generator = np.random.default_rng([seed, count])
        number = number.get(str(count), REQUESTS) if isinstance(number, dict) else number
        return [self.request(generator, count) for _ in range(number if limit is None else min(number, limit))]

    def values(self, request: Request) -> tuple[str | None, dict[str, Any], dict[str, Any]]:
        """Scenario, request and candidates of a request by name, as the package takes them."""
        inputs = request.inputs
        user = {field: int(inputs["request"][0, n]) for n, field in enumerate(self.fields[: self.request_fields])}
        if self.history:
            user[self.history["name"]] = inputs["history"][0]
        # One after the other, as a host would lay them out.
        columns = np.ascontiguousarray(inputs["candidates"].T)
        ads = dict(zip(self.fields[self.request_fields :], columns, strict=True))
        return (f"s{inputs['scenario'][0]}" if "scenario" in inputs else None), user, ads

    def model(self, folder: pathlib.Path = FOLDER) -> Model:
        """The model of the workload; its file is made if `folder` has none of this workload and this source."""
        source = json.dumps(self.data, sort_keys=True).encode() + pathlib.Path(__file__).read_bytes()
        folder.mkdir(parents=True, exist_ok=True)
        prefix = f"{self.name}-{self.data['rows']}"
        path = folder / f"{prefix}-{hashlib.sha256(source).hexdigest()[:12]}.safetensors"
        if not path.exists():
            for old in folder.glob(f"{prefix}-*"):
                old.unlink()
            write(self, path)
        return Model(self, path)


class Model:
    """The model file of a workload and its tensors: `twin` without tables, and `tables` by name."""

    def __init__(self, workload: Workload, path: pathlib.Path):
        import torch

        from polyscore.export import read

        self.workload, self.path = workload, path
        described, tensors = read(path)
        self.description = described
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
            given = {name: torch.from_numpy(np.asarray(tensor)) for name, tensor in tensors.items()
                     if not name.startswith(("golden.", "padding."))}
        self.tables = {name: given.pop(name) for name in {workload.table_of(field) for field in workload.fields}}
        self.twin = bare_twin(workload)
        self.twin.load_state_dict({name: value.clone() for name, value in given.items()}, strict=False)

    def reference(self, requests: list[Request]) -> np.ndarray:
        """Probabilities float64 `[tasks, all candidates]` by the twin in float64."""
        import copy

        return reference(self.workload, copy.deepcopy(self.twin).double(), self.tables, requests)


def reference(workload: Workload, twin, tables: dict[str, Any], requests: list[Request]) -> np.ndarray:
    import torch

    from graphs import Plain

    plain = Plain(workload, twin, tables)
    with torch.no_grad():
        scores = [plain(*(torch.from_numpy(request.inputs[name]) for name in workload.inputs)) for request in requests]
    return np.concatenate([torch.stack(each).numpy() for each in scores], axis=1)


def bare_twin(workload: Workload):
    """The twin with a row per table: the tables themselves are too large to be made by it."""
    from polyscore import networks

    width = workload.data["width"]
    return networks.build(workload.description, {workload.table_of(f): (1, width) for f in workload.fields}).eval()


def write(workload: Workload, path: pathlib.Path) -> None:
    """Makes the weights and writes the model file."""
    import torch

    from polyscore.export import NAMES, encode, golden_entry, is_kept
    from polyscore.export import write as write_file

    torch.manual_seed(1)
    generator = np.random.default_rng(1)
    names = list(dict.fromkeys(workload.table_of(field) for field in workload.fields))
    shape = (workload.data["rows"], workload.data["width"])
    dtype = np.float16 if workload.table["type"] == "f16" else np.float32
    raw = path.with_suffix(".tables")
    try:
        stored = np.memmap(raw, dtype=dtype, mode="w+", shape=(len(names), *shape))
        for table in stored:
            block = generator.normal(0.0, TABLE_STD, size=(min(BLOCK, shape[0]), shape[1])).astype(dtype)
            for start in range(0, shape[0], BLOCK):
                table[start : start + BLOCK] = block[: shape[0] - start]
        tables = dict(zip(names, torch.from_numpy(stored)))
        twin = bare_twin(workload)
        spread(workload, twin, tables, generator)
        kind = NAMES[np.dtype(dtype)]
        tensors = {name: encode(name, value, None) for name, value in twin.state_dict().items() if is_kept(name)}
        tensors |= {name: (kind, shape, table.reshape(-1).view(np.uint8).data) for name, table in zip(names, stored)}
        description = workload.description | {"golden": {"tolerance": 1e-5, "requests": []}}
        number, count = workload.data.get("golden", GOLDEN)
        golden = [workload.request(generator, count) for _ in range(number)]
        for number, request in enumerate(golden):
            scenario, user, ads = workload.values(request)
            user = {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in user.items()}
            given = {"scenario": scenario, "request": user, "candidates": ads}
            scores = dict(zip(workload.tasks, reference(workload, twin.double(), tables, [request])))
            head, columns = golden_entry(description, number, given, request.count, scores)
            description["golden"]["requests"].append(head)
            tensors |= columns
        write_file(path, json.dumps(description), tensors)
    finally:
        raw.unlink(missing_ok=True)


def spread(workload: Workload, twin, tables: dict[str, Any], generator: np.random.Generator) -> None:
    """Gives a twin the weights that the head of this file describes."""
    import torch
    from polyscore.networks.base import ScenarioNorm

    from graphs import Plain

    with torch.no_grad():
        for name, parameter in twin.named_parameters():
            if name.startswith("scenario_embedding."):
                parameter.normal_(0.0, TABLE_STD)
            elif parameter.dim() >= 2 and not is_norm(twin, name):
                inputs = parameter.shape[1]
                parameter.normal_(0.0, (2.0 / inputs) ** 0.5)
            elif not is_norm(twin, name):
                parameter.zero_()
    rows = min(2000, workload.data["rows"])
    sample = workload.request(generator, rows, users=rows)
    given = [torch.from_numpy(sample.inputs[name]) for name in workload.inputs]
    plain = Plain(workload, twin, tables)
    for module in twin.modules():
        if isinstance(module, (torch.nn.BatchNorm1d, ScenarioNorm)):
            module.momentum = 1.0
    outputs: dict[Any, Any] = {}
    layers = [layer for head in twin.heads.values() for layer in last_layers(head)]
    hooks = [layer.register_forward_hook(lambda layer, _, out: outputs.update({layer: out})) for layer in layers]
    with torch.no_grad():
        twin.train()
        plain(*given)
        twin.eval()
        plain(*given)
        for layer, out in outputs.items():
            getattr(layer, "norm", layer).weight.mul_(LOGIT_STD / float(out.std()))
    for hook in hooks:
        hook.remove()


def last_layers(head) -> list:
    """What makes the logits of a task: linear layers, or blocks with a norm after theirs."""
    import torch

    normed = [module for module in head.modules() if hasattr(module, "norm")]
    return normed or [module for module in head.modules() if isinstance(module, torch.nn.Linear)]


def is_norm(twin, name: str) -> bool:
    import torch
    from polyscore.networks.base import ScenarioNorm

    return isinstance(twin.get_submodule(name.rpartition(".")[0]), (torch.nn.BatchNorm1d, ScenarioNorm))
