"""What the rows of a source must bring for what is to be done with them: looked for up to the first that does."""

from __future__ import annotations

from rayflow.config import PromptSource, RunConfig
from rayflow.config.evaluate import EvaluateConfig
from rayflow.core.given_rows import Example
from rayflow.core.options import build
from rayflow.core.rows import Prompt
from rayflow.errors import ConfigError
from rayflow.losses.base import needs
from rayflow.sources.read import read


def check_brought(config: RunConfig) -> None:
    """Refuse data without what the run learns from, what its loss reads, or what it is compared with.

    Raises:
        ConfigError: no row has any.
    """
    _check_learned(config)
    loss, train = config.train.loss, config.prompts.train
    if needs(build("loss", loss)).targets and not _has_targets(train):
        raise ConfigError(
            f"Loss '{loss.kind}' reads targets, and no row of {train.path} has a 'target'. Add targets, or let the "
            "loss do without: of slic, y_ref: best or regularization: 0."
        )
    source, choose = config.prompts.validation, config.train.choose
    compared = choose is not None and choose.baseline == "target"
    if source is not None and compared and not _has_targets(source):
        raise ConfigError(
            f"train.choose compares checkpoints with the targets of {source.path}, and no row there has a 'target'. "
            "Add targets, or set train.choose.baseline: sft to compare with samples of the policy before training."
        )
    source = config.prompts.evaluation
    if source is not None and config.evaluate.baseline == "target" and not _has_targets(source):
        raise ConfigError(
            f"evaluate.baseline=target compares with the targets of {source.path}, and no row there has a 'target'. "
            "Add targets, or set evaluate.baseline: sft."
        )


def _has_targets(source: PromptSource) -> bool:
    """Whether any usable row brings a target; read up to the first one that does."""
    return any(row.target for row in read(source, Prompt) if isinstance(row, Prompt))


def _check_learned(config: RunConfig) -> None:
    """Refuse data without what its source is named for.

    Raises:
        ConfigError: no row has pairs, responses or a target to learn from.
    """
    path, loss = config.prompts.train.path, config.train.loss
    if config.source == "targets" and not _has_targets(config.prompts.train):
        raise ConfigError(
            f"source: targets learns from targets, and no row of {path} has a 'target'. Give prompts.train.path rows "
            "with targets, or set source: sampled or direct."
        )
    if config.source != "direct":
        return
    paired = build("loss", loss).unit == "pairs"
    rows = (row for row in read(config.prompts.train, Example) if isinstance(row, Example))
    if not any(row.pairs if paired else row.responses for row in rows):
        missing, keys = ("pair", "'chosen' and 'rejected'") if paired else ("response", "'responses'")
        raise ConfigError(
            f"source: direct with loss '{loss.kind}' learns from the data's own {missing}s, and no row of {path} "
            f"brings a {missing}. Give prompts.train.path rows with {keys}, or set source: sampled."
        )


def check_compared(config: EvaluateConfig) -> None:
    """Targets where a side of an evaluation answers with them.

    Raises:
        ConfigError: no row has one.
    """
    sides = [name for name in ("policy", "baseline") if getattr(config, name).target]
    if sides and not _has_targets(config.prompts):
        raise ConfigError(
            f"{sides[0]}: target answers with the targets of {config.prompts.path}, and no row there has a 'target'. "
            f"Add targets, or name another {sides[0]}, such as sft."
        )
