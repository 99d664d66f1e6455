"""STAR (Sheng et al., CIKM 2021, arXiv 2101.11427, eq. 3-7)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from .base import ACTIVATIONS, MLP, Batch, Network, ScenarioLinear, ScenarioNorm


class PartitionedNorm(nn.Module):
    """`(g * g_p) (x - mean_p) / sqrt(var_p + eps) + (beta + beta_p)` for the scenario `p` of the row (STAR, eq. 3-4)."""

    def __init__(self, scenarios: int, width: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))
        self.own = ScenarioNorm(scenarios, width)

    def forward(self, x: Tensor, scenario: Tensor) -> Tensor:
        scale, shift = self.weight * self.own.weight[scenario], self.bias + self.own.bias[scenario]
        return self.own.normalize(x, scenario) * scale + shift


class SharedLinear(nn.Module):
    """`weight` `[inputs, outputs]` and `bias` that the layers of a star have in common."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        bound = inputs**-0.5
        self.weight = nn.Parameter(torch.empty(inputs, outputs).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(outputs))


class StarLayer(nn.Module):
    """`x (W * W_p) + b + b_p` for the member `p` of the row (STAR, eq. 5-7); it starts with `W_p` 1 and `b_p` 0."""

    def __init__(self, members: int, inputs: int, outputs: int):
        super().__init__()
        self.shared = SharedLinear(inputs, outputs)
        self.own = ScenarioLinear(members, inputs, outputs)
        nn.init.ones_(self.own.weight)
        nn.init.zeros_(self.own.bias)

    def forward(self, x: Tensor, member: Tensor) -> Tensor:
        weight = self.shared.weight * self.own.weight
        return torch.bmm(x[:, None, :], weight[member])[:, 0] + self.shared.bias + self.own.bias[member]


class StarBlock(StarLayer):
    """The layer and its activation."""

    def __init__(self, members: int, inputs: int, outputs: int, network: Mapping[str, Any]):
        super().__init__(members, inputs, outputs)
        self.activation = ACTIVATIONS[network.get("activation", "relu")](outputs)

    def forward(self, x: Tensor, member: Tensor) -> Tensor:
        return self.activation(super().forward(x, member))


class Star(Network):
    """Weights of all scenarios times those of the scenario, and an auxiliary network (arXiv 2101.11427)."""

    def __init__(self, description: Mapping[str, Any], tables: Mapping[str, tuple[int, int]]):
        super().__init__(description, tables)
        p = self.network
        sizes = [self.x_width, *p["hidden"]]
        self.norm = PartitionedNorm(self.scenarios, self.x_width)
        self.layers = nn.ModuleList(StarBlock(self.scenarios, a, b, p) for a, b in zip(sizes, sizes[1:]))
        self.heads = nn.ModuleDict({task: StarLayer(self.scenarios, sizes[-1], 1) for task in self.tasks})
        self.scenario_embedding = nn.Embedding(self.scenarios, p["domain"])
        sizes = [p["domain"] + self.x_width, *p["auxiliary"]]
        self.auxiliary = MLP(sizes[0], sizes[1:], p)
        self.auxiliary_heads = nn.ModuleDict({task: nn.Linear(sizes[-1], 1) for task in self.tasks})

    def logits(self, batch: Batch) -> dict[str, Tensor]:
        x, scenario = batch.x, batch.scenario
        h = self.norm(x, scenario)
        for layer in self.layers:
            h = layer(h, scenario)
        auxiliary = self.auxiliary(torch.cat([self.scenario_embedding(scenario), x], dim=1))
        return {task: self.heads[task](h, scenario) + self.auxiliary_heads[task](auxiliary) for task in self.tasks}
