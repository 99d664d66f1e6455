"""Ranking models of torch-rechub 0.9.0 and deepctr-torch 0.3.0 with random weights, and their export to ONNX.

    python thirdparty_models.py FOLDER [NAME...]

writes `FOLDER/torchscript` and `FOLDER/dynamo`: per model a graph (`.onnx`), 64 rows of inputs with the scores that
PyTorch gives them (`.npz`), and which input is what (`.json`).
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import importlib.util
import io
import json
import logging
import pathlib
import sys
import types
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

FIXTURES = pathlib.Path(__file__).parents[4] / "shared/fixtures"
EXPORTERS = {"torchscript": False, "dynamo": True}
OPSET = 18
BATCHES = (1, 7, 64)
TOLERANCE = 1e-5
WIDTH = 8


class ExportError(RuntimeError):
    """A model has no ONNX graph with its scores; the message says which model, and why."""


@dataclasses.dataclass(frozen=True)
class Column:
    """A feature as the models read it, `width` values a row.

    `kind` is "id" (table rows below `rows`), "dense" (numbers) or "length" (how many positions of a history are there).
    Columns with the same `sequence` are of one padded history of at least `shortest` positions, 0 behind them. `rate`
    is the engine's, or "scenario" for the row of the scenario.
    """

    name: str
    rate: str
    kind: str = "id"
    width: int = 1
    rows: int = 0
    sequence: str | None = None
    shortest: int = 0


@dataclasses.dataclass
class Model:
    """A module in eval mode that takes the columns in order, or (`is_wide`) one f32 matrix `x` of them side by side.

    `outputs` names what it gives, in order, and the tasks in the columns of each. ONNX Runtime takes its graph from
    `smallest` rows on.
    """

    name: str
    package: str
    module: nn.Module
    columns: list[Column]
    outputs: dict[str, list[str]]
    is_wide: bool = False
    smallest: int = 1
    examples: dict[str, Tensor] | None = None

    def values(self, count: int) -> dict[str, Tensor]:
        """`count` rows of every column: random, or the first of the examples where the model has some."""
        if self.examples is not None:
            return {name: value[:count] for name, value in self.examples.items()}
        return random_columns(self.columns, count)

    def packed(self, values: dict[str, Tensor]) -> dict[str, Tensor]:
        """The columns as the inputs of the graph."""
        if not self.is_wide:
            return values
        return {"x": torch.cat([value.reshape(len(value), -1).float() for value in values.values()], dim=1)}

    def inputs(self, count: int) -> dict[str, Tensor]:
        """The inputs of the graph for `count` rows."""
        return self.packed(self.values(count))

    def scores(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """What the module gives, by output."""
        with torch.no_grad(), without_fast_path():
            given = self.module(*inputs.values())
        return dict(zip(self.outputs, (given,) if isinstance(given, Tensor) else given, strict=True))

    def exact_scores(self, inputs: dict[str, Tensor]) -> tuple[dict[str, Tensor], str]:
        """The scores in f64, or in f32 where the package does not compute in f64; and which."""
        exact = dataclasses.replace(self, module=copy.deepcopy(self.module).double())
        doubles = {name: value.double() if value.is_floating_point() else value for name, value in inputs.items()}
        try:
            return exact.scores(doubles), "float64"
        except RuntimeError:
            return self.scores(inputs), "float32"


@contextlib.contextmanager
def without_fast_path() -> Iterator[None]:
    """Keeps PyTorch from replacing a transformer's layers by one operator, which no exporter knows."""
    was_enabled = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(was_enabled)


def random_columns(columns: Sequence[Column], count: int, seed: int = 1) -> dict[str, Tensor]:
    """Values of `count` rows: every id, numbers around 0, histories of every length."""
    generator = torch.Generator().manual_seed(seed)
    lengths: dict[str, Tensor] = {}
    values: dict[str, Tensor] = {}
    for column in columns:
        shape = (count,) if column.width == 1 and column.kind != "dense" else (count, column.width)
        if column.sequence is not None and column.sequence not in lengths:
            longest = max(other.width for other in columns if other.sequence == column.sequence)
            lengths[column.sequence] = torch.randint(column.shortest, longest + 1, (count,), generator=generator)
        if column.kind == "length":
            values[column.name] = lengths[column.sequence]
            continue
        is_there = torch.ones(shape, dtype=torch.bool)
        if column.sequence is not None:
            is_there = torch.arange(column.width)[None, :] < lengths[column.sequence][:, None]
        if column.kind == "dense":
            values[column.name] = torch.randn(shape, generator=generator)
        else:
            low = int(column.sequence is not None)
            values[column.name] = torch.randint(low, column.rows, shape, generator=generator) * is_there
    return values


def disturb(module: nn.Module, seed: int = 1) -> None:
    """Moves every weight, bias and statistic from its initialisation, so that no part of a model is trivial."""
    generator = torch.Generator().manual_seed(seed)
    noise = lambda tensor: torch.randn(tensor.shape, generator=generator)  # noqa: E731
    tables = {id(m.weight) for m in module.modules() if isinstance(m, nn.Embedding)}
    with torch.no_grad():
        for parameter in module.parameters():
            if id(parameter) in tables:
                spread = 0.4
            elif parameter.dim() == 1:
                spread = 0.2
            else:
                spread = 1.3 * max(parameter.shape[-2:]) ** -0.5
            parameter.add_(noise(parameter) * spread)
        for name, buffer in module.named_buffers():
            if name.endswith("running_mean"):
                buffer.copy_(noise(buffer) * 0.3)
            elif name.endswith("running_var"):
                buffer.copy_(torch.rand(buffer.shape, generator=generator) + 0.5)


class Positional(nn.Module):
    """A network that takes a dict of columns, called with the columns."""

    def __init__(self, network: nn.Module, names: Sequence[str]):
        super().__init__()
        self.network = network
        self.names = list(names)

    def forward(self, *columns: Tensor) -> Tensor:
        return self.network(dict(zip(self.names, columns, strict=True)))


def recurrent(gru: nn.GRU, inputs: Tensor, is_loop: bool) -> Tensor:
    """The states of a GRU at all positions, `[n, positions, width]`: by its operator, or by a loop over them."""
    if not is_loop:
        return gru(inputs)[0]
    h, states = torch.zeros_like(inputs[:, 0]), []
    for position in range(inputs.shape[1]):
        given = functional.linear(inputs[:, position], gru.weight_ih_l0, gru.bias_ih_l0).chunk(3, dim=1)
        kept = functional.linear(h, gru.weight_hh_l0, gru.bias_hh_l0).chunk(3, dim=1)
        reset, update = torch.sigmoid(given[0] + kept[0]), torch.sigmoid(given[1] + kept[1])
        h = (1 - update) * torch.tanh(given[2] + reset * kept[2]) + update * h
        states.append(h)
    return torch.stack(states, dim=1)


class RechubDIEN(Positional):
    """DIEN without the packing of histories, which mixes rows: a GRU reads no later position."""

    def __init__(self, network: nn.Module, names: Sequence[str], is_loop: bool):
        super().__init__(network, names)
        self.is_loop = is_loop

    def forward(self, *columns: Tensor) -> Tensor:
        network, x = self.network, dict(zip(self.names, columns, strict=True))
        others = network.embedding(x, network.features, squeeze_dim=True)
        histories = network.embedding(x, network.history_features)
        targets = network.embedding(x, network.target_features)
        interests = []
        for i, feature in enumerate(network.history_features):
            mask = x[feature.name] != feature.padding_idx
            gru = network.interest_extractor_layers[i]
            states = recurrent(gru, histories[:, i], self.is_loop) * mask.unsqueeze(-1)
            evolving = network.interest_evolving_layers[i]
            scores = (torch.matmul(states, evolving.Wa) * targets[:, i].unsqueeze(1)).sum(-1)
            weights = torch.softmax(scores.masked_fill(~mask, torch.finfo(scores.dtype).min), dim=1).unsqueeze(-1)
            h = torch.zeros_like(targets[:, i])
            for position in range(states.shape[1]):
                h = evolving.augru_cell(states[:, position], h, weights[:, position])
            interests.append(h * mask[:, :1])
        return torch.sigmoid(network.mlp(torch.cat([*interests, targets.flatten(1), others], dim=1)).squeeze(1))

    def published(self, *columns: Tensor) -> Tensor:
        """The package's own forward."""
        return super().forward(*columns)[0]


class DeepctrDIEN(nn.Module):
    """DIEN without the packing of histories, as above."""

    def __init__(self, network: nn.Module, is_loop: bool):
        super().__init__()
        self.network = network
        self.is_loop = is_loop

    def forward(self, x: Tensor) -> Tensor:
        network = self.network
        query, keys, _, length = network._get_emb(x)
        positions = torch.arange(keys.shape[1])
        mask = (positions < length[:, None]).unsqueeze(-1)
        states = recurrent(network.interest_extractor.gru, keys, self.is_loop) * mask
        evolving = network.interest_evolution
        kind, query, lengths = evolving.gru_type, query.unsqueeze(1), length[:, None]
        if kind == "GRU":
            states = recurrent(evolving.interest_evolution, states, self.is_loop) * mask
            interest = evolving.attention(query, states, lengths).squeeze(1)
        else:
            weights = evolving.attention(query, states, lengths).transpose(1, 2)
            if kind == "AIGRU":
                states = recurrent(evolving.interest_evolution, states * weights, self.is_loop)
            else:
                h, steps = torch.zeros_like(states[:, 0]), []
                for position in range(states.shape[1]):
                    h = evolving.interest_evolution.rnn(states[:, position], h, weights[:, position])
                    steps.append(h)
                states = torch.stack(steps, dim=1)
            interest = (states * (positions == lengths - 1).unsqueeze(-1)).sum(1)
        deep = torch.cat([interest * (lengths > 0), network._get_deep_input_emb(x)], dim=1)
        start = {column.name: network.feature_index[column.name] for column in network.dense_feature_columns}
        deep = torch.cat([deep, *(x[:, first:last] for first, last in start.values())], dim=1)
        return network.out(network.linear(network.dnn(deep)))

    def published(self, x: Tensor) -> Tensor:
        """The package's own forward."""
        return self.network(x)


USER = Column("user", "request", rows=31)
CITY = Column("city", "request", rows=11)
DEVICE = Column("device", "request", rows=5)
AGE = Column("age", "request", "dense")
CONTEXT = Column("context", "request", "dense", width=3)
CLICKS = Column("clicks", "request", width=10, rows=41, sequence="clicked")
TOPICS = Column("topics", "request", width=10, rows=9, sequence="clicked")
AD = Column("ad", "item", rows=41)
CATEGORY = Column("category", "item", rows=9)
PRICE = Column("price", "item", "dense")
TAGS = Column("tags", "item", width=4, rows=13, sequence="tagged")
SLOT = Column("slot", "pair", rows=6)
# The dynamo exporter drops the `+ 1e-16` of torch-rechub's mean, so that its graphs make NaN of an empty history.
# The maximum of deepctr-torch subtracts 1e9 from every number of one.
FILLED_CLICKS = dataclasses.replace(CLICKS, shortest=1)
FILLED_TAGS = dataclasses.replace(TAGS, shortest=1)

SPARSE = [USER, CITY, DEVICE, AD, CATEGORY, SLOT]
DENSE = [AGE, CONTEXT, PRICE]
ONE_TASK = ["click"]
TASKS = ["click", "conversion"]

Built = tuple[nn.Module, list[Column], list[str]]


def rechub(columns: Sequence[Column], pooling: str = "mean", scale: int = 1, width: int = WIDTH) -> list[Any]:
    """The columns as features of torch-rechub; tables have `scale` times as many rows."""
    from torch_rechub.basic import features

    made: list[Any] = []
    for column in columns:
        if column.kind == "dense":
            made.append(features.DenseFeature(column.name, column.width))
        elif column.sequence is None:
            made.append(features.SparseFeature(column.name, column.rows * scale, width))
        else:
            owner = {"clicks": "ad", "topics": "category"}.get(column.name)
            made.append(features.SequenceFeature(column.name, column.rows, width, pooling, owner, padding_idx=0))
    return made


def rechub_ranking() -> dict[str, Callable[[], Built]]:
    """Ranking models of torch-rechub."""
    from torch_rechub.models import ranking

    layers = lambda: {"dims": [32, 16]}  # noqa: E731

    def over(columns: list[Column], network: nn.Module) -> Built:
        return Positional(network, [column.name for column in columns]), columns, ONE_TASK

    def dcn(**options: Any) -> Built:
        columns = SPARSE + DENSE
        return over(columns, ranking.DCNv2(rechub(columns), 2, layers(), low_rank=6, num_experts=3, **options))

    def fibinet(kind: str) -> Built:
        return over(SPARSE, ranking.FiBiNet(rechub(SPARSE), layers(), bilinear_type=kind))

    def edcn(bridge: str, has_regulation: bool = True) -> Built:
        network = ranking.EDCN(rechub(SPARSE), 2, {}, bridge, use_regulation_module=has_regulation)
        return over(SPARSE, network)

    def ffm(has_attention: bool) -> Built:
        linear, cross = rechub([USER, AD, SLOT], width=1), rechub(SPARSE, scale=len(SPARSE))
        if has_attention:
            return over(SPARSE, ranking.FatDeepFFM(linear, cross, WIDTH, 3, layers()))
        return over(SPARSE, ranking.DeepFFM(linear, cross, WIDTH, layers()))

    def deep_fm(pooling: str, tags: Column) -> Built:
        deep, crossed = [*DENSE, *SPARSE, tags], [USER, AD, CATEGORY, tags]
        features = dict(zip((column.name for column in deep), rechub(deep, pooling)))
        return over(deep, ranking.DeepFM(list(features.values()), [features[c.name] for c in crossed], layers()))

    def wide_deep() -> Built:
        deep = [USER, CITY, FILLED_CLICKS, AD, CATEGORY, FILLED_TAGS]
        return over(DENSE + deep + [SLOT], ranking.WideDeep(rechub([*DENSE, SLOT]), rechub(deep), layers()))

    def attentive(options: dict[str, Any]) -> Built:
        others, histories, targets = [USER, CITY, SLOT], [CLICKS, TOPICS], [AD, CATEGORY]
        network = ranking.DIN(rechub(others), rechub(histories, "concat"), rechub(targets), layers(), options)
        return over(others + histories + targets, network)

    def bst() -> Built:
        others, histories, targets = [USER, AGE], [CLICKS, TOPICS], [AD, CATEGORY]
        options: dict[str, Any] = {"nhead": 4, "num_layers": 2, "max_seq_len": 11}
        network = ranking.BST(rechub(others), rechub(histories, "concat"), rechub(targets), layers(), **options)
        return over(others + histories + targets, network)

    def dien(is_loop: bool = False) -> Built:
        others, histories, targets = [USER, AGE], [CLICKS, TOPICS], [AD, CATEGORY]
        clicked = rechub(histories, "concat")
        # It takes negatives for its loss only.
        network = ranking.DIEN(rechub(others), clicked, clicked, rechub(targets), layers())
        columns = others + histories + targets
        return RechubDIEN(network, [column.name for column in columns], is_loop), columns, ONE_TASK

    return {
        "WideDeep": wide_deep,
        "DeepFM": lambda: deep_fm("mean", FILLED_TAGS),
        "DeepFM_sum": lambda: deep_fm("sum", TAGS),
        "DCN": lambda: over(SPARSE + DENSE, ranking.DCN(rechub(SPARSE + DENSE), 3, layers())),
        "DCNv2": lambda: dcn(),
        "DCNv2_stacked": lambda: dcn(model_structure="stacked"),
        "DCNv2_full": lambda: dcn(use_low_rank_mixture=False),
        "DCNv2_crossnet_only": lambda: dcn(model_structure="crossnet_only", use_low_rank_mixture=False),
        "EDCN": lambda: edcn("hadamard_product"),
        "EDCN_addition": lambda: edcn("pointwise_addition", has_regulation=False),
        "EDCN_concatenation": lambda: edcn("concatenation"),
        "EDCN_attention": lambda: edcn("attention_pooling"),
        "AFM": lambda: over(SPARSE, ranking.AFM(rechub(SPARSE), WIDTH, 12)),
        "FiBiNet": lambda: fibinet("field_interaction"),
        "FiBiNet_all": lambda: fibinet("field_all"),
        "FiBiNet_each": lambda: fibinet("field_each"),
        "DeepFFM": lambda: ffm(has_attention=False),
        "FatDeepFFM": lambda: ffm(has_attention=True),
        "AutoInt": lambda: over(SPARSE + [AGE, PRICE], ranking.AutoInt(rechub(SPARSE), rechub([AGE, PRICE]), 2)),
        "AutoInt_mlp": lambda: over(SPARSE, ranking.AutoInt(rechub(SPARSE), [], 2, 4, mlp_params=layers())),
        "BST": bst,
        "DIN": lambda: attentive({"dims": [16], "activation": "dice"}),
        "DIN_prelu": lambda: attentive({"dims": [16, 8], "activation": "prelu", "use_softmax": True}),
        "DIEN": dien,
        "DIEN_loop": lambda: dien(is_loop=True),
    }


def rechub_matching() -> dict[str, Callable[[], Built]]:
    """Models of torch-rechub for retrieval that score a pair of a user and an item."""
    from torch_rechub.models import matching
    from torch_rechub.models.matching import dssm_senet

    def towers(network: Callable[..., nn.Module], **options: Any) -> Built:
        users, items = [USER, CITY, DEVICE], [AD, CATEGORY, FILLED_TAGS]
        layers = {"dims": [32, 16], "activation": "prelu"}
        made = network(rechub(users), rechub(items), user_params=layers, item_params=layers, **options)
        return Positional(made, [column.name for column in users + items]), users + items, ONE_TASK

    return {
        "DSSM": lambda: towers(matching.DSSM),
        "DSSM_senet": lambda: towers(dssm_senet.DSSM, temperature=0.3),
    }


def rechub_multi_task() -> dict[str, Callable[[], Built]]:
    """Multi-task models of torch-rechub."""
    from torch_rechub.models import multi_task

    columns = SPARSE + DENSE + [FILLED_TAGS]
    kinds = ["classification"] * 2
    towers = [{"dims": [8]}, {"dims": [12, 6], "activation": "prelu"}]
    expert = {"dims": [24, 12]}

    def over(network: nn.Module) -> Built:
        return Positional(network, [column.name for column in columns]), columns, TASKS

    def esmm() -> Built:
        users, items = [USER, CITY, DEVICE], [AD, CATEGORY, SLOT]
        network = multi_task.ESMM(rechub(users), rechub(items), {"dims": [16, 8]}, {"dims": [16]})
        tasks = ["conversion_given_click", "click", "conversion"]
        return Positional(network, [column.name for column in users + items]), users + items, tasks

    return {
        "SharedBottom": lambda: over(multi_task.SharedBottom(rechub(columns), kinds, {"dims": [32, 16]}, towers)),
        "ESMM": esmm,
        "MMOE": lambda: over(multi_task.MMOE(rechub(columns), kinds, 3, expert, towers)),
        "PLE": lambda: over(multi_task.PLE(rechub(columns), kinds, 2, 2, 1, expert, towers)),
        "AITM": lambda: over(multi_task.AITM(rechub(columns), 2, {"dims": [24, 12]}, towers)),
    }


def deepctr(columns: Sequence[Column], pooling: str = "mean") -> list[Any]:
    """The columns as those of deepctr-torch; a history without a length is where its ids are not 0."""
    from deepctr_torch import inputs

    lengths = {column.sequence: column.name for column in columns if column.kind == "length"}
    made: list[Any] = []
    for column in columns:
        if column.kind == "dense":
            made.append(inputs.DenseFeat(column.name, column.width))
        elif column.kind == "id":
            owner = column.name.removeprefix("hist_")
            sparse = inputs.SparseFeat(column.name, column.rows, WIDTH, embedding_name=owner)
            if column.sequence is not None:
                sparse = inputs.VarLenSparseFeat(sparse, column.width, pooling, lengths.get(column.sequence))
            made.append(sparse)
    return made


def deepctr_single_task() -> dict[str, Callable[[], Built]]:
    """Models of deepctr-torch with one task."""
    from deepctr_torch import models

    layers = {"dnn_hidden_units": (32, 16)}
    crossed = SPARSE + DENSE
    pooled = SPARSE + DENSE + [TAGS]
    lengthy = pooled + [Column("tags_length", "item", "length", sequence="tagged")]

    def over(columns: list[Column], network: nn.Module) -> Built:
        return network, columns, ONE_TASK

    def linear(network: Callable[..., nn.Module], columns: list[Column] = crossed, **options: Any) -> Built:
        """A model with a linear part over all columns, and the deep one over them."""
        made = deepctr(columns)
        return over(columns, network(made, made, **options))

    def without_dense(network: Callable[..., nn.Module], **options: Any) -> Built:
        """As above, the deep part over the sparse columns only."""
        return over(crossed, network(deepctr(crossed), deepctr(SPARSE), **options))

    def deep_fm(pooling: str, columns: list[Column]) -> Built:
        made = deepctr(columns, pooling)
        return over(columns, models.DeepFM(made, made, dnn_use_bn=True, **layers))

    def mlr() -> Built:
        bias = deepctr([SLOT])
        return over(crossed, models.MLR(deepctr(crossed), bias_feature_columns=bias, region_num=3))

    histories = [Column("hist_ad", "request", width=10, rows=41, sequence="clicked"),
                 Column("hist_category", "request", width=10, rows=9, sequence="clicked"),
                 Column("length", "request", "length", sequence="clicked")]
    attended = [USER, AD, CATEGORY, AGE, PRICE, histories[0], histories[2], histories[1]]

    def din(**options: Any) -> Built:
        network = models.DIN(deepctr(attended), ["ad", "category"], att_hidden_size=(16, 8), **layers, **options)
        return over(attended, network)

    def dien(kind: str, is_loop: bool = False, **options: Any) -> Built:
        options |= layers | {"gru_type": kind, "att_hidden_units": (16, 8)}
        return over(attended, DeepctrDIEN(models.DIEN(deepctr(attended), ["ad", "category"], **options), is_loop))

    def pnn(**options: Any) -> Built:
        return over(crossed, models.PNN(deepctr(crossed), **layers, **options))

    whole = {"cin_layer_size": (8, 6), "cin_split_half": False, "cin_activation": "linear"}

    return {
        "WDL": lambda: linear(models.WDL, pooled, **layers),
        "DeepFM": lambda: linear(models.DeepFM, **layers),
        "DeepFM_mean": lambda: deep_fm("mean", pooled),
        "DeepFM_max": lambda: deep_fm("max", SPARSE + DENSE + [FILLED_TAGS]),
        "DeepFM_length": lambda: deep_fm("sum", lengthy),
        "xDeepFM": lambda: linear(models.xDeepFM, cin_layer_size=(12, 6), **layers),
        "xDeepFM_whole": lambda: linear(models.xDeepFM, **layers, **whole),
        "AFM": lambda: without_dense(models.AFM),
        "AFM_plain": lambda: without_dense(models.AFM, use_attention=False),
        "NFM": lambda: linear(models.NFM, **layers),
        "PNN": lambda: pnn(),
        "PNN_outer": lambda: pnn(use_inner=False, use_outter=True),
        "PNN_outer_vector": lambda: pnn(use_outter=True, kernel_type="vec"),
        "PNN_outer_number": lambda: pnn(use_outter=True, kernel_type="num"),
        "ONN": lambda: linear(models.ONN, dnn_use_bn=True, **layers),
        "DCN": lambda: linear(models.DCN, **layers),
        "DCN_matrix": lambda: linear(models.DCN, cross_parameterization="matrix", dnn_activation="prelu", **layers),
        "DCNMix": lambda: linear(models.DCNMix, low_rank=6, num_experts=3, **layers),
        "FiBiNET": lambda: linear(models.FiBiNET, **layers),
        "FiBiNET_all": lambda: linear(models.FiBiNET, bilinear_type="all", **layers),
        "FiBiNET_each": lambda: linear(models.FiBiNET, bilinear_type="each", **layers),
        "AutoInt": lambda: linear(models.AutoInt, att_layer_num=2, **layers),
        "DIFM": lambda: linear(models.DIFM, **layers),
        "IFM": lambda: linear(models.IFM, **layers),
        "AFN": lambda: linear(models.AFN, ltl_hidden_size=10, afn_dnn_hidden_units=(32, 16)),
        "CCPM": lambda: without_dense(models.CCPM, conv_kernel_width=(4, 3), conv_filters=(3, 2), **layers),
        "MLR": mlr,
        "DIN": lambda: din(),
        "DIN_softmax": lambda: din(att_weight_normalization=True, dnn_use_bn=True, dnn_activation="sigmoid"),
        "DIEN": lambda: dien("GRU"),
        "DIEN_AIGRU": lambda: dien("AIGRU", dnn_activation="prelu"),
        "DIEN_AGRU": lambda: dien("AGRU"),
        "DIEN_AUGRU": lambda: dien("AUGRU", use_bn=True),
        "DIEN_loop": lambda: dien("GRU", is_loop=True),
        "DIEN_AIGRU_loop": lambda: dien("AIGRU", is_loop=True, dnn_activation="prelu"),
        "DIEN_AGRU_loop": lambda: dien("AGRU", is_loop=True),
        "DIEN_AUGRU_loop": lambda: dien("AUGRU", is_loop=True, use_bn=True),
    }


def deepctr_multi_task() -> dict[str, Callable[[], Built]]:
    """Multi-task models of deepctr-torch."""
    from deepctr_torch.models import multitask

    columns = SPARSE + DENSE + [TAGS]
    experts = {"expert_dnn_hidden_units": (24, 12), "gate_dnn_hidden_units": (6,), "tower_dnn_hidden_units": (8,)}

    bottom = {"bottom_dnn_hidden_units": (32, 16), "tower_dnn_hidden_units": (8,)}

    def over(network: Callable[..., nn.Module], **options: Any) -> Built:
        return network(deepctr(columns), task_names=TASKS, **options), columns, TASKS

    return {
        "SharedBottom": lambda: over(multitask.SharedBottom, **bottom),
        "ESMM": lambda: over(multitask.ESMM, tower_dnn_hidden_units=(16, 8), dnn_use_bn=True),
        "MMOE": lambda: over(multitask.MMOE, dnn_activation="prelu", **experts),
        "PLE": lambda: over(multitask.PLE, shared_expert_num=2, specific_expert_num=2, **experts),
    }


def skip_version_check() -> None:
    """Keeps deepctr-torch from asking a server for its newest version at import, with a package it does not declare."""
    stub: Any = types.ModuleType("deepctr_torch.utils")
    stub.check_version = lambda version: None
    sys.modules.setdefault("deepctr_torch.utils", stub)


def builders() -> dict[str, tuple[str, Callable[[], Built]]]:
    """The models of both packages: the package, and what builds the model."""
    skip_version_check()
    found: dict[str, tuple[str, Callable[[], Built]]] = {}
    for package, prefix, parts in (
        ("torch-rechub", "rechub", (rechub_ranking, rechub_matching, rechub_multi_task)),
        ("deepctr-torch", "deepctr", (deepctr_single_task, deepctr_multi_task)),
    ):
        for part in parts:
            found |= {f"{prefix}_{name}": (package, build) for name, build in part().items()}
    return found


# Their low-rank mixture ends in a `squeeze` of every axis that is 1, that of a single row too, which then meets [1, n].
WITHOUT_ONE_ROW = ("rechub_DCNv2", "deepctr_DCNMix")

# Graphs that ONNX Runtime does not take: a `squeeze(0)` of an axis that is not 1 was written as a Squeeze of it.
BROKEN = {("rechub_FatDeepFFM", "dynamo")}


def names() -> list[str]:
    """All models: of both packages, and the golden sets where they are."""
    return [*builders(), *(f"golden_{path.parent.name}" for path in sorted(FIXTURES.glob("golden/*/meta.json")))]


def build(name: str) -> Model:
    """The model of that name, the same weights every time."""
    if name.startswith("golden_"):
        return golden(name.removeprefix("golden_"))
    package, make = builders()[name]
    torch.manual_seed(1)
    module, columns, tasks = make()
    disturb(module)
    smallest = 2 if name in WITHOUT_ONE_ROW else 1
    return Model(name, package, module.eval(), columns, {"scores": tasks}, package == "deepctr-torch", smallest)


def fixtures() -> Any:
    """The module beside the golden sets that rebuilds their networks."""
    spec = importlib.util.spec_from_file_location("fixtures_thirdparty", FIXTURES / "thirdparty.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def golden(name: str) -> Model:
    """The network of a golden set, with its trained weights and its rows."""
    source = fixtures()
    network, examples, _ = source.load(name)
    meta = source.meta(name)
    columns = []
    for feature in meta["features"]:
        kind = "dense" if feature["kind"] == "dense" else "id"
        sequence = feature["name"] if feature["kind"] == "sequence" else None
        shape = (feature.get("length", 1), feature.get("vocab", 0))
        columns.append(Column(feature["name"], feature["side"], kind, *shape, sequence))
        if "length_column" in feature:
            columns.append(Column(feature["length_column"], feature["side"], "length", sequence=sequence))
    is_wide = isinstance(examples, Tensor)
    module = network if is_wide else Positional(network, list(examples))
    if is_wide:
        parts = examples.split([column.width for column in columns], dim=1)
        examples = {column.name: part.squeeze(1) if column.kind == "dense" else part.squeeze(1).long()
                    for column, part in zip(columns, parts)}
    package, outputs = meta["package"]["name"], {"scores": meta["outputs"]}
    return Model(f"golden_{name}", package, module.eval(), columns, outputs, is_wide, examples=examples)


def export(model: Model, path: pathlib.Path | str, dynamo: bool) -> float:
    """Writes the graph to `path`, the first axis of all inputs dynamic.

    Returns the largest difference between the scores of ONNX Runtime and PyTorch at 1, 7 and 64 rows. Raises
    ExportError.
    """
    inputs = model.inputs(64)
    options: dict[str, Any] = {"input_names": list(inputs), "output_names": list(model.outputs), "opset_version": OPSET,
                               "dynamo": dynamo}
    if dynamo:
        rows = torch.export.Dim("rows")
        shapes = tuple({0: rows} for _ in inputs)
        # `*columns` counts as one parameter.
        options |= {"dynamic_shapes": shapes if model.is_wide else (shapes,), "external_data": False, "verbose": False}
    else:
        options["dynamic_axes"] = dict.fromkeys([*inputs, *model.outputs], {0: "rows"})
    with quiet(), without_fast_path(), torch.no_grad():
        try:
            torch.onnx.export(model.module, tuple(inputs.values()), str(path), **options)
        except Exception as error:
            raise ExportError(f"{model.name}: {first_line(error)}") from error
    return max(compare(model, path, count) for count in BATCHES if count >= model.smallest)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Holds back what the exporters say of themselves."""
    level = logging.getLogger("torch.onnx").level
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.getLogger("torch.onnx").setLevel(level)


def first_line(error: BaseException) -> str:
    """The cause of an error, in one line."""
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"


def compare(model: Model, path: pathlib.Path | str, count: int) -> float:
    """The largest difference over the first `count` rows of 64; raises ExportError where it is above TOLERANCE."""
    import onnxruntime

    inputs = model.inputs(64)
    wanted = model.scores(inputs)
    where = f"{model.name}: ONNX Runtime at {count} rows"
    try:
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        known = {value.name for value in session.get_inputs()}
        feed = {name: value[:count].numpy() for name, value in inputs.items() if name in known}
        given = session.run(list(model.outputs), feed)
    except Exception as error:
        raise ExportError(f"{where}: {first_line(error)}") from error
    differences = []
    for scores, (name, expected) in zip(given, wanted.items()):
        expected = expected[:count].numpy()
        if scores.shape != expected.shape:
            raise ExportError(f"{where}: {name} has shape {scores.shape}, not {expected.shape}")
        differences.append(np.abs(scores - expected).max())
    worst = float(np.max(differences))
    if not worst <= TOLERANCE:
        raise ExportError(f"{where}: scores differ by {worst:.1e}")
    return worst


def graph_inputs(path: pathlib.Path | str) -> list[str]:
    """The inputs of a graph: an exporter may leave out those that no score depends on."""
    import onnx

    return [value.name for value in onnx.load(str(path)).graph.input]


def sides(model: Model, known: Sequence[str]) -> dict[str, Any]:
    """What each of the known inputs is: its columns with their places and rates, or its one column."""
    start, described = 0, []
    for column in model.columns:
        described.append(dataclasses.asdict(column) | {"start": start, "stop": start + column.width})
        start += column.width
    if model.is_wide:
        return {"x": described}
    alone = {entry["name"]: [entry | {"start": 0, "stop": entry["width"]}] for entry in described}
    return {name: entries for name, entries in alone.items() if name in known}


def write(model: Model, folder: pathlib.Path, exporter: str) -> float:
    """Exports a model into `folder/exporter`, with rows, their scores and a description. Returns what `export` does."""
    path = folder / exporter / f"{model.name}.onnx"
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        difference = export(model, path, EXPORTERS[exporter])
    except ExportError:
        path.unlink(missing_ok=True)
        raise
    inputs = model.inputs(64)
    scores, precision = model.exact_scores(inputs)
    np.savez(path.with_suffix(".npz"), **{name: value.numpy() for name, value in (inputs | scores).items()})
    description = {"name": model.name, "package": model.package, "exporter": exporter, "opset": OPSET,
                   "inputs": sides(model, graph_inputs(path)), "tasks": model.outputs, "precision": precision,
                   "smallest_batch": model.smallest}
    path.with_suffix(".json").write_text(json.dumps(description, indent=1) + "\n", encoding="utf-8")
    return difference


def write_all(models: Iterator[Model], folder: pathlib.Path) -> None:
    """Writes the models with both exporters, and prints the differences or what went wrong."""
    for model in models:
        for exporter in EXPORTERS:
            try:
                print(f"{model.name:28s} {exporter:12s} {write(model, folder, exporter):.1e}", flush=True)
            except ExportError as error:
                print(f"{model.name:28s} {exporter:12s} {error}", flush=True)


if __name__ == "__main__":
    write_all((build(name) for name in sys.argv[2:] or names()), pathlib.Path(sys.argv[1]))
