"""Base of every configurable part: a frozen pydantic model whose mistakes come back as sentences."""

from __future__ import annotations

import inspect
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, SerializeAsAny, ValidationError

from rayflow.core.registry import FAMILIES, resolve
from rayflow.errors import ConfigError


class Options(BaseModel):
    """A frozen block of settings; an unknown key is an error, never ignored, and so is a number that is not finite."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=(), allow_inf_nan=False)

    HARDWARE: ClassVar[frozenset[str]] = frozenset()
    """Fields that say where or how fast, not what: left out of a stage's fingerprint."""

    def identity(self) -> dict[str, Any]:
        """The settings that decide the result, as plain JSON values."""
        return self.model_dump(mode="json", exclude=set(self.HARDWARE))


class KindOptions(Options):
    """Settings of a registry entry. `kind` names it: a table entry or "module:Class"."""

    kind: str


class InvalidChoiceError(ValueError):
    """The settings of a chosen kind do not fit; keeps their own error, for a message with full key names."""

    def __init__(self, error: ValidationError, model: type[BaseModel]) -> None:
        super().__init__(str(error))
        self.error = error
        self.model = model


DEFAULT_KINDS = {
    "engine": "vllm",
    "selection": "rejection",
    "pairing": "first_round",
    "loss": "sigmoid_norm",
    "layout": "auto",
    "tracker": "none",
}
"""The RSO paper's choices, where the configuration names none; of layouts, the one that the data's keys tell.
A reward or a judge must be named."""


def _parse(family: str) -> Any:
    def parse(value: Any) -> Any:
        if isinstance(value, str):
            value = {"kind": value}
        if not isinstance(value, dict):
            return value
        if "kind" not in value and family in DEFAULT_KINDS:
            value = {"kind": DEFAULT_KINDS[family], **value}
        if "kind" not in value:
            known = ", ".join(sorted(FAMILIES[family]))
            raise ValueError(f"needs a 'kind': one of {known}, or 'your_module:YourClass'")
        try:
            config = resolve(family, value["kind"]).Config
        except ConfigError as error:
            raise ValueError(str(error)) from error
        try:
            return config.model_validate(value)
        except ValidationError as error:
            raise InvalidChoiceError(error, config) from error

    return BeforeValidator(parse)


EngineOptions = Annotated[SerializeAsAny[KindOptions], _parse("engine")]
RewardOptions = Annotated[SerializeAsAny[KindOptions] | None, _parse("reward")]
MemberOptions = Annotated[SerializeAsAny[KindOptions], _parse("reward")]
"""A reward inside another one: it must be named."""
SelectionOptions = Annotated[SerializeAsAny[KindOptions] | None, _parse("selection")]
PairingOptions = Annotated[SerializeAsAny[KindOptions] | None, _parse("pairing")]
LossOptions = Annotated[SerializeAsAny[KindOptions], _parse("loss")]
TrackerOptions = Annotated[SerializeAsAny[KindOptions], _parse("tracker")]
JudgeOptions = Annotated[SerializeAsAny[KindOptions], _parse("judge")]
LayoutOptions = Annotated[SerializeAsAny[KindOptions], _parse("layout")]


def build(family: str, options: KindOptions) -> Any:
    """An instance of the class that `options.kind` names, constructed with its options."""
    chosen = resolve(family, options.kind)
    if not takes_options(chosen):
        raise ConfigError(
            f"{family} kind '{options.kind}' needs an __init__(self, options), which takes its Config."
        )
    return chosen(options)


def takes_options(chosen: Any) -> bool:
    """Whether a class can be made from its options."""
    try:
        inspect.signature(chosen).bind(None)
    except (TypeError, ValueError) as error:
        return not isinstance(error, TypeError)
    return True
