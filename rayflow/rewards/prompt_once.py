"""What a decoder makes of texts that begin alike, the common beginning computed once.

Sequences in: a prompt with each of its responses, as token ids. Out: the hidden state at the last of each.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from rayflow.core.branch_attention import use_branch_attention
from rayflow.core.branches import Memory, common_prefix, forked_row

if TYPE_CHECKING:
    import torch


class PromptOnce:
    """A model of a shared family (`core.branches.why_not_shared`) that reads a prompt once for its responses.

    The beginning is what the token ids have in common, so the ids are those of each whole text, wherever the
    tokenizer puts the border between prompt and response.

    Args:
        model: a transformers model with such a base; the base serves forked rows alone from now on.
        batch_tokens: tokens of one forward pass. Where a group has more, its responses are split and the
            prompt's keys and values are kept.
    """

    def __init__(self, model: Any, batch_tokens: int) -> None:
        use_branch_attention(model)
        self._base = model.base_model
        self._batch_tokens = batch_tokens

    def last_states(self, sequences: Sequence[list[int]]) -> torch.Tensor:
        """Hidden states at the last token: [n, h], of n sequences of one token or more."""
        import torch

        shared = common_prefix(sequences)
        rows = list(row_batches([len(s) - shared for s in sequences], shared, self._batch_tokens))
        memory: Memory | None = {} if len(rows) > 1 else None
        with torch.inference_mode():
            states = [self._row([sequences[i] for i in row], shared, memory) for row in rows]
            places = torch.tensor([i for row in rows for i in row], device=self._base.device)
            return torch.cat(states)[places.argsort()]

    def _row(self, sequences: list[list[int]], shared: int, memory: Memory | None) -> torch.Tensor:
        """Hidden states [m, h] of m sequences in one row."""
        import torch

        device = self._base.device
        row = forked_row([(shared, [len(s) - shared for s in sequences])], device, memory)
        prompt = [] if memory else sequences[0][:shared]
        ids = torch.tensor([[*prompt, *(token for s in sequences for token in s[shared:])]], device=device)
        hidden = self._base(input_ids=ids, position_ids=row.position_ids, use_cache=False, branches=row)
        return hidden.last_hidden_state[0, row.ends]


def row_batches(lengths: Sequence[int], prompt: int, batch_tokens: int) -> Iterator[list[int]]:
    """Indices of branches, longest first, so that a lack of memory shows in the first row.

    Args:
        lengths: [n] tokens of each branch.
        prompt: tokens of the prompt, which the first row holds besides its branches.
        batch_tokens: limit of a row; a single longer branch is a row of its own.
    """
    row: list[int] = []
    size = prompt
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if row and size + lengths[i] > batch_tokens:
            yield row
            row, size = [], 0
        row.append(i)
        size += lengths[i]
    yield row
