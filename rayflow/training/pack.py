"""From groups to tensors: the prompt once, its responses as branches of one sequence.

Shared layout, all groups in one row (`core.branches`), P + R_1 + ... + R_k tokens instead of k P + R_1 + ... + R_k
for each, without padding:

    tokens     [ prompt | response 1 | response 2 | ... | next prompt | ... ]
    positions    0..P-1   P..P+R_1-1   P..P+R_2-1         each response continues the prompt
    attention    a response token sees its prompt and its own branch up to itself, no other branch

It computes the same numbers as one sequence per response (prefix sharing, arXiv:2410.20305). The unshared
layout, one padded row per response, is for models whose attention is not known to follow branches.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from rayflow.core.branch_attention import leave_branch_attention, use_branch_attention
from rayflow.core.branches import forked_row
from rayflow.training.masks import block_mask

if TYPE_CHECKING:
    import torch

HEAD_TOKENS = 512
"""Response tokens whose logits exist at a time: 512 x 50k x 4 bytes = 100 MiB in float32."""

Branches = tuple[np.ndarray, Sequence[np.ndarray]]
"""A prompt [P] int32 and its k responses, each [R_i] int32."""

Forks = tuple[tuple[int, tuple[int, ...]], ...]
"""Tokens of each prompt of a row and of its responses, those without tokens left out."""


@dataclass(frozen=True)
class Batch:
    """One forward pass over b rows of at most t tokens with m responses that hold n tokens together.

    Attributes:
        input_ids: [b, t] int64; b is 1 where prompts are shared.
        position_ids: [b, t] int64.
        predictors: [n] int64, the position, in the flattened b * t, that predicts each response token. A
            response's first token is predicted by the LAST PROMPT token, the others by their predecessor.
        targets: [n] int64, the response tokens.
        owners: [n] int64, the response, 0..m-1, of each target.
        num_tokens: [m] int64, tokens of each response.
        ends: [m] int64, the position, in the flattened b * t, of each response's last token; of an empty
            response, the last prompt token.
        attention_mask: [b, t] int64, 0 at padding; None where prompts are shared, which needs none.
        forks: the prompts and branches of the only row, where prompts are shared; None otherwise.
        head_chunks: in how many pieces the logits are computed.
    """

    input_ids: torch.Tensor
    position_ids: torch.Tensor
    predictors: torch.Tensor
    targets: torch.Tensor
    owners: torch.Tensor
    num_tokens: torch.Tensor
    ends: torch.Tensor
    attention_mask: torch.Tensor | None
    forks: Forks | None
    head_chunks: int

    def inputs(self, model: Any) -> dict[str, Any]:
        """What a transformers model is called with. The model is told to attend to such rows.

        A model that was loaded for FlexAttention goes on with it, and gets a mask in blocks.
        """
        inputs = {"input_ids": self.input_ids, "position_ids": self.position_ids, "use_cache": False}
        if self.forks is None:
            leave_branch_attention(model)
            return inputs | {"attention_mask": self.attention_mask}
        device = self.input_ids.device
        if model.config._attn_implementation == "flex_attention":
            return inputs | {"attention_mask": block_mask(self.forks, device)}
        use_branch_attention(model)
        return inputs | {"branches": forked_row(self.forks, device)}

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on another device."""
        tensors = {name: value for name, value in vars(self).items() if hasattr(value, "device")}
        return replace(self, **{name: value.to(device) for name, value in tensors.items()})


@dataclass(frozen=True)
class _Row:
    """A prompt with its responses as one sequence; [len] the first two, [scored tokens] the next three."""

    tokens: np.ndarray
    positions: np.ndarray
    predictors: np.ndarray
    targets: np.ndarray
    owners: np.ndarray  # response within this row
    ends: np.ndarray  # [responses of this row]


def pack(groups: Sequence[Branches], *, shared: bool, head_chunks: int | None = None) -> Batch:
    """Lay groups out as one batch; responses keep their order, group by group.

    Args:
        groups: prompts with their responses.
        shared: all groups one after the other in one row (True), or one padded row per response.
        head_chunks: in how many pieces the logits are computed; None: as many as memory asks for.
    """
    units = groups if shared else [(prompt, [r]) for prompt, responses in groups for r in responses]
    rows = [_row(prompt, responses) for prompt, responses in units]
    sizes = np.array([len(row.tokens) for row in rows])
    width = int(sizes.sum() if shared else sizes.max())
    starts = np.cumsum(sizes) - sizes if shared else np.arange(len(rows)) * width
    if head_chunks is None:
        head_chunks = math.ceil(sum(len(row.targets) for row in rows) / HEAD_TOKENS)
    counts = [len(responses) for _, responses in units]
    return _batch(rows, starts, width, counts, _forks(units, shared), head_chunks)


def _forks(units: Sequence[Branches], shared: bool) -> Forks | None:
    if not shared:
        return None
    return tuple((len(prompt), tuple(len(r) for r in responses if len(r))) for prompt, responses in units)


def _row(prompt: np.ndarray, responses: Sequence[np.ndarray]) -> _Row:
    size = len(prompt)
    lengths = np.array([len(r) for r in responses], dtype=np.int64)
    starts = size + np.cumsum(lengths) - lengths  # where each response begins in the row
    steps = [np.arange(n) for n in lengths]
    before = [
        np.where(step == 0, size - 1, start + step - 1) for step, start in zip(steps, starts, strict=True)
    ]
    return _Row(
        tokens=_join([prompt, *responses]),
        positions=_join([np.arange(size), *[size + step for step in steps]]),
        predictors=_join(before),
        targets=_join(responses),
        owners=np.repeat(np.arange(len(lengths)), lengths),
        ends=np.where(lengths > 0, starts + lengths, size) - 1,
    )


def _join(arrays: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.zeros(0), *arrays]).astype(np.int64)


def _batch(
    rows: list[_Row],
    starts: np.ndarray,
    width: int,
    counts: list[int],
    forks: Forks | None,
    head_chunks: int,
) -> Batch:
    """Sequences, each from its place in the flattened [b, width] on."""
    import torch

    shape = (1 if forks is not None else len(rows), width)
    tokens = np.zeros(shape, dtype=np.int64)  # any id: padding is never attended to or scored
    positions, filled = np.zeros_like(tokens), np.zeros_like(tokens)
    for start, row in zip(starts, rows, strict=True):
        place = slice(start, start + len(row.tokens))
        tokens.flat[place], positions.flat[place], filled.flat[place] = row.tokens, row.positions, 1
    first = np.cumsum(counts) - counts
    owners = _join([row.owners + offset for row, offset in zip(rows, first, strict=True)])
    moved = list(zip(rows, starts, strict=True))
    return Batch(
        input_ids=torch.from_numpy(tokens),
        position_ids=torch.from_numpy(positions),
        predictors=torch.from_numpy(_join([row.predictors + start for row, start in moved])),
        targets=torch.from_numpy(_join([row.targets for row in rows])),
        owners=torch.from_numpy(owners),
        num_tokens=torch.from_numpy(np.bincount(owners, minlength=sum(counts)).astype(np.int64)),
        ends=torch.from_numpy(_join([row.ends + start for row, start in moved])),
        attention_mask=None if forks is not None else torch.from_numpy(filled),
        forks=forks,
        head_chunks=head_chunks,
    )
