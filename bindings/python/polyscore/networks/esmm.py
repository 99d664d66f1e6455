"""ESMM (Ma et al., SIGIR 2018, eq. 1)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from .base import Batch, Network


class ESMM(Network):
    """Towers over shared embeddings; products are the composed tasks (Ma et al., SIGIR 2018)."""

    def __init__(self, description: Mapping[str, Any], tables: Mapping[str, tuple[int, int]]):
        super().__init__(description, tables)
        self.towers_and_heads(self.x_width)

    def logits(self, batch: Batch) -> dict[str, Tensor]:
        x = batch.x
        return {task: self.heads[task](self.towers[task](x)) for task in self.tasks}
