"""Names to classes: the one table of everything that a configuration can choose.

A new loss, selection, pairing, reward, engine or data layout is one file and one line here. A user's own class needs no
line at all: its `kind` is "their_package.module:Class".
"""

from __future__ import annotations

import difflib
import importlib
from typing import Any

from rayflow.errors import ConfigError, RayflowError

FAMILIES: dict[str, dict[str, str]] = {
    "engine": {
        "vllm": "rayflow.engines.vllm:VllmEngine",
        "transformers": "rayflow.engines.transformers:TransformersEngine",
        "fake": "rayflow.engines.fake:FakeEngine",
    },
    "reward": {
        "classifier": "rayflow.rewards.classifier:ClassifierReward",
        "ranker": "rayflow.rewards.ranker:RankerReward",
        "rule": "rayflow.rewards.rule:RuleReward",
        "http": "rayflow.rewards.http:HttpReward",
        "ensemble": "rayflow.rewards.ensemble:EnsembleReward",
    },
    "selection": {
        "rejection": "rayflow.selection.rejection:RejectionSampling",
        "gumbel": "rayflow.selection.gumbel:Gumbel",
        "top_k": "rayflow.selection.top_k:TopK",
        "first_k": "rayflow.selection.first_k:FirstK",
        "threshold": "rayflow.selection.threshold:Threshold",
        "knockout": "rayflow.selection.knockout:Knockout",
        "all": "rayflow.selection.all:All",
    },
    "pairing": {
        "first_round": "rayflow.pairing.first_round:FirstRound",
        "tournament": "rayflow.pairing.tournament:Tournament",
        "gap": "rayflow.pairing.gap:Gap",
        "best_worst": "rayflow.pairing.best_worst:BestWorst",
        "min_of_m": "rayflow.pairing.min_of_m:MinOfM",
        "all_pairs": "rayflow.pairing.all_pairs:AllPairs",
        "none": "rayflow.pairing.no_pairs:NoPairs",
    },
    "loss": {
        "sigmoid_norm": "rayflow.losses.sigmoid_norm:SigmoidNorm",
        "hinge_norm": "rayflow.losses.hinge_norm:HingeNorm",
        "hinge": "rayflow.losses.hinge:Hinge",
        "slic": "rayflow.losses.slic:Slic",
        "cross_entropy": "rayflow.losses.cross_entropy:CrossEntropy",
        "rrhf": "rayflow.losses.rrhf:Rrhf",
        "lipo_lambda": "rayflow.losses.lipo_lambda:LipoLambda",
        "margin_weighted": "rayflow.losses.margin_weighted:MarginWeighted",
        "r_dpo": "rayflow.losses.r_dpo:RDpo",
        "simpo": "rayflow.losses.simpo:SimPo",
        "bradley_terry": "rayflow.losses.bradley_terry:BradleyTerry",
    },
    "tracker": {
        "none": "rayflow.tracking.nowhere:Nowhere",
        "tensorboard": "rayflow.tracking.tensorboard:TensorBoard",
        "mlflow": "rayflow.tracking.mlflow:Mlflow",
    },
    "judge": {
        "engine": "rayflow.judges.engine:EngineJudge",
        "openai": "rayflow.judges.openai:OpenAiJudge",
    },
    # `auto` tries them in this order: the most particular first.
    "layout": {
        "hh": "rayflow.sources.hh:HelpfulHarmless",
        "tldr": "rayflow.sources.tldr:Tldr",
        "ultrafeedback": "rayflow.sources.ultrafeedback:UltraFeedback",
        "groups": "rayflow.sources.groups:Groups",
        "ranked": "rayflow.sources.ranked:Ranked",
        "trl": "rayflow.sources.trl:Trl",
        "prompts": "rayflow.sources.prompts:Prompts",
        "auto": "rayflow.sources.auto:Auto",
    },
}

ALSO_CALLED = {
    "loss": {"dpo": "sigmoid_norm", "sft": "cross_entropy", "odpo": "margin_weighted"},
    "selection": {"rso": "rejection", "best_of_n": "top_k", "raft": "top_k", "rest": "threshold"},
    "pairing": {"rs_dpo": "gap"},
}
"""What people may look for under another name than ours, for the error message."""


def resolve(family: str, kind: str) -> type[Any]:
    """The class that `kind` names in `family`.

    Args:
        family: a key of FAMILIES.
        kind: a name from its table, or "module:Class" for a plug-in.

    Raises:
        ConfigError: unknown name (the nearest one is offered), or a plug-in that cannot be used.
    """
    table = FAMILIES[family]
    if not isinstance(kind, str):
        raise ConfigError(f"{family} kind must be a name, not {kind!r}. Known: {', '.join(sorted(table))}.")
    target = table.get(kind, kind)
    if ":" not in target:
        meant = ALSO_CALLED.get(family, {}).get(kind.lower().replace("-", "_"))
        near = [meant] if meant else difflib.get_close_matches(kind, table, n=1)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        raise ConfigError(
            f"Unknown {family} kind '{kind}'.{hint} Known: {', '.join(sorted(table))}; "
            "or 'your_module:YourClass' for your own."
        )
    chosen = load_object(target, f"{family} kind")
    if not hasattr(getattr(chosen, "Config", None), "model_validate"):
        raise ConfigError(
            f"{family} kind '{target}' has no nested class Config(KindOptions), with KindOptions from "
            f"rayflow.core.options, so it is not a {family}."
        )
    return chosen


def is_plug_in(part: object) -> bool:
    """Whether a part's class is someone's own, which does not know our exceptions."""
    return not type(part).__module__.startswith("rayflow.")


def load_object(target: str, what: str) -> Any:
    """Import "module:name".

    Args:
        target: the import path, module and attribute separated by a colon.
        what: what the user was naming, for the error message.

    Raises:
        ConfigError: not of that form, the module cannot be imported or fails meanwhile, or has no such name.
        RayflowError: the module's own, unchanged.
    """
    module_name, _, name = target.partition(":")
    if not module_name or not name:
        raise ConfigError(f"{what} '{target}' must have the form 'module:name'.")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise ConfigError(
            f"{what} '{target}': cannot import '{module_name}' ({error}). "
            "Is its folder on PYTHONPATH, or its package installed?"
        ) from error
    except RayflowError:  # already says what to do, such as a package to install
        raise
    except Exception as error:  # the user's module may fail in any way while it is imported
        raise ConfigError(
            f"{what} '{target}': '{module_name}' fails on import with {type(error).__name__}: {error}"
        ) from error
    try:
        return getattr(module, name)
    except AttributeError:
        near = difflib.get_close_matches(name, dir(module), n=1)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        raise ConfigError(f"{what} '{target}': module '{module_name}' has no '{name}'.{hint}") from None
