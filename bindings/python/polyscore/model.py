"""`Model`, `Scorer` and `Pool`: the engine, with numpy in and out."""

from __future__ import annotations

import concurrent.futures
import ctypes
import functools
import itertools
import json
import os
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from . import columns
from . import library as abi
from .features import INTEGER_MISSING

MODES = {"map": 0, "snapshot": 1, "copy": 2}
PRECISIONS = {None: 0, "f32": 1, "f16": 2, "bf16": 3, "int12": 4, "int16": 7, "int8": 5, "auto": 6}
ITEM_ROWS = {"f32": 0, "f16": 1, "int8": 2, "f32-always": 3}
# Among the candidate columns of a call, what has the item keys: an integer for each candidate, or None.
ITEM_KEY = type("ItemKey", (), {"__repr__": lambda self: "polyscore.ITEM_KEY"})()
TYPES = {np.dtype(np.int64): 1, np.dtype(np.int32): 2, np.dtype(np.float32): 3}


@functools.cache
def library() -> ctypes.CDLL:
    return abi.load()


class PolyscoreError(Exception):
    """A call failed: `status` is the number of the C ABI, `name` its name, `subject` the guilty thing."""

    def __init__(self, status: int, subject: str, message: str):
        super().__init__(f"{subject}: {message}" if subject else message)
        self.status = status
        self.name = library().polyscore_status_name(status).decode()
        self.subject = subject
        self.message = message


def call(function: str, *arguments: Any) -> None:
    """Calls a function of the ABI with an error struct; its failure is raised."""
    error = abi.sized(abi.Error)
    status = getattr(library(), function)(*arguments, ctypes.byref(error))
    if status != 0:
        raise PolyscoreError(status, error.subject.decode("utf-8", "replace"), error.message.decode("utf-8", "replace"))


class Handle:
    """A handle of the ABI that closes itself."""

    close_function = ""

    def __init__(self, handle: ctypes.c_void_p):
        self._handle: ctypes.c_void_p | None = handle

    @property
    def handle(self) -> ctypes.c_void_p:
        if self._handle is None:
            raise ValueError(f"this {type(self).__name__} is closed")
        return self._handle

    def close(self) -> None:
        """Closes it; a second time does nothing."""
        if self._handle is not None:
            getattr(library(), self.close_function)(self._handle)
            self._handle = None

    def __enter__(self):
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_handle", None) is not None:
            self.close()


class Model(Handle):
    """One version of a network, open and checked. Any number of threads may use it.

    `precision` ("f32", "f16", "bf16", "int12", "int16", "int8"; None: as stored; "auto": for each layer the fastest with which
    scores stay within `max_error`, or 1e-3, all but one in a million by the errors of the golden scores) is the type of dense
    weights, `mode` ("map", "snapshot", "copy") how the file is held, `isa` ("scalar", "portable", "avx2") the kernel set,
    `max_error` the accepted difference from the golden scores, `split` whether request-constant work is hoisted, `scenario_bytes` (None: 64 MiB) the budget for values
    that depend on the scenario alone: the model keeps those of all scenarios if they fit, else each scorer those it used
    last; 0 keeps none. `product_bytes` (None: 16 MiB) is the budget for product tables of request fields with few rows, 0 makes
    none.

    `item_bytes` (0: none) is the budget of the item cache: what depends on an ad alone is kept across requests, for all scorers
    of the model, under the keys that candidates have as the column `ITEM_KEY`. Candidates with the same key have the same item
    features, also in later calls. `item_rows` is the type of its rows: with "f32" the scores have the bits that they have without
    a cache, and there is none where a measurement at open finds that loading rows takes longer than computing them; "f32-always"
    does not ask. "f16" and "int8" round what every candidate has, and `max_error` bounds what that does to the golden scores.
    """

    close_function = "polyscore_model_close"

    def __init__(
        self,
        path: str | os.PathLike,
        precision: str | None = None,
        mode: str = "map",
        isa: str | None = None,
        max_error: float | None = None,
        split: bool = True,
        tile: int = 0,
        scenario_bytes: int | None = None,
        product_bytes: int | None = None,
        item_bytes: int = 0,
        item_rows: str = "f32",
    ):
        if precision not in PRECISIONS:
            raise ValueError(f"precision: {precision!r} is not one of {list(PRECISIONS)}")
        if mode not in MODES:
            raise ValueError(f"mode: {mode!r} is not one of {list(MODES)}")
        if max_error is not None and not max_error > 0:
            raise ValueError(f"max_error: {max_error} is not above 0")
        if item_rows not in ITEM_ROWS:
            raise ValueError(f"item_rows: {item_rows!r} is not one of {list(ITEM_ROWS)}")
        budgets = {"scenario_bytes": scenario_bytes, "product_bytes": product_bytes, "item_bytes": item_bytes}
        for name, budget in budgets.items():
            if budget is not None and not 0 <= budget < 1 << 64:
                raise ValueError(f"{name}: {budget} is not a number of bytes")
        options = abi.sized(abi.OpenOptions, mode=MODES[mode], precision=PRECISIONS[precision], no_split=int(not split),
                            tile=tile, isa=isa.encode() if isa is not None else None, max_error=max_error or 0.0,
                            scenario_bytes=0 if scenario_bytes is None else max(scenario_bytes, 1),
                            product_bytes=0 if product_bytes is None else max(product_bytes, 1),
                            item_bytes=item_bytes, item_rows=ITEM_ROWS[item_rows])
        handle = ctypes.c_void_p()
        call("polyscore_model_open", os.fsencode(path), ctypes.byref(options), ctypes.byref(handle))
        super().__init__(handle)
        self.description: dict[str, Any] = json.loads(self._text("polyscore_model_description"))
        self._slots = {feature["name"]: slot for slot, feature in enumerate(self.description["features"])}
        self._integers = {feature["name"] for feature in self.description["features"] if columns.is_integer(feature)}
        scenarios = self.description.get("scenarios", [])
        self._scenarios = {s[key]: index for index, s in enumerate(scenarios) for key in ("name", "id")}
        self._tasks = {task["name"]: index for index, task in enumerate(self.description["tasks"])}

    @property
    def features(self) -> list[str]:
        """Feature names, by slot."""
        return list(self._slots)

    @property
    def tasks(self) -> list[str]:
        """Task names, in the order of the funnel."""
        return list(self._tasks)

    def plan(self) -> str:
        """The steps as a table: stage, rate, shape, kernel, bytes."""
        return self._text("polyscore_model_plan")

    def info(self) -> dict[str, Any]:
        """Bytes by place, kernel set, how many scenarios' values are kept and where, how the golden requests came out."""
        info = abi.sized(abi.ModelInfo)
        call("polyscore_model_info_get", self.handle, ctypes.byref(info))
        values = {name: getattr(info, name) for name, _ in info._fields_ if name not in ("struct_size", "reserved")}
        return {name: value.decode() if isinstance(value, bytes) else value for name, value in values.items()}

    def write_packed(self, path: str | os.PathLike) -> None:
        """Writes the model with its dense layers as this one reads them: who opens `path` with the same options maps them and
        packs nothing, and all processes share them. The file gets its name once it is complete.
        """
        call("polyscore_model_write_packed", self.handle, os.fsencode(path))

    def scorer(self, pool: Pool | None = None) -> Scorer:
        """A scorer: one per thread. With a pool, the pool's threads share its calls; the scores have the same bits."""
        return Scorer(self, pool)

    def columns(self, values: Mapping[str, Any], is_request: bool) -> Columns:
        """Columns of one side of a call, to be used more than once."""
        return Columns(self, values, is_request)

    def scenario(self, scenario: str | int | None) -> int:
        """The index of a scenario by its name or id; an unknown one is `SCENARIO_UNKNOWN`."""
        return self._scenarios.get(scenario, abi.SCENARIO_UNKNOWN)

    def _text(self, function: str) -> str:
        length = ctypes.c_size_t()
        try:
            call(function, self.handle, None, 0, ctypes.byref(length))
        except PolyscoreError as error:
            if error.status != abi.BUFFER_TOO_SMALL:
                raise
        buffer = ctypes.create_string_buffer(length.value + 1)
        call(function, self.handle, buffer, length.value + 1, ctypes.byref(length))
        return buffer.value.decode()


def keys(values: Any) -> np.ndarray:
    """Item keys as int64; None becomes no key."""
    if not isinstance(values, np.ndarray):
        values = np.array([INTEGER_MISSING if key is None else key for key in values], dtype=np.int64)
    if values.ndim != 1 or values.dtype.kind not in "iu":
        raise TypeError(f"item keys: {values.dtype} of shape {values.shape} are not one integer for each candidate")
    return np.ascontiguousarray(values, dtype=np.int64)


class Columns:
    """The columns of one side of a call, as the ABI reads them; it keeps their arrays alive.

    Values by feature name: for the request one value each (a list for a bag or sequence), for candidates one entry per
    candidate. `ITEM_KEY` among the candidates' names has their keys for the item cache; one without a key has None.
    """

    def __init__(self, model: Model, values: Mapping[str, Any], is_request: bool):
        self.rows: int | None = 1 if is_request else None
        # The integers of a request lie together: they are made at once, and few cache lines hold them.
        single = {name: value for name, value in values.items()
                  if is_request and name in model._integers and (type(value) is int or isinstance(value, np.integer))
                  and -1 << 63 <= value < 1 << 63}
        integers = np.fromiter(single.values(), dtype=np.int64, count=len(single))
        first = integers.ctypes.data
        addresses = {name: first + integers.itemsize * place for place, name in enumerate(single)}
        self._kept: list[Any] = [integers]
        structs = []
        for name, value in values.items():
            if name in addresses:
                structs.append(abi.sized(abi.Column, feature=model._slots[name], type=TYPES[integers.dtype],
                                         values=addresses[name], values_len=1))
                continue
            if not is_request:
                self.rows = len(value) if self.rows is None else self.rows
            if name is ITEM_KEY:
                structs.append(self._struct(abi.ITEM_KEY, columns.Column(keys(value))))
                continue
            if name not in model._slots:
                raise KeyError(f"`{name}` is not a feature of the model")
            slot = model._slots[name]
            column = columns.build(model.description["features"][slot], [value] if is_request else value)
            structs.append(self._struct(slot, column))
        self.array = (abi.Column * len(structs))(*structs)

    def _struct(self, slot: int, column: columns.Column) -> abi.Column:
        self._kept.append(column)
        is_text = column.text_offsets is not None
        struct = abi.sized(abi.Column, feature=slot, type=4 if is_text else TYPES[column.values.dtype],
                           values=column.values.ctypes.data, values_len=column.values.size)
        for name in ("text_offsets", "row_offsets"):
            offsets = getattr(column, name)
            if offsets is not None:
                setattr(struct, name, offsets.ctypes.data)
                setattr(struct, f"{name}_len", offsets.size)
        return struct


class Pool(Handle):
    """Threads that parallel scorers share. Any number of threads, scorers and models may use it.

    `threads` is how many a call uses at most, the caller's among them, up to 256; None: as many as the process may use by its
    affinity and its container's CPU quota. They are the pool's own, named `name-1`, `name-2` and so on (None: "polyscore"), or
    those of `executor`. What an executor has not begun when the caller's thread is done, that thread does; so a call waits
    for no thread that is busy otherwise, and may come from one of the executor's own.

    A process that is forked gets threads of its own on its first parallel call; an executor is the host's to care for.
    """

    close_function = "polyscore_pool_close"

    def __init__(
        self, threads: int | None = None, name: str | None = None, executor: concurrent.futures.Executor | None = None
    ):
        if threads is not None and not 1 <= threads < 1 << 32:
            raise ValueError(f"threads: {threads} is not a number of threads")
        options = abi.sized(abi.PoolOptions, threads=threads or 0, name=None if name is None else name.encode())
        if executor is not None:
            # The library calls it as long as the pool or a scorer of it is open; both keep this object.
            self._run = options.run = abi.RUN(functools.partial(_run_on_executor, executor))
        handle = ctypes.c_void_p()
        call("polyscore_pool_new", ctypes.byref(options), ctypes.byref(handle))
        super().__init__(handle)

    @property
    def threads(self) -> int:
        """How many threads a call uses at most, the caller's among them."""
        threads = ctypes.c_uint32()
        call("polyscore_pool_threads", self.handle, ctypes.byref(threads))
        return threads.value


def _run_on_executor(executor: concurrent.futures.Executor, _: Any, tasks: int, task: Any, context: int) -> None:
    """Runs every task once: on the executor's threads, and what those have not begun, on this one."""
    numbers = itertools.count()
    ended = threading.Semaphore(0)

    def one() -> None:
        number = next(numbers)
        if number < tasks:
            try:
                task(context, number)
            finally:
                ended.release()

    try:
        for _ in range(1, tasks):
            executor.submit(one)
    except RuntimeError:
        pass  # It is shut down: the tasks that are left are this thread's.
    for _ in range(tasks):
        one()
    for _ in range(tasks):
        ended.acquire()


class Scorer(Handle):
    """One thread's scratch over a model: `prepare` once per request, then score as often as wanted."""

    close_function = "polyscore_scorer_close"

    def __init__(self, model: Model, pool: Pool | None = None):
        handle = ctypes.c_void_p()
        if pool is None:
            call("polyscore_scorer_new", model.handle, ctypes.byref(handle))
        else:
            call("polyscore_scorer_new_parallel", model.handle, pool.handle, ctypes.byref(handle))
        super().__init__(handle)
        self.model = model
        self._pool = pool

    def prepare(self, scenario: str | int | None, request: Mapping[str, Any] | Columns) -> None:
        """Takes a request: its scenario by name or id (None or unknown: the fallback), and a value per request feature."""
        given = request if isinstance(request, Columns) else Columns(self.model, request, is_request=True)
        index = self.model.scenario(scenario)
        call("polyscore_scorer_prepare", self.handle, index, given.array, len(given.array))

    def score(
        self, candidates: Mapping[str, Any] | Columns, tasks: Sequence[str] | None = None, count: int | None = None
    ) -> dict[str, np.ndarray]:
        """Probabilities float32 `[n]` of the tasks (all, if None) for `n` candidates, given as a column per feature.

        `count` is needed only if no candidate column is given.
        """
        given = self._candidates(candidates)
        rows = self._rows(given, count)
        return self._score("polyscore_scorer_score", given, (rows,), tasks, rows)

    def score_mixed(
        self, candidates: Mapping[str, Any] | Columns, scenarios: Sequence[Any], tasks: Sequence[str] | None = None
    ) -> dict[str, np.ndarray]:
        """As `score`, each candidate for a scenario of its own: a name, an id or None (the fallback) per candidate."""
        given = self._candidates(candidates)
        indices = self._scenario_indices(scenarios)
        rows = self._rows(given, len(indices))
        if len(indices) != rows:
            raise ValueError(f"scenarios: has {len(indices)} entries for {rows} candidates")
        return self._score("polyscore_scorer_score_mixed", given, (rows,), tasks, rows, indices.ctypes.data)

    def score_each(
        self,
        candidates: Mapping[str, Any] | Columns,
        scenarios: Sequence[Any],
        tasks: Sequence[str] | None = None,
        count: int | None = None,
    ) -> dict[str, np.ndarray]:
        """As `score`, every candidate for every scenario (names, ids or None): float32 `[scenarios, n]` per task.

        What does not depend on the scenario is computed once per candidate.
        """
        given = self._candidates(candidates)
        indices = self._scenario_indices(scenarios)
        rows = self._rows(given, count)
        return self._score("polyscore_scorer_score_each", given, (len(indices), rows), tasks, rows, indices.ctypes.data,
                           len(indices))

    def _candidates(self, candidates: Mapping[str, Any] | Columns) -> Columns:
        return candidates if isinstance(candidates, Columns) else Columns(self.model, candidates, is_request=False)

    def _scenario_indices(self, scenarios: Sequence[Any]) -> np.ndarray:
        return np.array([self.model.scenario(scenario) for scenario in scenarios], dtype=np.uint32)

    def _rows(self, given: Columns, count: int | None) -> int:
        rows = count if given.rows is None else given.rows
        if rows is None:
            raise ValueError("no candidate column is given: `count` says how many candidates there are")
        return rows

    def _score(
        self, function: str, given: Columns, shape: tuple[int, ...], tasks: Sequence[str] | None, *before: Any
    ) -> dict[str, np.ndarray]:
        """Calls `function`, whose arguments ahead of the columns are `before`; an array of `shape` per task."""
        names = self.model.tasks if tasks is None else list(tasks)
        for name in names:
            if name not in self.model._tasks:
                raise KeyError(f"`{name}` is not a task of the model")
        if not names:
            return {}
        out = np.empty((*shape[:-1], len(names), shape[-1]), dtype=np.float32)
        indices = (ctypes.c_uint32 * len(names))(*(self.model._tasks[name] for name in names))
        call(function, self.handle, *before, given.array, len(given.array), indices, len(names), out.ctypes.data, out.size)
        return {name: out[..., position, :] for position, name in enumerate(names)}

    def counters(self) -> dict[str, Any]:
        """What the scorer has seen: requests, candidates, unknown scenarios, how often the values of a scenario were
        computed, hits and misses of the item cache, and per feature values, oov and missing."""
        counters = abi.sized(abi.Counters)
        call("polyscore_scorer_counters", self.handle, ctypes.byref(counters))
        names = ("requests", "candidates", "unknown_scenarios", "non_finite", "scenarios_folded", "item_hits", "item_misses")
        seen: dict[str, Any] = {name: getattr(counters, name) for name in names}
        seen["features"] = {}
        for name, slot in self.model._slots.items():
            feature = abi.sized(abi.FeatureCounters)
            call("polyscore_scorer_feature_counters", self.handle, slot, ctypes.byref(feature))
            seen["features"][name] = {part: getattr(feature, part) for part in ("values", "oov", "missing")}
        return seen
