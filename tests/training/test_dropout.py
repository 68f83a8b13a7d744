"""Dropout is off in training: else the policy would not be its own reference at the start."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from rayflow.training.checkpoints import FolderStore
from rayflow.training.loop import train
from rayflow.training.metrics import read_metrics
from rayflow.training.objective import build_scorer
from rayflow.training.pack import pack
from rayflow.training.plain import PlainBackend
from tests.conftest import tiny_tokenizer
from tests.training.helpers import random_branches, small_job, write_random_groups


@pytest.fixture(scope="module")
def dropping_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tiny GPT-2 whose configuration asks for dropout of one half everywhere: Llama's family has next to none."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=320,
        n_embd=64,
        n_layer=2,
        n_head=2,
        n_positions=128,
        resid_pdrop=0.5,
        embd_pdrop=0.5,
        attn_pdrop=0.5,
        initializer_range=0.2,
        bos_token_id=1,
        eos_token_id=2,
    )
    folder = tmp_path_factory.mktemp("dropping")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        GPT2LMHeadModel(config).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return str(folder)


def test_two_passes_in_training_mode_are_equal(dropping_model: str, tmp_path: Path) -> None:
    scorer = build_scorer(small_job(dropping_model, tmp_path / "none", tmp_path))
    assert scorer.model.training and scorer.model.config.attn_pdrop == 0.5
    batch = pack(random_branches(3), shared=False)
    assert scorer(batch).equal(scorer(batch))


def test_the_first_dpo_loss_of_a_model_with_dropout_is_log_2(dropping_model: str, tmp_path: Path) -> None:
    groups = write_random_groups(tmp_path / "groups.arrow", dropping_model)
    job = small_job(dropping_model, groups, tmp_path / "out", loss={"kind": "sigmoid_norm", "gamma": 0.5})
    train(job, PlainBackend(), FolderStore(job.output_dir / "checkpoints", keep=1))
    first, *_ = read_metrics(job.metrics_path)
    assert first["loss"] == pytest.approx(math.log(2), abs=1e-5)
