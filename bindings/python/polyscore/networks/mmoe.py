"""MMoE (Ma et al., KDD 2018, eq. 6-8)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from .base import Batch, Network


class MMoE(Network):
    """Experts mixed by a gate per task (Ma et al., KDD 2018, eq. 6-8)."""

    def __init__(self, description: Mapping[str, Any], tables: Mapping[str, tuple[int, int]]):
        super().__init__(description, tables)
        self.towers_and_heads(self.experts_and_gates(self.x_width))

    def logits(self, batch: Batch) -> dict[str, Tensor]:
        return {task: self.heads[task](self.towers[task](h)) for task, h in self.mixed(batch.x).items()}
