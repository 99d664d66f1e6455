"""PyTorch twins of the engine's networks: what users train, and what parity tests compare with.

A twin is built from a description. The names of its parameters are the tensor names of the model file, its embedding
tables are shared by the features that name the same table, and `forward` takes what `features` makes of raw values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from . import features

ACTIVATIONS = {
    "relu": nn.ReLU,
    "leaky_relu": lambda: nn.LeakyReLU(0.01),
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "silu": nn.SiLU,
}


class Block(nn.Module):
    """Linear, batch norm if asked for, activation."""

    def __init__(self, inputs: int, outputs: int, network: Mapping[str, Any]):
        super().__init__()
        self.linear = nn.Linear(inputs, outputs)
        self.norm = nn.BatchNorm1d(outputs) if network.get("batch_norm", False) else None
        self.activation = ACTIVATIONS[network.get("activation", "relu")]()

    def forward(self, x: Tensor) -> Tensor:
        x = self.linear(x)
        return self.activation(x if self.norm is None else self.norm(x))


class MLP(nn.Sequential):
    """Blocks of the given sizes; no sizes, no layers."""

    def __init__(self, inputs: int, sizes: Sequence[int], network: Mapping[str, Any]):
        pairs = zip([inputs, *sizes], sizes)
        super().__init__(*(Block(before, after, network) for before, after in pairs))


class Gate(nn.Module):
    """The softmax gate of MMoE, with hidden layers if asked for."""

    def __init__(self, inputs: int, hidden: Sequence[int], experts: int, network: Mapping[str, Any]):
        super().__init__()
        self.hidden = MLP(inputs, hidden, network)
        self.out = nn.Linear(([inputs, *hidden])[-1], experts)

    def forward(self, x: Tensor) -> Tensor:
        return torch.softmax(self.out(self.hidden(x)), dim=-1)


class GateNU(nn.Module):
    """`gamma sigmoid(W' relu(W u + b) + b')` (PEPNet, arXiv 2302.01115, eq. 2-3)."""

    def __init__(self, inputs: int, hidden: int, outputs: int, gamma: float):
        super().__init__()
        self.reduce = nn.Linear(inputs, hidden)
        self.expand = nn.Linear(hidden, outputs)
        self.gamma = gamma

    def forward(self, u: Tensor) -> Tensor:
        return self.gamma * torch.sigmoid(self.expand(torch.relu(self.reduce(u))))


class Tables(nn.Module):
    """A module tree whose only parameter path is the dotted name of a table."""


def register(module: nn.Module, path: str, parameter: nn.Parameter) -> None:
    """Puts a parameter at a dotted path below `module`."""
    *folders, leaf = path.split(".")
    for folder in folders:
        if folder not in module._modules:
            module.add_module(folder, Tables())
        module = module._modules[folder]
    module.register_parameter(leaf, parameter)


class Network(nn.Module):
    """Features, towers and composed tasks; a subclass says what lies between.

    `tables` gives the shape `(rows, width)` of every table that the description names.
    """

    def __init__(self, description: Mapping[str, Any], tables: Mapping[str, tuple[int, int]]):
        super().__init__()
        self.description = description
        self.network = description["network"]
        self.tables = dict(tables)
        self.features = description["features"]
        self.widths = []
        for feature in self.features:
            if feature["kind"] == "dense":
                self.widths.append(feature.get("width", 1))
                continue
            name = feature["table"]
            if name not in dict(self.named_parameters()):
                rows, width = self.tables[name]
                register(self, name, nn.Parameter(torch.randn(rows, width) * 0.1))
            self.widths.append(self.tables[name][1])
        self.x_width = sum(self.widths)
        self.tasks = [task["name"] for task in description["tasks"] if task.get("composition") is None]

    def towers_and_heads(self, inputs: int) -> None:
        sizes = self.network["tower"]
        self.towers = nn.ModuleDict({task: MLP(inputs, sizes, self.network) for task in self.tasks})
        self.heads = nn.ModuleDict({task: nn.Linear(([inputs, *sizes])[-1], 1) for task in self.tasks})

    def embed(self, feature: Mapping[str, Any], value: features.Ids | features.Dense) -> Tensor:
        table_type = next(self.parameters()).dtype
        if isinstance(value, features.Dense):
            return torch.from_numpy(value.values).to(table_type)
        table = self.get_parameter(feature["table"])
        rows = table[torch.from_numpy(value.rows)]
        if value.offsets is None:
            return rows
        counts = torch.from_numpy(np.diff(value.offsets))
        bag = torch.repeat_interleave(torch.arange(len(counts)), counts)
        pooled = torch.zeros(len(counts), table.shape[1], dtype=table.dtype)
        pooling = feature.get("pooling", "mean")
        if pooling == "max":
            index = bag[:, None].expand_as(rows)
            return pooled.scatter_reduce(0, index, rows, reduce="amax", include_self=False)
        pooled = pooled.index_add(0, bag, rows)
        return pooled / counts.clamp(min=1)[:, None] if pooling == "mean" else pooled

    def forward(self, batch: Mapping[str, features.Ids | features.Dense], scenario: Tensor) -> dict[str, Tensor]:
        """Probabilities `[n]` of every task, from the features of `n` rows and the scenario row of each."""
        parts = [self.embed(feature, batch[feature["name"]]) for feature in self.features]
        probabilities = {task: torch.sigmoid(logit.squeeze(-1)) for task, logit in self.logits(parts, scenario).items()}
        for task in self.description["tasks"]:
            if task.get("composition") is not None:
                probability = probabilities[task["composition"][0]]
                for part in task["composition"][1:]:
                    probability = probability * probabilities[part]
                probabilities[task["name"]] = probability
        return probabilities

    def logits(self, parts: list[Tensor], scenario: Tensor) -> dict[str, Tensor]:
        """Logits `[n, 1]` of the tasks that the network predicts itself."""
        raise NotImplementedError


class SharedBottom(Network):
    """One bottom, a tower per task (Caruana 1997)."""

    def __init__(self, description: Mapping[str, Any], tables: Mapping[str, tuple[int, int]]):
        super().__init__(description, tables)
        self.bottom = MLP(self.x_width, self.network["bottom"], self.network)
        self.towers_and_heads(([self.x_width, *self.network["bottom"]])[-1])

    def logits(self, parts: list[Tensor], scenario: Tensor) -> dict[str, Tensor]:
        h = self.bottom(torch.cat(parts, dim=1))
        return {task: self.heads[task](self.towers[task](h)) for task in self.tasks}


class MMoE(Network):
    """Experts mixed by a gate per task (Ma et al., KDD 2018, eq. 6-8)."""

    def __init__(self, description: Mapping[str, Any], tables: Mapping[str, tuple[int, int]]):
        super().__init__(description, tables)
        p = self.network
        self.experts = nn.ModuleList(MLP(self.x_width, p["expert"], p) for _ in range(p["experts"]))
        gate = lambda: Gate(self.x_width, p.get("gate", []), p["experts"], p)  # noqa: E731
        self.gates = nn.ModuleDict({task: gate() for task in self.tasks})
        self.towers_and_heads(p["expert"][-1])

    def logits(self, parts: list[Tensor], scenario: Tensor) -> dict[str, Tensor]:
        x = torch.cat(parts, dim=1)
        experts = torch.stack([expert(x) for expert in self.experts], dim=1)
        mixed = {task: (self.gates[task](x)[:, :, None] * experts).sum(dim=1) for task in self.tasks}
        return {task: self.heads[task](self.towers[task](mixed[task])) for task in self.tasks}


class ESMM(Network):
    """Towers over shared embeddings; products are the composed tasks (Ma et al., SIGIR 2018)."""

    def __init__(self, description: Mapping[str, Any], tables: Mapping[str, tuple[int, int]]):
        super().__init__(description, tables)
        self.towers_and_heads(self.x_width)

    def logits(self, parts: list[Tensor], scenario: Tensor) -> dict[str, Tensor]:
        x = torch.cat(parts, dim=1)
        return {task: self.heads[task](self.towers[task](x)) for task in self.tasks}


class PEPNet(Network):
    """Gates on the embeddings by scenario and on every tower layer by person (KDD 2023, arXiv 2302.01115, eq. 2-9)."""

    def __init__(self, description: Mapping[str, Any], tables: Mapping[str, tuple[int, int]]):
        super().__init__(description, tables)
        p = self.network
        gamma, hidden, x = p.get("gamma", 2.0), p["gate"], self.x_width
        names = [feature["name"] for feature in self.features]
        self.personal = [names.index(name) for name in p["personal"]]
        scenarios = sum(s.get("fallback") is None for s in description["scenarios"])
        self.scenario_embedding = nn.Embedding(scenarios, p["domain"])
        self.epnet = GateNU(p["domain"] + x, hidden, x, gamma)
        u = sum(self.widths[slot] for slot in self.personal) + x
        gates = lambda: nn.ModuleList(GateNU(u, hidden, width, gamma) for width in p["tower"])  # noqa: E731
        self.ppnet = nn.ModuleDict({task: gates() for task in self.tasks})
        self.towers_and_heads(x)

    def logits(self, parts: list[Tensor], scenario: Tensor) -> dict[str, Tensor]:
        x = torch.cat(parts, dim=1)
        gate = self.epnet(torch.cat([self.scenario_embedding(scenario), x.detach()], dim=1))
        o = gate * x
        u = torch.cat([*(parts[slot] for slot in self.personal), o.detach()], dim=1)
        logits = {}
        for task in self.tasks:
            h = o
            for layer, gate in zip(self.towers[task], self.ppnet[task]):
                h = layer(h) * gate(u)
            logits[task] = self.heads[task](h)
        return logits


NETWORKS = {"shared_bottom": SharedBottom, "mmoe": MMoE, "esmm": ESMM, "pepnet": PEPNet}


def build(description: Mapping[str, Any], tables: Mapping[str, tuple[int, int]]) -> Network:
    """The twin of `description`; `tables` gives `(rows, width)` of every table that it names."""
    name = description["network"].get("type")
    if name not in NETWORKS:
        raise features.DescriptionError(f"network.type: `{name}` is not one of {', '.join(NETWORKS)}")
    return NETWORKS[name](description, tables)


def inputs(
    network: Network, request: Mapping[str, Any], candidates: Mapping[str, Sequence[Any]], count: int
) -> dict[str, features.Ids | features.Dense]:
    """The features of a request (one value each) with `count` candidates (columns), row by row."""
    batch: dict[str, features.Ids | features.Dense] = {}
    for feature in network.features:
        name = feature["name"]
        if feature["rate"] == "request":
            values = [request[name]] * count if name in request else None
        else:
            values = candidates.get(name)
        if feature["kind"] == "dense":
            batch[name] = features.dense(feature, values, count)
        else:
            batch[name] = features.ids(feature, network.tables[feature["table"]][0], values, count)
    return batch
