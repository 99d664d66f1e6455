"""Shared bottom (Caruana, Multitask Learning, 1997)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from .base import MLP, Batch, Network


class SharedBottom(Network):
    """One bottom, a tower per task (Caruana 1997)."""

    def __init__(self, description: Mapping[str, Any], tables: Mapping[str, tuple[int, int]]):
        super().__init__(description, tables)
        self.bottom = MLP(self.x_width, self.network["bottom"], self.network)
        self.towers_and_heads(([self.x_width, *self.network["bottom"]])[-1])

    def logits(self, batch: Batch) -> dict[str, Tensor]:
        h = self.bottom(batch.x)
        return {task: self.heads[task](self.towers[task](h)) for task in self.tasks}
