"""PyTorch twins of the engine's networks: what users train, and what parity tests compare with.

A twin is built from a description. The names of its parameters are the tensor names of the model file, its embedding
tables are shared by the features that name the same table, and `forward` takes what `features` makes of raw values. One
file per network, as in the engine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .. import features
from .adasparse import AdaSparse
from .adatt import AdaTT
from .adl import ADL
from .aitm import AITM
from .apg import APG
from .base import Network
from .causalint import CausalInt
from .dbmtl import DBMTL
from .dffm import DFFM
from .escm2 import ESCM2
from .esmm import ESMM
from .hamur import HAMUR
from .hmoe import HMoE
from .home import HoME
from .m2m import M2M
from .m3oe import M3oE
from .mmoe import MMoE
from .pepnet import PEPNet
from .ple import PLE
from .sarnet import SARNet
from .shared_bottom import SharedBottom
from .star import Star
from .stem import STEM
from .taml import TAML

NETWORKS: dict[str, type[Network]] = {
    "adasparse": AdaSparse,
    "adatt": AdaTT,
    "adl": ADL,
    "aitm": AITM,
    "apg": APG,
    "causalint": CausalInt,
    "dbmtl": DBMTL,
    "dffm": DFFM,
    "escm2": ESCM2,
    "esmm": ESMM,
    "hamur": HAMUR,
    "hmoe": HMoE,
    "home": HoME,
    "m2m": M2M,
    "m3oe": M3oE,
    "mmoe": MMoE,
    "pepnet": PEPNet,
    "ple": PLE,
    "sarnet": SARNet,
    "shared_bottom": SharedBottom,
    "star": Star,
    "stem": STEM,
    "taml": TAML,
}


def build(description: Mapping[str, Any], tables: Mapping[str, tuple[int, int]]) -> Network:
    """The twin of `description`; `tables` gives `(rows, width)` of every table that it names."""
    name = description["network"].get("type")
    if name not in NETWORKS:
        raise features.DescriptionError(f"network.type: `{name}` is not one of {', '.join(NETWORKS)}")
    return NETWORKS[name](description, tables)


def inputs(
    network: Network, request: Mapping[str, Any], candidates: Mapping[str, Sequence[Any]], count: int
) -> dict[str, features.Ids | features.Dense]:
    """The features of a request (one value each) with `count` candidates (columns), row by row."""
    batch: dict[str, features.Ids | features.Dense] = {}
    lengths = sequence_lengths(network.features, request)
    for feature in network.features:
        name = feature["name"]
        if feature["rate"] != "request":
            values = candidates.get(name)
        elif name in request:
            values = [request[name]] * count
        elif feature["kind"] == "sequence":
            values = [[None] * lengths.get(feature.get("sequence", name), 0)] * count
        else:
            values = None
        if feature["kind"] == "dense":
            batch[name] = features.dense(feature, values, count)
        else:
            batch[name] = features.ids(feature, network.tables[feature["table"]][0], values, count)
    return batch


def sequence_lengths(described: Sequence[Mapping[str, Any]], request: Mapping[str, Any]) -> dict[str, int]:
    """How many positions each group of sequences has in a request: all of its sequences that are there have as many."""
    lengths: dict[str, int] = {}
    for feature in described:
        name = feature["name"]
        if feature["kind"] == "sequence" and name in request:
            length = len(request[name])
            if lengths.setdefault(feature.get("sequence", name), length) != length:
                raise ValueError(f"{name}: has {length} positions, its sequence has another number")
    return lengths
