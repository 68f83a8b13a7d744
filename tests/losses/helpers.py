"""Inputs for losses, every loss with every option that changes what it computes, and values with gradients."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from rayflow.core.registry import FAMILIES, resolve
from rayflow.losses.base import LossInputs

# Besides the defaults of every registered loss: options that switch something on.
VARIANTS = [
    ("slic", {"regularization": 0.1}),
    ("slic", {"regularization": 0.1, "y_ref": "best"}),
    ("cross_entropy", {"length_normalized": True}),
    ("lipo_lambda", {"labels": "reward"}),
    ("margin_weighted", {"margin": "log_offset"}),
    ("margin_weighted", {"margin": "weight"}),
]


def make(kind: str, **options):
    """A loss with some options set."""
    cls = resolve("loss", kind)
    return cls(cls.Config(kind=kind, **options))


every_loss = pytest.mark.parametrize(
    "loss",
    [
        pytest.param(make(kind, **options), id="-".join([kind, *map(str, options.values())]))
        for kind, options in [*((kind, {}) for kind in FAMILIES["loss"]), *VARIANTS]
    ],
)


def inputs(
    logprobs, ref_logprobs=None, pairs=((0, 1),), *, num_tokens=None, rewards=None, target=-1
) -> LossInputs:
    """One group. Lengths 8, 9, .. and falling rewards unless given; an unknown reference is NaN."""
    logprobs = torch.as_tensor(logprobs)
    m = len(logprobs)
    return LossInputs(
        logprobs=logprobs,
        ref_logprobs=torch.full((m,), torch.nan) if ref_logprobs is None else torch.as_tensor(ref_logprobs),
        num_tokens=torch.arange(8, 8 + m) if num_tokens is None else torch.tensor(num_tokens),
        rewards=torch.linspace(1, 0, m) if rewards is None else torch.tensor(rewards),
        groups=torch.zeros(m, dtype=torch.int64),
        pairs=torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2),
        targets=torch.tensor([target]),
    )


def random_inputs(seed: int, dtype: torch.dtype = torch.float64) -> LossInputs:
    """One to four groups of one to five responses, with at least one pair; some groups have a target."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 6, rng.integers(1, 5))
    sizes[0] = max(sizes[0], 2)
    starts = np.cumsum(sizes) - sizes
    m = int(sizes.sum())
    pairs = [
        start + rng.choice(size, 2, replace=False)
        for start, size in zip(starts, sizes, strict=True)
        for _ in range(rng.integers(1, 4) if size > 1 else 0)
    ]
    logprobs = rng.uniform(-30, -5, m)
    targets = np.where(rng.random(len(sizes)) < 0.7, starts + rng.integers(0, sizes), -1)
    return LossInputs(
        logprobs=torch.tensor(logprobs, dtype=dtype),
        ref_logprobs=torch.tensor(logprobs + rng.normal(0, 3, m), dtype=dtype),
        num_tokens=torch.tensor(rng.integers(1, 20, m)),
        rewards=torch.tensor(rng.normal(0, 1, m), dtype=dtype),
        groups=torch.tensor(np.repeat(np.arange(len(sizes)), sizes)),
        pairs=torch.tensor(np.array(pairs, dtype=np.int64)),
        targets=torch.tensor(targets),
    )


def value_and_gradient(loss, given: LossInputs) -> tuple[torch.Tensor, torch.Tensor]:
    """The items, and the gradient of their sum with respect to the log-probabilities."""
    logprobs = given.logprobs.clone().requires_grad_()
    items = loss(replace(given, logprobs=logprobs))
    items.sum().backward()
    return items.detach(), logprobs.grad
