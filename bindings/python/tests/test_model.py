"""The binding: values in, scores out, and an error for everything else."""

import numpy as np
import pytest
import zoo

import polyscore


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    description = zoo.describe("pepnet", "plain")
    path = tmp_path_factory.mktemp("models") / "model.safetensors"
    polyscore.export(description, zoo.twin(description).state_dict(), path, golden=[zoo.request(1, 3)])
    return path


@pytest.fixture
def model(path):
    with polyscore.Model(path) as model:
        yield model


CANDIDATES = {"ad": [1, 2], "tags": [[3], []], "seen": [0.0, 2.0], "price": [[1.0, 2.0], [3.0, 4.0]], "match": [[1], [2, 3]]}
REQUEST = {"user": 42, "context": [1.0, 2.0, 3.0], "history": [7, 9], "city": "Porto", "age": 33}


def test_numpy_arrays_and_lists_score_alike(model):
    scorer = model.scorer()
    scorer.prepare("feed", REQUEST)
    lists = scorer.score(CANDIDATES)
    arrays = scorer.score(CANDIDATES | {
        "ad": np.array([1, 2], dtype=np.int32), "seen": np.array([0, 2], dtype=np.float32),
        "price": np.array([[1, 2], [3, 4]], dtype=np.float32), "match": [np.array([1]), np.array([2, 3])]})
    for task in ("ctr", "cvr", "ctcvr"):
        assert lists[task].dtype == np.float32 and lists[task].shape == (2,)
        assert lists[task].tobytes() == arrays[task].tobytes()
    assert list(scorer.score(CANDIDATES, tasks=["cvr"])) == ["cvr"]
    assert scorer.score(CANDIDATES, tasks=["cvr"])["cvr"].tobytes() == lists["cvr"].tobytes()
    assert scorer.score(CANDIDATES, tasks=[]) == {}
    columns = model.columns(CANDIDATES, is_request=False)
    assert scorer.score(columns)["ctr"].tobytes() == lists["ctr"].tobytes()


def test_single_integers_of_a_request_are_as_other_values(model):
    def scores(user):
        scorer = model.scorer()
        scorer.prepare("feed", REQUEST | {"user": user})
        return scorer.score(CANDIDATES)["ctr"].tobytes(), scorer.counters()["features"]["user"]

    assert scores(42) == scores(np.int64(42)) == scores(np.int32(42))
    assert scores(42)[0] != scores(43)[0]
    assert scores(-1 << 63) == scores(None)
    assert scores((1 << 63) - 1) == scores(np.array((1 << 63) - 1)[()])
    for beyond in (1 << 63, (-1 << 63) - 1):
        with pytest.raises(ValueError, match="user: has an integer beyond 64 bits"):
            scores(beyond)
    with pytest.raises(TypeError, match=r"user\[0\]: bool is not an integer"):
        scores(True)


def test_scenarios_are_names_ids_or_nothing(model):
    def scores(scenario):
        scorer = model.scorer()
        scorer.prepare(scenario, REQUEST)
        return scorer.score(CANDIDATES)["ctr"].tobytes(), scorer.counters()["unknown_scenarios"]

    assert scores("feed") == scores(10)
    assert scores("feed")[0] != scores("splash")[0] == scores("video")[0] == scores(30)[0]
    assert scores(None) == scores("nowhere") == scores(77) == (scores("splash")[0], 1)
    assert scores("feed")[1] == 0


SCENARIOS = ["feed", None, 10, "video", "nowhere", 20]


@pytest.mark.parametrize("scenario_bytes", [None, 0, 100])
def test_candidates_have_scenarios_of_their_own(path, scenario_bytes):
    with polyscore.Model(path, scenario_bytes=scenario_bytes) as model:
        ads = {name: (column * 3) for name, column in CANDIDATES.items()}
        scorer = model.scorer()
        scorer.prepare("feed", REQUEST)
        mixed = scorer.score_mixed(ads, SCENARIOS)
        each = scorer.score_each(ads, SCENARIOS, tasks=["cvr", "ctr"])
        own = scorer.score(ads)
        counters = scorer.counters()
        assert counters["unknown_scenarios"] == 2 + 2
        assert counters["candidates"] == 6 + 36 + 6
        assert (counters["scenarios_folded"] > 0) == (scenario_bytes is not None)
        assert list(each) == ["cvr", "ctr"]
        for place, scenario in enumerate(SCENARIOS):
            scorer.prepare(scenario, REQUEST)
            expected = scorer.score(ads)
            for task in ("ctr", "cvr", "ctcvr"):
                assert mixed[task].dtype == np.float32 and mixed[task].shape == (6,)
                assert mixed[task][place] == expected[task][place]
            for task in ("ctr", "cvr"):
                assert each[task].dtype == np.float32 and each[task].shape == (6, 6)
                assert each[task][place].tobytes() == expected[task].tobytes()
        assert each["ctr"][0].tobytes() == own["ctr"].tobytes() != each["ctr"][1].tobytes()
        assert scorer.score_mixed(model.columns(ads, is_request=False), SCENARIOS, tasks=[]) == {}
        assert scorer.score_each(ads, [])["ctr"].shape == (0, 6)


def test_scenarios_of_another_number_are_refused(model):
    scorer = model.scorer()
    scorer.prepare("feed", REQUEST)
    with pytest.raises(ValueError, match="scenarios: has 3 entries for 2 candidates"):
        scorer.score_mixed(CANDIDATES, ["feed"] * 3)
    with pytest.raises(KeyError):
        scorer.score_each(CANDIDATES, ["feed"], tasks=["cpc"])
    with pytest.raises(polyscore.PolyscoreError) as error:
        model.scorer().score_each(CANDIDATES, ["feed"])
    assert error.value.name == "POLYSCORE_NOT_PREPARED"


def test_the_budget_decides_where_values_of_scenarios_are(path):
    for scenario_bytes, per_scorer in [(None, 0), (0, 1), (1 << 40, 0)]:
        with polyscore.Model(path, scenario_bytes=scenario_bytes) as model:
            info = model.info()
            assert info["kept_per_scorer"] == per_scorer
            assert (info["kept_scenarios"] > 0) == (info["scenario_bytes"] > 0) == (per_scorer == 0)
            assert info["model_bytes"] >= 0
    for refused in (-1, 1 << 64):
        with pytest.raises(ValueError, match="scenario_bytes"):
            polyscore.Model(path, scenario_bytes=refused)


def test_the_budget_bounds_the_product_tables(path):
    scores = {}
    for product_bytes in (None, 0, 100, 1 << 40):
        with polyscore.Model(path, product_bytes=product_bytes) as model:
            info = model.info()
            scorer = model.scorer()
            scorer.prepare("feed", REQUEST)
            scores[product_bytes] = scorer.score(CANDIDATES)["ctr"]
            # Of few rows: 100 bytes are not enough for one, and one row of biases is beside the budget.
            assert (info["product_bytes"] > 0) == (product_bytes not in (0, 100))
    for found in scores.values():
        np.testing.assert_allclose(found, scores[0], atol=2e-6)
    for refused in (-1, 1 << 64):
        with pytest.raises(ValueError, match="product_bytes"):
            polyscore.Model(path, product_bytes=refused)


@pytest.mark.parametrize("item_rows, bound", [("f32-always", 0.0), ("f16", 3e-3), ("int8", 0.2)])
def test_candidates_are_found_by_their_keys(path, model, item_rows, bound):
    plain = model.scorer()
    plain.prepare("feed", REQUEST)
    expected = plain.score(CANDIDATES)["ctr"]
    with polyscore.Model(path, item_bytes=1 << 20, item_rows=item_rows, max_error=0.5) as cached:
        assert 8 <= cached.info()["item_room"] and 0 < cached.info()["item_bytes"] <= 1 << 20
        scorer = cached.scorer()
        scores = []
        for keys in ([7, None], np.array([7, 1 << 40]), [7, 1 << 40], None):
            scorer.prepare("feed", REQUEST)
            keyed = CANDIDATES if keys is None else CANDIDATES | {polyscore.ITEM_KEY: keys}
            scores.append(scorer.score(keyed)["ctr"])
            assert scores[-1].tobytes() == scores[0].tobytes()
            assert np.abs(scores[-1] - expected).max() <= bound
        counters = scorer.counters()
        assert (counters["item_hits"], counters["item_misses"]) == (3, 2)
        with pytest.raises(polyscore.PolyscoreError, match="item keys"):
            scorer.score(CANDIDATES | {polyscore.ITEM_KEY: [1]})
        for wrong in (["a", "b"], np.array([1.5, 2.5]), np.array([[1], [2]])):
            with pytest.raises((TypeError, ValueError)):
                scorer.score(CANDIDATES | {polyscore.ITEM_KEY: wrong})
        with pytest.raises(polyscore.PolyscoreError, match="item keys"):
            scorer.prepare("feed", REQUEST | {polyscore.ITEM_KEY: [1]})


def test_item_options_are_checked(path):
    with pytest.raises(ValueError, match="item_rows"):
        polyscore.Model(path, item_rows="bf16")
    for refused in (-1, 1 << 64):
        with pytest.raises(ValueError, match="item_bytes"):
            polyscore.Model(path, item_bytes=refused)


def test_counters_count(model):
    scorer = model.scorer()
    scorer.prepare(None, REQUEST | {"city": "Atlantis", "history": [1, None, 999]})
    scorer.score(CANDIDATES)
    counters = scorer.counters()
    assert (counters["requests"], counters["candidates"], counters["unknown_scenarios"]) == (1, 2, 1)
    assert counters["features"]["history"] == {"values": 3, "oov": 1, "missing": 1}
    assert counters["features"]["city"] == {"values": 1, "oov": 1, "missing": 0}


def failure(name, subject, call):
    with pytest.raises(polyscore.PolyscoreError) as raised:
        call()
    assert (raised.value.name, raised.value.subject) == (f"POLYSCORE_{name}", subject)


def test_failures_name_the_guilty_thing(model, path):
    failure("IO", "no-such-file", lambda: polyscore.Model("no-such-file"))
    failure("UNSUPPORTED", "isa", lambda: polyscore.Model(path, isa="avx9"))
    scorer = model.scorer()
    failure("NOT_PREPARED", "call", lambda: scorer.score(CANDIDATES))
    failure("MISSING_FEATURE", "feature `user`", lambda: scorer.prepare("feed", {}))
    failure("COLUMN_SIDE", "feature `ad`", lambda: scorer.prepare("feed", REQUEST | {"ad": 1}))
    scorer.prepare("feed", REQUEST)
    short = CANDIDATES | {"seen": [1.0]}
    failure("COLUMN_LENGTH", "feature `seen`", lambda: scorer.score(short))
    with pytest.raises(KeyError, match="`x` is not a feature"):
        scorer.prepare("feed", {"x": 1})
    with pytest.raises(KeyError, match="`x` is not a task"):
        scorer.score(CANDIDATES, tasks=["x"])
    with pytest.raises(TypeError, match=r"ad\[1\]: str is not an integer"):
        scorer.score(CANDIDATES | {"ad": [1, "2"]})
    with pytest.raises(TypeError, match=r"ad\[0\]: float is not an integer"):
        scorer.score(CANDIDATES | {"ad": [1.0, 2]})
    with pytest.raises(ValueError, match=r"price\[0\]: has 1 values, expected 2"):
        scorer.score(CANDIDATES | {"price": [[1.0], [2.0, 3.0]]})
    with pytest.raises(ValueError, match="beyond 64 bits"):
        scorer.score(CANDIDATES | {"ad": [1, 1 << 70]})
    for option in ({"precision": "int3"}, {"mode": "teleport"}, {"max_error": 0.0}, {"max_error": float("nan")}):
        with pytest.raises(ValueError):
            polyscore.Model(path, **option)


def test_closing(path):
    model = polyscore.Model(path)
    scorer = model.scorer()
    model.close()
    model.close()
    with pytest.raises(ValueError, match="closed"):
        model.scorer()
    scorer.prepare("feed", REQUEST)
    assert scorer.score(CANDIDATES)["ctr"].shape == (2,)
    scorer.close()
    with pytest.raises(ValueError, match="closed"):
        scorer.score(CANDIDATES)


def test_the_plan_and_description_are_there(model):
    assert "epnet.reduce" in model.plan()
    assert model.description["network"]["type"] == "pepnet"
    assert model.tasks == ["ctr", "cvr", "ctcvr"]
    assert model.features[0] == "user"
