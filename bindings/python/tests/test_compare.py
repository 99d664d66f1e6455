"""Comparisons: figures against scikit-learn and the definitions, against those of `polyscore diff`, and the picture."""

import itertools
import json
import os
import pathlib
import random
import subprocess
import sys

import numpy as np
import pytest
import zoo
from sklearn.metrics import log_loss, roc_auc_score

import polyscore
from polyscore import compare

ROOT = pathlib.Path(__file__).parents[3]
COMMAND = ROOT / "target/release/polyscore"
MODEL = ROOT / "tests/models/zoo/pepnet.safetensors"
COUNTS = (1, 7, 30, 12, 64, 0, 11, 10, 25)


def requests():
    """Requests of all scenarios, some with a scenario per candidate, some with labels."""
    r = random.Random(3)
    found = []
    for number, count in enumerate(COUNTS):
        request = zoo.request(50 + number, count)
        if number % 3 == 1:
            request["scenarios"] = [r.choice(["feed", 20, "video", None, "nowhere"]) for _ in range(count)]
        if number != 3:
            request["labels"] = {"ctr": [int(r.random() < 0.3) for _ in range(count)]}
        if number == 4:
            request["labels"]["cvr"] = [r.choice([0, 1, None]) for _ in range(count)]
        found.append(request)
    return found


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    path = tmp_path_factory.mktemp("requests") / "requests.jsonl"
    lines = [json.dumps(request) for request in requests()]
    path.write_text("\n".join(lines[:2] + [""] + lines[2:]) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def comparison(recorded):
    with polyscore.Model(MODEL) as a, polyscore.Model(MODEL, precision="bf16", max_error=1.0) as b:
        yield compare.compare(a, b, recorded)


def test_the_scores_are_those_of_the_models(comparison):
    assert len(comparison.of) == sum(COUNTS)
    with polyscore.Model(MODEL, precision="bf16", max_error=1.0) as b:
        scorer = b.scorer()
        start = 0
        for request, count in zip(requests(), COUNTS):
            scorer.prepare(request["scenario"], request["request"])
            expected = (scorer.score_mixed(request["candidates"], request["scenarios"]) if "scenarios" in request
                        else scorer.score(request["candidates"]))
            for task, scores in comparison.tasks.items():
                assert scores.b[start:start + count].tobytes() == expected[task].tobytes()
            start += count


def check_quality(got, numbers, a, b, positive):
    twice = [np.ones(len(a)), np.zeros(len(a))]
    for side, scores in (("a", a), ("b", b)):
        def expected(rows):
            weights = np.concatenate([positive[rows], 1 - positive[rows]])
            if not positive[rows].sum() > 0 or not (1 - positive[rows]).sum() > 0:
                return None
            labels = np.concatenate([part[rows] for part in twice])
            return roc_auc_score(labels, np.tile(scores[rows], 2), sample_weight=weights)

        assert got[f"auc_{side}"] == pytest.approx(expected(np.arange(len(a))), abs=1e-12)
        each = [(len(rows), expected(rows)) for rows in (np.flatnonzero(numbers == n) for n in np.unique(numbers))]
        each = [(count, value) for count, value in each if value is not None]
        gauc = np.average([v for _, v in each], weights=[c for c, _ in each]) if each else None
        assert got[f"gauc_{side}"] == (gauc if gauc is None else pytest.approx(gauc, abs=1e-12))
        loss = log_loss(np.concatenate(twice), np.tile(scores, 2),
                        sample_weight=np.concatenate([positive, 1 - positive]), labels=[0, 1])
        assert got[f"log_loss_{side}"] == pytest.approx(loss, abs=1e-12)
    assert got["auc_change"] == got["auc_b"] - got["auc_a"]
    assert got["candidates"] == len(a) and got["positives"] == pytest.approx(positive.sum())


def check_figures(got, numbers, a, b, labels):
    errors = np.abs(b - a)
    assert got["candidates"] == len(a)
    assert got["error"]["max"] == errors.max() and got["error"]["mean"] == pytest.approx(errors.mean())
    for key, q in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p999", 0.999)):
        assert got["error"][key] == np.quantile(errors, q, method="inverted_cdf")
    groups = [np.flatnonzero(numbers == number) for number in np.unique(numbers)]
    flips = pairs = first = top = 0
    for rows in groups:
        for i, j in itertools.combinations(rows, 2):
            pairs += 1
            flips += bool((a[i] > a[j]) != (b[i] > b[j]) or (a[i] < a[j]) != (b[i] < b[j]))
        order = [sorted(rows, key=lambda row: (-scores[row], row)) for scores in (a, b)]
        first += order[0][0] != order[1][0]
        top += len(rows) > 10 and set(order[0][:10]) != set(order[1][:10])
    rank = got["rank"]
    assert (rank["pairs"], rank["flips"], rank["top1_changed"], rank["top10_changed"]) == (pairs, flips, first, top)
    assert (rank["top1_of"], rank["top10_of"]) == (len(groups), sum(len(rows) > 10 for rows in groups))
    assert got["calibration"]["shift"] == pytest.approx(b.mean() / a.mean() - 1)
    check_quality(got["against_a"], numbers, a, b, a)
    known = labels >= 0
    if known.any():
        check_quality(got["against_labels"], numbers[known], a[known], b[known], labels[known].astype(float))
    else:
        assert got["against_labels"] is None


def test_figures_are_those_of_scikit_learn_and_of_the_definitions(comparison):
    report = comparison.report()
    assert list(report) == ["ctr", "cvr", "ctcvr"]
    some = 0
    for name, scores in comparison.tasks.items():
        a, b = scores.a.astype(float), scores.b.astype(float)
        assert (a != b).any()
        check_figures(report[name], comparison.numbers, a, b, scores.labels)
        for part in report[name]["scenarios"]:
            index = len(comparison.scenarios)
            if part["scenario"] is not None:
                index = comparison.scenarios.index(part["scenario"])
            mine = comparison.of == index
            check_figures(part, comparison.numbers[mine], a[mine], b[mine], scores.labels[mine])
            some += 1
    assert some == 3 * 4


def test_ties_count_as_they_are_defined():
    r = np.random.default_rng(1)
    for count in (1, 2, 9, 300, 600):
        a, b = (r.integers(0, 5, count).astype(float) for _ in range(2))
        sign = np.sign(np.subtract.outer(a, a)) != np.sign(np.subtract.outer(b, b))
        assert compare.flips(a, b) == np.tril(sign, -1).sum()
    assert compare.best(np.array([0.5, 0.9, 0.1, 0.9]), 1) == {1}
    assert compare.auc(np.array([1.0, 1.0]), np.array([0.0, 1.0])) == 0.5
    assert compare.auc(np.array([1.0, 2.0]), np.array([1.0, 1.0])) is None


@pytest.mark.skipif(not COMMAND.exists(), reason="the command line is not built: make build")
def test_the_command_line_reports_the_same(recorded, comparison):
    command = [COMMAND, "diff", MODEL, "--precision-b", "bf16", "--requests", recorded, "--json", "--trace", "0"]
    other = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)["tasks"]

    def same(ours, theirs, path):
        if isinstance(ours, dict):
            assert ours.keys() == theirs.keys(), path
            for key in ours:
                same(ours[key], theirs[key], f"{path}.{key}")
        elif isinstance(ours, list):
            assert len(ours) == len(theirs), path
            for place, (one, two) in enumerate(zip(ours, theirs)):
                same(one, two, f"{path}[{place}]")
        elif isinstance(ours, float):
            assert ours == pytest.approx(theirs, abs=1e-12), path
        else:
            assert ours == theirs, path

    same(comparison.report(), other, "tasks")


def test_the_picture_shows_every_task(comparison, tmp_path):
    figure = comparison.draw()
    assert len(figure.axes) == 2 * 3
    for (left, right), (name, scores) in zip(zip(figure.axes[::2], figure.axes[1::2]), comparison.tasks.items()):
        errors = np.abs(scores.b.astype(float) - scores.a)
        assert len(left.patches) == 40 and name in left.get_title()
        assert sum(bar.get_height() for bar in left.patches) == (errors > 0).sum()
        assert (left.get_xscale(), left.get_yscale()) == ("log", "log")
        has_labels = (scores.labels >= 0).any()
        labels = [line.get_label() for line in right.lines]
        assert labels == (["calibrated", "A", "B"] if has_labels else ["calibrated", "B"])
        for line in right.lines[1:]:
            predicted = scores.a if line.get_label() == "A" else scores.b
            happened = scores.labels if has_labels else scores.a
            known = scores.labels >= 0 if has_labels else np.ones(len(predicted), bool)
            x, y = line.get_data()
            assert len(x) == 10 and (np.diff(x) >= 0).all()
            weights = [len(part) for part in np.array_split(np.arange(known.sum()), 10)]
            assert np.average(x, weights=weights) == pytest.approx(predicted[known].astype(float).mean())
            assert np.average(y, weights=weights) == pytest.approx(happened[known].astype(float).mean())
    path = tmp_path / "picture.png"
    figure.savefig(path)
    assert path.read_bytes().startswith(b"\x89PNG") and path.stat().st_size > 10_000


def test_equal_models_have_a_picture_too():
    with polyscore.Model(MODEL) as a:
        comparison = compare.compare(a, a, requests(), tasks=["ctr"])
    report = comparison.report()["ctr"]
    assert report["error"]["max"] == 0 and report["rank"]["flips"] == 0 and report["calibration"]["shift"] == 0
    figure = comparison.draw()
    assert sum(bar.get_height() for bar in figure.axes[0].patches) == 0


GOOD = {"request": {"mens": 1, "womens": 0}, "candidates": {"email": ["No E-Mail", "Mens E-Mail"]}}


@pytest.mark.parametrize("change, message", [
    ({"labels": {"visit": [1]}}, "line 2: labels.visit: has 1 labels for 2 candidates"),
    ({"labels": {"visit": [1, 0.5]}}, r"line 2: labels.visit\[1\]: expected 0, 1 or null"),
    ({"labels": {"visit": [float("nan"), 1]}}, r"line 2: labels.visit\[0\]: expected 0, 1 or null"),
    ({"labels": {"visit": [True, 1]}}, r"line 2: labels.visit\[0\]: expected 0, 1 or null"),
    ({"labels": {"buy": [1, 0]}}, "line 2: labels.buy: is not a task"),
    ({"label": {}}, "line 2: label: is not known"),
    ({"request": {"age": 3}}, "line 2: `age` is not a feature"),
    ({"candidates": {"email": [1, 2]}}, "line 2: "),
    ({"scenarios": ["Web"]}, "line 2: scenarios: has 1 entries for 2 candidates"),
])
def test_a_bad_request_is_named(change, message):
    with polyscore.Model(ROOT / "tests/models/hillstrom.safetensors") as model:
        with pytest.raises(compare.RequestError, match=f"^{message}"):
            compare.compare(model, model, [GOOD, GOOD | change])


def test_what_cannot_be_compared_is_named(tmp_path):
    with polyscore.Model(MODEL) as a, polyscore.Model(ROOT / "tests/models/hillstrom.safetensors") as b:
        with pytest.raises(KeyError, match="`ctr` is not a task of B"):
            compare.compare(a, b, [])
        with pytest.raises(KeyError, match="`visit` is not a task of A"):
            compare.compare(a, b, [], tasks=["visit"])
        with pytest.raises(compare.RequestError, match="no candidates"):
            compare.compare(b, b, [])
        path = tmp_path / "requests.jsonl"
        path.write_text("\n{\n", encoding="utf-8")
        with pytest.raises(compare.RequestError, match="line 2: not JSON"):
            compare.compare(b, b, path)


def run(*arguments, **environment):
    command = [sys.executable, "-m", "polyscore.compare", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment})


def test_the_module_runs(recorded, comparison, tmp_path):
    out = tmp_path / "picture.png"
    done = run(MODEL, "--precision-b", "bf16", "--requests", recorded, "--out", out, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == comparison.report()
    assert out.read_bytes().startswith(b"\x89PNG")
    done = run(MODEL, MODEL, "--requests", recorded, "--tasks", "cvr")
    assert done.returncode == 0 and "cvr" in done.stdout and "(fallback)" in done.stdout
    for arguments, message in [((MODEL, "--requests", "none"), "none"), ((MODEL, "--requests", recorded, "--tasks", "x"), "`x`")]:
        done = run(*arguments)
        assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr


def test_without_matplotlib_the_picture_says_what_is_missing(recorded, tmp_path):
    (tmp_path / "matplotlib.py").write_text("raise ImportError('none here')\n", encoding="utf-8")
    path = f"{tmp_path}:{pathlib.Path(polyscore.__file__).parents[1]}"
    done = run(MODEL, "--requests", recorded, "--out", tmp_path / "picture.png", PYTHONPATH=path)
    assert done.returncode == 2 and "needs matplotlib: pip install" in done.stderr and not done.stdout
    assert run(MODEL, "--requests", recorded, PYTHONPATH=path).returncode == 0
