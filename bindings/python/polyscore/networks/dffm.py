"""DFFM (Guo et al., CIKM 2023, doi 10.1145/3583780.3615469)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from .base import ACTIVATIONS, MLP, Batch, Network
from .blocks import history, pair_products


class DomainLayers(nn.ModuleList):
    """`D`, eq. 3-6: layers whose matrices and biases are the first columns of the domain's embedding."""

    def __init__(self, width: int, network: Mapping[str, Any]):
        activation = ACTIVATIONS[network.get("activation", "relu")]
        super().__init__(nn.ModuleDict({"activation": activation(width)}) for _ in range(network.get("layers", 1)))
        self.width = width
        self.columns = len(self) * (width * width + width)

    def forward(self, field: Tensor, domain: Tensor) -> Tensor:
        h, size = field, self.width**2
        for layer, slices in zip(self, domain[:, : self.columns].split(size + self.width, dim=1)):
            matrix = slices[:, :size].reshape(-1, self.width, self.width)
            h = layer["activation"](torch.bmm(h[:, None, :], matrix)[:, 0] + slices[:, size:])
        return h


class Behaviour(nn.Module):
    """DFUB, eq. 9-12: self-attention over the history, its projections made of the target and the domain."""

    # Layers whose weights are parts of computed ones.
    computed = ("query", "key", "value")

    def __init__(self, inputs: int, width: int, network: Mapping[str, Any]):
        """`inputs` is the width of the history, `width` that of target and domain together."""
        super().__init__()
        self.heads, self.head = network["heads"], network["head"]
        self.rank = width // self.head
        self.pooling = network.get("pooling", "mean")
        self.query = nn.Linear(inputs, self.heads * self.rank, bias=False)
        self.key = nn.Linear(inputs, self.heads * self.rank, bias=False)
        self.value = nn.Linear(inputs, self.heads * self.rank, bias=False)
        self.width = network.get("output", self.heads * self.head)
        self.out = nn.Linear(self.heads * self.head, self.width, bias=False)

    def project(self, h: Tensor, layer: nn.Linear, generator: Tensor) -> Tensor:
        """`E^h W_i` with `W_i = W_i' E^T`, `[n, heads, positions, head]`."""
        e = generator.reshape(-1, 1, self.head, self.rank)
        learned = layer.weight.reshape(self.heads, self.rank, h.shape[2])
        return h[:, None] @ (e @ learned).transpose(2, 3)

    def forward(self, h: Tensor, mask: Tensor, generators: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        layers = (self.query, self.key, self.value)
        queries, keys, values = (self.project(h, layer, e) for layer, e in zip(layers, generators))
        logits = queries @ keys.transpose(2, 3) / math.sqrt(self.head)
        logits = logits.masked_fill(~mask[:, None, None, :], torch.finfo(logits.dtype).min)
        rows = torch.softmax(logits, dim=3) @ values * mask[:, None, :, None]
        counts = mask.sum(dim=1)
        if self.pooling == "last":
            last = (counts - 1).clamp(min=0)[:, None, None, None].expand(-1, self.heads, 1, self.head)
            pooled = rows.gather(2, last)[:, :, 0]
        else:
            pooled = rows.sum(dim=2)
            if self.pooling == "mean":
                pooled = pooled / counts.clamp(min=1)[:, None, None]
        return self.out(pooled.reshape(h.shape[0], -1))


class DFFM(Network):
    """Interaction and attention with weights made of the domain's embedding (CIKM 2023)."""

    def __init__(self, description: Mapping[str, Any], tables: Mapping[str, tuple[int, int]]):
        super().__init__(description, tables)
        p = self.network
        self.target, self.domain_features, self.history = p["target"], p.get("domain", []), p["history"]
        known = {*self.target, *self.domain_features}
        others = [f["name"] for f in self.features if f["kind"] in ("id", "ids") and f["name"] not in known]
        self.agnostic = p.get("agnostic") or others
        width_of = lambda names: sum(self.width_of[name] for name in names)  # noqa: E731
        x_width, domain_width = self.x_width, width_of(self.domain_features)
        if not self.domain_features:
            domain_width = p["domain_width"]
            self.scenario_embedding = nn.Embedding(self.scenarios, domain_width)
            x_width += domain_width

        self.domain = DomainLayers(self.width_of[self.target[0]], p)
        self.is_target_through_domain = p.get("through_d", "agnostic") == "all"
        fields = len(self.agnostic) + len(self.target)
        sizes = [fields * (fields - 1) // 2 + x_width, *p.get("interaction", [])]
        self.interaction = MLP(sizes[0], sizes[1:], p)

        self.attention_width = p.get("attention_width")
        self.is_separate = p.get("slices", "shared") == "separate"
        generator = width_of(self.target) + (self.attention_width or domain_width)
        self.behaviour = Behaviour(width_of(self.history), generator, p)
        self.towers_and_heads(sizes[-1] + self.behaviour.width)

    def generators(self, target: Tensor, domain: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """`[E^t; E^d]` of queries, keys and values."""
        width = self.attention_width
        slices = []
        for part in range(3):
            start = self.domain.columns + (part * width if self.is_separate else 0)
            slices.append(domain if width is None else domain[:, start : start + width])
        query, key, value = (torch.cat([target, part], dim=1) for part in slices)
        return query, key, value

    def logits(self, batch: Batch) -> dict[str, Tensor]:
        x = batch.x
        if self.domain_features:
            domain = torch.cat([batch.parts[name] for name in self.domain_features], dim=1)
        else:
            domain = self.scenario_embedding(batch.scenario)
            x = torch.cat([x, domain], dim=1)
        target = [batch.parts[name] for name in self.target]
        fields = [self.domain(batch.parts[name], domain) for name in self.agnostic]
        fields += [self.domain(field, domain) for field in target] if self.is_target_through_domain else target
        interaction = self.interaction(torch.cat([pair_products(fields), x], dim=1))
        generators = self.generators(torch.cat(target, dim=1), domain)
        behaviour = self.behaviour(*history(batch, self.history), generators)
        joined = torch.cat([interaction, behaviour], dim=1)
        return {task: self.heads[task](self.towers[task](joined)) for task in self.tasks}
