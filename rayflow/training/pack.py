"""From groups to tensors: the prompt once, its responses as branches of one sequence.

Shared layout, one row per group, P + R_1 + ... + R_k tokens instead of k P + R_1 + ... + R_k:

    tokens     [ prompt | response 1 | response 2 | ... ]
    positions    0..P-1   P..P+R_1-1   P..P+R_2-1         each response continues the prompt
    attention    a response token sees the prompt and its own branch up to itself, no other branch

It computes the same numbers as one sequence per response (prefix sharing, arXiv:2410.20305). The unshared
layout, one row per response, is for models whose attention is not known to follow an explicit mask.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from rayflow.training.masks import block_mask, branch_mask

if TYPE_CHECKING:
    import torch

Branches = tuple[np.ndarray, Sequence[np.ndarray]]
"""A prompt [P] int32 and its k responses, each [R_i] int32."""


@dataclass(frozen=True)
class Batch:
    """One forward pass over b rows of at most t tokens with m responses that hold n tokens together.

    Attributes:
        input_ids: [b, t] int64.
        position_ids: [b, t] int64.
        branches: [b, t] int64, what each position belongs to: 0 is the prompt, j the row's response j, -1 padding.
        predictors: [n] int64, the position, in the flattened b * t, that predicts each response token. A
            response's first token is predicted by the LAST PROMPT token, the others by their predecessor.
        targets: [n] int64, the response tokens.
        owners: [n] int64, the response, 0..m-1, of each target.
        num_tokens: [m] int64, tokens of each response.
        ends: [m] int64, the position, in the flattened b * t, of each response's last token; of an empty
            response, the last prompt token.
    """

    input_ids: torch.Tensor
    position_ids: torch.Tensor
    branches: torch.Tensor
    predictors: torch.Tensor
    targets: torch.Tensor
    owners: torch.Tensor
    num_tokens: torch.Tensor
    ends: torch.Tensor
    shared: bool

    @property
    def attention_mask(self) -> torch.Tensor:
        """[b, 1, t, t] bool, query before key (shared), or [b, t] int64 (unshared)."""
        return branch_mask(self.branches) if self.shared else (self.branches >= 0).long()

    def inputs(self, model: Any) -> dict[str, Any]:
        """What a transformers model is called with: a dense mask, or blocks of it for FlexAttention."""
        in_blocks = self.shared and model.config._attn_implementation == "flex_attention"
        return {
            "input_ids": self.input_ids,
            "attention_mask": block_mask(self.branches) if in_blocks else self.attention_mask,
            "position_ids": self.position_ids,
            "use_cache": False,
        }

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on another device."""
        tensors = {name: value.to(device) for name, value in vars(self).items() if name != "shared"}
        return Batch(**tensors, shared=self.shared)


@dataclass(frozen=True)
class _Row:
    """One sequence before padding; every field is [len] but the last four: three of [scored tokens], and `ends`."""

    tokens: np.ndarray
    positions: np.ndarray
    branches: np.ndarray  # 0 = prompt, j = response j of this row
    predictors: np.ndarray
    targets: np.ndarray
    owners: np.ndarray  # response within this row
    ends: np.ndarray  # [responses of this row]


def pack(groups: Sequence[Branches], *, shared: bool) -> Batch:
    """Lay groups out as one padded batch; responses keep their order, group by group.

    Args:
        groups: prompts with their responses.
        shared: one row per group (True) or one row per response.
    """
    units = groups if shared else [(prompt, [r]) for prompt, responses in groups for r in responses]
    rows = [_row(prompt, responses) for prompt, responses in units]
    return _collate(rows, [len(responses) for _, responses in units], shared)


def _row(prompt: np.ndarray, responses: Sequence[np.ndarray]) -> _Row:
    size = len(prompt)
    lengths = np.array([len(r) for r in responses], dtype=np.int64)
    starts = size + np.cumsum(lengths) - lengths  # where each response begins in the row
    steps = [np.arange(n) for n in lengths]
    before = [
        np.where(step == 0, size - 1, start + step - 1) for step, start in zip(steps, starts, strict=True)
    ]
    owners = np.repeat(np.arange(len(lengths)), lengths)
    targets = _join(responses)
    return _Row(
        tokens=_join([prompt, *responses]),
        positions=_join([np.arange(size), *[size + step for step in steps]]),
        branches=_join([np.zeros(size), owners + 1]),
        predictors=_join(before),
        targets=targets,
        owners=owners,
        ends=np.where(lengths > 0, starts + lengths, size) - 1,
    )


def _join(arrays: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.zeros(0), *arrays]).astype(np.int64)


def _collate(rows: list[_Row], counts: list[int], shared: bool) -> Batch:
    import torch

    width = max(len(row.tokens) for row in rows)
    tokens = np.zeros((len(rows), width), dtype=np.int64)  # any id: padding is never attended to or scored
    positions = np.zeros_like(tokens)
    branches = np.full_like(tokens, -1)
    for i, row in enumerate(rows):
        tokens[i, : len(row.tokens)] = row.tokens
        positions[i, : len(row.tokens)] = row.positions
        branches[i, : len(row.tokens)] = row.branches
    first = np.cumsum(counts) - counts
    owners = _join([row.owners + offset for row, offset in zip(rows, first, strict=True)])
    return Batch(
        input_ids=torch.from_numpy(tokens),
        position_ids=torch.from_numpy(positions),
        branches=torch.from_numpy(branches),
        predictors=torch.from_numpy(_join([row.predictors + i * width for i, row in enumerate(rows)])),
        targets=torch.from_numpy(_join([row.targets for row in rows])),
        owners=torch.from_numpy(owners),
        num_tokens=torch.from_numpy(np.bincount(owners, minlength=sum(counts)).astype(np.int64)),
        ends=torch.from_numpy(_join([row.ends + i * width for i, row in enumerate(rows)])),
        shared=shared,
    )
