"""Half precision on processors that have no arithmetic for it: the same weights, in float32."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
import torch

from rayflow.core import arithmetic
from rayflow.core.arithmetic import computed_in, processor_has
from rayflow.engines.base import SamplingOptions
from rayflow.engines.transformers import TransformersEngine
from rayflow.engines.vllm import VllmEngine
from rayflow.rewards.models import load_weights
from rayflow.training.models import load_model

HALF = (torch.bfloat16, torch.float16)


@pytest.fixture(params=[True, False], ids=["with", "without"])
def has_half(request, monkeypatch):
    """A processor with and without arithmetic for 16 bits."""
    monkeypatch.setattr(arithmetic, "processor_has", lambda dtype: request.param or dtype not in HALF)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    return request.param


@pytest.mark.parametrize("dtype", HALF)
def test_only_a_processor_without_it_leaves_half_precision(has_half, dtype):
    assert computed_in(dtype, "cpu") == (dtype if has_half else torch.float32)
    assert computed_in(dtype, torch.device("cuda", 1)) == dtype
    assert computed_in(torch.float32, "cpu") == torch.float32
    assert computed_in(torch.float64, "cpu") == torch.float64


def test_this_processor_is_asked():
    assert processor_has(torch.float32)
    assert processor_has(torch.bfloat16) == torch.ops.mkldnn._is_mkldnn_bf16_supported()


def test_a_model_keeps_its_weights(has_half, tiny_model):
    from transformers import AutoModelForCausalLM

    expected = torch.bfloat16 if has_half else torch.float32
    whole = load_model(tiny_model, "float32").state_dict()
    for model in (
        load_model(tiny_model, "bfloat16"),
        load_weights(AutoModelForCausalLM, tiny_model, "bfloat16", "cpu"),
    ):
        assert model.dtype == expected
        for name, weight in model.state_dict().items():
            assert torch.allclose(weight.float(), whole[name], rtol=2**-8, atol=0), name
        assert model.base_model.rotary_emb.inv_freq.dtype == torch.float32  # no weight, and never rounded


def test_an_engine_in_half_precision_answers(has_half, tiny_model):
    engine = TransformersEngine(TransformersEngine.Config(dtype="bfloat16", device="cpu"))
    engine.setup(tiny_model)
    try:
        assert engine._model.dtype == (torch.bfloat16 if has_half else torch.float32)
        sampling = SamplingOptions(num_candidates=3, temperature=1.0, top_k=0, top_p=1.0, max_tokens=4)
        found = asyncio.run(engine.generate(np.array([5, 6, 7], dtype=np.int32), sampling, 1))
        assert len(found.responses) == 3
    finally:
        engine.close()


@pytest.mark.parametrize("asked", ["auto", "bfloat16", "float16"])
def test_vllm_is_asked_for_what_the_processor_has(has_half, asked):
    arguments = VllmEngine(VllmEngine.Config(dtype=asked))._cpu_arguments()
    assert arguments["dtype"] == (asked if has_half else torch.float32)


def test_vllm_s_own_setting_wins(has_half):
    engine = VllmEngine(VllmEngine.Config(extra={"dtype": "bfloat16"}))
    assert engine._arguments("model", is_cpu=True)["dtype"] == "bfloat16"
