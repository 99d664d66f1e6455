"""Random models of every network and random requests, for parity between twin and engine."""

from __future__ import annotations

import random
from typing import Any

import torch

from polyscore import networks

TABLES = {"user": (51, 16), "ad": (40, 7), "tag": (6, 5), "seen": (4, 4), "city": (4, 8), "match": (30, 6)}

FEATURES = [
    {"name": "user", "rate": "request", "kind": "id", "table": "embeddings.user.weight", "oov": 0,
     "transform": {"type": "hash", "algorithm": "xxh64", "seed": 7, "buckets": 50, "offset": 1}},
    {"name": "ad", "rate": "item", "kind": "id", "table": "embeddings.ad.weight", "oov": 0,
     "transform": {"type": "identity"}},
    {"name": "context", "rate": "request", "kind": "dense", "width": 3, "transform": {"type": "log1p"}, "missing": 0.5},
    {"name": "history", "rate": "request", "kind": "ids", "table": "embeddings.ad.weight", "oov": 0, "pooling": "mean",
     "transform": {"type": "identity"}},
    {"name": "tags", "rate": "item", "kind": "ids", "table": "embeddings.tag.weight", "oov": 0, "missing": 1,
     "pooling": "sum", "transform": {"type": "vocabulary", "values": [3, 5, 8, 13], "offset": 2}},
    {"name": "seen", "rate": "pair", "kind": "id", "table": "embeddings.seen.weight", "oov": 0,
     "transform": {"type": "bucketize", "boundaries": [1.0, 3.0], "offset": 1}},
    {"name": "price", "rate": "item", "kind": "dense", "width": 2,
     "transform": {"type": "standardize", "mean": [1.0, 10.0], "std": [0.3, 7.0]}},
    {"name": "age", "rate": "request", "kind": "dense", "width": 1,
     "transform": {"type": "minmax", "min": [18.0], "max": [81.0]}},
    {"name": "city", "rate": "request", "kind": "id", "table": "embeddings.city.weight", "oov": 0,
     "transform": {"type": "vocabulary", "values": ["Delft", "Porto", "Turku"], "offset": 1}},
    {"name": "match", "rate": "pair", "kind": "ids", "table": "embeddings.match.weight", "oov": 0, "pooling": "max",
     "transform": {"type": "identity"}},
]

NETWORKS = {
    "shared_bottom": {"type": "shared_bottom", "bottom": [33, 20], "tower": [9]},
    "mmoe": {"type": "mmoe", "experts": 3, "expert": [40, 17], "gate": [5], "tower": [11]},
    "esmm": {"type": "esmm", "tower": [64, 16]},
    "pepnet": {"type": "pepnet", "domain": 6, "gate": 18, "personal": ["user", "ad", "seen"], "tower": [24, 10]},
}

VARIANTS = {
    "plain": {},
    "norm": {"batch_norm": True, "activation": "silu"},
    "leaky": {"activation": "leaky_relu"},
    "tanh": {"batch_norm": True, "activation": "tanh"},
    "sigmoid": {"activation": "sigmoid"},
}


def describe(network: str, variant: str) -> dict[str, Any]:
    return {
        "format_version": 1,
        "name": f"{network}-{variant}",
        "features": FEATURES,
        "scenarios": [{"name": "feed", "id": 10}, {"name": "splash", "id": 20},
                      {"name": "video", "id": 30, "fallback": "splash"}],
        "fallback_scenario": "splash",
        "tasks": [{"name": "ctr"}, {"name": "cvr"}, {"name": "ctcvr", "composition": ["ctr", "cvr"]}],
        "network": NETWORKS[network] | VARIANTS[variant],
    }


def twin(description: dict[str, Any], seed: int = 1) -> networks.Network:
    """A twin with weights moved away from their initialisation: tables, biases, norms and their statistics."""
    torch.manual_seed(seed)
    network = networks.build(description, {f"embeddings.{name}.weight": shape for name, shape in TABLES.items()})
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            spread = 0.5 if name.startswith("embeddings") else 0.3 if parameter.dim() == 1 else 0.15
            parameter.add_(torch.randn_like(parameter) * spread)
        for name, buffer in network.named_buffers():
            if name.endswith("running_mean"):
                buffer.copy_(torch.randn_like(buffer) * 0.5)
            elif name.endswith("running_var"):
                buffer.copy_(torch.rand_like(buffer) + 0.2)
    return network.eval()


def request(seed: int, count: int) -> dict[str, Any]:
    """A request in the form of the command line, with unknown, missing and absent values and empty bags."""
    r = random.Random(seed)
    some_id = lambda: None if r.random() < 0.05 else r.randrange(-3, 60)  # noqa: E731
    number = lambda: None if r.random() < 0.05 else round(r.uniform(-4, 16), 3)  # noqa: E731
    bag = lambda: [some_id() for _ in range(r.randrange(6))]  # noqa: E731
    values = {"user": r.choice([some_id(), "u42"]), "context": [number() for _ in range(3)], "history": bag(),
              "city": r.choice(["Delft", "Turku", "Atlantis", None]), "age": number()}
    candidates: dict[str, Any] = {
        "ad": [some_id() for _ in range(count)], "tags": [bag() for _ in range(count)],
        "seen": [number() for _ in range(count)], "price": [[number(), number()] for _ in range(count)],
        "match": [bag() for _ in range(count)]}
    if r.random() < 0.3:
        del values["context"]
    if r.random() < 0.3:
        del candidates["tags"]
    return {"scenario": r.choice(["feed", "splash", "video", 10, None, "nowhere"]), "request": values, "candidates": candidates}


def score(network: networks.Network, request: dict[str, Any], count: int) -> dict[str, torch.Tensor]:
    """The twin's scores."""
    from polyscore import features

    batch = networks.inputs(network, request["request"], request["candidates"], count)
    row = features.scenario_row(network.description, request["scenario"])
    with torch.no_grad():
        return network(batch, torch.full((count,), row, dtype=torch.int64))
