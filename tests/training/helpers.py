"""Random training groups and a small job, shared by the training tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from rayflow.training.groups import TrainingGroup, write_groups
from rayflow.training.loop import TrainJob
from rayflow.training.options import TrainOptions
from rayflow.training.reference import ReferenceScorer


def tiny_config(family: str, **more):
    """The configuration of a two-layer model of a family, peaked enough that tokens differ."""
    from transformers import AutoConfig

    extra = {} if family == "gpt_neox" else {"num_key_value_heads": 2}
    if family in ("gemma", "gemma2", "qwen3", "smollm3", "mistral"):
        extra["head_dim"] = 16  # a setting of its own there, not hidden_size / num_attention_heads
    return AutoConfig.for_model(
        family,
        vocab_size=128,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=64,
        initializer_range=0.2,
        **{"pad_token_id": 0, "bos_token_id": None, "eos_token_id": None} | extra | more,
    )


def gradients(model, values):
    """Gradients of all weights, of a weighted sum of the values in which each counts differently."""
    import torch

    model.zero_grad()
    (values * torch.linspace(-1, 1, len(values))).sum().backward()
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def random_branches(num_groups: int, k: int = 4, vocabulary: int = 300, seed: int = 0):
    """Prompts of 4-19 tokens, each with k responses of 1-11."""
    rng = np.random.default_rng(seed)

    def tokens(low, high):
        return rng.integers(3, vocabulary, int(rng.integers(low, high))).astype(np.int32)

    return [(tokens(4, 20), [tokens(1, 12) for _ in range(k)]) for _ in range(num_groups)]


def write_random_groups(path: Path, model: str, num_groups: int = 21) -> Path:
    """Groups of four responses with two pairs each; the reference is `model` itself, in float32."""
    return write_groups_of(path, model, random_branches(num_groups))


def write_groups_of(path: Path, model: str, branches) -> Path:
    """The same of given prompts with four responses each."""
    scorer = ReferenceScorer(model, "float32")
    scorer.setup()
    groups = [
        TrainingGroup(
            prompt_id=f"p{i}",
            prompt_token_ids=prompt,
            response_token_ids=tuple(responses),
            rewards=np.arange(4.0),
            ref_logprobs=reference,
            pairs=np.array([[1, 0], [3, 2]], dtype=np.int32),
        )
        for i, ((prompt, responses), reference) in enumerate(
            zip(branches, scorer.score(branches), strict=True)
        )
    ]
    write_groups(path, groups)
    return path


def reproducible(lines):
    """Metrics without those that depend on the clock and on the machine."""
    return [{k: v for k, v in line.items() if not k.startswith(("tokens_per", "memory/"))} for line in lines]


def small_job(model: str, groups: Path, output_dir: Path, **options) -> TrainJob:
    """Six optimizer steps of several micro-batches each, with a checkpoint after the second and the fourth."""
    settings = {
        "precision": "float32",
        "batch_size": 8,
        "learning_rate": 1e-3,
        "num_epochs": 2,
        "micro_batch_tokens": 120,
        "checkpoint_every_steps": 2,
        "max_grad_norm": 0.5,
    }
    return TrainJob(TrainOptions(**(settings | options)), model, groups, output_dir, seed=0)
