"""AITM (Xi et al., KDD 2021, arXiv 2105.08489)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from .base import MLP, Batch, Network, mix


class Slots(nn.Module):
    """Each of two slots scores itself, by matrices that they share: the attention of the paper."""

    def __init__(self, width: int):
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(width, width, bias=False) for _ in range(3))

    def forward(self, own: Tensor, info: Tensor) -> Tensor:
        slots = torch.stack([own, info], dim=1)
        scores = (self.query(slots) * self.key(slots)).sum(dim=-1) / slots.shape[-1] ** 0.5
        return (torch.softmax(scores, dim=-1)[:, :, None] * self.value(slots)).sum(dim=1)


class Cross(nn.Module):
    """The own slot asks both slots, each with layers of its own: the attention of EasyRec."""

    def __init__(self, width: int):
        super().__init__()
        self.query = nn.Linear(width, width)
        self.keys, self.values = (nn.ModuleList(nn.Linear(width, width) for _ in range(2)) for _ in range(2))

    def forward(self, own: Tensor, info: Tensor) -> Tensor:
        slots = [own, info]
        keys = torch.stack([key(slot) for key, slot in zip(self.keys, slots)], dim=1)
        scores = (self.query(own)[:, None, :] * keys).sum(dim=-1) / own.shape[-1] ** 0.5
        return mix(torch.softmax(scores, dim=-1), [value(slot) for value, slot in zip(self.values, slots)])


class AITM(Network):
    """Each task receives information from the task before it, by an attention over two slots (KDD 2021).

    The penalty on a later task above an earlier one, of the paper's loss, is not part.
    """

    def __init__(self, description: Mapping[str, Any], tables: Mapping[str, tuple[int, int]]):
        super().__init__(description, tables)
        p = self.network
        width = [self.x_width, *p["bottom"]][-1]
        self.is_cross = p.get("attention", "slots") == "cross"
        attention = Cross if self.is_cross else Slots
        self.bottoms = nn.ModuleDict({task: MLP(self.x_width, p["bottom"], p) for task in self.tasks})
        self.info = nn.ModuleDict({task: MLP(width, [*p.get("info", []), width], p) for task in self.tasks[1:]})
        self.attention = nn.ModuleDict({task: attention(width) for task in self.tasks[1:]})
        sizes = p.get("tower", [])
        self.towers = nn.ModuleDict({task: MLP(width, sizes, p) for task in self.tasks})
        self.heads = nn.ModuleDict({task: nn.Linear([width, *sizes][-1], 1) for task in self.tasks})

    def logits(self, batch: Batch) -> dict[str, Tensor]:
        logits, before = {}, None
        for task in self.tasks:
            h = self.bottoms[task](batch.x)
            if before is not None:
                before = before.detach() if self.is_cross else before
                h = self.attention[task](h, self.info[task](before))
            logits[task] = self.heads[task](self.towers[task](h))
            before = h
        return logits
