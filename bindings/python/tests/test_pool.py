"""Parallel scoring: the bits of a serial scorer, over own threads, an executor, and in forked processes."""

import concurrent.futures
import os
import threading

import numpy as np
import pytest
import zoo

import polyscore

COUNT = 20_000


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    description = zoo.describe("pepnet", "plain")
    path = tmp_path_factory.mktemp("models") / "model.safetensors"
    polyscore.export(description, zoo.twin(description).state_dict(), path, golden=[zoo.request(1, 3)])
    with polyscore.Model(path) as model:
        yield model


@pytest.fixture(scope="module")
def ads(model):
    numbers = np.arange(COUNT)
    values = {"ad": numbers % 41, "seen": (numbers % 7).astype(np.float32), "tags": [[]] * COUNT, "match": [[]] * COUNT,
              "price": np.stack([numbers % 11, numbers % 5], axis=1).astype(np.float32)}
    return model.columns(values, is_request=False)


REQUEST = {"user": 42, "context": [1.0, 2.0, 3.0], "history": [7, 9], "city": "Porto", "age": 33}


def scores(scorer, ads):
    scorer.prepare("feed", REQUEST)
    return {task: values.tobytes() for task, values in scorer.score(ads).items()}


@pytest.fixture(scope="module")
def expected(model, ads):
    return scores(model.scorer(), ads)


def threads_named(prefix):
    names = []
    for task in os.listdir("/proc/self/task"):
        with open(f"/proc/self/task/{task}/comm") as comm:
            names.append(comm.read())
    return sum(name.startswith(prefix) for name in names)


def test_own_threads_give_the_bits_of_a_serial_scorer(model, ads, expected):
    with polyscore.Pool(3, "py-pool") as pool:
        assert pool.threads == 3
        scorer = model.scorer(pool)
        assert scores(scorer, ads) == expected
        assert threads_named("py-pool-") == 2
        assert scores(model.scorer(pool=pool), ads) == expected
        assert scorer.counters()["candidates"] == COUNT
    assert scores(scorer, ads) == expected  # A scorer outlives its pool.
    with pytest.raises(ValueError, match="closed"):
        model.scorer(pool)
    assert polyscore.Pool().threads == len(os.sched_getaffinity(0))


def test_an_executor_gives_the_bits_of_a_serial_scorer(model, ads, expected):
    with concurrent.futures.ThreadPoolExecutor(2) as executor:
        pool = polyscore.Pool(3, executor=executor)
        scorer = model.scorer(pool)
        del pool
        for _ in range(5):
            assert scores(scorer, ads) == expected
        # From its only thread that is free: nobody else can run the tasks.
        with concurrent.futures.ThreadPoolExecutor(1) as one:
            own = model.scorer(polyscore.Pool(4, executor=one))
            assert one.submit(scores, own, ads).result() == expected
    assert scores(scorer, ads) == expected  # The executor is shut down.


def test_tasks_reach_the_executors_threads(model, ads, expected):
    class Watched(concurrent.futures.ThreadPoolExecutor):
        seen = set()

        def submit(self, function):
            future = super().submit(lambda: (self.seen.add(threading.current_thread().name), function()))
            concurrent.futures.wait([future])
            return future

    with Watched(2, "watched") as executor:
        assert scores(model.scorer(polyscore.Pool(3, executor=executor)), ads) == expected
    assert executor.seen and all(name.startswith("watched") for name in executor.seen)


def test_wrong_numbers_and_names_are_refused():
    with pytest.raises(ValueError, match="threads"):
        polyscore.Pool(0)
    with pytest.raises(polyscore.PolyscoreError, match="threads: is 257"):
        polyscore.Pool(257)
    with pytest.raises(polyscore.PolyscoreError, match="twelve-bytes"):
        polyscore.Pool(2, "twelve-bytes")
    with concurrent.futures.ThreadPoolExecutor(1) as executor, pytest.raises(polyscore.PolyscoreError, match="name"):
        polyscore.Pool(2, "name", executor)


def test_a_forked_process_has_threads_of_its_own(model, ads, expected):
    pool = polyscore.Pool(3, "py-fork")
    scorer = model.scorer(pool)
    assert scores(scorer, ads) == expected
    child = os.fork()
    if child == 0:
        failure = 1
        try:
            before = threads_named("py-fork-")
            is_same = scores(scorer, ads) == scores(model.scorer(pool), ads) == expected
            failure = int(not (is_same and before == 0 and threads_named("py-fork-") == 2))
        finally:
            os._exit(failure)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert scores(scorer, ads) == expected
