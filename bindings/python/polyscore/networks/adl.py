"""ADL (Li et al., SIGIR 2023, doi 10.1145/3539618.3591944)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from .base import Batch, Network
from .star import StarBlock, StarLayer


class Centers(nn.Module):
    """The centres of clusters `[clusters, width]`; in training they follow the mean direction of the rows routed to them."""

    def __init__(self, clusters: int, width: int, momentum: float = 0.1):
        super().__init__()
        self.register_buffer("weight", functional.normalize(torch.randn(clusters, width), dim=1))
        self.momentum = momentum

    def forward(self, x: Tensor) -> Tensor:
        """The cluster of each row: that of the largest cosine."""
        x = functional.normalize(x.detach(), dim=1)
        cluster = (x @ functional.normalize(self.weight, dim=1).T).argmax(dim=1)
        if self.training:
            for row in cluster.unique():
                moved = self.weight[row].lerp(x[cluster == row].mean(dim=0), self.momentum)
                self.weight[row] = functional.normalize(moved, dim=0)
        return cluster


class ADL(Network):
    """Rows routed to learned clusters, whose weights scale shared ones (SIGIR 2023)."""

    def __init__(self, description: Mapping[str, Any], tables: Mapping[str, tuple[int, int]]):
        super().__init__(description, tables)
        p = self.network
        self.route_by = p.get("route_by")
        width = self.x_width if self.route_by is None else sum(self.width_of[name] for name in self.route_by)
        sizes = [self.x_width, *p["hidden"]]
        self.centers = Centers(p["clusters"], width)
        self.layers = nn.ModuleList(StarBlock(p["clusters"], a, b, p) for a, b in zip(sizes, sizes[1:]))
        self.heads = nn.ModuleDict({task: StarLayer(p["clusters"], sizes[-1], 1) for task in self.tasks})

    def logits(self, batch: Batch) -> dict[str, Tensor]:
        h = routing = batch.x
        if self.route_by is not None:
            routing = torch.cat([batch.parts[name] for name in self.route_by], dim=1)
        cluster = self.centers(routing)
        for layer in self.layers:
            h = layer(h, cluster)
        return {task: self.heads[task](h, cluster) for task in self.tasks}
