"""AdaTT (Li et al., KDD 2023, arXiv 2304.04959)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .base import MLP, Gate, Levels


def own_weights(count: int) -> nn.Parameter:
    bound = count**-0.5
    return nn.Parameter(torch.empty(count).uniform_(-bound, bound))


def add_own(gate: Tensor, experts: Sequence[Tensor], own: Sequence[Tensor], weights: Tensor | None) -> Tensor:
    """`sum_e gate_e E_e + sum_j w_j own_j`; no weights, ones."""
    fused = (gate[:, :, None] * torch.stack(experts, dim=1)).sum(dim=1)
    stacked = torch.stack(own, dim=1)
    return fused + (stacked if weights is None else weights[:, None] * stacked).sum(dim=1)


class Level(nn.Module):
    """Experts of each task, shared ones if asked for, and the fusion of all for each task."""

    def __init__(self, tasks: Sequence[str], inputs: int, is_last: bool, network: Mapping[str, Any]):
        super().__init__()
        shared, own = network.get("shared_experts", 0), network.get("task_experts", 1)
        experts = lambda count: nn.ModuleList(MLP(inputs, network["expert"], network) for _ in range(count))  # noqa: E731
        gate = lambda: Gate(inputs, network.get("gate", []), shared + own * len(tasks), network)  # noqa: E731
        self.experts = experts(shared)
        self.task_experts = nn.ModuleDict({task: experts(own) for task in tasks})
        self.gates = nn.ModuleDict({task: gate() for task in tasks})
        self.has_shared_gate = shared > 0 and not is_last
        self.shared_gate = gate() if self.has_shared_gate else None
        is_weighted = own > 1 or shared > 1
        self.weights = nn.ParameterDict({task: own_weights(own) for task in tasks}) if is_weighted else {}
        self.shared_weights = own_weights(shared) if is_weighted and self.has_shared_gate else None

    def forward(self, h: Mapping[str, Tensor], shared: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        of_shared = [expert(shared) for expert in self.experts]
        of_tasks = {task: [expert(h[task]) for expert in experts] for task, experts in self.task_experts.items()}
        experts = [*of_shared, *(expert for own in of_tasks.values() for expert in own)]
        weights = {task: self.weights[task] if self.weights else None for task in of_tasks}
        fused = {task: add_own(gate(h[task]), experts, of_tasks[task], weights[task]) for task, gate in self.gates.items()}
        if self.shared_gate is not None:
            shared = add_own(self.shared_gate(shared), experts, of_shared, self.shared_weights)
        return fused, shared


class AdaTT(Levels):
    """Levels at which a task fuses the experts of all tasks, and its own once more (arXiv 2304.04959)."""

    level = Level
