"""HAMUR (Li et al., CIKM 2023, arXiv 2309.06217)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from .base import ACTIVATIONS, MLP, Batch, Network, ScenarioLinear, ScenarioNorm


class Cell(nn.Module):
    """`((h U) H) V + b`, `H` `[n, rank, rank]`."""

    def __init__(self, inputs: int, outputs: int, rank: int):
        super().__init__()
        self.u = nn.Parameter(torch.randn(inputs, rank) * inputs**-0.5)
        self.v = nn.Parameter(torch.randn(rank, outputs) * rank**-0.5)
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, h: Tensor, core: Tensor) -> Tensor:
        return torch.bmm((h @ self.u)[:, None, :], core)[:, 0] @ self.v + self.bias


class Adapter(nn.Module):
    """Down to the bottleneck, up again, batch norm with running statistics, residual."""

    def __init__(self, width: int, bottleneck: int, rank: int):
        super().__init__()
        self.down = Cell(width, bottleneck, rank)
        self.up = Cell(bottleneck, width, rank)
        self.norm = nn.BatchNorm1d(width)

    def forward(self, h: Tensor, core: Tensor) -> Tensor:
        return self.norm(self.up(torch.sigmoid(self.down(h, core)), core)) + h


class ScenarioBlock(nn.Module):
    """Linear, batch norm if asked for, activation; weights and statistics of its own for each scenario."""

    def __init__(self, scenarios: int, inputs: int, outputs: int, network: Mapping[str, Any]):
        super().__init__()
        self.linear = ScenarioLinear(scenarios, inputs, outputs)
        self.norm = ScenarioNorm(scenarios, outputs) if network.get("batch_norm", False) else None
        self.activation = ACTIVATIONS[network.get("activation", "relu")](outputs)

    def forward(self, x: Tensor, scenario: Tensor) -> Tensor:
        x = self.linear(x, scenario)
        return self.activation(x if self.norm is None else self.norm(x, scenario))


class HAMUR(Network):
    """An MLP for each scenario, with adapters whose core is generated for each row (arXiv 2309.06217)."""

    def __init__(self, description: Mapping[str, Any], tables: Mapping[str, tuple[int, int]]):
        super().__init__(description, tables)
        p = self.network
        self.rank, bottleneck = p["rank"], p.get("bottleneck", 32)
        sizes = [self.x_width, *p["hidden"]]
        self.hyper = MLP(self.x_width, [*p["hyper"], self.rank**2], p)
        self.layers = nn.ModuleList(ScenarioBlock(self.scenarios, a, b, p) for a, b in zip(sizes, sizes[1:]))
        adapters = p.get("adapters") or range(len(p["hidden"]))
        self.adapters = nn.ModuleDict({str(i): Adapter(p["hidden"][i], bottleneck, self.rank) for i in adapters})
        self.heads = nn.ModuleDict({task: ScenarioLinear(self.scenarios, sizes[-1], 1) for task in self.tasks})

    def logits(self, batch: Batch) -> dict[str, Tensor]:
        h, scenario = batch.x, batch.scenario
        core = self.hyper(h).reshape(-1, self.rank, self.rank)
        for i, layer in enumerate(self.layers):
            h = layer(h, scenario)
            if str(i) in self.adapters:
                h = self.adapters[str(i)](h, core)
        return {task: self.heads[task](h, scenario) for task in self.tasks}
