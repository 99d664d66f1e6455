"""How far the scores of two models are apart: the figures of `polyscore diff`, on numpy arrays, and a picture of them.

    python -m polyscore.compare A B --requests requests.jsonl --out picture.png

For every task, with `a` and `b` the scores of a candidate and weights `w+`, `w-` by which it counts as positive and negative:

    error         |b - a|; the quantile q is the smallest error that at least q of the candidates do not exceed
    flips         pairs of candidates of one request with sign(a_i - a_j) != sign(b_i - b_j)
    calibration   mean(b) / mean(a) - 1, and mean(b) - mean(a)
    AUC(s)        sum_ij w+_i w-_j ([s_i > s_j] + [s_i = s_j] / 2) / (sum_i w+_i sum_j w-_j)
    GAUC(s)       the AUC of each request that has both kinds, weighted by its candidates
    log loss(s)   -sum_i (w+_i ln s_i + w-_i ln (1 - s_i)) / sum_i (w+_i + w-_i), s between 2^-24 and 1 - 2^-24

Against labels `w+` is the label; against A's own scores `w+ = a` and `w- = 1 - a`. The picture needs matplotlib.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from .model import PRECISIONS, Model, PolyscoreError, Scorer

KEYS = ("scenario", "scenarios", "request", "candidates", "tasks", "labels")
TOP = 10
LEAST = 2.0**-24
UNKNOWN = -1
FLIP_ROWS = 256


class RequestError(ValueError):
    """A request that cannot be compared; the message begins with its line or number."""


def compare(
    a: Model, b: Model, requests: str | os.PathLike | Iterable[Mapping[str, Any]], tasks: Sequence[str] | None = None
) -> Comparison:
    """Scores the same requests with both models.

    `requests` is a file of lines of JSON as `polyscore score` reads them, or as many dicts; `labels` in one, such as
    `{"ctr": [0, 1, None]}`, are what happened to its candidates. `tasks` are those to compare: all of `a`, if None.
    Kept are two float32 and three integers for every candidate and task.
    """
    names = a.tasks if tasks is None else list(tasks)
    for model, what in ((a, "A"), (b, "B")):
        for name in names:
            if name not in model.tasks:
                raise KeyError(f"`{name}` is not a task of {what}")
    scenarios = [scenario["name"] for scenario in a.description.get("scenarios", [])]
    parts: dict[str, list[list[np.ndarray]]] = {name: [[], [], []] for name in names}
    numbers, of = [], []
    scorers = (a.scorer(), b.scorer())
    for number, request in enumerated(requests):
        try:
            place, scores, labels = score(a, scenarios, scorers, request, names)
        except (KeyError, TypeError, ValueError, PolyscoreError) as error:
            text = error.args[0] if isinstance(error, KeyError) else error
            raise RequestError(f"line {number}: {text}") from error
        numbers.append(np.full(len(place), number))
        of.append(place)
        for name in names:
            for kept, values in zip(parts[name], (scores[0][name], scores[1][name], labels[name])):
                kept.append(values)
    if not sum(map(len, numbers)):
        raise RequestError("no candidates to compare")
    return Comparison(scenarios, np.concatenate(numbers), np.concatenate(of), {
        name: Scores(*(np.concatenate(kept) for kept in parts[name])) for name in names})


def enumerated(requests: str | os.PathLike | Iterable[Mapping[str, Any]]) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Requests with their lines, or with their numbers from 1 on."""
    if not isinstance(requests, (str, os.PathLike)):
        yield from enumerate(requests, start=1)
        return
    with open(requests, encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                try:
                    request = json.loads(line)
                except ValueError as error:
                    raise RequestError(f"line {number}: not JSON: {error}") from error
                yield number, request


def score(
    a: Model, scenarios: list[str], scorers: tuple[Scorer, Scorer], request: Mapping[str, Any], names: list[str]
) -> tuple[np.ndarray, list[dict[str, np.ndarray]], dict[str, np.ndarray]]:
    """The scenario of each candidate, the scores of both models, and the labels."""
    if not isinstance(request, Mapping):
        raise ValueError("expected an object")
    for key in request:
        if key not in KEYS:
            raise ValueError(f"{key}: is not known; a request has {', '.join(KEYS)}")

    def index(scenario: Any) -> int:
        known = a.scenario(scenario)
        return known if known < len(scenarios) else len(scenarios)

    # B has the scenarios of A by their names; what A does not know goes to the fallback of both.
    known = [*scenarios, None]
    each = request.get("scenarios")
    candidates = request.get("candidates", {})
    scores = []
    for scorer in scorers:
        scorer.prepare(known[index(request.get("scenario"))], request.get("request", {}))
        if each is None:
            scores.append(scorer.score(candidates, names, count=None if candidates else 0))
        else:
            scores.append(scorer.score_mixed(candidates, [known[index(scenario)] for scenario in each], names))
    count = len(scores[0][names[0]]) if names else 0
    of = [index(request.get("scenario"))] * count if each is None else [index(scenario) for scenario in each]
    given = request.get("labels", {})
    for name in given:
        if name not in a.tasks:
            raise ValueError(f"labels.{name}: is not a task of the model")
    labels = {name: labels_of(name, given[name], count) if name in given else np.full(count, UNKNOWN, np.int8)
              for name in names}
    return np.array(of, dtype=np.int64), scores, labels


def labels_of(name: str, given: Sequence[Any], count: int) -> np.ndarray:
    """Labels as 0, 1 or `UNKNOWN`."""
    if len(given) != count:
        raise ValueError(f"labels.{name}: has {len(given)} labels for {count} candidates")
    labels = np.full(count, UNKNOWN, np.int8)
    for place, value in enumerate(given):
        if isinstance(value, bool) or not (value is None or value == 0 or value == 1):
            raise ValueError(f"labels.{name}[{place}]: expected 0, 1 or null")
        if value is not None:
            labels[place] = value
    return labels


@dataclasses.dataclass
class Scores:
    """What both models say of every candidate, for one task; `labels` are 1, 0, or -1 where it is not known."""

    a: np.ndarray
    b: np.ndarray
    labels: np.ndarray


@dataclasses.dataclass
class Comparison:
    """The scores of two models for the same candidates.

    `numbers` has the line of the request of each candidate, `of` its scenario: an index of `scenarios`, or one more for what
    goes to the fallback.
    """

    scenarios: list[str]
    numbers: np.ndarray
    of: np.ndarray
    tasks: dict[str, Scores]

    def report(self) -> dict[str, Any]:
        """The figures of every task, over all candidates and per scenario, as `polyscore diff --json` has them in `tasks`."""
        report = {}
        for name, scores in self.tasks.items():
            report[name] = figures(self.numbers, scores, np.arange(len(self.of)))
            report[name]["scenarios"] = []
            for index, scenario in enumerate([*self.scenarios, None] if self.scenarios else []):
                mine = np.flatnonzero(self.of == index)
                if len(mine):
                    report[name]["scenarios"].append(figures(self.numbers, scores, mine) | {"scenario": scenario})
        return report

    def draw(self):
        """A matplotlib `Figure` with a row per task: the errors as a histogram, and a reliability diagram, against labels if
        there are any, else of B against A."""
        figure_class = matplotlib_figure()
        figure = figure_class(figsize=(11, 3.8 * len(self.tasks)), layout="constrained")
        axes = figure.subplots(len(self.tasks), 2, squeeze=False)
        for (left, right), (name, scores) in zip(axes, self.tasks.items()):
            draw_errors(left, name, scores)
            draw_reliability(right, name, scores)
        return figure


def matplotlib_figure():
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("the picture needs matplotlib: pip install './bindings/python[plot]'") from error
    return Figure


def figures(numbers: np.ndarray, scores: Scores, mine: np.ndarray) -> dict[str, Any]:
    """The figures of the candidates `mine` of one task."""
    a, b = (side[mine].astype(np.float64) for side in (scores.a, scores.b))
    errors = np.abs(b - a)
    ascending = np.sort(errors)
    worst = int(np.argmax(errors))
    # Requests were added in the order of their numbers.
    candidate = int(mine[worst] - np.searchsorted(numbers, numbers[mine[worst]]))
    labels, numbers = scores.labels[mine], numbers[mine]
    requests = np.split(np.arange(len(mine)), np.flatnonzero(np.diff(numbers)) + 1)
    mean_a, mean_b = float(a.mean()), float(b.mean())
    long = [rows for rows in requests if len(rows) > TOP]
    pairs = sum(len(rows) * (len(rows) - 1) // 2 for rows in requests)
    flipped = sum(flips(a[rows], b[rows]) for rows in requests)
    known = labels != UNKNOWN

    def quantile(q: float) -> float:
        return float(ascending[max(math.ceil(q * len(ascending)), 1) - 1])

    def changed(rows: np.ndarray, count: int) -> bool:
        return best(a[rows], count) != best(b[rows], count)

    return {
        "requests": len(requests),
        "candidates": len(mine),
        "error": {"max": float(ascending[-1]), "mean": float(errors.mean()), "p50": quantile(0.5), "p90": quantile(0.9),
                  "p99": quantile(0.99), "p999": quantile(0.999),
                  "worst": {"request": int(numbers[worst]), "candidate": candidate, "a": float(a[worst]),
                            "b": float(b[worst])}},
        "rank": {"pairs": pairs, "flips": flipped, "flip_share": flipped / pairs if pairs else 0.0,
                 "top1_changed": sum(changed(rows, 1) for rows in requests), "top1_of": len(requests),
                 "top10_changed": sum(changed(rows, TOP) for rows in long), "top10_of": len(long)},
        "calibration": {"mean_a": mean_a, "mean_b": mean_b, "difference": mean_b - mean_a,
                        "shift": 0.0 if mean_a == mean_b else mean_b / mean_a - 1.0 if mean_a else None},
        "against_a": quality(numbers, a, b, a),
        "against_labels": quality(numbers[known], a[known], b[known], labels[known].astype(np.float64))
        if known.any() else None,
    }


def quality(numbers: np.ndarray, a: np.ndarray, b: np.ndarray, positive: np.ndarray) -> dict[str, Any]:
    """How both models' scores order and predict, where each candidate counts `positive` as positive, the rest as negative."""
    found: dict[str, Any] = {"candidates": len(a), "positives": float(positive.sum())}
    starts = np.flatnonzero(np.diff(numbers)) + 1
    for side, scores in (("a", a), ("b", b)):
        found[f"auc_{side}"] = auc(scores, positive)
        each = [(len(rows), auc(rows, weights))
                for rows, weights in zip(np.split(scores, starts), np.split(positive, starts))]
        each = [(count, value) for count, value in each if value is not None]
        weight = sum(count for count, _ in each)
        found[f"gauc_{side}"] = sum(count * value for count, value in each) / weight if weight else None
        clipped = np.clip(scores, LEAST, 1 - LEAST)
        found[f"log_loss_{side}"] = float(-(positive * np.log(clipped) + (1 - positive) * np.log(1 - clipped)).mean())
    for figure in ("auc", "gauc", "log_loss"):
        of_a, of_b = found[f"{figure}_a"], found[f"{figure}_b"]
        found[f"{figure}_change"] = None if of_a is None or of_b is None else of_b - of_a
    return found


def auc(scores: np.ndarray, positive: np.ndarray) -> float | None:
    """The AUC by weights; None without both kinds."""
    _, group = np.unique(scores, return_inverse=True)
    positives, negatives = np.bincount(group, positive), np.bincount(group, 1 - positive)
    whole = positives.sum() * negatives.sum()
    if not whole > 0:
        return None
    below = np.cumsum(negatives) - negatives
    return float((positives * (below + negatives / 2)).sum() / whole)


def flips(a: np.ndarray, b: np.ndarray) -> int:
    """Pairs in another order, or tied by one of the two only."""
    count = 0
    for start in range(0, len(a), FLIP_ROWS):
        rows = slice(start, start + FLIP_ROWS)
        count += int((np.sign(a[rows, None] - a) != np.sign(b[rows, None] - b)).sum())
    return count // 2


def best(scores: np.ndarray, count: int) -> set[int]:
    """The places of the best; of equal ones the earlier are the better."""
    return set(np.argsort(-scores, kind="stable")[:count].tolist())


def draw_errors(axes: Any, name: str, scores: Scores) -> None:
    """A histogram of the errors that are not 0, both axes logarithmic."""
    errors = np.abs(scores.b.astype(np.float64) - scores.a)
    some = errors[errors > 0]
    low, high = (some.min(), some.max()) if len(some) else (1e-8, 1.0)
    bins = np.geomspace(low, max(high, low * (1 + 1e-6)), 41)
    # The ends are computed by logarithms, and may miss the smallest and the largest.
    bins[0], bins[-1] = low, max(high, bins[-1])
    axes.hist(some, bins=bins, color="tab:blue")
    axes.set_xscale("log")
    if len(some):
        axes.set_yscale("log")
    axes.set_xlabel("|b - a|")
    axes.set_ylabel("candidates")
    axes.set_title(f"{name}: max {errors.max():.1e}, mean {errors.mean():.1e}, {len(errors) - len(some)} of {len(errors)} equal")


def draw_reliability(axes: Any, name: str, scores: Scores) -> None:
    """Ten bins of equally many candidates by score: the mean score against what happened, or against A's mean score."""
    known = scores.labels != UNKNOWN
    if known.any():
        lines = [("A", scores.a[known], scores.labels[known]), ("B", scores.b[known], scores.labels[known])]
        axes.set_ylabel("share of label 1")
    else:
        lines = [("B", scores.b, scores.a)]
        axes.set_ylabel("mean score of A")
    points = [reliability(predicted, happened) for _, predicted, happened in lines]
    ends = [min(np.min(p) for p in points), max(np.max(p) for p in points)]
    axes.plot(ends, ends, color="gray", linestyle="--", linewidth=1, label="calibrated")
    for (label, _, _), (predicted, happened) in zip(lines, points):
        axes.plot(predicted, happened, marker="o", markersize=4, label=label)
    axes.set_xlabel("mean score")
    axes.set_title(f"{name}: reliability")
    axes.legend()


def reliability(predicted: np.ndarray, happened: np.ndarray, bins: int = 10) -> tuple[np.ndarray, np.ndarray]:
    """The means of both in bins of equally many candidates, by ascending prediction; fewer bins if there are fewer."""
    order = np.argsort(predicted, kind="stable")
    parts = np.array_split(order, min(bins, len(order)))
    mean = [[float(values[part].astype(np.float64).mean()) for part in parts] for values in (predicted, happened)]
    return np.array(mean[0]), np.array(mean[1])


def to_text(report: Mapping[str, Any]) -> str:
    """A line per task and scenario."""
    lines = [f"{'task / scenario':28} {'candidates':>10} {'max':>9} {'mean':>9} {'p99':>9} {'flips %':>8} {'calib. %':>9} "
             f"{'AUC':>10}  against"]

    def line(name: str, task: Mapping[str, Any]) -> str:
        labelled = task["against_labels"] if (task["against_labels"] or {}).get("auc_change") is not None else None
        change = (labelled or task["against_a"])["auc_change"]
        error, shift = task["error"], task["calibration"]["shift"]
        return (f"{name:28} {task['candidates']:>10} {error['max']:>9.2e} {error['mean']:>9.2e} {error['p99']:>9.2e} "
                f"{100 * task['rank']['flip_share']:>8.4f} {'-' if shift is None else format(100 * shift, '+.4f'):>9} "
                f"{'-' if change is None else format(change, '+.2e'):>10}  {'labels' if labelled else 'A'}")

    for name, task in report.items():
        lines.append(line(name, task))
        if len(task["scenarios"]) > 1:
            lines += [line(f"  {part['scenario'] or '(fallback)'}", part) for part in task["scenarios"]]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m polyscore.compare", description="Compares the scores of two models.")
    parser.add_argument("a", help="the model to compare with")
    parser.add_argument("b", nargs="?", help="the model that is compared; A, opened as B, if it is left out")
    parser.add_argument("--requests", required=True, help="lines of JSON, as polyscore score reads them; labels may be there")
    parser.add_argument("--out", help="the picture to write: .png, .svg or .pdf")
    parser.add_argument("--tasks", type=lambda text: text.split(","), help="tasks to compare, by name; all, if left out")
    for side in "ab":
        parser.add_argument(f"--precision-{side}", choices=[name for name in PRECISIONS if name], help=f"of {side.upper()}")
    parser.add_argument("--json", action="store_true", help="print JSON")
    given = parser.parse_args(arguments)
    try:
        if given.out:
            matplotlib_figure()
        # A model that misses its golden scores is what a comparison is for.
        any_error = sys.float_info.max
        with Model(given.a, precision=given.precision_a, max_error=any_error) as a, \
                Model(given.b or given.a, precision=given.precision_b, max_error=any_error) as b:
            comparison = compare(a, b, given.requests, given.tasks)
        report = comparison.report()
        print(json.dumps(report) if given.json else to_text(report))
        if given.out:
            comparison.draw().savefig(given.out, dpi=120)
    except (RequestError, PolyscoreError, KeyError, ImportError, OSError, ValueError) as error:
        text = error.args[0] if isinstance(error, KeyError) else error
        print(f"polyscore.compare: {text}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
