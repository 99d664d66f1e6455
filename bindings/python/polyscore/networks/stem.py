"""STEM (Su et al., AAAI 2024, arXiv 2308.13537)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .base import MLP, Batch, Gate, Network


class Level(nn.Module):
    """Shared experts and experts of each task, and gates over all of them."""

    def __init__(self, tasks: Sequence[str], inputs: int, is_last: bool, network: Mapping[str, Any]):
        super().__init__()
        shared, own = network.get("shared_experts", 1), network.get("task_experts", 1)
        experts = lambda count: nn.ModuleList(MLP(inputs, network["expert"], network) for _ in range(count))  # noqa: E731
        gate = lambda: Gate(inputs, network.get("gate", []), shared + own * len(tasks), network)  # noqa: E731
        self.experts = experts(shared)
        self.task_experts = nn.ModuleDict({task: experts(own) for task in tasks})
        self.gates = nn.ModuleDict({task: gate() for task in tasks})
        self.shared_gate = None if is_last else gate()

    def forward(self, h: Mapping[str, Tensor], shared: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """A task learns its own experts and the shared ones; those of other tasks it takes as they are."""
        of_shared = [expert(shared) for expert in self.experts]
        of_tasks = {task: [expert(h[task]) for expert in experts] for task, experts in self.task_experts.items()}

        def mix(gate: Tensor, learner: str | None) -> Tensor:
            experts = list(of_shared)
            for task, own in of_tasks.items():
                experts += own if learner in (None, task) else [expert.detach() for expert in own]
            return (gate[:, :, None] * torch.stack(experts, dim=1)).sum(dim=1)

        fused = {task: mix(gate(h[task] + shared), task) for task, gate in self.gates.items()}
        return fused, shared if self.shared_gate is None else mix(self.shared_gate(shared), None)


class STEM(Network):
    """Embeddings of each task beside shared ones, gates over the experts of all tasks (arXiv 2308.13537).

    A row of a table is `[task 1; ...; task K; shared]`, in equal parts: `tables` gives the width of the whole row.
    """

    def __init__(self, description: Mapping[str, Any], tables: Mapping[str, tuple[int, int]]):
        super().__init__(description, tables)
        p = self.network
        self.parts = len(self.tasks) + 1
        self.has_parts = {feature["name"]: feature["kind"] != "dense" for feature in self.features}
        for name in self.plain:
            if self.has_parts[name] and self.width_of[name] % self.parts != 0:
                raise ValueError(f"{name}: rows of {self.width_of[name]} are not {self.parts} equal parts")
        tables_width = sum(self.width_of[name] for name in self.plain if self.has_parts[name])
        width = self.x_width - tables_width + tables_width // self.parts
        widths = [width] + [p["expert"][-1]] * (p.get("levels", 1) - 1)
        last = len(widths) - 1
        self.levels = nn.ModuleList(Level(self.tasks, width, l == last, p) for l, width in enumerate(widths))
        self.towers_and_heads(p["expert"][-1])

    def inputs(self, batch: Batch) -> list[Tensor]:
        """The features with the embeddings of each task, and last with the shared ones."""
        columns = [batch.parts[name].chunk(self.parts, dim=1) if self.has_parts[name] else [batch.parts[name]] * self.parts
                   for name in self.plain]
        blocks = batch.x[:, sum(self.width_of[name] for name in self.plain):]
        return [torch.cat([*parts, blocks], dim=1) for parts in zip(*columns)]

    def logits(self, batch: Batch) -> dict[str, Tensor]:
        *inputs, shared = self.inputs(batch)
        h = dict(zip(self.tasks, inputs))
        for level in self.levels:
            h, shared = level(h, shared)
        return {task: self.heads[task](self.towers[task](h[task])) for task in self.tasks}
