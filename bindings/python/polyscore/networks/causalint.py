"""CausalInt (Wang et al., KDD 2022, doi 10.1145/3534678.3539221)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from .base import Batch, Network, ScenarioLinear, ScenarioNorm


class Block(nn.Module):
    """Activation, linear, batch norm: the order of CausalInt."""

    def __init__(self, inputs: int, outputs: int, slope: float):
        super().__init__()
        self.linear = nn.Linear(inputs, outputs)
        self.norm = nn.BatchNorm1d(outputs)
        self.slope = slope

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.linear(functional.leaky_relu(x, self.slope)))


class TowerBlock(nn.Module):
    """The same with weights and statistics of its own for each scenario."""

    def __init__(self, scenarios: int, inputs: int, outputs: int, slope: float):
        super().__init__()
        self.linear = ScenarioLinear(scenarios, inputs, outputs)
        self.norm = ScenarioNorm(scenarios, outputs)
        self.slope = slope

    def forward(self, x: Tensor, scenario: Tensor) -> Tensor:
        return self.norm(self.linear(functional.leaky_relu(x, self.slope), scenario), scenario)


class CausalInt(Network):
    """An invariant representation, transferred by a matrix from experts of all scenarios (KDD 2022).

    The heads and the gradient terms of the paper's loss are not part; they need `invariant`, `scenario`, `classifier` and
    `transfer`, which takes the invariant representation after the inner step as well.
    """

    def __init__(self, description: Mapping[str, Any], tables: Mapping[str, tuple[int, int]]):
        super().__init__(description, tables)
        p = self.network
        extractor, self.side = p.get("extractor", [256, 128, 64]), p.get("side", 16)
        self.slope = slope = p.get("slope", 0.2)
        mlp = lambda sizes: nn.Sequential(*(Block(a, b, slope) for a, b in zip(sizes, sizes[1:])))  # noqa: E731
        self.invariant = mlp([self.x_width, *extractor])
        self.scenario = mlp([self.x_width, *extractor])
        self.classifier = nn.Linear(extractor[-1], self.scenarios)
        matrix = [extractor[-1], *p.get("expert", []), self.side**2]
        self.experts = nn.ModuleList(mlp(matrix) for _ in range(self.scenarios))
        self.value = mlp([extractor[-1], *p.get("value", []), self.side])
        sizes: Sequence[int] = [self.side, *p.get("tower", [])]
        block = lambda a, b: TowerBlock(self.scenarios, a, b, slope)  # noqa: E731
        tower = lambda: nn.ModuleList(block(a, b) for a, b in zip(sizes, sizes[1:]))  # noqa: E731
        self.towers = nn.ModuleDict({task: tower() for task in self.tasks})
        self.heads = nn.ModuleDict({task: block(sizes[-1], 1) for task in self.tasks})

    def transfer(self, invariant: Tensor, representation: Tensor, scenario: Tensor) -> Tensor:
        """`z` `[n, side]`. The experts of other scenarios than the row's are held fixed: no gradient goes into them."""
        posterior = torch.softmax(self.classifier(representation), dim=-1)
        experts = torch.stack([expert(representation) for expert in self.experts], dim=1)
        experts = functional.leaky_relu(experts, self.slope)
        own = functional.one_hot(scenario, self.scenarios)[:, :, None].bool()
        experts = torch.where(own, experts, experts.detach())
        matrix = (posterior[:, :, None] * experts).sum(dim=1).reshape(-1, self.side, self.side)
        return torch.bmm(self.value(invariant)[:, None, :], matrix)[:, 0]

    def logits(self, batch: Batch) -> dict[str, Tensor]:
        z = self.transfer(self.invariant(batch.x), self.scenario(batch.x), batch.scenario)
        logits = {}
        for task in self.tasks:
            h = z
            for block in [*self.towers[task], self.heads[task]]:
                h = block(h, batch.scenario)
            logits[task] = h
        return logits
