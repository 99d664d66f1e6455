"""Times of calls from Python; see languages.py. usage: calls.py MODEL IDS REQUEST_FIELDS ITEM_FIELDS CANDIDATES SECONDS"""

import gc
import sys
import time

import numpy as np

import polyscore


def main() -> None:
    path, ids, *numbers, seconds = sys.argv[1:]
    user, items, n = map(int, numbers)
    requests = np.fromfile(ids, dtype=np.int64).reshape(-1, user + items * n)
    scorer = polyscore.Model(path).scorer()
    times = []
    gc.disable()
    begin = time.perf_counter_ns()
    while time.perf_counter_ns() - begin < float(seconds) * 1e9:
        start = time.perf_counter_ns()
        given = requests[len(times) % len(requests)]
        request = {f"u{k}": given[k] for k in range(user)}
        candidates = {f"i{k}": given[user + k * n : user + (k + 1) * n] for k in range(items)}
        scorer.prepare(None, request)
        scores = scorer.score(candidates)
        times.append(time.perf_counter_ns() - start)
    print(next(iter(scores.values()))[0])
    print("\n".join(map(str, times)))


if __name__ == "__main__":
    main()
