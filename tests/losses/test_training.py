"""Every registered loss in the training loop, on a tiny model: it falls, and its metrics are numbers."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from rayflow.core.registry import FAMILIES
from rayflow.training.checkpoints import FolderStore
from rayflow.training.groups import GroupFile, write_groups
from rayflow.training.loop import train
from rayflow.training.metrics import read_metrics
from rayflow.training.plain import PlainBackend
from tests.training.helpers import small_job, write_random_groups


@pytest.fixture(scope="module")
def groups(tiny_model, tmp_path_factory):
    """Eight prompts with four responses and two pairs each; the rewards agree with the pairs."""
    folder = tmp_path_factory.mktemp("groups")
    file = GroupFile(write_random_groups(folder / "random.arrow", tiny_model, num_groups=8))
    rewards = np.array([0.1, 0.9, 0.3, 0.6])
    write_groups(
        folder / "groups.arrow", [dataclasses.replace(file[i], rewards=rewards) for i in range(len(file))]
    )
    return folder / "groups.arrow"


@pytest.mark.parametrize("kind", sorted(FAMILIES["loss"]))
def test_every_loss_falls_in_training(kind, tiny_model, groups, tmp_path):
    job = small_job(
        tiny_model,
        groups,
        tmp_path,
        loss={"kind": kind},
        num_epochs=4,
        micro_batch_tokens=400,
        warmup_fraction=0,
    )
    train(job, PlainBackend(), FolderStore(tmp_path / "checkpoints", 1))
    first, *_, last = read_metrics(job.metrics_path)
    assert last["loss"] < first["loss"]
    assert all(value is not None and np.isfinite(value) for value in last.values())
    if kind != "cross_entropy":  # which imitates all four alike
        assert last["rewards/margins"] > first["rewards/margins"]
