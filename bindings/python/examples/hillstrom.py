"""Trains the Hillstrom model: which e-mail for which customer, as a funnel over three channels.

The log (Kevin Hillstrom, MineThatData E-Mail Analytics and Data Mining Challenge, 2008) has 64,000 customers, who got one
of two e-mails or none, at random. Request = customer, candidates = the three e-mails, scenario = the customer's channel,
tasks = visit, then conversion. PEPNet, MMoE and ESMM are trained; the best on the validation split is exported, and a
report of all, beside a logistic regression, is written next to it.

usage: python hillstrom.py --data hillstrom.csv --out hillstrom.safetensors
"""

from __future__ import annotations

import argparse
import csv
import json
import pathlib
import time

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score

import polyscore
from polyscore import features, networks

CHANNELS = ["Phone", "Web", "Multichannel"]
EMAILS = ["No E-Mail", "Mens E-Mail", "Womens E-Mail"]
SEGMENTS = ["1) $0 - $100", "2) $100 - $200", "3) $200 - $350", "4) $350 - $500", "5) $500 - $750",
            "6) $750 - $1,000", "7) $1,000 +"]
ZIPS = ["Rural", "Surburban", "Urban"]
TASKS = ["visit", "conversion_given_visit", "conversion"]
EPOCHS, BATCH, RATE, DECAY = 12, 512, 2e-3, 1e-4

# Requests made up by hand: no customers of the log.
GOLDEN = [
    {"scenario": "Web", "request": {"recency": 2, "history_segment": SEGMENTS[1], "history": 150.0, "mens": 1, "womens": 0,
                                    "zip_code": "Urban", "newbie": 0}, "candidates": {"email": EMAILS}},
    {"scenario": "Phone", "request": {"recency": 11, "history_segment": SEGMENTS[0], "history": 33.5, "mens": 0,
                                      "womens": 1, "zip_code": "Rural", "newbie": 1}, "candidates": {"email": EMAILS}},
    {"scenario": "Multichannel", "request": {"recency": 5, "history_segment": SEGMENTS[6], "history": 1750.0, "mens": 1,
                                             "womens": 1, "zip_code": "Surburban", "newbie": 0},
     "candidates": {"email": EMAILS}},
    {"scenario": None, "request": {"recency": None, "history_segment": "", "history": None, "mens": 0, "womens": 7,
                                   "zip_code": "Atlantis", "newbie": 1}, "candidates": {"email": EMAILS}},
]


def feature_list() -> list[dict]:
    def table(name: str, transform: dict, rate: str = "request") -> dict:
        return {"name": name, "rate": rate, "kind": "id", "table": f"embeddings.{name}.weight", "transform": transform,
                "oov": 0, "missing": 0}

    flag = {"type": "vocabulary", "values": [0, 1], "offset": 1}
    return [
        table("recency", {"type": "bucketize", "boundaries": [2, 3, 4, 6, 8, 10, 11], "offset": 1}),
        table("history_segment", {"type": "vocabulary", "values": SEGMENTS, "offset": 1}),
        {"name": "history", "rate": "request", "kind": "dense", "width": 1, "transform": {"type": "log1p"}, "missing": 5.0},
        table("mens", flag),
        table("womens", flag),
        table("zip_code", {"type": "vocabulary", "values": ZIPS, "offset": 1}),
        table("newbie", flag),
        table("email", {"type": "vocabulary", "values": EMAILS, "offset": 1}, "item"),
    ]


TABLES = {"recency": 9, "history_segment": 8, "mens": 3, "womens": 3, "zip_code": 4, "newbie": 3, "email": 4}
WIDTH = 8

NETWORKS = {
    "pepnet": {"type": "pepnet", "domain": 4, "gate": 16, "personal": ["mens", "womens", "email"], "tower": [32, 16]},
    "mmoe": {"type": "mmoe", "experts": 4, "expert": [32, 16], "tower": [16]},
    "esmm": {"type": "esmm", "tower": [32, 16]},
}


def describe(network: dict) -> dict:
    return {
        "format_version": 1,
        "name": f"hillstrom-{network['type']}",
        "provenance": {"data": "Hillstrom e-mail campaign log, 2008", "trainer": "bindings/python/examples/hillstrom.py"},
        "features": feature_list(),
        "scenarios": [{"name": name, "id": i + 1} for i, name in enumerate(CHANNELS)],
        "fallback_scenario": "Web",
        "tasks": [{"name": "visit"}, {"name": "conversion_given_visit"},
                  {"name": "conversion", "composition": ["visit", "conversion_given_visit"]}],
        "network": network,
    }


def read(path: str) -> dict[str, np.ndarray]:
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    columns = {name: np.asarray([row[name] for row in rows]) for name in rows[0]}
    for name in ("recency", "history"):
        columns[name] = columns[name].astype(np.float32)
    for name in ("mens", "womens", "newbie", "visit", "conversion"):
        columns[name] = columns[name].astype(np.int64)
    columns["email"] = columns.pop("segment")
    return columns


def encode(description: dict, columns: dict[str, np.ndarray]) -> tuple[dict, torch.Tensor]:
    """Every row's features and scenario row."""
    count = len(columns["visit"])
    batch = {}
    for feature in description["features"]:
        values = columns[feature["name"]].tolist()
        if feature["kind"] == "dense":
            batch[feature["name"]] = features.dense(feature, values, count)
        else:
            batch[feature["name"]] = features.ids(feature, TABLES[feature["name"]], values, count)
    scenario = torch.as_tensor([CHANNELS.index(name) for name in columns["channel"]])
    return batch, scenario


def pick(batch: dict, rows: np.ndarray) -> dict:
    def part(value):
        if isinstance(value, features.Dense):
            return features.Dense(value.values[rows], 0)
        return features.Ids(value.rows[rows], None, 0, 0)

    return {name: part(value) for name, value in batch.items()}


def loss_of(scores: dict, visit: torch.Tensor, conversion: torch.Tensor) -> torch.Tensor:
    """ESMM's loss: both over the entire space (Ma et al., SIGIR 2018, eq. 7)."""
    bce = torch.nn.functional.binary_cross_entropy
    return bce(scores["visit"], visit) + bce(scores["conversion"], conversion)


def train(description: dict, batch: dict, scenario: torch.Tensor, labels: dict, splits: dict, seed: int):
    """The twin with the lowest validation loss of all epochs, and that loss."""
    torch.manual_seed(seed)
    shapes = {f"embeddings.{name}.weight": (rows, WIDTH) for name, rows in TABLES.items()}
    network = networks.build(description, shapes)
    optimiser = torch.optim.Adam(network.parameters(), lr=RATE, weight_decay=DECAY)
    generator = np.random.default_rng(seed)
    best, state = np.inf, None
    for _ in range(EPOCHS):
        network.train()
        order = generator.permutation(splits["train"])
        for start in range(0, len(order), BATCH):
            rows = order[start:start + BATCH]
            scores = network(pick(batch, rows), scenario[rows])
            loss = loss_of(scores, labels["visit"][rows], labels["conversion"][rows])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        network.eval()
        with torch.no_grad():
            rows = splits["validation"]
            scores = network(pick(batch, rows), scenario[rows])
            loss = float(loss_of(scores, labels["visit"][rows], labels["conversion"][rows]))
        if loss < best:
            best, state = loss, {name: value.clone() for name, value in network.state_dict().items()}
    network.load_state_dict(state)
    return network.eval(), best


def one_hot(columns: dict[str, np.ndarray]) -> np.ndarray:
    """The baseline's inputs: one-hot features and their products with the e-mail."""
    parts = [np.log1p(columns["history"])[:, None] / 8]
    for name in ("recency", "history_segment", "mens", "womens", "zip_code", "newbie", "channel"):
        values = np.unique(columns[name])
        parts.append((columns[name][:, None] == values[None]).astype(np.float32))
    customer = np.concatenate(parts, axis=1)
    emails = (columns["email"][:, None] == np.asarray(EMAILS)[None]).astype(np.float32)
    return np.concatenate([customer, emails, *(customer * emails[:, i:i + 1] for i in range(3))], axis=1)


def measure(scores: np.ndarray, labels: np.ndarray, columns: dict[str, np.ndarray]) -> dict:
    """AUC, log loss and calibration (mean prediction over mean label), over all rows and per scenario."""
    def of(rows: np.ndarray) -> dict:
        y, p = labels[rows], scores[rows]
        return {"rows": int(rows.sum()), "positives": int(y.sum()), "auc": round(float(roc_auc_score(y, p)), 4),
                "logloss": round(float(log_loss(y, p)), 5), "calibration": round(float(p.mean() / y.mean()), 3)}

    every = np.ones(len(labels), dtype=bool)
    return {"all": of(every)} | {name: of(columns["channel"] == name) for name in CHANNELS}


def markdown(report: dict) -> str:
    lines = ["# The Hillstrom model: held-out figures", "",
             f"Exported: **{report['exported']}** (lowest validation loss). {report['test_rows']} held-out customers, seed "
             f"{report['seed']}. Calibration is mean prediction / mean label. Conversions are few: their AUC is rough.", "",
             "| task | scenario | rows | positives | model | AUC | log loss | calibration |", "|---|---|---|---|---|---|---|---|"]
    for task in ("visit", "conversion"):
        for scenario in ["all", *CHANNELS]:
            for name, result in report["models"].items():
                m = result[task][scenario]
                lines.append(f"| {task} | {scenario} | {m['rows']} | {m['positives']} | {name} | {m['auc']:.4f} | "
                             f"{m['logloss']:.5f} | {m['calibration']:.3f} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="hillstrom.csv")
    parser.add_argument("--out", required=True, help="where the model goes; the report goes next to it")
    parser.add_argument("--seed", type=int, default=7)
    arguments = parser.parse_args()
    torch.set_num_threads(2)

    columns = read(arguments.data)
    count = len(columns["visit"])
    order = np.random.default_rng(arguments.seed).permutation(count)
    cuts = [int(count * 0.7), int(count * 0.8)]
    splits = dict(zip(("train", "validation", "test"), np.split(order, cuts)))
    test = {name: values[splits["test"]] for name, values in columns.items()}
    labels = {task: torch.as_tensor(columns[task], dtype=torch.float32) for task in ("visit", "conversion")}
    batch, scenario = encode(describe(NETWORKS["esmm"]), columns)

    report: dict = {"seed": arguments.seed, "test_rows": len(splits["test"]), "models": {}}
    losses, twins = {}, {}
    for name, network in NETWORKS.items():
        start = time.monotonic()
        twin, losses[name] = train(describe(network), batch, scenario, labels, splits, arguments.seed)
        twins[name] = twin
        rows = splits["test"]
        with torch.no_grad():
            scores = twin(pick(batch, rows), scenario[rows])
        report["models"][name] = {task: measure(scores[task].numpy(), test[task], test) for task in ("visit", "conversion")}
        report["models"][name]["validation_loss"] = round(losses[name], 6)
        print(f"{name}: validation loss {losses[name]:.6f}, {time.monotonic() - start:.0f} s")

    inputs = one_hot(columns)
    baseline = {}
    for task in ("visit", "conversion"):
        model = LogisticRegression(C=0.1, max_iter=500).fit(inputs[splits["train"]], columns[task][splits["train"]])
        baseline[task] = measure(model.predict_proba(inputs[splits["test"]])[:, 1], test[task], test)
    report["models"]["logistic regression"] = baseline

    best = min(losses, key=losses.get)
    report["exported"] = best
    out = pathlib.Path(arguments.out)
    polyscore.export(describe(NETWORKS[best]), twins[best].state_dict(), out, golden=GOLDEN)
    out.with_suffix(".requests.jsonl").write_text(
        "".join(json.dumps(request, ensure_ascii=False) + "\n" for request in GOLDEN[:3]), encoding="utf-8")
    out.with_suffix(".report.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    out.with_suffix(".report.md").write_text(markdown(report), encoding="utf-8")
    print(markdown(report))


if __name__ == "__main__":
    main()
