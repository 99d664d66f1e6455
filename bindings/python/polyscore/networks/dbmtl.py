"""DBMTL (Wang et al., arXiv 1902.09154)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from .base import MLP, Batch, Network


class DBMTL(Network):
    """A Bayesian network of tasks, linked by layers from the parents of a task to the task (arXiv 1902.09154)."""

    def __init__(self, description: Mapping[str, Any], tables: Mapping[str, tuple[int, int]]):
        super().__init__(description, tables)
        p = self.network
        self.bottom = MLP(self.x_width, p.get("bottom", []), p)
        width = self.experts_and_gates([self.x_width, *p.get("bottom", [])][-1])
        self.towers = nn.ModuleDict({task: MLP(width, p["tower"], p) for task in self.tasks})
        self.parents, self.relations, self.heads = p["parents"], nn.ModuleDict(), nn.ModuleDict()
        widths: dict[str, int] = {}
        for task in self.tasks:
            widths[task] = [width, *p["tower"]][-1]
            if task in self.parents:
                inputs = widths[task] + sum(widths[parent] for parent in self.parents[task])
                self.relations[task] = MLP(inputs, p["relation"], p)
                widths[task] = [inputs, *p["relation"]][-1]
            self.heads[task] = nn.Linear(widths[task], 1)

    def logits(self, batch: Batch) -> dict[str, Tensor]:
        mixed = self.mixed(self.bottom(batch.x))
        relations: dict[str, Tensor] = {}
        for task in self.tasks:
            relations[task] = self.towers[task](mixed[task])
            if task in self.parents:
                parts = [relations[task], *(relations[parent] for parent in self.parents[task])]
                relations[task] = self.relations[task](torch.cat(parts, dim=1))
        return {task: self.heads[task](relations[task]) for task in self.tasks}
