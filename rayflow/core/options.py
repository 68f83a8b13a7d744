"""Base of every configurable part: a frozen pydantic model whose mistakes come back as sentences."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, SerializeAsAny

from rayflow.core.registry import FAMILIES, resolve
from rayflow.errors import ConfigError


class Options(BaseModel):
    """A frozen block of settings; an unknown key is an error, never ignored."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class KindOptions(Options):
    """Settings of a registry entry. `kind` names it: a table entry or "module:Class"."""

    kind: str


def _parse(family: str) -> Any:
    def parse(value: Any) -> Any:
        if isinstance(value, str):
            value = {"kind": value}
        if not isinstance(value, dict):
            return value
        if "kind" not in value:
            known = ", ".join(sorted(FAMILIES[family]))
            raise ValueError(f"needs a 'kind': one of {known}, or 'your_module:YourClass'")
        try:
            return resolve(family, value["kind"]).Config.model_validate(value)
        except ConfigError as error:
            raise ValueError(str(error)) from error

    return BeforeValidator(parse)


EngineOptions = Annotated[SerializeAsAny[KindOptions], _parse("engine")]
RewardOptions = Annotated[SerializeAsAny[KindOptions], _parse("reward")]
SelectionOptions = Annotated[SerializeAsAny[KindOptions], _parse("selection")]
PairingOptions = Annotated[SerializeAsAny[KindOptions], _parse("pairing")]
LossOptions = Annotated[SerializeAsAny[KindOptions], _parse("loss")]


def build(family: str, options: KindOptions) -> Any:
    """An instance of the class that `options.kind` names, constructed with its options."""
    return resolve(family, options.kind)(options)
