"""SAR-Net (Shen et al., CIKM 2021, arXiv 2110.06475)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from .base import MLP, Batch, Network, ScenarioLinear, ScenarioNorm


class Transform(nn.Module):
    """A scale and a shift of its own for each scenario, `[scenarios, width]`."""

    def __init__(self, scenarios: int, width: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(scenarios, width))
        self.bias = nn.Parameter(torch.zeros(scenarios, width))

    def forward(self, x: Tensor, scenario: Tensor) -> Tensor:
        return x * self.weight[scenario] + self.bias[scenario]


class SharedExpert(nn.Module):
    """Batch norm, then a linear layer."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.norm = nn.BatchNorm1d(inputs)
        self.linear = nn.Linear(inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.norm(x))


class OwnExpert(nn.Module):
    """The same with weights and statistics of its own for each scenario."""

    def __init__(self, scenarios: int, inputs: int, outputs: int):
        super().__init__()
        self.norm = ScenarioNorm(scenarios, inputs)
        self.linear = ScenarioLinear(scenarios, inputs, outputs)

    def forward(self, x: Tensor, scenario: Tensor) -> Tensor:
        return self.linear(self.norm(x, scenario), scenario)


class SARNet(Network):
    """Features scaled by scenario, experts shared and of the scenario, one gate (arXiv 2110.06475)."""

    def __init__(self, description: Mapping[str, Any], tables: Mapping[str, tuple[int, int]]):
        super().__init__(description, tables)
        p, x = self.network, self.x_width
        shared, own, width, tower = p.get("shared", 8), p.get("own", 2), p.get("width", 16), p.get("tower", [32, 32])
        self.transform = Transform(self.scenarios, x)
        self.experts = nn.ModuleList(SharedExpert(x, width) for _ in range(shared))
        self.own = nn.ModuleList(OwnExpert(self.scenarios, x, width) for _ in range(own))
        self.gate = nn.Linear(x, shared + own)
        self.tower = MLP(width, tower, p)
        self.heads = nn.ModuleDict({task: nn.Linear([width, *tower][-1], 1) for task in self.tasks})

    def logits(self, batch: Batch) -> dict[str, Tensor]:
        x = self.transform(batch.x, batch.scenario)
        experts = [*(expert(x) for expert in self.experts), *(expert(x, batch.scenario) for expert in self.own)]
        gate = torch.softmax(self.gate(x), dim=-1)
        tower = self.tower((gate[:, :, None] * torch.stack(experts, dim=1)).sum(dim=1))
        return {task: self.heads[task](tower) for task in self.tasks}
