"""Random models of every network and random requests, for parity between twin and engine."""

from __future__ import annotations

import random
from typing import Any

import torch

from polyscore import networks

TABLES = {"user": (51, 16), "ad": (40, 7), "tag": (6, 5), "seen": (4, 4), "city": (4, 8), "match": (30, 6),
          "word": (21, 6), "category": (9, 7), "device": (5, 7), "slot": (6, 100)}

# How many embeddings a table row holds side by side, for networks where that is not one.
PARTS = {"stem": 3}

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

# What blocks and DFFM read besides.
SEQUENCES = [
    {"name": "clicks", "rate": "request", "kind": "sequence", "length": 12, "sequence": "clicked",
     "table": "embeddings.ad.weight", "oov": 0, "transform": {"type": "identity"}},
    {"name": "clicked_tags", "rate": "request", "kind": "sequence", "length": 12, "sequence": "clicked",
     "table": "embeddings.tag.weight", "oov": 0, "missing": 1,
     "transform": {"type": "vocabulary", "values": [3, 5, 8, 13], "offset": 2}},
    {"name": "searches", "rate": "request", "kind": "sequence", "length": 30, "table": "embeddings.word.weight", "oov": 0,
     "missing": 0, "transform": {"type": "hash", "algorithm": "xxh64", "seed": 3, "buckets": 20, "offset": 1}},
    {"name": "category", "rate": "item", "kind": "id", "table": "embeddings.category.weight", "oov": 0,
     "transform": {"type": "identity"}},
    {"name": "device", "rate": "request", "kind": "id", "table": "embeddings.device.weight", "oov": 0,
     "transform": {"type": "identity"}},
    {"name": "slot", "rate": "request", "kind": "id", "table": "embeddings.slot.weight", "oov": 0,
     "transform": {"type": "identity"}},
]

DFFM = {"type": "dffm", "target": ["ad", "category"], "agnostic": ["history", "device"], "domain": ["slot"],
        "interaction": [23], "history": ["clicks", "clicked_tags"], "heads": 2, "head": 5, "attention_width": 21,
        "output": 9, "tower": [11]}
DIN = {"type": "din", "history": ["clicks", "clicked_tags"], "target": ["ad", "tags"], "hidden": [13, 6]}
ATTENTION = {"type": "target_attention", "history": ["searches"], "target": ["ad", "category"], "heads": 3, "width": 5}

NETWORKS = {
    "adasparse": {"type": "adasparse", "domain": 5, "hidden": [33, 18]},
    "adatt": {"type": "adatt", "levels": 2, "task_experts": 2, "expert": [33, 17], "tower": [11]},
    "adatt_shared": {"type": "adatt", "levels": 2, "task_experts": 2, "shared_experts": 1, "expert": [19], "tower": [11]},
    "adatt_shared_single": {"type": "adatt", "levels": 2, "shared_experts": 1, "expert": [19], "tower": [11]},
    "adatt_single": {"type": "adatt", "levels": 2, "expert": [19], "gate": [5], "tower": [11]},
    "adl": {"type": "adl", "clusters": 3, "hidden": [33, 18]},
    "aitm": {"type": "aitm", "bottom": [33, 17], "tower": [9]},
    "aitm_cross": {"type": "aitm", "attention": "cross", "bottom": [33, 17], "info": [12]},
    "apg_group": {"type": "apg", "hidden": [33, 18], "rank": 5, "condition": "group", "domain": 6, "generated_bias": True},
    "apg_mix": {"type": "apg", "hidden": [33, 18], "rank": 4, "condition": "mix", "domain": 6, "generator": [7]},
    "apg_self": {"type": "apg", "hidden": [33, 18], "rank": 5, "generator": [7]},
    "causalint": {"type": "causalint", "extractor": [40, 21, 17], "side": 7, "expert": [19], "tower": [5]},
    "dbmtl": {"type": "dbmtl", "bottom": [33], "tower": [17], "relation": [11], "parents": {"cvr": ["ctr"]}},
    "dbmtl_experts": {"type": "dbmtl", "experts": 3, "expert": [19], "gate": [5], "tower": [], "relation": [11, 7],
                      "parents": {"ctr": [], "cvr": ["ctr"]}},
    "dffm": DFFM,
    "dffm_all": DFFM | {"domain": ["slot", "city"], "through_d": "all", "attention_width": None, "head": 2,
                        "history": ["clicks"], "pooling": "sum"},
    "dffm_last": DFFM | {"head": 4, "attention_width": 14, "slices": "separate", "pooling": "last", "history": ["searches"],
                         "attention": "factored"},
    "dffm_plain": DFFM | {"attention": "plain", "heads": 3, "interaction": [], "tower": []},
    "dffm_scenario": DFFM | {"domain": [], "domain_width": 133, "layers": 2, "head": 7},
    "escm2": {"type": "escm2", "tower": [33, 17]},
    "escm2_experts": {"type": "escm2", "experts": 3, "expert": [33, 17], "tower": [9], "head": "softmax"},
    "esmm": {"type": "esmm", "tower": [64, 16]},
    "hamur": {"type": "hamur", "hidden": [33, 18], "hyper": [20], "rank": 5, "bottleneck": 9},
    "hmoe": {"type": "hmoe", "experts": 3, "expert": [40, 17], "tower": [11]},
    "home": {"type": "home", "groups": {"watch": ["ctr"], "buy": ["cvr"]}, "experts": 2, "meta": [17], "expert": [13],
             "tower": [9]},
    "home_single": {"type": "home", "groups": {"all": ["cvr", "ctr"]}, "experts": 1, "meta": [21, 19], "expert": [13],
                    "gate": [7], "loras": 3, "task_loras": 0, "task_self_gates": True, "tower": [9]},
    "m2m": {"type": "m2m", "domain": 5, "side": ["user"], "scenario": [12], "experts": 3, "expert": [19], "view": 6,
            "tower": [9]},
    "m3oe": {"type": "m3oe", "star": 34, "experts": 3, "expert": [17], "tower": [11]},
    "mmoe": {"type": "mmoe", "experts": 3, "expert": [40, 17], "gate": [5], "tower": [11]},
    "mmoe_din": {"type": "mmoe", "experts": 3, "expert": [33, 17], "tower": [11], "blocks": [
        DIN, DIN | {"softmax": True, "activation": "dice"},
        {"type": "pooling", "history": ["searches"]}]},
    "pepnet": {"type": "pepnet", "domain": 6, "gate": 18, "personal": ["user", "ad", "seen"], "tower": [24, 10]},
    "ple": {"type": "ple", "levels": 2, "shared_experts": 2, "task_experts": 1, "expert": [33, 17], "tower": [11]},
    "ple_cgc": {"type": "ple", "shared_experts": 1, "task_experts": 2, "expert": [19], "gate": [5], "tower": [11]},
    "ple_own": {"type": "ple", "levels": 2, "shared_experts": 0, "task_experts": 2, "expert": [19], "tower": []},
    "sarnet": {"type": "sarnet", "shared": 3, "own": 2, "width": 19, "tower": [13]},
    "shared_bottom": {"type": "shared_bottom", "bottom": [33, 20], "tower": [9]},
    "shared_bottom_blocks": {"type": "shared_bottom", "bottom": [33, 20], "tower": [9], "blocks": [
        ATTENTION, ATTENTION | {"history": ["clicked_tags"], "target": ["user"], "output": 4},
        {"type": "cross", "layers": 2, "features": ["city", "ad"]},
        {"type": "fm", "features": ["ad", "device", "history", "category"]}, {"type": "fm", "features": ["ad", "category"]},
        {"type": "inner_products", "features": ["device", "ad", "history", "category"]},
        {"type": "inner_products", "features": ["device", "ad", "category"], "normalize": True}]},
    "star": {"type": "star", "domain": 5, "hidden": [33, 18], "auxiliary": [12]},
    "star_blocks": {"type": "star", "domain": 5, "hidden": [33, 18], "auxiliary": [12], "blocks": [
        DIN | {"target": ["history", "tags"], "activation": "prelu", "batch_norm": True}, {"type": "cross", "layers": 2, "rank": 3},
        {"type": "pooling", "history": ["clicks", "clicked_tags"], "how": "sum"},
        {"type": "fm", "features": ["device", "history"]}]},
    "stem": {"type": "stem", "task_experts": 2, "expert": [33, 17], "gate": [7], "tower": [11]},
    "stem_blocks": {"type": "stem", "expert": [19], "tower": [11], "blocks": [DIN | {"activation": "layer_dice"}]},
    "stem_levels": {"type": "stem", "levels": 2, "shared_experts": 2, "expert": [19], "tower": [11]},
    "taml": {"type": "taml", "expert": [33, 17], "tower": [11]},
    "taml_gated": {"type": "taml", "learners": 2, "shared_experts": 0, "learner_experts": 2, "expert": [19], "gate": [5],
                   "tower": [11], "fusion": "gated"},
    "taml_gated_logit": {"type": "taml", "expert": [19], "tower": [9], "fusion": "gated", "fuse": "logit"},
    "taml_logit": {"type": "taml", "learners": 4, "shared_experts": 1, "task_experts": 0, "learner_experts": 0,
                   "expert": [19], "tower": [9], "fuse": "logit"},
}

VARIANTS = {
    "plain": {},
    "norm": {"batch_norm": True, "activation": "silu"},
    "leaky": {"activation": "leaky_relu"},
    "tanh": {"batch_norm": True, "activation": "tanh"},
    "sigmoid": {"activation": "sigmoid"},
}


# What `tests/models/zoo` holds besides one variant of every network: name, then network, variant and type of weights.
STORED = {
    "pepnet_norm": ("pepnet", "norm", None),
    "esmm_bf16": ("esmm", "norm", "bf16"),
    "mmoe_f16": ("mmoe", "leaky", "f16"),
    "star_f16": ("star", "tanh", "f16"),
    "dffm_bf16": ("dffm", "plain", "bf16"),
}
PLAIN = ("shared_bottom", "mmoe", "esmm", "pepnet")

# Networks whose norms are of their own, or that have one activation: what variants say of them does not apply.
FIXED = {"adl": {"batch_norm"}, "causalint": {"batch_norm", "activation"}, "m3oe": {"batch_norm"}, "star": {"batch_norm"}}


def features_of(network: dict[str, Any]) -> list[dict[str, Any]]:
    return FEATURES + SEQUENCES if "blocks" in network or network["type"] == "dffm" else FEATURES


def describe(network: str, variant: str) -> dict[str, Any]:
    fixed = FIXED.get(NETWORKS[network]["type"], ())
    extra = {key: value for key, value in VARIANTS[variant].items() if key not in fixed}
    return {
        "format_version": 1,
        "name": f"{network}-{variant}",
        "features": features_of(NETWORKS[network]),
        "scenarios": [{"name": "feed", "id": 10}, {"name": "splash", "id": 20},
                      {"name": "video", "id": 30, "fallback": "splash"}],
        "fallback_scenario": "splash",
        "tasks": [{"name": "ctr"}, {"name": "cvr"}, {"name": "ctcvr", "composition": ["ctr", "cvr"]}],
        "network": NETWORKS[network] | extra,
    }


def twin(description: dict[str, Any], seed: int = 1) -> networks.Network:
    """A twin with weights moved away from their initialisation: tables, biases, norms and their statistics."""
    torch.manual_seed(seed)
    parts = PARTS.get(description["network"]["type"], 1)
    tables = {f"embeddings.{name}.weight": (rows, width * parts) for name, (rows, width) in TABLES.items()}
    network = networks.build(description, tables)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            spread = 0.5 if name.startswith("embeddings") else 0.3 if parameter.dim() == 1 else 0.15
            parameter.add_(torch.randn_like(parameter) * spread)
            if ".core." in name:
                parameter.mul_(0.3)  # A generated matrix multiplies its own input: of unit size it would explode.
        for name, buffer in network.named_buffers():
            if name.endswith("running_mean"):
                buffer.copy_(torch.randn_like(buffer) * 0.5)
            elif name.endswith("running_var"):
                buffer.copy_(torch.rand_like(buffer) + 0.2)
    return network.eval()


def request(seed: int, count: int, described: list[dict[str, Any]] = FEATURES) -> dict[str, Any]:
    """A request in the form of the command line, with unknown, missing and absent values and empty bags and sequences."""
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
    if len(described) > len(FEATURES):
        length = r.choice([0, 1, 12, r.randrange(13)])
        values |= {"clicks": [some_id() for _ in range(length)],
                   "clicked_tags": [r.choice([3, 5, 8, 13, 4, None]) for _ in range(length)],
                   "searches": [r.choice(["red shoes", "tent", "sofa", ""]) for _ in range(r.choice([0, 1, 30, r.randrange(31)]))],
                   "device": r.randrange(6), "slot": r.randrange(1, 6)}
        candidates["category"] = [some_id() for _ in range(count)]
        for name in ("clicked_tags", "searches"):
            if r.random() < 0.2:
                del values[name]
    return {"scenario": r.choice(["feed", "splash", "video", 10, None, "nowhere"]), "request": values, "candidates": candidates}


def score(network: networks.Network, request: dict[str, Any], count: int) -> dict[str, torch.Tensor]:
    """The twin's scores."""
    from polyscore import features

    batch = networks.inputs(network, request["request"], request["candidates"], count)
    row = features.scenario_row(network.description, request["scenario"])
    with torch.no_grad():
        return network(batch, torch.full((count,), row, dtype=torch.int64))


def stored() -> dict[str, tuple[str, str, str | None]]:
    """The files of `tests/models/zoo`: name, then network, variant and type of weights."""
    names = sorted(NETWORKS)
    variants = list(VARIANTS)
    one_each = {name: (name, "plain" if name in PLAIN else variants[i % len(variants)], None) for i, name in enumerate(names)}
    return one_each | STORED


def main() -> None:
    """Writes the models that the Rust tests run over: `python zoo.py FOLDER`."""
    import pathlib
    import sys

    import graph
    import polyscore

    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.glob("*.safetensors"):
        path.unlink()
    for name, (network, variant, dtype) in stored().items():
        description = describe(network, variant)
        golden = [request(seed, count, description["features"]) for seed, count in ((100, 3), (101, 5))]
        path = folder / f"{name}.safetensors"
        polyscore.export(description, twin(description).state_dict(), path, golden=golden, dtype=dtype)
    graph.save(folder / "graph.safetensors")


if __name__ == "__main__":
    main()
