"""The features of the exporters' models, example rows of them, and the files that a model is written to.

The 64 rows are 8 requests of 8 candidates each: rows 8r .. 8r + 7 hold request r, and a feature with the rate
"request" has one value in all of them. Histories are padded with 0 at their end; one request has none.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

REQUESTS = 8
CANDIDATES = 8
HISTORY = 10
CLICKS = (3, 0, 10, 1, 7, 10, 5, 2)


@dataclass(frozen=True)
class Feature:
    """One input of a model: ids of a table with `rows` rows, or `width` numbers where `rows` is 0."""

    rate: str
    rows: int = 0
    width: int = 1
    is_history: bool = False

    @property
    def is_dense(self) -> bool:
        return self.rows == 0


FEATURES = {
    "user_id": Feature("request", rows=100),
    "gender": Feature("request", rows=3),
    "city": Feature("request", rows=20),
    "scenario": Feature("request", rows=3),
    "user_stats": Feature("request", width=4),
    "clicks": Feature("request", rows=80, width=HISTORY, is_history=True),
    "click_categories": Feature("request", rows=12, width=HISTORY, is_history=True),
    "click_count": Feature("request", rows=HISTORY + 1),
    "ad_id": Feature("item", rows=80),
    "campaign": Feature("item", rows=15),
    "category": Feature("item", rows=12),
    "price": Feature("item", width=1),
    "position": Feature("pair", rows=8),
    "match": Feature("pair", width=3),
}


def draw(names: list[str], seed: int, id_type: str = "int64", id_columns: bool = False) -> dict[str, np.ndarray]:
    """Return 64 rows of each named feature.

    Dense features are f32 [64, width] and histories are [64, 10]. Single ids are [64], or [64, 1] with `id_columns`.
    """
    rng = np.random.default_rng(seed)
    return {name: _column(name, rng, id_type, id_columns) for name in names}


def _column(name: str, rng: np.random.Generator, id_type: str, id_columns: bool) -> np.ndarray:
    feature = FEATURES[name]
    values_of = REQUESTS if feature.rate == "request" else REQUESTS * CANDIDATES
    if feature.is_dense:
        values = rng.normal(size=(values_of, feature.width)).astype("float32")
    elif feature.is_history:
        values = rng.integers(1, feature.rows, (values_of, feature.width))
        values[np.arange(feature.width) >= np.array(CLICKS)[:, None]] = 0
    elif name == "click_count":
        values = np.array(CLICKS)[:, None]
    else:
        values = rng.integers(0, feature.rows, (values_of, 1))
    if not feature.is_dense:
        values = values.astype(id_type)
        if not feature.is_history and not id_columns:
            values = values[:, 0]
    return np.repeat(values, REQUESTS * CANDIDATES // values_of, axis=0)


def write(
    folder: Path, name: str, inputs: dict[str, np.ndarray], outputs: dict[str, np.ndarray], tasks: dict[str, str]
) -> None:
    """Write `name`.npz (the rows and what the framework gave for them) and `name`.json (rates and tasks)."""
    np.savez(folder / f"{name}.npz", **inputs, **outputs)
    about = {"inputs": {key: FEATURES[key].rate for key in inputs}, "tasks": tasks}
    (folder / f"{name}.json").write_text(json.dumps(about, indent=1) + "\n", "utf-8")
