"""HoME (Wang et al., arXiv 2408.05430, eq. 4-11)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .base import Batch, Gate, MLP, Network, mix


class LoRA(nn.Module):
    """`2 sigmoid(A B u)`, a weight per column (eq. 8)."""

    def __init__(self, width: int, rank: int):
        super().__init__()
        self.down = nn.Linear(width, rank, bias=False)
        self.up = nn.Linear(rank, width, bias=False)

    def forward(self, u: Tensor) -> Tensor:
        return 2 * torch.sigmoid(self.up(self.down(u)))


class FeatureGate(nn.Module):
    """A mixture of such weights (eq. 9)."""

    def __init__(self, width: int, loras: int, network: Mapping[str, Any]):
        super().__init__()
        if loras > width:
            raise ValueError(f"{loras} loras are more than the {width} columns that they weigh")
        self.loras = nn.ModuleList(LoRA(width, width // loras) for _ in range(loras))
        self.gate = Gate(width, network.get("gate", []), loras, network)

    def forward(self, u: Tensor) -> Tensor:
        return mix(self.gate(u), [lora(u) for lora in self.loras])


class SelfGate(Gate):
    """A softmax over a set of experts, a sigmoid for a single one (eq. 11)."""

    def forward(self, u: Tensor) -> Tensor:
        logits = self.out(self.hidden(u))
        return torch.sigmoid(logits) if logits.shape[-1] == 1 else torch.softmax(logits, dim=-1)


class Experts(nn.Module):
    """A set of experts of one input, and the gates of what they serve: over `gated` experts, and over the set alone.

    `outer` is the width of what the gates read.
    """

    def __init__(
        self, inputs: int, sizes: Sequence[int], loras: int, network: Mapping[str, Any],
        outer: int = 0, gated: int = 0, has_self_gate: bool = False,
    ):
        super().__init__()
        count, hidden = network["experts"], network.get("gate", [])
        self.feature_gate = FeatureGate(inputs, loras, network) if loras else None
        self.experts = nn.ModuleList(MLP(inputs, sizes, network) for _ in range(count))
        self.gate = Gate(outer, hidden, gated, network) if gated else None
        self.self_gate = SelfGate(outer, hidden, count, network) if has_self_gate else None

    def forward(self, u: Tensor) -> list[Tensor]:
        weighted = u if self.feature_gate is None else u * self.feature_gate(u)
        return [expert(weighted) for expert in self.experts]

    def fuse(self, u: Tensor, experts: Sequence[Tensor], own: Sequence[Tensor]) -> Tensor:
        """All `experts` by the gate of `u`, and once more those of the set."""
        fused = mix(self.gate(u), experts)
        return fused if self.self_gate is None else fused + mix(self.self_gate(u), own)


class Level(nn.Module):
    """Experts shared by all tasks, and of each group of tasks."""

    def __init__(self, shared: Experts, groups: Mapping[str, Experts]):
        super().__init__()
        self.shared, self.groups = shared, nn.ModuleDict(groups)


class HoME(Network):
    """Experts of groups of tasks, then experts of tasks, behind feature gates (arXiv 2408.05430)."""

    def __init__(self, description: Mapping[str, Any], tables: Mapping[str, tuple[int, int]]):
        super().__init__(description, tables)
        self.network = p = {"activation": "silu", "batch_norm": True, **self.network}
        self.members = {group: p["groups"][group] for group in sorted(p["groups"])}
        grouped = [task for members in self.members.values() for task in members]
        if sorted(grouped) != sorted(self.tasks):
            raise ValueError(f"network.groups: the tasks {grouped} are not, once each, {self.tasks}")
        count, x, z = p["experts"], self.x_width, p["meta"][-1]

        loras = p.get("loras", 2)
        first = lambda gated: Experts(x, p["meta"], loras, p, x, gated, has_self_gate=True)  # noqa: E731
        self.meta = Level(first(count * (len(self.members) + 1)), {group: first(2 * count) for group in self.members})
        loras, has_self_gate = p.get("task_loras", 2), p.get("task_self_gates", False)
        second = lambda: Experts(z, p["expert"], loras, p)  # noqa: E731
        of_task = lambda: Experts(z, p["expert"], loras, p, 2 * z, 3 * count, has_self_gate)  # noqa: E731
        self.task = Level(second(), {group: second() for group in self.members})
        self.task.own = nn.ModuleDict({task: of_task() for task in self.tasks})
        self.towers_and_heads(p["expert"][-1])

    def logits(self, batch: Batch) -> dict[str, Tensor]:
        x, meta, task_level = batch.x, self.meta, self.task
        shared = meta.shared(x)
        of_groups = {group: meta.groups[group](x) for group in self.members}
        everything = [*shared, *(expert for experts in of_groups.values() for expert in experts)]
        z_shared = meta.shared.fuse(x, everything, shared)
        z = {group: meta.groups[group].fuse(x, [*shared, *own], own) for group, own in of_groups.items()}

        shared = task_level.shared(z_shared)
        hidden = {}
        for group, members in self.members.items():
            of_group = task_level.groups[group](z[group])
            both = torch.cat([z[group], z_shared], dim=1)
            for task in members:
                own = task_level.own[task](z[group])
                hidden[task] = task_level.own[task].fuse(both, [*shared, *of_group, *own], own)
        return {task: self.heads[task](self.towers[task](hidden[task])) for task in self.tasks}
