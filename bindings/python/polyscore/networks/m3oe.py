"""M3oE (Zhang et al., SIGIR 2024, arXiv 2404.18465)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from .base import ACTIVATIONS, Batch, Network, ScenarioLinear
from .star import StarLayer


class Block(nn.Module):
    """Linear, layer norm, activation."""

    def __init__(self, inputs: int, outputs: int, network: Mapping[str, Any]):
        super().__init__()
        self.linear = nn.Linear(inputs, outputs)
        self.norm = nn.LayerNorm(outputs)
        self.activation = ACTIVATIONS[network.get("activation", "relu")](outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.norm(self.linear(x)))


class TowerBlock(nn.Module):
    """The same with a linear layer, and scale and shift after the norm, of its own for each scenario."""

    def __init__(self, scenarios: int, inputs: int, outputs: int, network: Mapping[str, Any]):
        super().__init__()
        self.linear = ScenarioLinear(scenarios, inputs, outputs)
        self.norm = nn.LayerNorm(outputs)
        self.scale = nn.Parameter(torch.ones(scenarios, outputs))
        self.shift = nn.Parameter(torch.zeros(scenarios, outputs))
        self.activation = ACTIVATIONS[network.get("activation", "relu")](outputs)

    def forward(self, x: Tensor, scenario: Tensor) -> Tensor:
        return self.activation(self.norm(self.linear(x, scenario)) * self.scale[scenario] + self.shift[scenario])


def balance(own: Tensor, beta: Tensor) -> Tensor:
    """The weight `beta` of the own one of several experts, `own` 1, and equal parts of the rest for the others."""
    beta = torch.sigmoid(beta)
    return own * beta + (1 - own) * (1 - beta) / (own.shape[-1] - 1)


class M3oE(Network):
    """Experts shared, of the scenarios and of the tasks, balanced by learned scalars (arXiv 2404.18465)."""

    def __init__(self, description: Mapping[str, Any], tables: Mapping[str, tuple[int, int]]):
        super().__init__(description, tables)
        p, rows = self.network, self.scenarios
        self.star = StarLayer(rows, self.x_width, p["star"])
        self.star_block = Block(p["star"], p["star"], p)
        self.skip = Block(self.x_width, p["star"], p)
        sizes = [p["star"], *p["expert"]]
        expert = lambda: nn.Sequential(*(Block(a, b, p) for a, b in zip(sizes, sizes[1:])))  # noqa: E731
        self.experts = nn.ModuleList(expert() for _ in range(p["experts"]))
        self.scenario_experts = nn.ModuleList(expert() for _ in range(rows))
        self.task_experts = nn.ModuleDict({task: expert() for task in self.tasks})
        self.gates = nn.ModuleDict({task: ScenarioLinear(rows, p["star"], p["experts"]) for task in self.tasks})
        scalars = lambda: nn.ParameterDict({task: nn.Parameter(torch.zeros(1)) for task in self.tasks})  # noqa: E731
        self.scenario_alpha, self.task_alpha = nn.Parameter(torch.zeros(rows, 1)), scalars()
        if rows > 1:
            self.scenario_beta = nn.Parameter(torch.zeros(rows, 1))
        if len(self.tasks) > 1:
            self.task_beta = scalars()
        widths: Sequence[int] = [p["expert"][-1], *p["tower"]]
        block = lambda a, b: TowerBlock(rows, a, b, p)  # noqa: E731
        tower = lambda: nn.ModuleList(block(a, b) for a, b in zip(widths, widths[1:]))  # noqa: E731
        self.towers = nn.ModuleDict({task: tower() for task in self.tasks})
        self.heads = nn.ModuleDict({task: ScenarioLinear(rows, widths[-1], 1) for task in self.tasks})

    def of_scenario(self, h: Tensor, scenario: Tensor) -> Tensor:
        experts = torch.stack([expert(h) for expert in self.scenario_experts], dim=1)
        gate = functional.one_hot(scenario, self.scenarios).to(h.dtype)
        if self.scenarios > 1:
            gate = balance(gate, self.scenario_beta[scenario])
        return (gate[:, :, None] * experts).sum(dim=1) * torch.sigmoid(self.scenario_alpha[scenario])

    def of_task(self, task: str, experts: Tensor) -> Tensor:
        gate = torch.tensor([float(other == task) for other in self.tasks], dtype=experts.dtype, device=experts.device)
        if len(self.tasks) > 1:
            gate = balance(gate, self.task_beta[task])
        return (gate[None, :, None] * experts).sum(dim=1) * torch.sigmoid(self.task_alpha[task])

    def logits(self, batch: Batch) -> dict[str, Tensor]:
        x, scenario = batch.x, batch.scenario
        h = self.star_block(self.star(x, scenario)) + self.skip(x)
        shared = torch.stack([expert(h) for expert in self.experts], dim=1)
        by_scenario = self.of_scenario(h, scenario)
        by_task = torch.stack([self.task_experts[task](h) for task in self.tasks], dim=1)
        logits = {}
        for task in self.tasks:
            gate = torch.softmax(self.gates[task](h.detach(), scenario), dim=-1)
            mixed = (gate[:, :, None] * shared).sum(dim=1) + by_scenario + self.of_task(task, by_task)
            for block in self.towers[task]:
                mixed = block(mixed, scenario)
            logits[task] = self.heads[task](mixed, scenario)
        return logits
