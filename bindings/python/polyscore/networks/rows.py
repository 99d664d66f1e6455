"""Whether a network scores each row by itself: the engine does, so what mixes rows is refused, with the module that does it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from .. import features
from ..export import ExportError

if TYPE_CHECKING:
    from .base import Network

# What an f32 sum may differ by when a batch of another size is added in another order.
TOLERANCE = 1e-4

WHY = "the score of a row would depend on its neighbours"


def check(network: Network, requests: Sequence[Mapping[str, Any]]) -> None:
    """Raises ExportError for a network in which a row of a batch changes what another one gets.

    Norms without running statistics are found in the modules; everything else by scoring `requests` as a batch, and again
    a candidate at a time: the first module whose output for a row differs is named.
    """
    for name, module in network.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is None:
            detail = "takes the moments of the batch that is scored: train it with track_running_stats"
            raise ExportError(f"{name}: a {type(module).__name__} without running statistics {detail}, else {WHY}")
    was_training = network.training
    network.eval()
    try:
        for request in requests:
            compare(network, request)
    finally:
        network.train(was_training)


def compare(network: Network, request: Mapping[str, Any]) -> None:
    """Scores the candidates of a request together and alone."""
    from . import inputs

    candidates = request.get("candidates", {})
    count = len(next(iter(candidates.values()), []))
    row = features.scenario_row(network.description, request.get("scenario"))

    def trace(columns: Mapping[str, Sequence[Any]], rows: int) -> list[tuple[str, Any, Tensor]]:
        values = inputs(network, request.get("request", {}), columns, rows)
        return outputs(network, lambda: network(values, torch.full((rows,), row, dtype=torch.int64)))

    together = trace(candidates, count)
    for i in range(count if count > 1 else 0):
        alone = trace({name: column[i : i + 1] for name, column in candidates.items()}, 1)
        for (name, module, batch), (_, _, single) in zip(together, alone, strict=True):
            is_per_row = batch.dim() > 0 and batch.shape[0] == count and single.shape[0] == 1
            if not is_per_row or batch.shape[1:] != single.shape[1:]:
                continue
            difference = float((batch[i] - single[0]).abs().max())
            if not difference <= TOLERANCE * max(1.0, float(single.abs().max())):
                detail = f"gives another output for candidate {i} alone than among {count} (by {difference:.1e})"
                raise ExportError(f"{name or 'network'}: {type(module).__name__} {detail}: {WHY}")


@torch.no_grad()
def outputs(network: nn.Module, call: Any) -> list[tuple[str, Any, Tensor]]:
    """What every module gave in a call, in order of completion: name, module, output."""
    seen: list[tuple[str, Any, Tensor]] = []

    def keep(name: str) -> Any:
        def hook(module: nn.Module, _: Any, output: Any) -> None:
            if isinstance(output, Tensor):
                seen.append((name, module, output))

        return hook

    hooks = [module.register_forward_hook(keep(name)) for name, module in network.named_modules()]
    try:
        scores = call()
    finally:
        for hook in hooks:
            hook.remove()
    return seen + [(f"task {task}", network, probability) for task, probability in scores.items()]
