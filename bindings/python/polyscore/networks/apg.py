"""APG (Yan et al., NeurIPS 2022, arXiv 2203.16218)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from .base import ACTIVATIONS, MLP, Batch, Network


class GeneratedLayer(nn.Module):
    """`act(norm(((h U) S(z)) V + b))`, `S` (and, if asked for, `b`) generated from the condition `z`."""

    def __init__(self, inputs: int, outputs: int, condition: int, network: Mapping[str, Any]):
        super().__init__()
        self.rank = rank = network["rank"]
        sizes = network.get("generator", [])
        hidden = [condition, *sizes][-1]
        self.generator = MLP(condition, sizes, network)
        self.core = nn.Linear(hidden, rank * rank)
        nn.init.normal_(self.core.weight, std=0.1 * (hidden * rank) ** -0.5)
        with torch.no_grad():
            self.core.bias.copy_(torch.eye(rank).flatten())
        self.u = nn.Parameter(torch.randn(inputs, rank) * inputs**-0.5)
        self.v = nn.Parameter(torch.randn(rank, outputs) * rank**-0.5)
        self.is_bias_generated = network.get("generated_bias", False)
        if self.is_bias_generated:
            self.shift = nn.Linear(hidden, outputs)
        else:
            self.bias = nn.Parameter(torch.zeros(outputs))
        self.norm = nn.BatchNorm1d(outputs) if network.get("batch_norm", False) else None
        self.activation = ACTIVATIONS[network.get("activation", "relu")](outputs)

    def forward(self, h: Tensor, z: Tensor) -> Tensor:
        hidden = self.generator(z)
        core = self.core(hidden).reshape(-1, self.rank, self.rank)
        bias = self.shift(hidden) if self.is_bias_generated else self.bias
        y = torch.bmm((h @ self.u)[:, None, :], core)[:, 0] @ self.v + bias
        return self.activation(y if self.norm is None else self.norm(y))


class APG(Network):
    """Layers of low rank whose core is generated from a condition (arXiv 2203.16218)."""

    def __init__(self, description: Mapping[str, Any], tables: Mapping[str, tuple[int, int]]):
        super().__init__(description, tables)
        p = self.network
        self.condition = p.get("condition", "self")
        if self.condition != "self":
            self.scenario_embedding = nn.Embedding(self.scenarios, p["domain"])
        sizes = [self.x_width, *p["hidden"]]
        width = {
            "self": lambda inputs: inputs,
            "group": lambda inputs: p["domain"],
            "mix": lambda inputs: p["domain"] + inputs,
        }[self.condition]
        self.layers = nn.ModuleList(GeneratedLayer(a, b, width(a), p) for a, b in zip(sizes, sizes[1:]))
        self.heads = nn.ModuleDict({task: nn.Linear(sizes[-1], 1) for task in self.tasks})

    def logits(self, batch: Batch) -> dict[str, Tensor]:
        h = batch.x
        for layer in self.layers:
            z = h
            if self.condition != "self":
                scenario = self.scenario_embedding(batch.scenario)
                z = scenario if self.condition == "group" else torch.cat([scenario, h], dim=1)
            h = layer(h, z)
        return {task: self.heads[task](h) for task in self.tasks}
