"""HMoE (Li et al., CIKM 2020)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from .base import MLP, Batch, Gate, Network, ScenarioLinear


class HMoE(Network):
    """Outputs of all scenarios' towers, mixed by weights of the scenario asked (CIKM 2020)."""

    def __init__(self, description: Mapping[str, Any], tables: Mapping[str, tuple[int, int]]):
        super().__init__(description, tables)
        p, rows = self.network, range(self.scenarios)
        self.experts = nn.ModuleList(MLP(self.x_width, p["expert"], p) for _ in range(p["experts"]))
        self.gates = nn.ModuleList(Gate(self.x_width, p.get("gate", []), p["experts"], p) for _ in rows)
        self.towers = nn.ModuleList(MLP(p["expert"][-1], p["tower"], p) for _ in rows)
        width = [p["expert"][-1], *p["tower"]][-1]
        heads = lambda: nn.ModuleList(nn.Linear(width, 1) for _ in rows)  # noqa: E731
        self.heads = nn.ModuleDict({task: heads() for task in self.tasks})
        self.weights = ScenarioLinear(self.scenarios, self.x_width, self.scenarios)

    def logits(self, batch: Batch) -> dict[str, Tensor]:
        x, scenario = batch.x, batch.scenario
        experts = torch.stack([expert(x) for expert in self.experts], dim=1)
        towers = []
        for gate, tower in zip(self.gates, self.towers):
            towers.append(tower((gate(x)[:, :, None] * experts).sum(dim=1)))
        weights = torch.softmax(self.weights(x, scenario), dim=-1)
        own = functional.one_hot(scenario, self.scenarios).bool()
        logits = {}
        for task in self.tasks:
            outputs = torch.cat([head(tower) for head, tower in zip(self.heads[task], towers)], dim=1)
            outputs = torch.where(own, outputs, outputs.detach())
            logits[task] = (weights * outputs).sum(dim=1, keepdim=True)
        return logits
