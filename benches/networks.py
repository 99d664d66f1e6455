"""The table of rates in src/network/README.md: for every network at one size, at which rate its multiply-adds are done.

usage: python benches/networks.py [NAME...]
"""

from __future__ import annotations

import json
import pathlib
import random
import subprocess
import sys
import tempfile
from typing import Any

HERE = pathlib.Path(__file__).parent
WORKLOAD = json.loads((HERE / "workloads/networks.json").read_text(encoding="utf-8"))
CANDIDATES = 64
RATES = ("model", "scenario", "request", "item", "pair")


def describe(network: dict[str, Any]) -> dict[str, Any]:
    counts = {"u": ("request", WORKLOAD["request_fields"]), "i": ("item", WORKLOAD["item_fields"])}
    features = [
        {"name": f"{side}{n}", "rate": rate, "kind": "id", "table": f"embeddings.{side}{n}.weight", "oov": 0,
         "transform": {"type": "identity"}}
        for side, (rate, count) in counts.items() for n in range(count)
    ]
    if network["type"] == "dffm" or any("history" in block for block in network.get("blocks", [])):
        features.append({"name": "clicks", "rate": "request", "kind": "sequence", "length": WORKLOAD["length"], "oov": 0,
                         "table": "embeddings.i0.weight", "transform": {"type": "identity"}})
    scenarios = [{"name": f"s{n}", "id": n} for n in range(WORKLOAD["scenarios"])]
    tasks = [{"name": "ctr"}, {"name": "cvr"}, {"name": "ctcvr", "composition": ["ctr", "cvr"]}]
    return {"format_version": 1, "name": network["type"], "features": features, "scenarios": scenarios,
            "fallback_scenario": "s0", "tasks": tasks, "network": network}


def make_twin(description: dict[str, Any]):
    """A twin whose norms have seen other moments than their initial ones."""
    import torch

    from polyscore import networks

    torch.manual_seed(1)
    kind = description["network"]["type"]
    names = {feature["table"] for feature in description["features"]}
    width = WORKLOAD["width"] * (3 if kind == "stem" else 17 if kind == "dffm" else 1)
    shape = {name: (WORKLOAD["rows"], WORKLOAD["width"]) for name in names}
    if kind == "stem":
        shape = dict.fromkeys(names, (WORKLOAD["rows"], width))
    if kind == "dffm":
        shape["embeddings.u0.weight"] = (WORKLOAD["rows"], 2 * width)
    twin = networks.build(description, shape)
    with torch.no_grad():
        for name, parameter in twin.named_parameters():
            parameter.add_(torch.randn_like(parameter) * (0.3 if name.startswith("embeddings") else 0.02))
        for name, buffer in twin.named_buffers():
            if name.endswith("running_mean"):
                buffer.copy_(torch.randn_like(buffer) * 0.1)
            elif name.endswith("running_var"):
                buffer.copy_(torch.rand_like(buffer) + 0.5)
    return twin.eval()


def make_requests(description: dict[str, Any], count: int) -> list[dict[str, Any]]:
    """Random requests, with histories of every length."""
    r = random.Random(1)
    row = lambda: r.randrange(WORKLOAD["rows"])  # noqa: E731
    made = []
    for n in range(count):
        request = {}
        for feature in description["features"]:
            if feature["kind"] == "sequence":
                length = (0, 1, feature["length"])[n] if n < 3 else r.randrange(feature["length"])
                request[feature["name"]] = [row() for _ in range(length)]
            elif feature["rate"] == "request":
                request[feature["name"]] = row()
        items = [feature["name"] for feature in description["features"] if feature["rate"] == "item"]
        candidates = {name: [row() for _ in range(CANDIDATES)] for name in items}
        made.append({"scenario": f"s{n % WORKLOAD['scenarios']}", "request": request, "candidates": candidates})
    return made


def measure(network: dict[str, Any], command: str) -> tuple[dict[str, int], float]:
    """Multiply-adds by rate, and the largest difference in probability from the float64 twin."""
    import numpy as np
    import torch

    import polyscore
    from polyscore import features, networks

    description = describe(network)
    twin = make_twin(description)
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/model.safetensors"
        polyscore.export(description, twin.state_dict(), path)
        # Product tables would take the user's fields, whose tables are short here, out of the layers.
        inspect = [command, "inspect", path, "--product-bytes", "0", "--json"]
        printed = subprocess.run(inspect, check=True, capture_output=True, text=True)
        scorer = polyscore.Model(path).scorer()
    twin.double()
    worst = 0.0
    for request in make_requests(description, 8):
        row = features.scenario_row(description, request["scenario"])
        batch = networks.inputs(twin, request["request"], request["candidates"], CANDIDATES)
        with torch.no_grad():
            expected = twin(batch, torch.full((CANDIDATES,), row, dtype=torch.int64))
        scorer.prepare(request["scenario"], request["request"])
        for task, scores in scorer.score(request["candidates"]).items():
            worst = max(worst, float(np.abs(scores - expected[task].numpy()).max()))
    return json.loads(printed.stdout)["multiply_adds"]["by_rate"], worst


def line(name: str, by_rate: dict[str, int]) -> str:
    total = sum(by_rate.values())
    shares = (f"{100 * by_rate[rate] / total:.1f}" for rate in RATES)
    return f"| {name} | {total:,} | {' | '.join(shares)} |"


def main() -> None:
    command = str(HERE.parent / "target/release/polyscore")
    for name in sys.argv[1:] or WORKLOAD["networks"]:
        by_rate, error = measure(WORKLOAD["networks"][name], command)
        print(line(name, by_rate), f"largest difference from the twin in float64: {error:.1e}", flush=True)


if __name__ == "__main__":
    main()
