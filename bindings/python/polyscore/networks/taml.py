"""TAML (WWW 2023 Companion, doi 10.1145/3543873.3584653)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from .base import MLP, Batch, Gate, Network, mix


class TAML(Network):
    """Experts shared, of tasks and of learners; the predictions of a task's learners are fused (WWW 2023).

    The self-distillation of the paper's loss is not part; it teaches `learners` by what `fuse` makes of them.
    """

    def __init__(self, description: Mapping[str, Any], tables: Mapping[str, tuple[int, int]]):
        super().__init__(description, tables)
        p = self.network
        count, shared = p.get("learners", 3), p.get("shared_experts", 2)
        of_task, of_learner = p.get("task_experts", 1), p.get("learner_experts", 1)
        expert = lambda: MLP(self.x_width, p["expert"], p)  # noqa: E731
        experts = lambda count: nn.ModuleList(expert() for _ in range(count))  # noqa: E731
        self.experts = experts(shared)
        self.task_experts = nn.ModuleDict({task: experts(of_task) for task in self.tasks})

        def each(make) -> nn.ModuleDict:
            return nn.ModuleDict({task: nn.ModuleList(make() for _ in range(count)) for task in self.tasks})

        self.learner_experts = each(lambda: experts(of_learner))
        self.gates = each(lambda: Gate(self.x_width, p.get("gate", []), shared + of_task + of_learner, p))
        self.towers = each(lambda: MLP(p["expert"][-1], p["tower"], p))
        self.heads = each(lambda: nn.Linear([p["expert"][-1], *p["tower"]][-1], 1))
        self.fusion = None
        if p.get("fusion", "mean") == "gated":
            self.fusion = nn.ModuleDict({task: nn.Linear(self.x_width, count) for task in self.tasks})
        self.fuses_logits = p.get("fuse", "probability") == "logit"

    def learners(self, x: Tensor) -> dict[str, Tensor]:
        """Logits `[n, learners]` of every task's learners."""
        shared = [expert(x) for expert in self.experts]
        logits = {}
        for task in self.tasks:
            of_task = [expert(x) for expert in self.task_experts[task]]
            own = zip(self.learner_experts[task], self.gates[task], self.towers[task], self.heads[task])
            columns = []
            for of_learner, gate, tower, head in own:
                experts = [*shared, *of_task, *(expert(x) for expert in of_learner)]
                columns.append(head(tower(mix(gate(x), experts))))
            logits[task] = torch.cat(columns, dim=1)
        return logits

    def fuse(self, task: str, x: Tensor, logits: Tensor) -> Tensor:
        """The probability `[n]` of a task from the logits of its learners."""
        predictions = logits if self.fuses_logits else torch.sigmoid(logits)
        if self.fusion is None:
            fused = predictions.mean(dim=1)
        else:
            fused = (torch.softmax(self.fusion[task](x), dim=-1) * predictions).sum(dim=1)
        return torch.sigmoid(fused) if self.fuses_logits else fused

    def probabilities(self, batch: Batch) -> dict[str, Tensor]:
        return {task: self.fuse(task, batch.x, logits) for task, logits in self.learners(batch.x).items()}
