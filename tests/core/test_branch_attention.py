"""A forked row gives the hidden states and gradients of one sequence per branch, in every family it is used for."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from rayflow.core import branches
from rayflow.core.branch_attention import use_branch_attention
from rayflow.core.branches import SHARED_FAMILIES, forked_row

# (prompt, its branches): several of different lengths, a prompt with one, and texts that share nothing.
GROUPS = ((9, (5, 1, 7, 7, 2)), (3, (4,)), (0, (3, 6)))


def tiny(family: str):
    from transformers import AutoConfig, AutoModel

    extra = {} if family == "gpt_neox" else {"num_key_value_heads": 2}
    if family in ("gemma", "qwen3", "smollm3"):
        extra["head_dim"] = 16  # a setting of its own there, not hidden_size / num_attention_heads
    config = AutoConfig.for_model(
        family,
        vocab_size=128,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=64,
        initializer_range=0.2,
        pad_token_id=0,
        **extra,
    )
    torch.manual_seed(0)
    return AutoModel.from_config(config, dtype=torch.float32, attn_implementation="sdpa").eval()


def random_tokens(groups):
    """Prompts and branches as token ids."""
    draw = torch.Generator().manual_seed(1)
    return [
        (
            torch.randint(1, 128, (size,), generator=draw),
            [torch.randint(1, 128, (n,), generator=draw) for n in ns],
        )
        for size, ns in groups
    ]


def one_by_one(model, texts) -> torch.Tensor:
    """Last hidden states of prompt + branch, each read alone by transformers' own attention."""
    sequences = [torch.cat([prompt, branch]) for prompt, parts in texts for branch in parts]
    return torch.stack([model(input_ids=s[None]).last_hidden_state[0, -1] for s in sequences])


def forked(model, texts) -> torch.Tensor:
    row = forked_row([(len(prompt), [len(b) for b in parts]) for prompt, parts in texts], "cpu")
    ids = torch.cat([part for prompt, parts in texts for part in (prompt, *parts)])[None]
    hidden = model(input_ids=ids, position_ids=row.position_ids, use_cache=False, branches=row)
    return hidden.last_hidden_state[0, row.ends]


def gradients(model, states) -> torch.Tensor:
    model.zero_grad()
    (states * torch.linspace(-1, 1, states.numel()).view_as(states)).sum().backward()
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


@pytest.mark.parametrize("limit", [1, 30, 8192])
@pytest.mark.parametrize("family", sorted(SHARED_FAMILIES))
def test_states_and_gradients_are_those_of_one_sequence_at_a_time(family, limit, monkeypatch):
    monkeypatch.setattr(branches, "KEYS_AT_ONCE", limit)
    model, texts = tiny(family), random_tokens(GROUPS)
    expected = one_by_one(model, texts)
    expected_gradients = gradients(model, expected)
    use_branch_attention(model)
    found = forked(model, texts)
    assert torch.allclose(found, expected, atol=1e-4)
    difference = (gradients(model, found) - expected_gradients).norm() / expected_gradients.norm()
    assert difference < 1e-5


def test_the_prompt_and_the_own_branch_are_seen_and_no_other():
    model, ((prompt, parts),) = tiny("llama"), random_tokens(GROUPS[:1])
    use_branch_attention(model)
    other = [*parts]
    other[2] = parts[2].flip(0)
    with torch.no_grad():
        found, changed = forked(model, [(prompt, parts)]), forked(model, [(prompt, other)])
        elsewhere = forked(model, [(prompt.flip(0), parts)])
    same = (found - changed).abs().amax(dim=1) < 1e-6
    assert same.tolist() == [True, True, False, True, True]
    assert ((found - elsewhere).abs().amax(dim=1) > 1e-3).all()


@pytest.mark.parametrize("family", ["llama", "gpt_neox"])
def test_a_remembered_prompt_serves_further_rows(family):
    model, ((prompt, parts),) = tiny(family), random_tokens(GROUPS[:1])
    use_branch_attention(model)
    memory, found = {}, []
    with torch.no_grad():
        expected = forked(model, [(prompt, parts)])
        for first, last in pairwise((0, 2, 3, 5)):
            row = forked_row([(len(prompt), [len(b) for b in parts[first:last]])], "cpu", memory)
            ids = torch.cat([*([] if first else [prompt]), *parts[first:last]])[None]
            hidden = model(input_ids=ids, position_ids=row.position_ids, use_cache=False, branches=row)
            found.append(hidden.last_hidden_state[0, row.ends])
    assert sorted(memory) == [0, 1]
    assert torch.allclose(torch.cat(found), expected, atol=1e-5)


def test_a_forgotten_row_is_an_error_not_another_attention():
    model = tiny("llama")
    use_branch_attention(model)
    with pytest.raises(TypeError, match="branches"):
        model(input_ids=torch.ones(1, 3, dtype=torch.int64))
