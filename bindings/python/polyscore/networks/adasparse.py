"""AdaSparse (Yang et al., CIKM 2022, arXiv 2206.13108)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from .base import ACTIVATIONS, Batch, Network


class PrunedLayer(nn.Module):
    """`act(norm((W h + b) * pi))`; `alpha` may be raised while training, and is then the description's at the end."""

    def __init__(self, inputs: int, outputs: int, domain: int, network: Mapping[str, Any]):
        super().__init__()
        self.linear = nn.Linear(inputs, outputs)
        self.pruner = nn.Linear(domain + inputs, outputs)
        self.norm = nn.BatchNorm1d(outputs) if network.get("batch_norm", False) else None
        self.activation = ACTIVATIONS[network.get("activation", "relu")](outputs)
        self.alpha = network.get("alpha", 1.0)
        self.beta = network.get("beta", 2.0)
        self.epsilon = network.get("epsilon", 0.25)

    def forward(self, h: Tensor, scenario: Tensor) -> Tensor:
        pi = self.beta * torch.sigmoid(self.alpha * self.pruner(torch.cat([scenario, h], dim=1)))
        h = self.linear(h) * torch.where(pi.abs() > self.epsilon, pi, torch.zeros_like(pi))
        return self.activation(h if self.norm is None else self.norm(h))


class AdaSparse(Network):
    """Layers that weigh their neurons by scenario and input, and drop the light ones (arXiv 2206.13108)."""

    def __init__(self, description: Mapping[str, Any], tables: Mapping[str, tuple[int, int]]):
        super().__init__(description, tables)
        p = self.network
        sizes = [self.x_width, *p["hidden"]]
        self.scenario_embedding = nn.Embedding(self.scenarios, p["domain"])
        self.layers = nn.ModuleList(PrunedLayer(a, b, p["domain"], p) for a, b in zip(sizes, sizes[1:]))
        self.heads = nn.ModuleDict({task: nn.Linear(sizes[-1], 1) for task in self.tasks})

    def logits(self, batch: Batch) -> dict[str, Tensor]:
        h, scenario = batch.x, self.scenario_embedding(batch.scenario)
        for layer in self.layers:
            h = layer(h, scenario)
        return {task: self.heads[task](h) for task in self.tasks}
