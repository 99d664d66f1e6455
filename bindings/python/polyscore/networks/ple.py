"""PLE (Tang et al., RecSys 2020, doi 10.1145/3383313.3412236)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from .base import MLP, Gate, Levels, mix


class Level(nn.Module):
    """Shared experts and experts of each task: a task mixes its own and the shared ones, the shared gate mixes all."""

    def __init__(self, tasks: Sequence[str], inputs: int, is_last: bool, network: Mapping[str, Any]):
        super().__init__()
        shared, own = network["shared_experts"], network["task_experts"]
        experts = lambda count: nn.ModuleList(MLP(inputs, network["expert"], network) for _ in range(count))  # noqa: E731
        gate = lambda count: Gate(inputs, network.get("gate", []), count, network)  # noqa: E731
        self.experts = experts(shared)
        self.task_experts = nn.ModuleDict({task: experts(own) for task in tasks})
        self.gates = nn.ModuleDict({task: gate(shared + own) for task in tasks})
        self.shared_gate = gate(shared + own * len(tasks)) if shared > 0 and not is_last else None

    def forward(self, h: Mapping[str, Tensor], shared: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        of_shared = [expert(shared) for expert in self.experts]
        of_tasks = {task: [expert(h[task]) for expert in experts] for task, experts in self.task_experts.items()}
        mixed = {task: mix(self.gates[task](h[task]), [*of_shared, *own]) for task, own in of_tasks.items()}
        if self.shared_gate is not None:
            everyone = [*of_shared, *(expert for own in of_tasks.values() for expert in own)]
            shared = mix(self.shared_gate(shared), everyone)
        return mixed, shared


class PLE(Levels):
    """Levels of shared experts and experts of each task; one level is CGC (Tang et al., RecSys 2020)."""

    level = Level
