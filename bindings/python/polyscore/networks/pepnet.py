"""PEPNet (Chang et al., KDD 2023, arXiv 2302.01115, eq. 2-9)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from .base import Batch, Network


class GateNU(nn.Module):
    """`gamma sigmoid(W' relu(W u + b) + b')` (PEPNet, arXiv 2302.01115, eq. 2-3)."""

    def __init__(self, inputs: int, hidden: int, outputs: int, gamma: float):
        super().__init__()
        self.reduce = nn.Linear(inputs, hidden)
        self.expand = nn.Linear(hidden, outputs)
        self.gamma = gamma

    def forward(self, u: Tensor) -> Tensor:
        return self.gamma * torch.sigmoid(self.expand(torch.relu(self.reduce(u))))


class PEPNet(Network):
    """Gates on the embeddings by scenario and on every tower layer by person (KDD 2023, arXiv 2302.01115, eq. 2-9)."""

    def __init__(self, description: Mapping[str, Any], tables: Mapping[str, tuple[int, int]]):
        super().__init__(description, tables)
        p = self.network
        gamma, hidden, x = p.get("gamma", 2.0), p["gate"], self.x_width
        self.scenario_embedding = nn.Embedding(self.scenarios, p["domain"])
        self.epnet = GateNU(p["domain"] + x, hidden, x, gamma)
        u = sum(self.width_of[name] for name in p["personal"]) + x
        gates = lambda: nn.ModuleList(GateNU(u, hidden, width, gamma) for width in p["tower"])  # noqa: E731
        self.ppnet = nn.ModuleDict({task: gates() for task in self.tasks})
        self.towers_and_heads(x)

    def logits(self, batch: Batch) -> dict[str, Tensor]:
        x = batch.x
        gate = self.epnet(torch.cat([self.scenario_embedding(batch.scenario), x.detach()], dim=1))
        o = gate * x
        u = torch.cat([*(batch.parts[name] for name in self.network["personal"]), o.detach()], dim=1)
        logits = {}
        for task in self.tasks:
            h = o
            for layer, gate in zip(self.towers[task], self.ppnet[task]):
                h = layer(h) * gate(u)
            logits[task] = self.heads[task](h)
        return logits
