"""Blocks before a network: what sequences and crossed features add to its input `x`.

`network.blocks` lists them, whatever the network. What a block gives follows the features, in listed order. Only the valid
positions of a sequence are read; an empty one pools to zeros.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from .. import features
from . import base


def history(batch: base.Batch, names: Sequence[str]) -> tuple[Tensor, Tensor]:
    """The named sequences side by side, `[n, positions, width]` with zeros behind, and which positions are there."""
    parts = [batch.sequences[name] for name in names]
    return torch.cat([part for part, _ in parts], dim=2), parts[0][1]


def softmax_down(logits: Tensor, mask: Tensor) -> Tensor:
    """A softmax of `[n, positions, columns]` over the positions that are there; the others get 0."""
    there = mask[:, :, None]
    weights = torch.softmax(logits.masked_fill(~there, torch.finfo(logits.dtype).min), dim=1)
    return weights * there


class DIN(nn.Module):
    """`sum_i w_i h_i`, `w_i = MLP([t; h_i; t - h_i; t * h_i])` (Zhou et al., DIN, KDD 2018, eq. 3)."""

    def __init__(self, network: base.Network, block: Mapping[str, Any]):
        super().__init__()
        self.history, self.target = block["history"], block["target"]
        self.is_normalized = block.get("softmax", False)
        self.width = sum(network.width_of[name] for name in self.history)
        sizes = [4 * self.width, *block["hidden"]]
        self.mlp = base.MLP(sizes[0], sizes[1:], block)
        self.out = nn.Linear(sizes[-1], 1)

    def forward(self, batch: base.Batch) -> Tensor:
        h, mask = history(batch, self.history)
        t = torch.cat([batch.parts[name] for name in self.target], dim=1)[:, None, :].expand_as(h)
        # Layers see the positions that are there only, so that the statistics of their norms are of nothing else.
        pairs = torch.cat([t, h, t - h, t * h], dim=2)[mask]
        weights = torch.zeros(*mask.shape, 1, dtype=h.dtype, device=h.device)
        if len(pairs):
            weights[mask] = self.out(self.mlp(pairs))
        if self.is_normalized:
            weights = softmax_down(weights, mask)
        return (weights * h).sum(dim=1)


class TargetAttention(nn.Module):
    """`[softmax(q_i K_i^T / sqrt(d)) V_i for all heads] W_o`, the query from the target, keys and values from the history."""

    def __init__(self, network: base.Network, block: Mapping[str, Any]):
        super().__init__()
        self.history, self.target = block["history"], block["target"]
        self.heads, self.head = block["heads"], block["width"]
        inner = self.heads * self.head
        self.width = block.get("output", inner)
        width_of = lambda names: sum(network.width_of[name] for name in names)  # noqa: E731
        self.query = nn.Linear(width_of(self.target), inner, bias=False)
        self.key = nn.Linear(width_of(self.history), inner, bias=False)
        self.value = nn.Linear(width_of(self.history), inner, bias=False)
        self.out = nn.Linear(inner, self.width, bias=False)

    def forward(self, batch: base.Batch) -> Tensor:
        h, mask = history(batch, self.history)
        t = torch.cat([batch.parts[name] for name in self.target], dim=1)
        n, positions, _ = h.shape
        query = self.query(t).reshape(n, 1, self.heads, self.head)
        keys = self.key(h).reshape(n, positions, self.heads, self.head)
        values = self.value(h).reshape(n, positions, self.heads, self.head)
        weights = softmax_down((query * keys).sum(dim=3) / math.sqrt(self.head), mask)
        return self.out((weights[..., None] * values).sum(dim=1).reshape(n, -1))


class Pooling(nn.Module):
    """The sum or the mean of the positions that are there."""

    def __init__(self, network: base.Network, block: Mapping[str, Any]):
        super().__init__()
        self.history, self.is_mean = block["history"], block.get("how", "mean") == "mean"
        self.width = sum(network.width_of[name] for name in self.history)

    def forward(self, batch: base.Batch) -> Tensor:
        h, mask = history(batch, self.history)
        counts = mask.sum(dim=1, keepdim=True).clamp(min=1)
        return h.sum(dim=1) / counts if self.is_mean else h.sum(dim=1)


class FM(nn.Module):
    """`(|sum_i e_i|^2 - sum_i |e_i|^2) / 2` (Rendle, Factorization Machines, ICDM 2010, eq. 5)."""

    width = 1

    def __init__(self, network: base.Network, block: Mapping[str, Any]):
        super().__init__()
        self.features = block["features"]

    def forward(self, batch: base.Batch) -> Tensor:
        e = torch.stack([batch.parts[name] for name in self.features], dim=1)
        return (e.sum(dim=1).square() - e.square().sum(dim=1)).sum(dim=1, keepdim=True) / 2


class InnerProducts(nn.Module):
    """`<e_i, e_j>` for all `i < j` (Qu et al., PNN, ICDM 2016); their cosines with `normalize`."""

    def __init__(self, network: base.Network, block: Mapping[str, Any]):
        super().__init__()
        self.features = block["features"]
        self.normalize = block.get("normalize", False)
        self.width = len(self.features) * (len(self.features) - 1) // 2

    def forward(self, batch: base.Batch) -> Tensor:
        fields = [batch.parts[name] for name in self.features]
        return pair_products([functional.normalize(field, dim=1) for field in fields] if self.normalize else fields)


def pair_products(fields: Sequence[Tensor]) -> Tensor:
    """The inner products of all pairs `i < j`, in the order (0, 1), (0, 2), ..., (1, 2), ..."""
    pairs = [(fields[i] * fields[j]).sum(dim=1) for i in range(len(fields)) for j in range(i + 1, len(fields))]
    return torch.stack(pairs, dim=1)


class LowRank(nn.Module):
    """`U V^T x + b`"""

    def __init__(self, width: int, rank: int):
        super().__init__()
        self.v = nn.Linear(width, rank, bias=False)
        self.u = nn.Linear(rank, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.u(self.v(x))


class Cross(nn.Module):
    """`x_{l+1} = x_0 * (W_l x_l + b_l) + x_l` (Wang et al., DCN V2, WWW 2021, eq. 1 and 2)."""

    def __init__(self, network: base.Network, block: Mapping[str, Any]):
        super().__init__()
        self.features = block.get("features") or network.plain
        self.width = width = sum(network.width_of[name] for name in self.features)
        rank = block.get("rank")
        layer = lambda: nn.Linear(width, width) if rank is None else LowRank(width, rank)  # noqa: E731
        self.layers = nn.ModuleList(layer() for _ in range(block["layers"]))

    def forward(self, batch: base.Batch) -> Tensor:
        first = x = torch.cat([batch.parts[name] for name in self.features], dim=1)
        for layer in self.layers:
            x = first * layer(x) + x
        return x


BLOCKS = {
    "cross": Cross,
    "din": DIN,
    "fm": FM,
    "inner_products": InnerProducts,
    "pooling": Pooling,
    "target_attention": TargetAttention,
}


def build(network: base.Network) -> nn.ModuleList:
    """The blocks of the description; each has a `width`, and takes a batch."""
    listed = network.network.get("blocks", [])
    for i, block in enumerate(listed):
        if block.get("type") not in BLOCKS:
            known = ", ".join(BLOCKS)
            raise features.DescriptionError(f"network.blocks[{i}].type: `{block.get('type')}` is not one of {known}")
    return nn.ModuleList(BLOCKS[block["type"]](network, block) for block in listed)
