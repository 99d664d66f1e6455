"""Ranking models of Paddle as ONNX, by Paddle2ONNX.

    python paddle_models.py OUT [NAME...]

writes OUT/NAME.onnx, OUT/NAME.npz and OUT/NAME.json of each model (see examples.py). It runs in an environment of
its own: requirements-paddle.txt. The weights are random, but the same in every run.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import paddle
import paddle.nn.functional as F
from examples import FEATURES, HISTORY, draw, write
from paddle import Tensor, nn

OPSET = 17
SEED = 21


@dataclass(frozen=True)
class Model:
    """A network whose forward takes the features by name; the exported file keeps the order of its tasks."""

    network: type[nn.Layer]
    features: list[str]
    tasks: list[str]
    opset: int
    id_type: str
    id_columns: bool


MODELS: dict[str, Model] = {}


def exported(
    name: str, features: str, tasks: str = "ctr", opset: int = OPSET, id_type: str = "int64", id_columns: bool = False
) -> Callable[[type[nn.Layer]], type[nn.Layer]]:
    """Register a network under `name`."""

    def register(network: type[nn.Layer]) -> type[nn.Layer]:
        MODELS[name] = Model(network, features.split(), tasks.split(), opset, id_type, id_columns)
        return network

    return register


def tables(names: str, width: int) -> nn.LayerDict:
    return nn.LayerDict({name: nn.Embedding(FEATURES[name].rows, width) for name in names.split()})


def tower(*widths: int, activation: type[nn.Layer] = nn.ReLU) -> nn.Sequential:
    """Return linear layers from widths[0] to widths[-1], each with the activation behind it."""
    parts = []
    for depth, width in zip(widths, widths[1:]):
        parts += [nn.Linear(depth, width), activation()]
    return nn.Sequential(*parts)


def randomise(network: nn.Layer) -> None:
    """Give every weight a value that takes part: biases, norms and their statistics too."""
    rng = np.random.default_rng(SEED)
    norms = {
        id(weight)
        for layer in network.sublayers()
        if isinstance(layer, (nn.BatchNorm1D, nn.LayerNorm))
        for weight in (layer.weight, getattr(layer, "_variance", None))
    }
    tables_held = {id(layer.weight) for layer in network.sublayers() if isinstance(layer, nn.Embedding)}
    for value in network.state_dict().values():
        shape = tuple(value.shape)
        if id(value) in norms:
            values = rng.uniform(0.5, 1.5, shape)
        elif id(value) in tables_held:
            values = rng.normal(size=shape) * 0.7
        elif len(shape) > 1:
            values = rng.normal(size=shape) * np.sqrt(2 / shape[-2])
        else:
            values = rng.normal(size=shape) * 0.2
        value.set_value(values.astype("float32"))


@exported("wide_deep", "user_id city ad_id campaign price user_stats", opset=9, id_columns=True)
class WideDeep(nn.Layer):
    def __init__(self) -> None:
        super().__init__()
        names = "user_id city ad_id campaign"
        self.wide_tables, self.deep_tables = tables(names, 1), tables(names, 8)
        self.wide = nn.Linear(5, 1)
        self.deep = nn.Sequential(
            nn.Linear(37, 32), nn.BatchNorm1D(32), nn.ReLU(), nn.Dropout(0.3),
            nn.Linear(32, 16), nn.BatchNorm1D(16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 1),
        )

    def forward(self, user_id: Tensor, city: Tensor, ad_id: Tensor, campaign: Tensor, price: Tensor,
                user_stats: Tensor) -> Tensor:
        ids = {"user_id": user_id, "city": city, "ad_id": ad_id, "campaign": campaign}
        dense = paddle.concat([price, user_stats], axis=1)
        wide = paddle.add_n([self.wide_tables[name](x).reshape([-1, 1]) for name, x in ids.items()])
        fields = [self.deep_tables[name](x).reshape([-1, 8]) for name, x in ids.items()]
        deep = self.deep(paddle.concat([*fields, dense], axis=1))
        return F.sigmoid(wide + self.wide(dense) + deep)


@exported("deepfm", "user_id gender ad_id category match", id_columns=True)
class DeepFM(nn.Layer):
    def __init__(self) -> None:
        super().__init__()
        names = "user_id gender ad_id category"
        self.first, self.second = tables(names, 1), tables(names, 6)
        self.bias = self.create_parameter([1])
        self.deep = nn.Sequential(tower(27, 24, 12), nn.Linear(12, 1))

    def forward(self, user_id: Tensor, gender: Tensor, ad_id: Tensor, category: Tensor, match: Tensor) -> Tensor:
        ids = {"user_id": user_id, "gender": gender, "ad_id": ad_id, "category": category}
        linear = paddle.sum(paddle.concat([self.first[name](x) for name, x in ids.items()], axis=1), axis=1)
        fields = paddle.concat([self.second[name](x) for name, x in ids.items()], axis=1)
        square_of_sum = paddle.square(paddle.sum(fields, axis=1))
        sum_of_squares = paddle.sum(paddle.square(fields), axis=1)
        pairs = 0.5 * paddle.sum(square_of_sum - sum_of_squares, axis=1, keepdim=True)
        deep = self.deep(paddle.concat([paddle.flatten(fields, start_axis=1), match], axis=1))
        return F.sigmoid(linear + pairs + deep + self.bias)


@exported("dcn", "user_id ad_id campaign user_stats match")
class DCN(nn.Layer):
    """Cross layers with a matrix each, beside a tower."""

    def __init__(self) -> None:
        super().__init__()
        self.tables = tables("user_id ad_id campaign", 5)
        self.cross = nn.LayerList([nn.Linear(22, 22) for _ in range(3)])
        self.deep = tower(22, 20, 10, activation=nn.ELU)
        self.last = nn.Linear(32, 1)

    def forward(self, user_id: Tensor, ad_id: Tensor, campaign: Tensor, user_stats: Tensor, match: Tensor) -> Tensor:
        fields = [self.tables["user_id"](user_id), self.tables["ad_id"](ad_id), self.tables["campaign"](campaign)]
        first = paddle.concat([*fields, user_stats, match], axis=-1)
        cross = first
        for layer in self.cross:
            cross = first * layer(cross) + cross
        return F.sigmoid(self.last(paddle.concat([cross, self.deep(first)], axis=-1))).squeeze(-1)


@exported("mmoe", "user_id gender ad_id campaign user_stats", tasks="ctr cvr")
class MMoE(nn.Layer):
    def __init__(self) -> None:
        super().__init__()
        self.tables = tables("user_id gender ad_id campaign", 6)
        self.experts = nn.LayerList([tower(28, 16, 12) for _ in range(4)])
        self.gates = nn.LayerList([nn.Linear(28, 4) for _ in range(2)])
        self.towers = nn.LayerList([nn.Sequential(tower(12, 8), nn.Linear(8, 1)) for _ in range(2)])

    def forward(self, user_id: Tensor, gender: Tensor, ad_id: Tensor, campaign: Tensor,
                user_stats: Tensor) -> tuple[Tensor, ...]:
        ids = {"user_id": user_id, "gender": gender, "ad_id": ad_id, "campaign": campaign}
        joined = paddle.concat([*(self.tables[name](x) for name, x in ids.items()), user_stats], axis=-1)
        experts = paddle.stack([expert(joined) for expert in self.experts], axis=1)
        scores = []
        for gate, head in zip(self.gates, self.towers):
            weights = F.softmax(gate(joined), axis=-1).unsqueeze(-1)
            scores.append(F.sigmoid(head(paddle.sum(experts * weights, axis=1))))
        return tuple(scores)


class Extraction(nn.Layer):
    """Two experts of each task and two shared; each gate mixes its choice of them by a batched product."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.click, self.buy, self.shared = (nn.LayerList([tower(width, 10) for _ in range(2)]) for _ in range(3))
        self.click_gate, self.buy_gate, self.shared_gate = (nn.Linear(width, count) for count in (4, 4, 6))

    def forward(self, click: Tensor, buy: Tensor, shared: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        clicks, buys = [expert(click) for expert in self.click], [expert(buy) for expert in self.buy]
        both = [expert(shared) for expert in self.shared]
        return (
            self.mix(self.click_gate(click), clicks + both),
            self.mix(self.buy_gate(buy), buys + both),
            self.mix(self.shared_gate(shared), clicks + buys + both),
        )

    def mix(self, scores: Tensor, experts: list[Tensor]) -> Tensor:
        weights = F.softmax(scores, axis=1).unsqueeze(1)
        return paddle.bmm(weights, paddle.stack(experts, axis=1)).squeeze(1)


@exported("ple", "user_id city ad_id category match", tasks="ctr cvr", id_type="int32")
class PLE(nn.Layer):
    """Two levels; the shared gate of the last one reaches no output."""

    def __init__(self) -> None:
        super().__init__()
        self.tables = tables("user_id city ad_id category", 6)
        self.first, self.second = Extraction(27), Extraction(10)
        self.click, self.buy = nn.Linear(10, 1), nn.Linear(10, 1)

    def forward(self, user_id: Tensor, city: Tensor, ad_id: Tensor, category: Tensor,
                match: Tensor) -> tuple[Tensor, Tensor]:
        ids = {"user_id": user_id, "city": city, "ad_id": ad_id, "category": category}
        joined = paddle.concat([*(self.tables[name](x) for name, x in ids.items()), match], axis=-1)
        click, buy, _ = self.second(*self.first(joined, joined, joined))
        return F.sigmoid(self.click(click)).reshape([-1]), F.sigmoid(self.buy(buy)).reshape([-1])


@exported("esmm", "user_id ad_id campaign price match", tasks="ctr ctcvr")
class ESMM(nn.Layer):
    def __init__(self) -> None:
        super().__init__()
        self.tables = tables("user_id ad_id campaign", 7)
        self.click = nn.Sequential(tower(25, 20, 10, activation=nn.GELU), nn.Linear(10, 2))
        self.buy = nn.Sequential(tower(25, 20, 10, activation=nn.Swish), nn.Linear(10, 2))

    def forward(self, user_id: Tensor, ad_id: Tensor, campaign: Tensor, price: Tensor,
                match: Tensor) -> tuple[Tensor, Tensor]:
        fields = [self.tables["user_id"](user_id), self.tables["ad_id"](ad_id), self.tables["campaign"](campaign)]
        joined = paddle.concat([*fields, paddle.log(1.0 + F.relu(price)), match], axis=1)
        ctr = paddle.slice(F.softmax(self.click(joined), axis=-1), axes=[1], starts=[1], ends=[2])
        cvr = paddle.slice(F.softmax(self.buy(joined), axis=-1), axes=[1], starts=[1], ends=[2])
        return ctr, paddle.multiply(ctr, cvr)


class Dice(nn.Layer):
    """p x + (1 - p) alpha x, where p is the sigmoid of x normalised over the batch."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1D(width, weight_attr=False, bias_attr=False, epsilon=1e-8)
        self.alpha = self.create_parameter([width])

    def forward(self, x: Tensor) -> Tensor:
        probability = F.sigmoid(self.norm(x))
        return probability * x + (1.0 - probability) * self.alpha * x


@exported("din", "user_id ad_id category clicks click_categories price")
class DIN(nn.Layer):
    """Attention over a padded history, masked where the id is 0."""

    def __init__(self) -> None:
        super().__init__()
        self.tables = tables("user_id ad_id category", 6)
        self.attention = nn.Sequential(nn.Linear(48, 16), nn.Sigmoid(), nn.Linear(16, 8), nn.Sigmoid(), nn.Linear(8, 1))
        self.deep = nn.Sequential(nn.Linear(31, 16), Dice(16), nn.Linear(16, 8), nn.PReLU(8), nn.Linear(8, 1))

    def forward(self, user_id: Tensor, ad_id: Tensor, category: Tensor, clicks: Tensor, click_categories: Tensor,
                price: Tensor) -> Tensor:
        target = paddle.concat([self.tables["ad_id"](ad_id), self.tables["category"](category)], axis=-1)
        history = paddle.concat([self.tables["ad_id"](clicks), self.tables["category"](click_categories)], axis=-1)
        query = paddle.expand(target.unsqueeze(1), [-1, HISTORY, -1])
        pairs = paddle.concat([query, history, query - history, query * history], axis=-1)
        scores = paddle.transpose(self.attention(pairs), [0, 2, 1])
        is_click = paddle.not_equal(clicks, paddle.zeros_like(clicks)).unsqueeze(1)
        scores = paddle.where(is_click, scores, paddle.full_like(scores, -4294967295.0))
        interest = paddle.matmul(F.softmax(scores / 12**0.5), history).squeeze(1)
        joined = paddle.concat([interest, target, self.tables["user_id"](user_id), price], axis=-1)
        return F.sigmoid(self.deep(joined))


@exported("bst", "user_id ad_id clicks price")
class BST(nn.Layer):
    """A transformer block over the history and the candidate, with positions."""

    def __init__(self) -> None:
        super().__init__()
        self.tables = tables("user_id ad_id", 8)
        self.positions = nn.Embedding(HISTORY + 1, 8)
        self.block = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.1, activation="gelu")
        self.deep = nn.Sequential(nn.Linear(97, 32), nn.LeakyReLU(), nn.Linear(32, 1))

    def forward(self, user_id: Tensor, ad_id: Tensor, clicks: Tensor, price: Tensor) -> Tensor:
        ids = paddle.concat([clicks, ad_id.unsqueeze(1)], axis=1)
        sequence = self.tables["ad_id"](ids) + self.positions(paddle.arange(HISTORY + 1))
        mask = paddle.cast(paddle.equal(ids, 0), "float32").unsqueeze([1, 2]) * -1e9
        sequence = self.block(sequence, mask).flatten(1)
        joined = paddle.concat([sequence, self.tables["user_id"](user_id), price], axis=-1)
        return F.sigmoid(self.deep(joined)).squeeze(-1)


@exported("autoint", "user_id city ad_id campaign category", id_columns=True)
class AutoInt(nn.Layer):
    """Multi-head self-attention over the fields, by Paddle's layer and with a residual."""

    def __init__(self) -> None:
        super().__init__()
        self.tables = tables("user_id city ad_id campaign category", 8)
        self.attention = nn.LayerList([nn.MultiHeadAttention(8, 2) for _ in range(2)])
        self.last = nn.Linear(40, 1)

    def forward(self, user_id: Tensor, city: Tensor, ad_id: Tensor, campaign: Tensor, category: Tensor) -> Tensor:
        ids = {"user_id": user_id, "city": city, "ad_id": ad_id, "campaign": campaign, "category": category}
        fields = paddle.concat([self.tables[name](x) for name, x in ids.items()], axis=1)
        for layer in self.attention:
            fields = F.relu(layer(fields, fields, fields) + fields)
        return F.sigmoid(self.last(paddle.reshape(fields, [-1, 40])))


@exported("dlrm", "user_id city ad_id category user_stats match")
class DLRM(nn.Layer):
    """Dot products of all pairs of embeddings and the bottom of the dense features."""

    def __init__(self) -> None:
        super().__init__()
        self.tables = tables("user_id city ad_id category", 8)
        self.bottom, self.top = tower(7, 8), nn.Sequential(tower(18, 16), nn.Linear(16, 1))

    def forward(self, user_id: Tensor, city: Tensor, ad_id: Tensor, category: Tensor, user_stats: Tensor,
                match: Tensor) -> Tensor:
        ids = {"user_id": user_id, "city": city, "ad_id": ad_id, "category": category}
        dense = self.bottom(paddle.concat([user_stats, match], axis=1))
        vectors = paddle.stack([dense, *(self.tables[name](x) for name, x in ids.items())], axis=1)
        products = paddle.matmul(vectors, vectors, transpose_y=True).reshape([-1, 25])
        chosen = paddle.index_select(products, paddle.to_tensor([i * 5 + j for i in range(5) for j in range(i)]), 1)
        return F.sigmoid(self.top(paddle.concat([dense, chosen], axis=1)))


@exported("pooling", "ad_id clicks click_count user_stats", id_columns=True)
class Pooling(nn.Layer):
    """Mean, maximum and the two largest of a history whose length is an input."""

    def __init__(self) -> None:
        super().__init__()
        self.tables = tables("ad_id", 6)
        self.norm = nn.LayerNorm(34)
        self.deep = nn.Sequential(tower(34, 16, activation=nn.Softplus), nn.Linear(16, 1))

    def forward(self, ad_id: Tensor, clicks: Tensor, click_count: Tensor, user_stats: Tensor) -> Tensor:
        history = self.tables["ad_id"](clicks)
        mask = paddle.cast(paddle.arange(HISTORY) < click_count, "float32").unsqueeze(-1)
        mean = paddle.sum(history * mask, axis=1) / paddle.clip(paddle.cast(click_count, "float32"), min=1.0)
        largest = F.relu(paddle.max(history - (1.0 - mask) * 1e9, axis=1))
        two = paddle.topk((history * mask).transpose([0, 2, 1]), k=2, axis=-1)[0].flatten(1)
        joined = paddle.concat([mean, largest, two, self.tables["ad_id"](ad_id).squeeze(1), user_stats], axis=-1)
        return F.sigmoid(self.deep(self.norm(joined))).squeeze(-1)


@exported("scenarios", "user_id ad_id scenario position user_stats price", tasks="ctr cvr")
class Scenarios(nn.Layer):
    """Layers of a scenario, looked up by its id, times shared ones; and a gate by scenario and position."""

    def __init__(self) -> None:
        super().__init__()
        self.tables = tables("user_id ad_id", 8)
        scenarios, positions = FEATURES["scenario"].rows, FEATURES["position"].rows
        self.own, self.shared = self.create_parameter([scenarios, 21, 10]), self.create_parameter([21, 10])
        self.gate = nn.Linear(scenarios + positions, 10)
        self.last = nn.Linear(10, 2)

    def forward(self, user_id: Tensor, ad_id: Tensor, scenario: Tensor, position: Tensor, user_stats: Tensor,
                price: Tensor) -> tuple[Tensor, Tensor]:
        fields = [self.tables["user_id"](user_id), self.tables["ad_id"](ad_id)]
        joined = paddle.concat([*fields, user_stats, price], axis=-1)
        kernel = paddle.gather(self.own, scenario, axis=0) * self.shared
        state = F.relu6(paddle.bmm(joined.unsqueeze(1), kernel).squeeze(1))
        chosen = [F.one_hot(scenario, FEATURES["scenario"].rows), F.one_hot(position, FEATURES["position"].rows)]
        state = state * (2.0 * F.sigmoid(self.gate(paddle.concat(chosen, axis=-1))))
        ctr, cvr = paddle.split(F.sigmoid(self.last(state)), 2, axis=1)
        return ctr, cvr


@exported("two_towers", "user_id gender user_stats ad_id category price")
class TwoTowers(nn.Layer):
    """The cosine of a user's and an ad's vector."""

    def __init__(self) -> None:
        super().__init__()
        self.tables = tables("user_id gender ad_id category", 8)
        self.user, self.ad = tower(20, 16, 12, activation=nn.Tanh), tower(17, 16, 12, activation=nn.Hardswish)

    def forward(self, user_id: Tensor, gender: Tensor, user_stats: Tensor, ad_id: Tensor, category: Tensor,
                price: Tensor) -> Tensor:
        user = paddle.concat([self.tables["user_id"](user_id), self.tables["gender"](gender), user_stats], axis=-1)
        ad = paddle.concat([self.tables["ad_id"](ad_id), self.tables["category"](category), price], axis=-1)
        cosine = F.cosine_similarity(F.normalize(self.user(user)), self.ad(ad), axis=1)
        return F.sigmoid(cosine * 4.0 - 1.0)


def export(name: str, folder: Path) -> None:
    """Write the three files of one model."""
    model = MODELS[name]
    inputs = draw(model.features, SEED, model.id_type, model.id_columns)
    network = model.network()
    randomise(network)
    network.eval()
    signature = [paddle.static.InputSpec([None, *x.shape[1:]], str(x.dtype), key) for key, x in inputs.items()]
    with paddle.no_grad():
        outputs = network(*(paddle.to_tensor(x) for x in inputs.values()))
    path = folder / f"{name}.onnx"
    path.unlink(missing_ok=True)  # a failed export is only logged
    paddle.onnx.export(network, str(folder / name), input_spec=signature, opset_version=model.opset)
    exported_model = onnx.load(path)
    onnx.checker.check_model(exported_model)
    names = [output.name for output in exported_model.graph.output]
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    results = {key: value.numpy() for key, value in zip(names, outputs, strict=True)}
    write(folder, name, inputs, results, dict(zip(names, model.tasks, strict=True)))


def main(folder: str, *names: str) -> None:
    Path(folder).mkdir(parents=True, exist_ok=True)
    for name in names or MODELS:
        export(name, Path(folder))
        print(name)


if __name__ == "__main__":
    main(*sys.argv[1:])
