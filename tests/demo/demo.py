"""The demo of tests/demo/README.md in Python. usage: demo.py MODEL"""

import json
import pathlib
import sys

import polyscore

COSTS = [0.0, 0.10, 0.10]


def main(path: str) -> None:
    requests = pathlib.Path(path).with_suffix(".requests.jsonl").read_text(encoding="utf-8").splitlines()
    with polyscore.Model(path) as model, model.scorer() as scorer:
        for request in map(json.loads, requests):
            scorer.prepare(request["scenario"], request["request"])
            scores = scorer.score(request["candidates"], tasks=["visit", "conversion"])
            values = [100.0 * float(p) - cost for p, cost in zip(scores["conversion"], COSTS)]
            order = sorted(range(len(values)), key=lambda e: -values[e])
            for rank, e in enumerate(order, start=1):
                fields = [request["scenario"], str(rank), request["candidates"]["email"][e], f"{scores['visit'][e]:.6f}",
                          f"{scores['conversion'][e]:.6f}", f"{values[e]:.4f}"]
                print("\t".join(fields))


if __name__ == "__main__":
    main(sys.argv[1])
