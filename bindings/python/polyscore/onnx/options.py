"""The options of a conversion. The file keeps them, so that the next day's network is converted with the same."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

from .tensor import OnnxError


@dataclasses.dataclass(frozen=True)
class Options:
    """What `convert` documents, but for the golden requests."""

    request: Sequence[str] = ()
    candidate: Sequence[str] = ()
    item: Sequence[str] = ()
    tasks: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    scenario: str | None = None
    scenarios: Sequence[Any] | None = None
    columns: Mapping[str, Sequence[Any]] = dataclasses.field(default_factory=dict)
    lengths: Mapping[str, int] = dataclasses.field(default_factory=dict)
    features: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    dtype: str | None = None
    tolerance: float = 1e-5

    def __post_init__(self) -> None:
        for name in ("request", "candidate", "item"):
            if isinstance(getattr(self, name), str):
                raise OnnxError(f"{name}: is a text; give a list of names")
        if self.dtype not in (None, "f32", "f16", "bf16"):
            raise OnnxError(f"dtype: `{self.dtype}` is not f32, f16 or bf16")
        if self.scenarios is not None and self.scenario is None:
            raise OnnxError("scenarios: are given without the input that they are numbers of; give `scenario`")

    def text(self) -> str:
        """JSON of what is not as by default."""
        default = Options()
        given = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        given = {name: value for name, value in given.items() if value != getattr(default, name)}
        return json.dumps(given, ensure_ascii=False, default=plain)

    @classmethod
    def of_text(cls, text: str) -> Options:
        return cls(**json.loads(text))


def plain(value: Any) -> Any:
    """What JSON has no type for, as one that it has."""
    if hasattr(value, "tolist"):
        return value.tolist()
    return dict(value) if isinstance(value, Mapping) else list(value)
