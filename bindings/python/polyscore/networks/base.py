"""What the twins are made of: blocks with the tensor names of the engine, features, tasks."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .. import features
from ..export import export
from . import blocks, rows

class PReLU(nn.Module):
    """`x` above 0, else `a x`, an `a` per column."""

    def __init__(self, width: int):
        super().__init__()
        self.weight = nn.Parameter(torch.full((width,), 0.25))

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x) + self.weight * (x - torch.relu(x))


class Dice(nn.Module):
    """`p x + a (1 - p) x`, `p = sigmoid(norm(x))` (Zhou et al., DIN, KDD 2018, eq. 4)."""

    def __init__(self, width: int):
        super().__init__()
        self.norm = nn.BatchNorm1d(width, eps=1e-9, affine=False)
        self.alpha = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        flat = x if x.dim() == 2 else x.reshape(-1, x.shape[-1])
        p = torch.sigmoid(self.norm(flat)).reshape(x.shape)
        return x * (p * (1 - self.alpha) + self.alpha)


class LayerDice(nn.Module):
    """Dice with a layer norm: what a row becomes depends on no other row, in training neither."""

    def __init__(self, width: int):
        super().__init__()
        self.norm = nn.LayerNorm(width, eps=1e-3)
        self.alpha = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        p = torch.sigmoid(self.norm(x))
        return x * (p * (1 - self.alpha) + self.alpha)


ACTIVATIONS = {
    "relu": lambda width: nn.ReLU(),
    "leaky_relu": lambda width: nn.LeakyReLU(0.01),
    "sigmoid": lambda width: nn.Sigmoid(),
    "tanh": lambda width: nn.Tanh(),
    "silu": lambda width: nn.SiLU(),
    "prelu": PReLU,
    "dice": Dice,
    "layer_dice": LayerDice,
}


class Block(nn.Module):
    """Linear, batch norm if asked for, activation."""

    def __init__(self, inputs: int, outputs: int, network: Mapping[str, Any]):
        super().__init__()
        self.linear = nn.Linear(inputs, outputs)
        self.norm = nn.BatchNorm1d(outputs) if network.get("batch_norm", False) else None
        self.activation = ACTIVATIONS[network.get("activation", "relu")](outputs)

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


def mix(gate: Tensor, experts: Sequence[Tensor]) -> Tensor:
    """`sum_e gate[e] * experts[e]`"""
    return (gate[:, :, None] * torch.stack(experts, dim=1)).sum(dim=1)


class ScenarioLinear(nn.Module):
    """A linear layer of its own for each scenario: `weight` `[scenarios, inputs, outputs]`, `bias` `[scenarios, outputs]`."""

    def __init__(self, scenarios: int, inputs: int, outputs: int):
        super().__init__()
        bound = inputs**-0.5
        self.weight = nn.Parameter(torch.empty(scenarios, inputs, outputs).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(scenarios, outputs).uniform_(-bound, bound))

    def forward(self, x: Tensor, scenario: Tensor) -> Tensor:
        return torch.bmm(x[:, None, :], self.weight[scenario])[:, 0] + self.bias[scenario]


class ScenarioNorm(nn.Module):
    """A batch norm with affine and moments of its own for each scenario, `[scenarios, width]`."""

    def __init__(self, scenarios: int, width: int, epsilon: float = 1e-5, momentum: float = 0.1):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(scenarios, width))
        self.bias = nn.Parameter(torch.zeros(scenarios, width))
        self.register_buffer("running_mean", torch.zeros(scenarios, width))
        self.register_buffer("running_var", torch.ones(scenarios, width))
        self.epsilon, self.momentum = epsilon, momentum

    def normalize(self, x: Tensor, scenario: Tensor) -> Tensor:
        """`(x - mean) / sqrt(var + epsilon)`; in training with the moments of the scenario's rows, which are recorded."""
        if not self.training:
            return (x - self.running_mean[scenario]) / torch.sqrt(self.running_var[scenario] + self.epsilon)
        out = torch.zeros_like(x)
        for row in scenario.unique():
            mine = x[scenario == row]
            mean, var = mine.mean(dim=0), mine.var(dim=0, unbiased=False)
            out[scenario == row] = (mine - mean) / torch.sqrt(var + self.epsilon)
            with torch.no_grad():
                self.running_mean[row].lerp_(mean, self.momentum)
                self.running_var[row].lerp_(mine.var(dim=0) if len(mine) > 1 else var, self.momentum)
        return out

    def forward(self, x: Tensor, scenario: Tensor) -> Tensor:
        return self.normalize(x, scenario) * self.weight[scenario] + self.bias[scenario]


@dataclasses.dataclass
class Batch:
    """The inputs of `n` rows: `x` `[n, width]` (features, then blocks), `parts` `[n, width]` of each feature but sequences,
    `sequences` with `[n, positions, width]` and which positions are there, and the scenario row of each."""

    x: Tensor
    parts: dict[str, Tensor]
    sequences: dict[str, tuple[Tensor, Tensor]]
    scenario: Tensor


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
        self.width_of = dict(zip((feature["name"] for feature in self.features), self.widths))
        self.plain = [feature["name"] for feature in self.features if feature["kind"] != "sequence"]
        self.scenarios = sum(s.get("fallback") is None for s in description.get("scenarios", []))
        self.blocks = blocks.build(self)
        self.x_width = sum(self.width_of[name] for name in self.plain) + sum(block.width for block in self.blocks)
        self.tasks = [task["name"] for task in description["tasks"] if task.get("composition") is None]

    def experts_and_gates(self, inputs: int) -> int:
        """The experts and gates of MMoE if the network has `experts`; gives the width of what `mixed` makes."""
        p = self.network
        count = p.get("experts", 0)
        if count == 0:
            self.experts = None
            return inputs
        self.experts = nn.ModuleList(MLP(inputs, p["expert"], p) for _ in range(count))
        self.gates = nn.ModuleDict({task: Gate(inputs, p.get("gate", []), count, p) for task in self.tasks})
        return p["expert"][-1]

    def mixed(self, x: Tensor) -> dict[str, Tensor]:
        """The mixture of experts of each task; `x` itself without experts."""
        if self.experts is None:
            return {task: x for task in self.tasks}
        experts = [expert(x) for expert in self.experts]
        return {task: mix(self.gates[task](x), experts) for task in self.tasks}

    def towers_and_heads(self, inputs: int) -> None:
        sizes = self.network["tower"]
        self.towers = nn.ModuleDict({task: MLP(inputs, sizes, self.network) for task in self.tasks})
        self.heads = nn.ModuleDict({task: nn.Linear(([inputs, *sizes])[-1], 1) for task in self.tasks})

    def embed(self, feature: Mapping[str, Any], value: features.Ids | features.Dense) -> Tensor:
        """The rows of a feature, `[n, width]`."""
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

    def embed_sequence(self, feature: Mapping[str, Any], value: features.Ids) -> tuple[Tensor, Tensor]:
        """The positions of a sequence, `[n, most positions, width]` with zeros behind, and which of them are there."""
        rows = self.get_parameter(feature["table"])[torch.from_numpy(value.rows)]
        counts = torch.from_numpy(np.diff(value.offsets))
        most = max(int(counts.max()), 1)
        mask = torch.arange(most)[None, :] < counts[:, None]
        padded = torch.zeros(*mask.shape, rows.shape[1], dtype=rows.dtype)
        padded[mask] = rows
        return padded, mask

    def batch(self, values: Mapping[str, features.Ids | features.Dense], scenario: Tensor) -> Batch:
        """The inputs of all rows as tensors."""
        parts, sequences = {}, {}
        for feature in self.features:
            name = feature["name"]
            if feature["kind"] == "sequence":
                sequences[name] = self.embed_sequence(feature, values[name])
            else:
                parts[name] = self.embed(feature, values[name])
        batch = Batch(torch.zeros(0), parts, sequences, scenario)
        batch.x = torch.cat([*(parts[name] for name in self.plain), *(block(batch) for block in self.blocks)], dim=1)
        return batch

    def forward(self, values: Mapping[str, features.Ids | features.Dense], scenario: Tensor) -> dict[str, Tensor]:
        """Probabilities `[n]` of every task, from the features of `n` rows and the scenario row of each."""
        probabilities = self.probabilities(self.batch(values, scenario))
        for task in self.description["tasks"]:
            if task.get("composition") is not None:
                probability = probabilities[task["composition"][0]]
                for part in task["composition"][1:]:
                    probability = probability * probabilities[part]
                probabilities[task["name"]] = probability
        return probabilities

    def export(
        self,
        path: str | os.PathLike,
        golden: Sequence[Mapping[str, Any]] | None = None,
        dtype: str | None = None,
        tolerance: float | None = None,
        tables: str | None = None,
        dense: str | None = None,
        packed: Mapping[str, Any] | None = None,
    ) -> None:
        """Writes the network as a model file; the arguments are those of `polyscore.export`.

        A network whose rows change each other's scores cannot be served: it is refused by the name of the module that mixes
        them (norms without running statistics, always; anything else where the golden requests show it).
        """
        rows.check(self, golden or [])
        export(self.description, self.state_dict(), path, golden, dtype, tolerance, tables, dense, packed)

    def probabilities(self, batch: Batch) -> dict[str, Tensor]:
        """Probabilities `[n]` of the tasks that the network predicts itself."""
        return {task: torch.sigmoid(logit.squeeze(-1)) for task, logit in self.logits(batch).items()}

    def logits(self, batch: Batch) -> dict[str, Tensor]:
        """Logits `[n, 1]` of the tasks that the network predicts itself."""
        raise NotImplementedError


class Levels(Network):
    """Levels over the features, each from values of the tasks and a shared one to the next; then towers.

    A subclass names the module of a `level`: made of the tasks, the width that comes in, whether it is the last, and the
    network; called with the tasks' values and the shared one, both of which it gives back.
    """

    level: type[nn.Module]

    def __init__(self, description: Mapping[str, Any], tables: Mapping[str, tuple[int, int]]):
        super().__init__(description, tables)
        p = self.network
        widths = [self.x_width] + [p["expert"][-1]] * (p.get("levels", 1) - 1)
        last = len(widths) - 1
        self.levels = nn.ModuleList(self.level(self.tasks, width, l == last, p) for l, width in enumerate(widths))
        self.towers_and_heads(p["expert"][-1])

    def logits(self, batch: Batch) -> dict[str, Tensor]:
        h, shared = {task: batch.x for task in self.tasks}, batch.x
        for level in self.levels:
            h, shared = level(h, shared)
        return {task: self.heads[task](self.towers[task](h[task])) for task in self.tasks}
