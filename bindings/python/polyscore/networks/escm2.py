"""ESCM2 (Wang et al., SIGIR 2022, arXiv 2204.05125)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from .base import Batch, Network


class ESCM2(Network):
    """ESMM, with the bottoms of MMoE and two-class heads if asked for; products are the composed tasks (SIGIR 2022).

    The counterfactual risks of the paper's loss, and the imputation tower of one of them, are not part.
    """

    def __init__(self, description: Mapping[str, Any], tables: Mapping[str, tuple[int, int]]):
        super().__init__(description, tables)
        p = self.network
        width = self.experts_and_gates(self.x_width)
        self.towers_and_heads(width)
        self.has_classes = p.get("head", "sigmoid") == "softmax"
        if self.has_classes:
            self.heads = nn.ModuleDict({task: nn.Linear([width, *p["tower"]][-1], 2) for task in self.tasks})

    def logits(self, batch: Batch) -> dict[str, Tensor]:
        return {task: self.heads[task](self.towers[task](h)) for task, h in self.mixed(batch.x).items()}

    def probabilities(self, batch: Batch) -> dict[str, Tensor]:
        if not self.has_classes:
            return super().probabilities(batch)
        return {task: torch.softmax(logits, dim=-1)[:, 1] for task, logits in self.logits(batch).items()}
