"""M2M (Zhang et al., WSDM 2022, arXiv 2201.06814)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from .base import ACTIVATIONS, MLP, Batch, Network


class MetaLayer(nn.Module):
    """`act(h V + v)`, `V` and `v` generated from the scenario vector `s`; `h` is `[n, rows, width]`."""

    def __init__(self, width: int, scenario: int, network: Mapping[str, Any]):
        super().__init__()
        self.matrix = nn.Linear(scenario, width * width)
        self.shift = nn.Linear(scenario, width)
        bound = width**-0.5
        nn.init.uniform_(self.matrix.weight, -bound * scenario**-0.5, bound * scenario**-0.5)
        nn.init.uniform_(self.matrix.bias, -bound, bound)
        self.activation = ACTIVATIONS[network.get("activation", "relu")](width)

    def forward(self, h: Tensor, s: Tensor) -> Tensor:
        matrix = self.matrix(s).reshape(-1, h.shape[-1], h.shape[-1])
        return self.activation(torch.bmm(h, matrix) + self.shift(s)[:, None, :])


class MetaUnit(nn.ModuleList):
    """`depth` meta layers."""

    def __init__(self, width: int, scenario: int, network: Mapping[str, Any]):
        super().__init__(MetaLayer(width, scenario, network) for _ in range(network.get("depth", 1)))

    def forward(self, h: Tensor, s: Tensor) -> Tensor:
        for layer in self:
            h = layer(h, s)
        return h


class MetaAttention(nn.Module):
    """A softmax over experts, from each expert beside the view of the task."""

    def __init__(self, width: int, scenario: int, network: Mapping[str, Any]):
        super().__init__()
        self.meta = MetaUnit(width, scenario, network)
        self.vector = nn.Linear(width, 1, bias=False)

    def forward(self, experts: Tensor, view: Tensor, s: Tensor) -> Tensor:
        pairs = torch.cat([experts, view.expand(*experts.shape[:2], -1)], dim=-1)
        attention = torch.softmax(self.vector(self.meta(pairs, s)), dim=1)
        return (attention * experts).sum(dim=1)


class MetaResidual(nn.Module):
    """`act(Meta(h) + h)`"""

    def __init__(self, width: int, scenario: int, network: Mapping[str, Any]):
        super().__init__()
        self.meta = MetaUnit(width, scenario, network)
        self.activation = ACTIVATIONS[network.get("activation", "relu")](width)

    def forward(self, h: Tensor, s: Tensor) -> Tensor:
        return self.activation(self.meta(h[:, None, :], s)[:, 0] + h)


class M2M(Network):
    """Attention over experts and towers with weights generated from the scenario (arXiv 2201.06814)."""

    def __init__(self, description: Mapping[str, Any], tables: Mapping[str, tuple[int, int]]):
        super().__init__(description, tables)
        p = self.network
        scenario, width = p["scenario"][-1], p["expert"][-1]
        self.side = p.get("side", [])
        self.scenario_embedding = nn.Embedding(self.scenarios, p["domain"])
        self.scenario_mlp = MLP(p["domain"] + sum(self.width_of[name] for name in self.side), p["scenario"], p)
        self.experts = nn.ModuleList(MLP(self.x_width, p["expert"], p) for _ in range(p["experts"]))
        self.views = nn.ParameterDict({task: nn.Parameter(torch.randn(p["view"]) * 0.1) for task in self.tasks})
        attention = lambda: MetaAttention(width + p["view"], scenario, p)  # noqa: E731
        self.attention = nn.ModuleDict({task: attention() for task in self.tasks})
        residual = lambda: MetaResidual(width, scenario, p)  # noqa: E731
        residuals = lambda: nn.ModuleList(residual() for _ in range(p.get("residuals", 1)))  # noqa: E731
        self.residuals = nn.ModuleDict({task: residuals() for task in self.tasks})
        self.towers_and_heads(width)

    def logits(self, batch: Batch) -> dict[str, Tensor]:
        side = [self.scenario_embedding(batch.scenario), *(batch.parts[name] for name in self.side)]
        s = self.scenario_mlp(torch.cat(side, dim=1))
        experts = torch.stack([expert(batch.x) for expert in self.experts], dim=1)
        logits = {}
        for task in self.tasks:
            h = self.attention[task](experts, self.views[task], s)
            for residual in self.residuals[task]:
                h = residual(h, s)
            logits[task] = self.heads[task](self.towers[task](h))
        return logits
