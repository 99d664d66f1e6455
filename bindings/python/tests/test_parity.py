"""The engine gives the scores of the PyTorch twins."""

import numpy as np
import pytest
import zoo

import polyscore

COUNTS = [1, 7, 64, 257]

SEEDS = ("taml", "causalint", "dffm")


def compare(model, network, counts, seeds):
    """The largest difference in probability, and the spread of the twin's scores."""
    scorer = model.scorer()
    worst, scores = 0.0, []
    for count, seed in zip(counts, seeds):
        request = zoo.request(seed, count, network.features)
        expected = zoo.score(network, request, count)
        scorer.prepare(request["scenario"], request["request"])
        actual = scorer.score(request["candidates"])
        assert list(actual) == ["ctr", "cvr", "ctcvr"]
        for task, values in actual.items():
            reference = expected[task].double().numpy()
            worst = max(worst, float(np.abs(values.astype(np.float64) - reference).max()))
            scores.append(reference)
    return worst, float(np.concatenate(scores).std())


@pytest.mark.parametrize("network", zoo.NETWORKS)
@pytest.mark.parametrize("variant", zoo.VARIANTS)
def test_f32_scores_are_those_of_the_twin(tmp_path, network, variant, record_property):
    description = zoo.describe(network, variant)
    twin = zoo.twin(description)
    path = tmp_path / "model.safetensors"
    golden = [zoo.request(100, 3, twin.features), zoo.request(101, 5, twin.features)]
    polyscore.export(description, twin.state_dict(), path, golden=golden)
    with polyscore.Model(path) as model:
        assert model.info()["golden_requests"] == 2
        worst, spread = compare(model, twin, COUNTS * 4, range(16))
        exact, _ = compare(model, twin.double(), COUNTS * 4, range(16))
    record_property("error", worst)
    print(f"{network} {variant}: {worst:.2e} against f32, {exact:.2e} against f64, spread {spread:.3f}")
    assert spread > 0.02, "the scores are flat: agreement would mean nothing"
    assert worst <= 1e-5
    assert exact <= (2e-6 if network.startswith(SEEDS) else 1e-5)


# A threshold or a route can flip with any rounding, and no bound on the scores survives that.
DECIDED = ("adasparse", "adl")


@pytest.mark.parametrize("network", [name for name in zoo.NETWORKS if name not in DECIDED])
@pytest.mark.parametrize(("dtype", "bound"), [("f16", 5e-3), ("bf16", 6e-2)])
def test_reduced_weights_are_as_exact_as_their_rounding(tmp_path, network, dtype, bound):
    description = zoo.describe(network, "norm")
    twin = zoo.twin(description)
    stored, opened = tmp_path / "stored.safetensors", tmp_path / "opened.safetensors"
    golden = [zoo.request(100, 5, twin.features)]
    # Stored in the type: the golden scores are those of the rounded weights, so only arithmetic differs.
    polyscore.export(description, twin.state_dict(), stored, golden=golden, dtype=dtype)
    polyscore.export(description, twin.state_dict(), opened, golden=golden, tolerance=1e-5)
    for path, precision in [(stored, None), (opened, dtype)]:
        with polyscore.Model(path, precision=precision, max_error=bound if precision else None) as model:
            worst, _ = compare(model, twin, COUNTS, range(4))
            print(f"{network} {dtype} {'as stored' if precision is None else 'converted'}: {worst:.2e}, "
                  f"golden {model.info()['golden_error']:.2e}")
            assert 1e-7 < worst <= bound
            if precision is None:
                assert model.info()["golden_error"] <= 1e-5
    with pytest.raises(polyscore.PolyscoreError) as refused:
        polyscore.Model(opened, precision=dtype, max_error=1e-7)
    assert refused.value.name == "POLYSCORE_GOLDEN"


@pytest.mark.parametrize("network", zoo.NETWORKS)
def test_every_kernel_set_and_the_split_give_the_same_bits(tmp_path, network):
    description = zoo.describe(network, "norm")
    path = tmp_path / "model.safetensors"
    polyscore.export(description, zoo.twin(description).state_dict(), path)
    request = zoo.request(5, 33, description["features"])
    seen = set()
    for options in [{"isa": "scalar"}, {"isa": "portable"}, {}, {"split": False}, {"mode": "copy"}, {"tile": 3}]:
        scorer = polyscore.Model(path, **options).scorer()
        scorer.prepare(request["scenario"], request["request"])
        seen.add(b"".join(scores.tobytes() for scores in scorer.score(request["candidates"]).values()))
    assert len(seen) == 1


def test_the_trained_model_is_that_of_its_twin():
    """The committed Hillstrom weights, loaded into the twin."""
    import json
    import pathlib

    from safetensors import safe_open

    from polyscore import networks

    path = pathlib.Path(__file__).parents[3] / "tests/models/hillstrom.safetensors"
    with safe_open(path, "pt") as file:
        description = json.loads(file.metadata()["polyscore"])
        names = [name for name in file.keys() if not name.startswith(("golden.", "padding."))]
        weights = {name: file.get_tensor(name) for name in names}
    network = networks.build(description, {name: tuple(value.shape) for name, value in weights.items()})
    network.load_state_dict(weights)
    scorer = polyscore.Model(path).scorer()
    worst = 0.0
    for line in path.with_suffix(".requests.jsonl").read_text(encoding="utf-8").splitlines():
        request = json.loads(line)
        expected = zoo.score(network.eval(), request, 3)
        scorer.prepare(request["scenario"], request["request"])
        for task, values in scorer.score(request["candidates"]).items():
            worst = max(worst, float(np.abs(values - expected[task].numpy()).max()))
    assert worst <= 1e-6

