"""The twins of the zoo with an input per feature, as ONNX graphs have them.

    python zoo_onnx.py FOLDER [NAME...]

writes them as `thirdparty_models.py` does. An id is its table row; a bag or sequence is a padded `[n, length]` of them,
beside an input with how many of its positions are there (one for all sequences of a group); numbers are the network's
inputs, after their transform; `scenario` is the scenario's row.
"""

from __future__ import annotations

import pathlib
import sys
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

import zoo
from polyscore.networks import base, blocks
from thirdparty_models import Column, Model, write_all

BAG_LENGTH = 5


class PaddedDIN(blocks.DIN):
    """DIN whose layers see all positions: which are there decides the weights, not the shape."""

    def forward(self, batch: base.Batch) -> Tensor:
        h, mask = blocks.history(batch, self.history)
        t = torch.cat([batch.parts[name] for name in self.target], dim=1)[:, None, :].expand_as(h)
        pairs = torch.cat([t, h, t - h, t * h], dim=2).reshape(-1, 4 * self.width)
        weights = self.out(self.mlp(pairs)).reshape(-1, h.shape[1], 1)
        weights = blocks.softmax_down(weights, mask) if self.is_normalized else weights * mask[:, :, None]
        return (weights * h).sum(dim=1)


class Padded(nn.Module):
    """A twin that takes its columns in order."""

    def __init__(self, network: base.Network):
        super().__init__()
        self.network = network
        self.columns = columns(network)
        network.embed, network.embed_sequence = self.embed, self.embed_sequence
        for i, block in enumerate(network.blocks):
            if isinstance(block, blocks.DIN):
                padded = PaddedDIN(network, network.network["blocks"][i]).eval()
                padded.load_state_dict(block.state_dict())
                network.blocks[i] = padded

    def embed(self, feature: Mapping[str, Any], value: tuple[Tensor, Tensor | None]) -> Tensor:
        """As `Network.embed`."""
        numbers, count = value
        if feature["kind"] == "dense":
            return numbers
        table = self.network.get_parameter(feature["table"])
        if feature["kind"] == "id":
            return table[numbers]
        rows, mask = self.embed_sequence(feature, value)
        pooling = feature.get("pooling", "mean")
        if pooling == "max":
            most = rows.masked_fill(~mask[:, :, None], torch.finfo(rows.dtype).min).amax(dim=1)
            return torch.where(count[:, None] > 0, most, 0.0)
        return rows.sum(dim=1) / count.clamp(min=1)[:, None] if pooling == "mean" else rows.sum(dim=1)

    def embed_sequence(self, feature: Mapping[str, Any], value: tuple[Tensor, Tensor | None]) -> tuple[Tensor, Tensor]:
        """As `Network.embed_sequence`."""
        numbers, count = value
        mask = torch.arange(numbers.shape[1])[None, :] < count[:, None]
        return self.network.get_parameter(feature["table"])[numbers] * mask[:, :, None], mask

    def forward(self, *values: Tensor) -> tuple[Tensor, ...]:
        given = dict(zip((column.name for column in self.columns), values, strict=True))
        counts = {column.sequence: given[column.name] for column in self.columns if column.kind == "length"}
        paired = {c.name: (given[c.name], counts.get(c.sequence)) for c in self.columns if c.kind in ("id", "dense")}
        scores = self.network(paired, given["scenario"])
        return tuple(scores[task["name"]] for task in self.network.description["tasks"])


def columns(network: base.Network) -> list[Column]:
    """The features as columns, lengths behind the first of their group, and the scenario."""
    made: list[Column] = []
    for feature in network.features:
        name, rate, kind = feature["name"], feature["rate"], feature["kind"]
        if kind == "dense":
            made.append(Column(name, rate, "dense", feature.get("width", 1)))
            continue
        rows = network.tables[feature["table"]][0]
        if kind == "id":
            made.append(Column(name, rate, rows=rows))
            continue
        group = feature.get("sequence", name)
        has_length = any(column.sequence == group for column in made)
        made.append(Column(name, rate, width=feature.get("length", BAG_LENGTH), rows=rows, sequence=group))
        if not has_length:
            made.append(Column(f"{group}_length", rate, "length", sequence=group))
    return [*made, Column("scenario", "scenario", rows=network.scenarios)]


def names() -> list[str]:
    """The networks of the zoo."""
    return [f"zoo_{name}" for name in sorted(zoo.NETWORKS)]


def build(name: str) -> Model:
    """The twin of that name, in the variant that the zoo stores."""
    network, variant, _ = zoo.stored()[name.removeprefix("zoo_")]
    module = Padded(zoo.twin(zoo.describe(network, variant)))
    outputs = {task["name"]: [task["name"]] for task in module.network.description["tasks"]}
    return Model(name, "polyscore", module.eval(), module.columns, outputs)


if __name__ == "__main__":
    write_all((build(name) for name in sys.argv[2:] or names()), pathlib.Path(sys.argv[1]))
