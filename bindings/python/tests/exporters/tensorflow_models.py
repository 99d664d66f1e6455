"""Ranking models of TensorFlow and Keras as ONNX, by tf2onnx.

    python tensorflow_models.py OUT [NAME...]

writes OUT/NAME.onnx, OUT/NAME.npz and OUT/NAME.json of each model (see examples.py). It runs in an environment of
its own: requirements-tensorflow.txt. The weights are random, but the same in every run.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ["CUDA_VISIBLE_DEVICES"] = "-1"

import keras
import numpy as np
import onnx
import tensorflow as tf
import tf2onnx
from examples import FEATURES, HISTORY, draw, write
from keras import layers

OPSET = 18
SEED = 20
EPSILON = 1e-8
MASKED = -(2.0**32) + 1
RANDOM = np.random.default_rng(SEED)

Tensors = dict[str, tf.Tensor]
Activation = Callable[[tf.Tensor], tf.Tensor]
Score = Callable[[Tensors], Tensors]
Build = Callable[[], keras.Model | Score]


@dataclass(frozen=True)
class Model:
    """`build` returns a functional Keras model, or a function of TensorFlow from features to tasks."""

    build: Build
    features: list[str]
    tasks: list[str]
    way: str
    id_type: str
    id_columns: bool


MODELS: dict[str, Model] = {}


def exported(
    features: str, tasks: str = "ctr", way: str = "keras", id_type: str = "int64", id_columns: bool = True
) -> Callable[[Build], Build]:
    """Register a model: the names of its inputs and outputs, and how it reaches tf2onnx.

    "keras" is tf2onnx.convert.from_keras, "function" is from_function, "saved_model" is the command line of tf2onnx
    (its default opset), and "export" is Keras' own export to ONNX.
    """

    def register(build: Build) -> Build:
        MODELS[build.__name__] = Model(build, features.split(), tasks.split(), way, id_type, id_columns)
        return build

    return register


def weight(*shape: int) -> tf.Variable:
    """Return random weights whose second last axis is the sum's."""
    depth = shape[-2] if len(shape) > 1 else 10
    return tf.Variable(RANDOM.normal(size=shape) * np.sqrt(2 / depth), dtype=tf.float32)


def table(name: str, width: int) -> tf.Variable:
    return tf.Variable(RANDOM.normal(size=(FEATURES[name].rows, width)) * 0.7, dtype=tf.float32)


def randomise(model: keras.Model) -> None:
    """Give every weight of `model` a value that takes part: biases, norms and their statistics too."""
    for variable in model.weights:
        shape = tuple(variable.shape)
        if variable.path.endswith(("gamma", "moving_variance")):
            values = RANDOM.uniform(0.5, 1.5, shape)
        elif variable.path.endswith("embeddings"):
            values = RANDOM.normal(size=shape) * 0.7
        elif variable.path.endswith("kernel"):
            values = RANDOM.normal(size=shape) * np.sqrt(2 / shape[0])
        else:
            values = RANDOM.normal(size=shape) * 0.2
        variable.assign(values)


def columns(name: str) -> dict[str, keras.KerasTensor]:
    """Return the Keras inputs of the model `name`."""
    model = MODELS[name]
    inputs = {}
    for key in model.features:
        feature = FEATURES[key]
        is_flat = not (feature.is_dense or feature.is_history or model.id_columns)
        data_type = "float32" if feature.is_dense else model.id_type
        inputs[key] = keras.Input(() if is_flat else (feature.width,), name=key, dtype=data_type)
    return inputs


def embedded(inputs: dict[str, keras.KerasTensor], names: str, width: int) -> list[keras.KerasTensor]:
    """Return the named features, [n, 1, width] each, from a table of each."""
    return [layers.Embedding(FEATURES[key].rows, width)(inputs[key]) for key in names.split()]


def tower(x: keras.KerasTensor, *widths: int, activation: str | Activation = "relu") -> keras.KerasTensor:
    for width in widths:
        x = layers.Dense(width, activation=activation)(x)
    return x


def gelu(x: tf.Tensor) -> tf.Tensor:
    """Return the exact GELU; that of Keras ends in Erfc, which tf2onnx does not know."""
    return 0.5 * x * (1.0 + keras.ops.erf(x / 2.0**0.5))


def approximate_gelu(x: tf.Tensor) -> tf.Tensor:
    return keras.ops.gelu(x, approximate=True)


def click_model(inputs: dict[str, keras.KerasTensor], hidden: keras.KerasTensor) -> keras.Model:
    return keras.Model(list(inputs.values()), layers.Dense(1, activation="sigmoid", name="ctr")(hidden))


class Dice(layers.Layer):
    """p x + (1 - p) alpha x, where p is the sigmoid of x normalised over the batch."""

    def build(self, shape: tuple[int | None, ...]) -> None:
        self.norm = layers.BatchNormalization(center=False, scale=False, epsilon=1e-9)
        self.norm.build(shape)
        self.alpha = self.add_weight(shape=(shape[-1],), name="alpha")

    def call(self, x: tf.Tensor, training: bool = False) -> tf.Tensor:
        probability = tf.sigmoid(self.norm(x, training=training))
        return self.alpha * (1.0 - probability) * x + probability * x


class FactorizationMachine(layers.Layer):
    """The sum of the products of all pairs of fields, [n, fields, width] -> [n, 1]."""

    def call(self, fields: tf.Tensor) -> tf.Tensor:
        square_of_sum = tf.square(tf.reduce_sum(fields, axis=1, keepdims=True))
        sum_of_squares = tf.reduce_sum(fields * fields, axis=1, keepdims=True)
        return 0.5 * tf.reduce_sum(square_of_sum - sum_of_squares, axis=2, keepdims=False)


class Cross(layers.Layer):
    """Cross layers with a weight vector each: x' = x0 (x . w) + b + x."""

    def __init__(self, depth: int) -> None:
        super().__init__()
        self.depth = depth

    def build(self, shape: tuple[int | None, ...]) -> None:
        self.kernels = [self.add_weight(shape=(shape[-1], 1), name="kernel") for _ in range(self.depth)]
        self.biases = [self.add_weight(shape=(shape[-1], 1), name="bias") for _ in range(self.depth)]

    def call(self, x: tf.Tensor) -> tf.Tensor:
        first = tf.expand_dims(x, axis=2)
        last = first
        for kernel, bias in zip(self.kernels, self.biases, strict=True):
            product = tf.tensordot(last, kernel, axes=(1, 0))
            last = tf.matmul(first, product) + bias + last
        return tf.squeeze(last, axis=2)


class FieldAttention(layers.Layer):
    """Multi-head self-attention over fields, the heads stacked before the batch: [heads, n, fields, width]."""

    def __init__(self, heads: int, width: int) -> None:
        super().__init__()
        self.heads = heads
        self.width = width

    def build(self, shape: tuple[int | None, ...]) -> None:
        size = (shape[-1], self.heads * self.width)
        names = ("query", "key", "value", "residual")
        self.kernels = [self.add_weight(shape=size, name=f"{name}_kernel") for name in names]

    def call(self, fields: tf.Tensor) -> tf.Tensor:
        query, key, value, residual = (tf.tensordot(fields, kernel, axes=(-1, 0)) for kernel in self.kernels)
        query, key, value = (tf.stack(tf.split(x, self.heads, axis=2)) for x in (query, key, value))
        scores = tf.matmul(query, key, transpose_b=True) / self.width**0.5
        heads = tf.matmul(tf.nn.softmax(scores), value)
        joined = tf.squeeze(tf.concat(tf.split(heads, self.heads), axis=-1), axis=0)
        return tf.nn.relu(joined + residual)


class CompressedInteraction(layers.Layer):
    """Products of all pairs of fields, compressed by convolutions of width 1; half of the maps go on."""

    def __init__(self, *sizes: int) -> None:
        super().__init__()
        self.sizes = sizes

    def build(self, shape: tuple[int | None, ...]) -> None:
        fields = [shape[1], *(size // 2 for size in self.sizes)]
        self.filters = [
            self.add_weight(shape=(1, shape[1] * count, size), name="filter")
            for count, size in zip(fields, self.sizes, strict=False)
        ]
        self.biases = [self.add_weight(shape=(size,), name="bias") for size in self.sizes]

    def call(self, fields: tf.Tensor) -> tf.Tensor:
        count, width = fields.shape[1:]
        first = tf.split(fields, width * [1], 2)
        last, maps = fields, []
        for size, kernel, bias in zip(self.sizes, self.filters, self.biases, strict=True):
            products = tf.matmul(first, tf.split(last, width * [1], 2), transpose_b=True)
            products = tf.reshape(products, [width, -1, count * last.shape[1]])
            products = tf.transpose(products, [1, 0, 2])
            out = tf.nn.relu(tf.nn.bias_add(tf.nn.conv1d(products, kernel, stride=1, padding="VALID"), bias))
            last, direct = tf.split(tf.transpose(out, [0, 2, 1]), 2 * [size // 2], 1)
            maps.append(direct)
        return tf.reduce_sum(tf.concat([*maps, last], axis=1), -1)


class Positions(layers.Layer):
    """Adds a vector per place to a sequence [n, length, width]."""

    def build(self, shape: tuple[int | None, ...]) -> None:
        self.rows = self.add_weight(shape=shape[1:], name="embeddings")

    def call(self, sequence: tf.Tensor) -> tf.Tensor:
        return sequence + tf.gather(self.rows, tf.range(tf.shape(sequence)[1]))


@exported("user_id city ad_id campaign price user_stats", id_type="int32")
def wide_deep() -> keras.Model:
    x = columns("wide_deep")
    sparse = "user_id city ad_id campaign"
    dense = layers.Concatenate()([x["price"], x["user_stats"]])
    wide = layers.Add()([layers.Flatten()(e) for e in embedded(x, sparse, 1)] + [layers.Dense(1)(dense)])
    deep = layers.Concatenate()([layers.Flatten()(e) for e in embedded(x, sparse, 8)] + [dense])
    for width in (32, 16):
        deep = layers.Dense(width, use_bias=False)(deep)
        deep = layers.Activation("relu")(layers.BatchNormalization()(deep))
        deep = layers.Dropout(0.3)(deep)
    logit = layers.Add()([wide, layers.Dense(1)(deep)])
    return keras.Model(list(x.values()), layers.Activation("sigmoid", name="ctr")(logit))


@exported("user_id gender ad_id category position match", way="export")
def deepfm() -> keras.Model:
    x = columns("deepfm")
    sparse = "user_id gender ad_id category position"
    linear = layers.Flatten()(layers.Add()(embedded(x, sparse, 1)))
    fields = layers.Concatenate(axis=1)(embedded(x, sparse, 6))
    deep = layers.Concatenate()([layers.Flatten()(fields), x["match"]])
    logit = layers.Add()([linear, FactorizationMachine()(fields), layers.Dense(1)(tower(deep, 24, 12))])
    return keras.Model(list(x.values()), layers.Activation("sigmoid", name="ctr")(logit))


@exported("user_id ad_id campaign user_stats match")
def dcn() -> keras.Model:
    x = columns("dcn")
    parts = [layers.Flatten()(e) for e in embedded(x, "user_id ad_id campaign", 5)]
    joined = layers.Concatenate()([*parts, x["user_stats"], x["match"]])
    both = layers.Concatenate()([Cross(3)(joined), tower(joined, 20, activation="elu")])
    return click_model(x, both)


@exported("user_id city ad_id category price", way="function", id_columns=False)
def dcn_mix() -> Score:
    """Low-rank cross layers, each a gated mixture of experts."""
    width, rank, experts, depth = 25, 6, 3, 2
    tables = {name: table(name, 6) for name in ("user_id", "city", "ad_id", "category")}
    inward, outward = weight(depth, experts, width, rank), weight(depth, experts, rank, width)
    middle, bias = weight(depth, experts, rank, rank), weight(depth, width)
    gates, last = weight(experts, width, 1), weight(width, 1)

    def score(x: Tensors) -> Tensors:
        parts = [tf.nn.embedding_lookup(rows, x[name]) for name, rows in tables.items()]
        first = tf.concat([*parts, tf.math.log(1.0 + tf.nn.relu(x["price"]))], axis=1)
        cross = first
        for level in range(depth):
            outputs, scores = [], []
            for expert in range(experts):
                scores.append(tf.matmul(cross, gates[expert]))
                hidden = tf.nn.tanh(tf.matmul(cross, inward[level, expert]))
                hidden = tf.nn.tanh(tf.matmul(hidden, middle[level, expert]))
                outputs.append(first * (tf.matmul(hidden, outward[level, expert]) + bias[level]))
            gate = tf.nn.softmax(tf.stack(scores, 1), axis=1)
            cross = tf.squeeze(tf.matmul(tf.stack(outputs, 2), gate), 2) + cross
        return {"ctr": tf.sigmoid(tf.squeeze(tf.matmul(cross, last), -1))}

    return score


@exported("user_id gender ad_id campaign user_stats", tasks="ctr cvr", way="function", id_columns=False)
def mmoe() -> Score:
    width, experts, hidden = 28, 4, 12
    tables = {name: table(name, 6) for name in ("user_id", "gender", "ad_id", "campaign")}
    kernels, biases = weight(width, experts, hidden), weight(experts, hidden)
    gates = {task: weight(width, experts) for task in ("ctr", "cvr")}
    towers = {task: (weight(hidden, 8), weight(8), weight(8, 1), weight(1)) for task in gates}

    def score(x: Tensors) -> Tensors:
        parts = [tf.gather(rows, x[name]) for name, rows in tables.items()]
        joined = tf.concat([*parts, x["user_stats"]], axis=-1)
        expert = tf.nn.relu(tf.einsum("ni,ieo->neo", joined, kernels) + biases)
        outputs = {}
        for task, (kernel, bias, last, last_bias) in towers.items():
            gate = tf.nn.softmax(tf.matmul(joined, gates[task]))
            mixed = tf.reduce_sum(tf.expand_dims(gate, -1) * expert, axis=1)
            hidden_layer = tf.nn.relu(tf.matmul(mixed, kernel) + bias)
            logit = tf.nn.bias_add(tf.matmul(hidden_layer, last), last_bias)
            outputs[task] = tf.reshape(tf.sigmoid(logit), [-1])
        return outputs

    return score


@exported("user_id city ad_id category match", tasks="ctr cvr")
def ple() -> keras.Model:
    x = columns("ple")
    parts = [layers.Flatten()(e) for e in embedded(x, "user_id city ad_id category", 6)]
    joined = layers.Concatenate()([*parts, x["match"]])
    states = {"ctr": joined, "cvr": joined, "shared": joined}
    for level in range(2):
        experts = {name: [tower(state, 16, 10) for _ in range(2)] for name, state in states.items()}
        following = {}
        for name, state in states.items():
            if name == "shared" and level == 1:
                continue
            chosen = sum(experts.values(), []) if name == "shared" else experts[name] + experts["shared"]
            gate = layers.Dense(len(chosen), use_bias=False, activation="softmax")(state)
            stacked = keras.ops.stack(chosen, axis=1)
            following[name] = keras.ops.sum(stacked * keras.ops.expand_dims(gate, -1), axis=1)
        states = following
    outputs = [layers.Dense(1, activation="sigmoid", name=task)(tower(states[task], 8)) for task in ("ctr", "cvr")]
    return keras.Model(list(x.values()), outputs)


@exported("user_id ad_id campaign price match", tasks="ctr ctcvr")
def esmm() -> keras.Model:
    x = columns("esmm")
    parts = [layers.Flatten()(e) for e in embedded(x, "user_id ad_id campaign", 7)]
    joined = layers.Concatenate()([*parts, x["price"], x["match"]])
    ctr = layers.Dense(1, activation="sigmoid", name="ctr")(tower(joined, 20, 10, activation=gelu))
    cvr = layers.Dense(1, activation="sigmoid")(tower(joined, 20, 10, activation=approximate_gelu))
    return keras.Model(list(x.values()), [ctr, layers.Multiply(name="ctcvr")([ctr, cvr])])


@exported("user_id ad_id category clicks click_categories price")
def din() -> keras.Model:
    """Attention over a padded history, masked where the id is 0, with Dice."""
    x = columns("din")
    width = 6
    ads = layers.Embedding(FEATURES["ad_id"].rows, width)
    categories = layers.Embedding(FEATURES["category"].rows, width)
    target = layers.Concatenate()([ads(x["ad_id"]), categories(x["category"])])
    history = layers.Concatenate()([ads(x["clicks"]), categories(x["click_categories"])])
    query = keras.ops.repeat(target, HISTORY, axis=1)
    pairs = layers.Concatenate()([query, history, query - history, query * history])
    scores = layers.Dense(1)(Dice()(layers.Dense(8)(Dice()(layers.Dense(16)(pairs)))))
    scores = layers.Permute((2, 1))(scores)
    is_click = keras.ops.expand_dims(keras.ops.not_equal(x["clicks"], 0), 1)
    scores = keras.ops.where(is_click, scores, MASKED)
    interest = keras.ops.matmul(keras.ops.softmax(scores), history)
    user = layers.Flatten()(layers.Embedding(FEATURES["user_id"].rows, width)(x["user_id"]))
    joined = layers.Concatenate()([layers.Flatten()(interest), layers.Flatten()(target), user, x["price"]])
    hidden = layers.PReLU()(layers.Dense(16)(layers.BatchNormalization()(joined)))
    return click_model(x, hidden)


@exported("user_id ad_id clicks match", way="saved_model", id_columns=False)
def din_saved_model() -> Score:
    """Attention whose mask is added to the scores and whose weights are zeroed once more after the softmax."""
    width = 8
    users, ads = table("user_id", width), table("ad_id", width)
    kernel, bias, last = weight(4 * width, 12), weight(12), weight(12, 1)
    slope = weight(12)
    deep, logit = weight(3 * width + 3, 16), weight(16, 1)

    def score(x: Tensors) -> Tensors:
        target = tf.nn.embedding_lookup(ads, x["ad_id"])
        history = tf.nn.embedding_lookup(ads, x["clicks"])
        query = tf.tile(tf.expand_dims(target, 1), [1, tf.shape(history)[1], 1])
        pairs = tf.concat([query, history, query - history, query * history], axis=-1)
        hidden = tf.tensordot(pairs, kernel, axes=1) + bias
        hidden = tf.nn.relu(hidden) - slope * tf.nn.relu(-hidden)
        scores = tf.squeeze(tf.tensordot(hidden, last, axes=1), -1)
        padding = tf.cast(tf.equal(x["clicks"], 0), tf.float32)
        attention = tf.nn.softmax(scores + padding * -1e9) * (1.0 - padding)
        interest = tf.reduce_sum(tf.expand_dims(attention, -1) * history, axis=1)
        user = tf.nn.embedding_lookup(users, x["user_id"])
        joined = tf.concat([interest, target, user, x["match"]], axis=1)
        return {"ctr": tf.squeeze(tf.sigmoid(tf.matmul(tf.nn.silu(tf.matmul(joined, deep)), logit)), 1)}

    return score


@exported("user_id ad_id clicks price")
def bst() -> keras.Model:
    """A transformer block over the history and the candidate, with positions."""
    x = columns("bst")
    width = 8
    ads = layers.Embedding(FEATURES["ad_id"].rows, width)
    ids = layers.Concatenate()([x["clicks"], x["ad_id"]])
    sequence = Positions()(ads(ids))
    is_seen = keras.ops.expand_dims(keras.ops.logical_not(keras.ops.equal(ids, 0)), 1)
    attended = layers.MultiHeadAttention(2, 4)(sequence, sequence, attention_mask=is_seen)
    sequence = layers.LayerNormalization(epsilon=1e-6)(sequence + layers.Dropout(0.1)(attended))
    forward = layers.Dense(width)(tower(sequence, 16, activation="leaky_relu"))
    sequence = layers.LayerNormalization(epsilon=1e-6)(sequence + forward)
    user = layers.Flatten()(layers.Embedding(FEATURES["user_id"].rows, width)(x["user_id"]))
    joined = layers.Concatenate()([layers.Flatten()(sequence), user, x["price"]])
    return click_model(x, tower(joined, 32, activation="selu"))


@exported("ad_id clicks click_count user_stats", way="function")
def pooling() -> Score:
    """Sum, mean, maximum and the two largest of a history whose length is an input."""
    width = 6
    ads = table("ad_id", width)
    kernel, last = weight(6 * width + 4, 16), weight(16, 1)

    def score(x: Tensors) -> Tensors:
        history = tf.gather(ads, x["clicks"])
        mask = tf.transpose(tf.sequence_mask(x["click_count"], HISTORY, dtype=tf.float32), [0, 2, 1])
        total = tf.reduce_sum(history * mask, axis=1)
        mean = total / (tf.cast(x["click_count"], tf.float32) + EPSILON)
        masked = history - (1.0 - mask) * 1e9
        largest = tf.nn.relu(tf.reduce_max(masked, axis=1))
        two = tf.math.top_k(tf.transpose(history * mask, [0, 2, 1]), k=2, sorted=True).values
        two = tf.reshape(two, [-1, 2 * width])
        target = tf.squeeze(tf.gather(ads, x["ad_id"]), axis=1)
        joined = tf.concat([total, mean, largest, two, target, x["user_stats"]], axis=-1)
        return {"ctr": tf.sigmoid(tf.matmul(tf.nn.softplus(tf.matmul(joined, kernel)), last))}

    return score


@exported("user_id city ad_id campaign category")
def autoint() -> keras.Model:
    x = columns("autoint")
    fields = layers.Concatenate(axis=1)(embedded(x, "user_id city ad_id campaign category", 6))
    for _ in range(2):
        fields = FieldAttention(2, 5)(fields)
    return click_model(x, layers.Flatten()(fields))


@exported("user_id gender ad_id campaign category price", way="function", id_columns=False)
def fibinet() -> Score:
    """Squeeze and excitation of the fields, and bilinear products of all pairs."""
    names, width = ("user_id", "gender", "ad_id", "campaign", "category"), 6
    pairs = [(i, j) for i in range(len(names)) for j in range(i + 1, len(names))]
    tables = {name: table(name, width) for name in names}
    squeeze, excite = weight(len(names), 3), weight(3, len(names))
    bilinear = [weight(width, width) for _ in names]
    kernel, last = weight(2 * len(pairs) * width + 1, 16), weight(16, 1)

    def interaction(fields: tf.Tensor) -> tf.Tensor:
        split = tf.unstack(fields, axis=1)
        return tf.concat([tf.matmul(split[i], bilinear[i]) * split[j] for i, j in pairs], axis=1)

    def score(x: Tensors) -> Tensors:
        fields = tf.stack([tf.gather(rows, x[name]) for name, rows in tables.items()], axis=1)
        weights = tf.nn.relu(tf.matmul(tf.nn.relu(tf.matmul(tf.reduce_mean(fields, axis=-1), squeeze)), excite))
        scaled = fields * tf.expand_dims(weights, axis=2)
        joined = tf.concat([interaction(fields), interaction(scaled), x["price"]], axis=1)
        return {"ctr": tf.sigmoid(tf.matmul(tf.nn.relu6(tf.matmul(joined, kernel)), last))[:, 0]}

    return score


@exported("user_id city ad_id category user_stats match", way="function", id_type="int32", id_columns=False)
def dlrm() -> Score:
    """Dot products of all pairs of embeddings and the bottom of the dense features."""
    names, width = ("user_id", "city", "ad_id", "category"), 8
    tables = {name: table(name, width) for name in names}
    bottom, bottom_bias = weight(7, width), weight(width)
    fields = len(names) + 1
    pairs = [i * fields + j for i in range(fields) for j in range(i)]
    top, last = weight(width + len(pairs), 16), weight(16, 1)

    def score(x: Tensors) -> Tensors:
        dense = tf.concat([x["user_stats"], x["match"]], axis=1)
        dense = tf.nn.relu(tf.nn.bias_add(tf.matmul(dense, bottom), bottom_bias))
        vectors = [dense] + [tf.nn.embedding_lookup(rows, x[name]) for name, rows in tables.items()]
        joined = tf.reshape(tf.concat(vectors, axis=1), [-1, fields, width])
        products = tf.matmul(joined, joined, transpose_b=True)
        chosen = tf.gather(tf.reshape(products, [-1, fields * fields]), pairs, axis=1)
        hidden = tf.nn.relu(tf.matmul(tf.concat([dense, chosen], axis=1), top))
        return {"ctr": tf.sigmoid(tf.squeeze(tf.matmul(hidden, last), axis=[1]))}

    return score


@exported("user_id city ad_id campaign match")
def xdeepfm() -> keras.Model:
    x = columns("xdeepfm")
    fields = layers.Concatenate(axis=1)(embedded(x, "user_id city ad_id campaign", 5))
    deep = tower(layers.Concatenate()([layers.Flatten()(fields), x["match"]]), 16)
    logit = layers.Add()([layers.Dense(1)(CompressedInteraction(8, 6)(fields)), layers.Dense(1)(deep)])
    return keras.Model(list(x.values()), layers.Activation("sigmoid", name="ctr")(logit))


@exported("user_id ad_id scenario position user_stats price", tasks="ctr cvr", way="function", id_columns=False)
def scenarios() -> Score:
    """Layers of a scenario, looked up by its id, times shared ones; and a gate by scenario and position."""
    width, hidden = 21, 10
    users, ads = table("user_id", 8), table("ad_id", 8)
    count, positions = FEATURES["scenario"].rows, FEATURES["position"].rows
    shared, shared_bias = weight(width, hidden), weight(hidden)
    own, own_bias = weight(count, width, hidden), weight(count, hidden)
    gate = weight(count + positions, hidden)
    last = {task: weight(hidden, 1) for task in ("ctr", "cvr")}

    def score(x: Tensors) -> Tensors:
        parts = [tf.gather(users, x["user_id"]), tf.gather(ads, x["ad_id"]), x["user_stats"], x["price"]]
        joined = tf.concat(parts, axis=1)
        kernel = tf.gather(own, x["scenario"]) * shared
        state = tf.matmul(tf.expand_dims(joined, 1), kernel)[:, 0, :]
        state = tf.nn.relu(state + tf.gather(own_bias, x["scenario"]) + shared_bias)
        chosen = tf.concat([tf.one_hot(x["scenario"], count), tf.one_hot(x["position"], positions)], axis=-1)
        state = state * (2.0 * tf.sigmoid(tf.matmul(chosen, gate)))
        return {task: tf.sigmoid(tf.matmul(state, kernel))[:, 0] for task, kernel in last.items()}

    return score


@exported("user_id gender user_stats ad_id category price", way="function", id_columns=False)
def two_towers() -> Score:
    """The cosine of a user's and an ad's vector; the mean and variance of each are normalised by moments."""
    width = 8
    tables = {name: table(name, width) for name in ("user_id", "gender", "ad_id", "category")}
    kernels = {"user": weight(2 * width + 4, 12), "ad": weight(2 * width + 1, 12)}
    scale, shift = weight(12), weight(12)

    def vector(kind: str, *parts: tf.Tensor) -> tf.Tensor:
        hidden = tf.nn.elu(tf.matmul(tf.concat(parts, axis=1), kernels[kind]))
        mean, variance = tf.nn.moments(hidden, axes=[-1], keepdims=True)
        normal = tf.nn.batch_normalization(hidden, mean, variance, shift, scale, 1e-6)
        return tf.math.l2_normalize(normal, axis=-1)

    def score(x: Tensors) -> Tensors:
        rows = {name: tf.nn.embedding_lookup(values, x[name]) for name, values in tables.items()}
        user = vector("user", rows["user_id"], rows["gender"], x["user_stats"])
        ad = vector("ad", rows["ad_id"], rows["category"], x["price"])
        return {"ctr": tf.sigmoid(tf.reduce_sum(user * ad, axis=-1) * 4.0 - 1.0)}

    return score


@exported("user_id ad_id clicks")
def gru() -> keras.Model:
    """A recurrent layer over the history, unrolled."""
    x = columns("gru")
    ads = layers.Embedding(FEATURES["ad_id"].rows, 6)
    state = layers.GRU(8, unroll=True)(ads(x["clicks"]))
    user = layers.Flatten()(layers.Embedding(FEATURES["user_id"].rows, 6)(x["user_id"]))
    joined = layers.Concatenate()([state, user, layers.Flatten()(ads(x["ad_id"]))])
    return click_model(x, tower(joined, 12, activation="tanh"))


def as_function(model: Model, score: Score) -> tf.Module:
    """Return a module whose `score` takes the features by position, with any number of rows."""
    signature = []
    for name in model.features:
        feature = FEATURES[name]
        is_flat = not (feature.is_dense or feature.is_history or model.id_columns)
        shape = [None] if is_flat else [None, feature.width]
        data_type = tf.float32 if feature.is_dense else tf.as_dtype(model.id_type)
        signature.append(tf.TensorSpec(shape, data_type, name=name))
    module = tf.Module()
    module.score = tf.function(
        lambda *values: score(dict(zip(model.features, values, strict=True))), input_signature=signature
    )
    return module


def variables_of(score: Score) -> list[tf.Variable]:
    """Return the variables that a function of TensorFlow closes over; a module must hold them to be saved."""
    return [cell.cell_contents for cell in score.__closure__ or () if isinstance(cell.cell_contents, tf.Variable)]


def export(name: str, folder: Path) -> None:
    """Write the three files of one model."""
    RANDOM.bit_generator.state = np.random.default_rng(SEED).bit_generator.state
    model = MODELS[name]
    path = folder / f"{name}.onnx"
    inputs = draw(model.features, SEED, model.id_type, model.id_columns)
    tensors = {key: tf.constant(value) for key, value in inputs.items()}
    built = model.build()
    if isinstance(built, keras.Model):
        randomise(built)
        outputs = built(list(tensors.values()), training=False)
        outputs = dict(zip(model.tasks, outputs if isinstance(outputs, list) else [outputs], strict=True))
        if model.way == "export":
            built.export(path, format="onnx", verbose=False, opset_version=OPSET)
        else:
            tf2onnx.convert.from_keras(built, opset=OPSET, output_path=str(path))
    else:
        module = as_function(model, built)
        outputs = module.score(*tensors.values())
        if model.way == "saved_model":
            module.variables_held = variables_of(built)
            convert_saved_model(module, path)
        else:
            tf2onnx.convert.from_function(
                module.score, input_signature=module.score.input_signature, opset=OPSET, output_path=str(path)
            )
    tasks = tasks_by_output(path, model.tasks)
    write(folder, name, inputs, {output: outputs[task].numpy() for output, task in tasks.items()}, tasks)


def tasks_by_output(path: Path, tasks: list[str]) -> dict[str, str]:
    """Return the task of each output of a valid ONNX file; Keras' own export keeps their order, not their names."""
    model = onnx.load(path)
    onnx.checker.check_model(model)
    names = [output.name for output in model.graph.output]
    return {name: name for name in names} if set(names) == set(tasks) else dict(zip(names, tasks, strict=True))


def convert_saved_model(module: tf.Module, path: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(module, folder, signatures=module.score)
        command = [sys.executable, "-m", "tf2onnx.convert", "--saved-model", folder, "--output", str(path)]
        subprocess.run(command, check=True, capture_output=True, text=True)


def main(folder: str, *names: str) -> None:
    Path(folder).mkdir(parents=True, exist_ok=True)
    for name in names or MODELS:
        export(name, Path(folder))
        print(name)


if __name__ == "__main__":
    main(*sys.argv[1:])
