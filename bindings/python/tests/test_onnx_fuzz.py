"""Some of the random networks of `fuzz_onnx.py`, and that it finds and shrinks what is wrong."""

from __future__ import annotations

import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from polyscore.onnx import arithmetic, movement  # noqa: E402
from polyscore.onnx.node import RULES  # noqa: E402

from fuzz_onnx import Checker, Failure  # noqa: E402
from fuzz_onnx_graph import Skip  # noqa: E402
from fuzz_onnx_minimise import minimised, text  # noqa: E402
from fuzz_onnx_refusals import mixing_network  # noqa: E402

COUNT = 200


@pytest.fixture
def checker():
    made = Checker()
    yield made
    made.close()


def failures_of(checker: Checker, count: int) -> list[tuple[int, Failure]]:
    found = []
    for seed in range(count):
        try:
            checker.run(seed)
        except Failure as failure:
            found.append((seed, failure))
    return found


def test_random_networks_score_as_in_onnx_runtime(checker):
    found = failures_of(checker, COUNT)
    assert not found, "\n".join(f"python fuzz_onnx.py --only {seed}: {failure}" for seed, failure in found)
    assert checker.outcomes["agree"] > COUNT * 0.6
    assert checker.outcomes["mixes rows, refused"] > COUNT * 0.03
    assert checker.outcomes["damaged, refused"] > COUNT * 0.05
    assert len([op for op in RULES if checker.hits[op]]) > len(RULES) * 0.9


def test_a_wrong_rule_is_found_and_the_graph_made_small(checker, monkeypatch):
    monkeypatch.setitem(arithmetic.FUNCTIONS, "Softsign", "tanh")
    found = [failure for _, failure in failures_of(checker, 30) if failure.kind == "differs"]
    assert found
    smallest = min(
        (minimised(checker.check, failure.graph, failure) for failure in found[:2]),
        key=lambda small: len(small[0].lines),
    )
    assert [line.op for line in smallest[0].lines] == ["Softsign"]
    assert "compare(tmp_path, nodes" in text(*smallest)


def test_a_rule_that_lets_rows_mix_is_found(checker, monkeypatch):
    monkeypatch.setattr(
        movement, "one_row", lambda node, tensor, what: tensor.move(node.outputs[0], None, lambda array: array)
    )
    kinds = set()
    for seed in range(200):
        try:
            checker.check_mixing(*mixing_network(seed))
        except Skip:
            continue
        except Failure as failure:
            kinds.add(failure.kind)
    assert kinds == {"mixes rows"}
