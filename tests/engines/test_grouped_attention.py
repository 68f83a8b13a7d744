"""Single tokens attend as transformers' own SDPA has it, without copies of the cache."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoModelForCausalLM
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from rayflow.engines.base import SamplingOptions
from rayflow.engines.decode import Decoder
from rayflow.engines.grouped_attention import NAME, grouped_attention, use_grouped_attention
from tests.training.helpers import tiny_config

SAMPLING = SamplingOptions(num_candidates=3, max_tokens=12, temperature=1.0, top_k=0)
PROMPTS = [torch.arange(5, 12), torch.arange(40, 43), torch.arange(60, 71)]


def tiny(family: str, attention: str = "sdpa", **more):
    torch.manual_seed(0)
    config = tiny_config(family, **more)
    made = AutoModelForCausalLM.from_config(config, dtype=torch.float32, attn_implementation=attention)
    return made.eval()


def answers(model):
    """Three rows for each of three prompts of different lengths, so that there are masks and padding."""
    uniforms = torch.rand(9, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    return Decoder(model, [7, 8]).decode(PROMPTS, torch.arange(3).repeat_interleave(3), uniforms, SAMPLING)


@pytest.mark.parametrize(
    ("family", "more"),
    [
        ("llama", {}),
        ("qwen3", {}),
        ("gemma", {}),
        ("mistral", {"sliding_window": 8}),  # less than prompt and answer: the mask has the window
        ("gpt_neox", {}),  # no grouped queries
    ],
)
def test_answers_are_those_of_transformers_own_attention(family, more):
    expected = answers(tiny(family, **more))
    model = tiny(family, **more)
    use_grouped_attention(model)
    assert model.config._attn_implementation == NAME
    found = answers(model)
    assert found.tokens.tolist() == expected.tokens.tolist()
    assert torch.allclose(found.logprobs, expected.logprobs, atol=1e-5)


class Widest(TorchDispatchMode):
    """Notes how many heads the keys have that reach SDPA."""

    def __init__(self):
        super().__init__()
        self.heads = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if "scaled_dot_product" in str(func) and args[0].shape[2] < 5:  # not the prompts
            self.heads.add(args[1].shape[1])
        return func(*args, **(kwargs or {}))


def test_no_key_is_copied_for_the_heads_that_share_it():
    model, heads = tiny("llama"), []
    for _ in range(2):
        with Widest() as widest:
            answers(model)
        heads.append(widest.heads)
        use_grouped_attention(model)
    assert heads == [{4}, {2}]


def test_a_mask_of_its_own_for_each_head_is_kept():
    """As many key heads as queries share each: only the mask's own shape tells the two readings apart."""
    torch.manual_seed(0)
    query, key, value = torch.randn(2, 4, 1, 8), torch.randn(2, 2, 5, 8), torch.randn(2, 2, 5, 8)
    mask = torch.randn(2, 4, 1, 5)
    module = SimpleNamespace(num_key_value_groups=2)
    found, _ = grouped_attention(module, query, key, value, mask)
    expected, _ = sdpa_attention_forward(module, query, key, value, mask)
    assert torch.allclose(found, expected, atol=1e-6)


def test_a_model_that_attends_otherwise_is_left_alone():
    model = tiny("llama", attention="eager")
    use_grouped_attention(model)
    assert model.config._attn_implementation == "eager"
