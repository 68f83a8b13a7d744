"""What to write in place of an unknown key: a near name, or rayflow's word for what others call so."""

from __future__ import annotations

import difflib
from typing import Any

from pydantic import BaseModel

_ELSEWHERE = {
    "beta": "gamma",
    "simpo_gamma": "target_margin",
    "loss_type": "loss",
    "lr": "learning_rate",
    "lr_scheduler_type": "lr_scheduler",
    "optim": "optimizer",
    "num_train_epochs": "num_epochs",
    "max_steps": "num_epochs",
    "warmup_ratio": "warmup_fraction",
    "warmup_steps": "warmup_fraction",
    "per_device_train_batch_size": "batch_size",
    "gradient_accumulation_steps": "batch_size",
    "bf16": "precision",
    "fp16": "precision",
    "save_steps": "checkpoint_every_steps",
    "save_total_limit": "keep_checkpoints",
    "eval_steps": "choose",
    "max_length": "max_tokens",
    "max_completion_length": "max_tokens",
    "max_new_tokens": "max_tokens",
    "do_sample": "temperature",
    "n": "num_candidates",
    "num_generations": "num_candidates",
    "num_return_sequences": "num_candidates",
    "missing_eos_penalty": "members",
    "ref_model": "reference",
    "report_to": "track",
    "output_dir": "runs_dir",
}
"""What TRL, transformers and vLLM call some settings: rayflow's key of the same block. A block without this key takes
no hint from here."""
_SENTENCES = {
    "max_steps": "Training is as long as num_epochs says: there is no limit by steps.",
    "warmup_steps": "Did you mean 'warmup_fraction'? It is a share of all optimizer steps.",
    "per_device_train_batch_size": (
        "Did you mean 'batch_size'? It counts the prompts of an optimizer step, over all workers."
    ),
    "gradient_accumulation_steps": (
        "It follows from batch_size, the prompts of an optimizer step over all workers, and micro_batch_tokens, the "
        "tokens of one forward pass."
    ),
    "bf16": "Set precision: bfloat16.",
    "fp16": "Set precision: bfloat16 or float32; there is no float16.",
    "eval_steps": "Set choose: {every_steps: ..}, which compares with held-out targets or SFT samples.",
    "max_length": "Set sample.max_tokens, which counts the response alone: prompts are never cut, in training neither.",
    "do_sample": "Set temperature: 0 is greedy, any other samples.",
    "missing_eos_penalty": "Its members take it: write it beside the kind of one with a positive weight.",
    "ref_model": "Did you mean 'reference.model'?",
    "output_dir": "The run is kept in runs_dir/name.",
}
"""Said instead of the key alone, where it means something else than the name that was written."""
_LOSSES = ("beta", "gamma")
"""Written beside the loss, where TRL has it, rather than into it."""
_PLACES: tuple[tuple[str, ...], ...] = ((), ("train",), ("sample",), ("reference",))
"""Blocks in which a setting may be meant that was written into another one; the first is the top."""
_NEAR = 0.7
"""A slip of the fingers; less alike, a guess misleads: `stop` would be `top_p`."""


def unknown_key(name: str, known: list[str], job: type[BaseModel]) -> str:
    """The sentence after "unknown key.".

    Args:
        name: as it was written.
        known: the keys of its block.
        job: the whole configuration, for a setting that has its place in another block.
    """
    key, sentence = _ELSEWHERE.get(name, ""), _SENTENCES.get(name, "")
    if name in _LOSSES and "loss" in known:
        return "Did you mean 'loss.gamma'?"
    if key in known:
        return sentence or f"Did you mean '{key}'?"
    if near := difflib.get_close_matches(name, known, n=1, cutoff=_NEAR):
        return f"Did you mean '{near[0]}'?"
    for place in _PLACES:
        if here := {name, key} & {*fields_at(job, place)}:
            return sentence or f"Did you mean '{'.'.join((*place, *here))}'?"
    return f"Known: {', '.join(known)}."


def fields_at(model: type[BaseModel], loc: tuple[Any, ...]) -> list[str]:
    """The keys of the block that stands at a place of a configuration; none where no block does."""
    for name in (part for part in loc if not isinstance(part, int)):  # places in a list change nothing
        field = model.model_fields.get(str(name))
        candidates = [field.annotation] if field else []
        candidates += getattr(candidates[0], "__args__", ()) if candidates else ()
        inner = [c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)]
        if not inner:
            return []
        model = inner[0]
    return sorted(model.model_fields)
